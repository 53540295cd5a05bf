"""Any Python value as JSON: in one pass when it is plain, with care when it is not.

A value that JSON has no form for becomes a marker such as "<Circle>"; it never costs the event, nor its
neighbours. Postgres takes no NUL character and UTF-8 no lone surrogate: both become U+FFFD, the replacement
character.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from operator import methodcaller
from typing import Any, Final

import msgspec

MAX_DEPTH: Final = 50  # levels; the collector takes 100
MAX_PARTS: Final = 100_000  # values in one event, so that things that refer to each other come to an end

_BACKSLASH: Final = ord("\\")
_BRACKET: Final = ord("[")
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_ALL_BUT_BRACKETS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\[\]{}"]++')


def encode(value: Any) -> bytes:
    """Encode a value; the result is JSON in UTF-8 that Postgres can store, whatever the value holds."""
    try:
        text = _encoder.encode(value)
        if _is_storable(text):
            return text
    except Exception:  # noqa: BLE001, S110  # the values are the host's own, and so are their errors
        pass
    return msgspec.json.encode(_Cleaner().clean(value))


def _is_storable(text: bytes) -> bool:
    """Whether it holds no NUL and is not too deep; for most texts, a search for single bytes tells."""
    if _BACKSLASH in text and b"\\u0000" in text:
        return False
    few = text.count(b"{") <= MAX_DEPTH and (_BRACKET not in text or text.count(b"[") <= MAX_DEPTH)
    return few or not _is_deep(text)


def _is_deep(text: bytes) -> bool:
    brackets = _ALL_BUT_BRACKETS.sub(b"", text)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return bool(brackets)


def _plain(value: Any) -> Any:
    """What msgspec does not know. Generators and files are left alone: reading would take from the host."""
    if value is None or isinstance(value, bool):  # a key; as a value msgspec knows it
        return str(value)
    for kinds, plain in _PLAIN:
        if isinstance(value, kinds):
            return plain(value)
    return value.item() if hasattr(type(value), "item") else _marker(value)  # a scalar of numpy and the like


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain)


class _Cleaner:
    """Takes one value apart, and makes each part storable by itself."""

    def __init__(self) -> None:
        self._left = MAX_PARTS
        self._inside: list[int] = []  # the ids of the values that this one is a part of

    def clean(self, value: Any) -> Any:
        """The same value in plain parts."""
        self._left -= 1
        if self._left < 0:
            return "<too much>"
        try:
            if value is None or isinstance(value, bool | str | int | float):
                return _scalar(value)
            return self._compound(value)
        except Exception:  # noqa: BLE001  # a property or an iterator of the host's raised
            return _marker(value)

    def _compound(self, value: Any) -> Any:
        if id(value) in self._inside:
            return _marker(value)
        if len(self._inside) >= MAX_DEPTH:
            return "<too deep>"
        self._inside.append(id(value))
        try:
            return self._parts(value)
        finally:
            self._inside.pop()

    def _parts(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {_key(key): self.clean(part) for key, part in value.items()}
        if isinstance(value, Collection) and not isinstance(value, bytes | bytearray | memoryview):
            return [self.clean(part) for part in value]
        fields = {name: self.clean(getattr(value, name)) for name in _field_names(type(value))}
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.replace(value, **fields)  # so that it decides what it leaves out
        return fields or self.clean(msgspec.to_builtins(value, enc_hook=_plain))


def _field_names(kind: type[Any]) -> Iterable[str]:
    """The fields of a Struct, of an attrs class or of a dataclass."""
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    names: Iterable[str] = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__dataclass_fields__", ())
    return names


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", _exact(value))
    if isinstance(value, float):
        return _exact(value) if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        str(_exact(value))  # Python refuses to write numbers of more than 4,300 digits
        return _exact(value)
    return value


def _exact(value: str | float) -> Any:
    """The plain value under a subclass, whatever that has made of its methods."""
    if isinstance(value, str):
        return str.__str__(value)
    return float.__float__(value) if isinstance(value, float) else int.__int__(value)


_PLAIN: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    ((str, int, float), _exact),
    (bytes, bytes),
    (Decimal, str),
    ((date, time), methodcaller("isoformat")),
    (Mapping, dict),
    (Collection, list),
)
"""Subclasses, and what else counts as one of these."""


def _key(key: Any) -> str:
    try:
        return _UNSTORABLE.sub("\ufffd", _exact(key if isinstance(key, str) else str(key)))
    except Exception:  # noqa: BLE001  # its __str__ is the host's
        return _marker(key)


def _marker(value: Any) -> str:
    return f"<{type(value).__name__}>"


class Encoder:
    """Stand-in until the real one is here."""

    altered = 0

    def __init__(self, *, convert=None, redaction=None, max_bytes=0):
        self._max = max_bytes

    def encode(self, record, data):
        from .exceptions import EventError

        text = encode(record)
        if len(text) > self._max:
            raise EventError("too_large", "too large")
        return text


def as_object(value: Any) -> Any:
    text = encode(value)
    if text.startswith(b"{"):
        return msgspec.json.decode(text)
    from .exceptions import EventError

    raise EventError("invalid", f"event_data and traits are mappings with string keys, not {type(value).__name__}")
