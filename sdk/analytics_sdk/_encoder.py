"""Records as JSON that Postgres can store: in one pass when all of it is plain, with care when it is not."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from ._cleaner import MAX_DEPTH, Cleaner, Convert
from ._cut import Cut, with_storable_texts
from ._form import OBJECT, OTHER, is_storable, marker, storable
from ._forms import form_of
from ._redaction import Redaction
from .exceptions import EventError

_BACKSLASH: Final = ord("\\")
_VALUES: Final = frozenset({"event_data", "traits", "user_agent", "referrer"})  # fields that are the host's values
_MOST_TRIES: Final = 8
_LEAST_ROOM: Final = 200  # bytes, in which there is something to be cut

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
            EventError: An id cannot be stored, or beside the ids there is no room for data.
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

    def _encode_with_care(self, record: msgspec.Struct, _: Any) -> bytes:
        """Encode part by part; what is too large, cut.

        Only the host's values are ever another ones afterwards. An id that were another one would be another user.
        """
        fixed, values = _parted(record)
        room = self._max_bytes - len(msgspec.json.encode(fixed))
        cleaner = Cleaner(self._redaction, self._convert, self._max_bytes)
        plain = cleaner.clean(values)
        if cleaner.size <= self._max_bytes and not cleaner.missing:
            text, count = _encoded(fixed, plain)
            if len(text) <= self._max_bytes:
                self.altered += cleaner.altered + count
                return text
        return self._cut(fixed, plain, cleaner, room)

    def _cut(self, fixed: msgspec.Struct, plain: dict[str, Any], cleaner: Cleaner, room: int) -> bytes:
        """Encode what has to be cut. Sizes are estimates: what is still too large gets less room."""
        cut = Cut(cleaner.missing)
        for _ in range(_MOST_TRIES):
            if room < _LEAST_ROOM:
                break
            cut.altered = 0
            text, count = _encoded(fixed, cut.fit(plain, room))
            if len(text) <= self._max_bytes:
                self.altered += cleaner.altered + cut.altered + count
                return text
            room = min(room * self._max_bytes // len(text), room - 1) * 19 // 20
        raise EventError("too_large", f"what is not event_data leaves no room in max_event_bytes={self._max_bytes}")


def _parted(record: msgspec.Struct) -> tuple[msgspec.Struct, dict[str, Any]]:
    """A record without the host's values, and these.

    Raises:
        EventError: An id or the type of an event has what Postgres cannot store.
    """
    fields = msgspec.structs.asdict(record)
    values = {name: fields[name] for name in _VALUES.intersection(fields) if fields[name] is not None}
    fixed = {name: _checked(name, part) for name, part in fields.items() if name not in values}
    return msgspec.structs.replace(record, **fixed, **dict.fromkeys(values, "")), values


def _checked(name: str, part: Any) -> Any:
    """An id or a type, which is stored as it is or not at all; a subclass of str or int as what it is."""
    if isinstance(part, str):
        if not is_storable(part):
            raise EventError(
                "invalid", f"{name} has a NUL character or half of a surrogate pair, which nothing can store"
            )
        return str.__str__(part)
    return int.__int__(part) if isinstance(part, int) and not isinstance(part, bool) else part


def _encoded(fixed: msgspec.Struct, plain: dict[str, Any]) -> tuple[bytes, int]:
    """A record as JSON, and how many texts in it had to be altered for that."""
    try:
        text = _encode(msgspec.structs.replace(fixed, **plain))
        if b"\\u0000" not in text:
            return text, 0
    except UnicodeEncodeError:
        pass
    stored, count = with_storable_texts(plain)
    return _encode(msgspec.structs.replace(fixed, **stored)), count


def _make(later: Any) -> str:
    """What the encoder asks for a value that it does not know: there is one kind of it."""
    return storable(later.whole())


_encode = msgspec.json.Encoder(enc_hook=_make).encode


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
    form = form_of(type(value))
    held = form.read(value) if form.verb is OTHER else value  # by a lazy object
    if form_of(type(held)).verb is OBJECT:
        return held
    raise EventError("invalid", f"event_data and traits are mappings with string keys, not {marker(value)[1:-1]}")
