"""Takes one value apart and makes each part storable by itself: any Python value in, plain values out.

A value that JSON has no form for becomes a marker such as "<Circle>", and is counted; it never costs the event, nor
its neighbours. Postgres takes no NUL character and UTF-8 no lone surrogate: both become U+FFFD, the replacement
character. docs/encoding.md has the whole table.
"""

from __future__ import annotations

import enum
import logging
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from ._redaction import REDACTED, Redaction

logger = logging.getLogger("analytics_sdk")

MAX_DEPTH: Final = 50  # levels; the collector takes 100
MAX_PARTS: Final = 100_000  # values in one event, so that things that refer to each other come to an end

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_NO_FORM: Final = object()

Convert = Callable[[Any], Any]


class Cleaner:
    """Cleans one value.

    Args:
        redaction: Which names' values are not kept.
        convert: The host's function for its own types, or None.
        longest_text: Characters after which a text is cut.

    Attributes:
        altered: Values that became a marker or were cut so far.
    """

    def __init__(self, redaction: Redaction, convert: Convert | None, longest_text: int) -> None:
        self.altered = 0
        self._redaction = redaction
        self._convert = convert
        self._longest_text = longest_text
        self._left = MAX_PARTS
        self._inside: list[int] = []  # the ids of the values that this one is a part of

    def clean(self, value: Any) -> Any:
        """The same value in plain parts."""
        self._left -= 1
        if self._left < 0:
            return self._alter("<too much>")
        try:
            if value is None or (isinstance(value, bool | str | int | float) and not isinstance(value, enum.Enum)):
                return self._scalar(value)
            form = self._form(value)
            return form if form is not _NO_FORM else self._compound(value)
        except Exception:  # noqa: BLE001  # a property or an iterator of the host's raised
            return self._alter(marker(value))

    def _alter(self, text: str | None) -> str | None:
        self.altered += 1
        return text

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, float):
            plain = float.__float__(value)
            return plain if math.isfinite(plain) else self._alter(None)
        if isinstance(value, int) and not isinstance(value, bool):
            str(int.__int__(value))  # Python refuses to write numbers of more than 4,300 digits
            return int.__int__(value)
        return value

    def _text(self, text: str) -> str:
        if len(text) > self._longest_text:
            text = f"{text[: self._longest_text]}… <{len(text)} characters>"
            self.altered += 1
        stored = _UNSTORABLE.sub("\ufffd", text)
        self.altered += stored != text
        return stored

    def _form(self, value: Any) -> Any:
        """A value of a type with a form of its own, in that form."""
        for kinds, plain in _FORMS:
            if isinstance(value, kinds):
                form = plain(value)
                return self.clean(form) if isinstance(value, enum.Enum) else form
        return _NO_FORM

    def _compound(self, value: Any) -> Any:
        if id(value) in self._inside:
            return self._alter(marker(value))
        if len(self._inside) >= MAX_DEPTH:
            return self._alter("<too deep>")
        self._inside.append(id(value))
        try:
            return self._parts(value)
        finally:
            self._inside.pop()

    def _parts(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self._key(key): self._property(key, part) for key, part in list(value.items())}
        if isinstance(value, set | frozenset):
            return [self.clean(part) for part in _in_order(value)]
        if isinstance(value, Collection):
            return [self.clean(part) for part in value]
        names = _field_names(type(value))
        fields = {name: self._property(name, getattr(value, name)) for name in names}
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.replace(value, **fields)  # so that it decides what it leaves out
        return fields or self._other(value)

    def _property(self, name: Any, value: Any) -> Any:
        return REDACTED if isinstance(name, str) and self._redaction.is_secret(name) else self.clean(value)

    def _key(self, key: Any) -> str:
        try:
            self.altered += not isinstance(key, str | int | float | None)
            return _UNSTORABLE.sub("\ufffd", str.__str__(key) if isinstance(key, str) else str(key))
        except Exception:  # noqa: BLE001  # its __str__ is the host's
            self.altered += 1
            return marker(key)

    def _other(self, value: Any) -> Any:
        """What is left: the host's own types, and those that are known by what they can do."""
        converted = _NO_FORM if self._convert is None else self._convert(value)
        if converted is not _NO_FORM and converted is not value:
            return self.clean(converted)
        for method in ("model_dump", "tolist", "item"):  # of pydantic, and of numpy's arrays and scalars
            if callable(getattr(type(value), method, None)):
                return self.clean(getattr(value, method)())
        if type(value).__name__ == "__proxy__":  # of Django: a text that is translated when it is looked at
            return self.clean(str(value))
        return self._alter(marker(value))


def marker(value: Any) -> str:
    """What stands for a value that has no form."""
    return f"<{type(value).__name__}>"


def aware(moment: datetime) -> datetime:
    """A moment with its offset; a naive one is taken as UTC, which the log says once."""
    global _has_warned
    if moment.utcoffset() is not None:
        return moment
    if not _has_warned:
        _has_warned = True
        logger.warning("A datetime without a time zone is taken as UTC; give it one, as in datetime.now(UTC).")
    return moment.replace(tzinfo=UTC)


_has_warned = False


def _moment(value: datetime) -> str:
    text = aware(value).isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


_FORMS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (enum.Enum, lambda value: value.value),
    (datetime, _moment),
    ((date, time), lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    ((Decimal, UUID), str),
    ((bytes, bytearray, memoryview), lambda value: msgspec.to_builtins(bytes(value))),
    (os.PathLike, lambda value: str(os.fspath(value))),
)


def _in_order(values: Collection[Any]) -> Iterable[Any]:
    """Sets in an order that is the same each time, if their values have one."""
    try:
        return sorted(values)
    except Exception:  # noqa: BLE001  # of different kinds, or of one that does not compare
        return values


def _field_names(kind: type[Any]) -> Iterable[str]:
    """The fields of a Struct, of an attrs class or of a dataclass."""
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    names: Iterable[str] = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__dataclass_fields__", ())
    return names
