"""Records as JSON that Postgres can store, made inside `track()`: values in, bytes out, once.

In one pass when all of it is plain, with care when it is not. The same bytes are counted, kept and sent; a batch is a
join of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from ._cleaner import MAX_DEPTH, Cleaner, Convert
from ._event import (
    MAX_EVENT_TYPE,
    Event,
    Session,
    User,
    UserId,
    checked_address,
    checked_event_type,
    checked_session_id,
    checked_user_id,
    utc_moment,
)
from ._redaction import Redaction
from .exceptions import EventError

_BACKSLASH: Final = ord("\\")
_WIDE: Final = 10_000  # parts of one value, from which on it is worth a look before it is encoded
_INT_END: Final = 2**63
_SHORTEST_CUT: Final = 64  # characters that are left of any text

# Types whose JSON is exact as msgspec writes it, and which hold nothing else; of floats only those that are finite.
_EXACT: Final = frozenset({str, int, bool, type(None), Decimal, UUID, date})
_NESTED: Final = frozenset({dict, list})


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

    def event(  # noqa: C901  # one function for what nearly every event needs, as each further one costs its 3 %
        self,
        event_id: str,
        event_type: str,
        created_at: datetime,
        session_id: str | None,
        user_id: UserId | None,
        ip_address: str | None,
        data: Any,
    ) -> bytes:
        """Encode an event.

        Raises:
            EventError: The collector would refuse it; says which field and why.
        """
        if type(event_type) is not str or not 0 < len(event_type) <= MAX_EVENT_TYPE:
            event_type = checked_event_type(event_type)
        if session_id is not None:
            session_id = checked_session_id(session_id)
        if user_id is not None and (type(user_id) is not int or not 0 <= user_id < _INT_END):
            user_id = checked_user_id(user_id)
        if ip_address is not None:
            ip_address = checked_address(ip_address)
        if data is not None and type(data) is not dict:
            data = as_object(data)
        event = Event(event_id, event_type, created_at, session_id, user_id, ip_address, data)
        try:
            if data is None or (type(data) is dict and self.harmless.issuperset(data)):
                for value in data.values() if data else ():
                    kind = type(value)
                    if kind not in _EXACT and (kind is not float or value - value):  # NaN and infinity are not 0 less
                        break
                else:
                    buffers = self._buffers
                    buffer = buffers.pop() if buffers else bytearray()
                    self._encode_into(event, buffer)
                    line = b"" + buffer  # of the very size; what msgspec itself returns keeps half as much again
                    buffers.append(buffer)
                    if len(line) <= self._max_bytes and not (_BACKSLASH in line and b"\\u0000" in line):
                        return line
        except Exception:  # noqa: BLE001, S110  # the values are the host's own, and so are their errors
            pass
        return self.encode(event, data)

    def event_again(self, event: Mapping[str, Any]) -> bytes:
        """Encode an event that `as_stored()` gave and that was changed since.

        Raises:
            EventError: It is no event any more; says which field and why.
        """
        try:
            made = msgspec.convert(event, Event)
        except msgspec.ValidationError as error:
            raise EventError("invalid", f"what before_send returned is no event: {error}") from error
        moment = utc_moment(made.created_at)
        return self.event(
            made.event_id, made.event_type, moment, made.session_id, made.user_id, made.ip_address, made.event_data
        )

    def session(
        self,
        session_id: str,
        *,
        user_id: UserId | None = None,
        started_at: datetime | None = None,
        ended_at: datetime | None = None,
        user_agent: str | None = None,
        referrer: str | None = None,
    ) -> bytes:
        """Encode what is known of a session.

        Raises:
            EventError: An id is unusable.
        """
        user = None if user_id is None else checked_user_id(user_id)
        agent, page = (str(text) if text else "" for text in (user_agent, referrer))
        return self.encode(Session(checked_session_id(session_id), user, started_at, ended_at, agent, page), None)

    def user(self, user_id: UserId, traits: Any, updated_at: datetime) -> bytes:
        """Encode the traits of a user.

        Raises:
            EventError: The id is unusable, or the traits are no mapping.
        """
        traits = as_object(traits)
        return self.encode(User(checked_user_id(user_id), traits, updated_at), traits)

    def encode(self, record: msgspec.Struct, data: Any) -> bytes:
        """Encode a record of any kind.

        Args:
            record: The Struct.
            data: The host's values in it, a field of it as well; or None.

        Raises:
            EventError: It is too large, even with its texts cut.
        """
        try:
            if data is None or (type(data) is dict and self._is_plain(data, MAX_DEPTH)):
                line = b"%b" % msgspec.json.encode(record)
                if len(line) <= self._max_bytes and not (_BACKSLASH in line and b"\\u0000" in line):
                    return line
        except Exception:  # noqa: BLE001, S110  # as above
            pass
        return self._encode_with_care(record, data)

    def _is_plain(self, data: Any, depth: int) -> bool:
        """Whether msgspec's JSON of a dict or list is exact, every name in it may be kept, and it is not too wide."""
        if type(data) is dict and not self.harmless.issuperset(data):
            return False
        values = data.values() if type(data) is dict else data
        return depth > 0 and len(values) < _WIDE and all(self._is_plain_value(value, depth - 1) for value in values)

    def _is_plain_value(self, value: Any, depth: int) -> bool:
        kind = type(value)
        if kind is float:
            return bool(value - value == 0)  # neither NaN nor infinite
        return kind in _EXACT or (kind in _NESTED and self._is_plain(value, depth))

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
