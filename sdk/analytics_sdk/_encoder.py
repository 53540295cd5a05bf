"""Any Python value as JSON: in one pass when it is plain, with care when it is not.

A value that JSON has no form for becomes a marker such as "<Circle>"; it never costs the event, nor its
neighbours. Postgres takes no NUL character and UTF-8 no lone surrogate: both become U+FFFD, the replacement
character.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

MAX_DEPTH: Final = 50  # levels; the collector takes 100

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def encode(value: Any) -> bytes:
    """Encode a value; the result is JSON in UTF-8 that Postgres can store, whatever the value holds."""
    try:
        text = _encoder.encode(value)
        if b"\\u0000" not in text:
            return text
    except Exception:  # noqa: BLE001, S110  # the values are the host's own, and so are their errors
        pass
    return msgspec.json.encode(_clean(value, 0))


def _plain(value: Any) -> Any:
    """What msgspec does not know. Scalars of numpy and the like have `item()`; what can be iterated is a list."""
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Iterable) else _marker(value)


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain)


def _clean(value: Any, depth: int) -> Any:
    """The same value in plain parts, each of which is made storable by itself."""
    try:
        return _clean_part(value, depth)
    except Exception:  # noqa: BLE001  # a property or an iterator of the host's raised
        return _marker(value)


def _clean_part(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if depth >= MAX_DEPTH:
        return "<too deep>"
    if isinstance(value, Mapping):
        return {_key(key): _clean(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(part, depth + 1) for part in value]
    return _clean(msgspec.to_builtins(value, enc_hook=_plain), depth + 1)


def _key(key: Any) -> str:
    return _UNSTORABLE.sub("\ufffd", key if type(key) is str else str(key))


def _marker(value: Any) -> str:
    return f"<{type(value).__name__}>"
