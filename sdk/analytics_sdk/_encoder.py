"""Records as JSON that Postgres can store: in one pass when all of it is plain, with care when it is not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from ._cleaner import MAX_DEPTH, Cleaner, Convert
from ._redaction import Redaction
from .exceptions import EventError

_BACKSLASH: Final = ord("\\")
_SHORTEST_CUT: Final = 64  # characters that are left of any text

# Types whose JSON is exact as msgspec writes it, and which hold nothing else. A float may be NaN, which shows as null.
_FLAT: Final = frozenset({str, int, float, bool, type(None), Decimal, UUID, date})
_NESTED: Final = _FLAT | {dict, list}


class Encoder:
    """Encodes records, whatever the host's values are.

    Args:
        convert: The host's function for its own types: takes a value, returns a plain one.
        redaction: Which properties are not kept; none if left out.
        max_bytes: Largest record, in bytes of JSON.

    Attributes:
        altered: Values that became a marker, or were cut, so far.
        harmless: Names of properties that were looked at and may be kept.
    """

    def __init__(
        self, *, convert: Convert | None = None, redaction: Redaction | None = None, max_bytes: int = 256 * 1024
    ) -> None:
        self.altered = 0
        self._convert = convert
        self._redaction = redaction or Redaction(())
        self.harmless = self._redaction.harmless
        self._max_bytes = max_bytes
        self._encode_into = msgspec.json.Encoder().encode_into
        self._buffers: list[bytearray] = []  # one for each encoding that is going on

    def encode(self, record: msgspec.Struct, data: Any) -> bytes:
        """Encode a record.

        Args:
            record: The Struct.
            data: The host's values in it, a field of it as well; or None.

        Raises:
            EventError: It is too large, even with its texts cut.
        """
        try:
            if data is None or self._is_plain(data):
                text = self._plain(record)
                if len(text) <= self._max_bytes and not (
                    (_BACKSLASH in text and b"\\u0000" in text) or (b"null" in text and _has_nan(data))
                ):
                    return text
        except Exception:  # noqa: BLE001, S110  # the values are the host's own, and so are their errors
            pass
        return self._encode_with_care(record, data)

    def _plain(self, record: msgspec.Struct) -> bytes:
        """Encode in one pass. The copy has the very size; what msgspec itself returns keeps half as much again."""
        buffers = self._buffers
        buffer = buffers.pop() if buffers else bytearray()
        self._encode_into(record, buffer)
        text = bytes(buffer)
        buffers.append(buffer)
        return text

    def _is_plain(self, data: Any) -> bool:
        """Whether msgspec's JSON of it is exact and every name in it may be kept."""
        if type(data) is dict and _FLAT.issuperset(map(type, data.values())) and self.harmless.issuperset(data):
            return True
        return self._is_nested_plain(data, 0)

    def _is_nested_plain(self, data: Any, depth: int) -> bool:
        values = data.values() if type(data) is dict else data
        if depth == MAX_DEPTH or type(data) not in (dict, list) or not _NESTED.issuperset(map(type, values)):
            return False
        if type(data) is dict and not self.harmless.issuperset(data):
            return False
        return all(
            self._is_nested_plain(value, depth + 1) for value in values if type(value) is dict or type(value) is list
        )

    def _encode_with_care(self, record: msgspec.Struct, data: Any) -> bytes:
        """Encode part by part; as long as that is too large, with shorter texts."""
        longest = max(self._max_bytes, _SHORTEST_CUT)
        while longest >= _SHORTEST_CUT:
            cleaner = Cleaner(self._redaction, self._convert, longest)
            fields = {
                name: cleaner.clean(value) if value is data or isinstance(value, str) else value
                for name, value in zip(record.__struct_fields__, msgspec.structs.astuple(record), strict=True)
            }
            text = msgspec.json.encode(msgspec.structs.replace(record, **fields))
            if len(text) <= self._max_bytes:
                self.altered += cleaner.altered
                return text
            longest //= 4
        raise EventError("too_large", f"{len(text)} bytes are more than max_event_bytes={self._max_bytes}")


def _has_nan(data: Any) -> bool:
    """Whether a float in plain data is NaN or infinite."""
    if type(data) is float:
        return data - data != 0
    if type(data) is dict:
        return any(map(_has_nan, data.values()))
    return type(data) is list and any(map(_has_nan, data))


def as_object(value: Any) -> Any:
    """Anything that becomes a JSON object, as something that the encoder makes one of.

    Mappings, dataclasses, attrs classes, Structs and pydantic models are such.

    Raises:
        EventError: It is nothing of the kind.
    """
    kind = type(value)
    has_fields = any(
        hasattr(kind, name) for name in ("__struct_fields__", "__attrs_attrs__", "__dataclass_fields__", "model_dump")
    )
    if isinstance(value, Mapping) or (has_fields and not isinstance(value, type)):
        return value
    raise EventError("invalid", f"event_data and traits are mappings with string keys, not {kind.__name__}")
