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
from ._cut import Cut, with_storable_texts
from ._event import (
    MAX_EVENT_TYPE,
    MAX_SESSION_ID,
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
from ._form import OBJECT, OTHER, is_storable, marker, storable
from ._forms import form_of
from ._redaction import Redaction
from .exceptions import EventError

_BACKSLASH: Final = ord("\\")
_LONG: Final = 10_000  # characters of a text that is worth a look before it is encoded
_INT_END: Final = 2**63
_LONG_DECIMAL: Final = 256  # bytes of memory, for some 300 digits
_VALUES: Final = frozenset({"event_data", "traits", "user_agent", "referrer"})  # fields that are the host's values
_MOST_TRIES: Final = 8
_LEAST_ROOM: Final = 200  # bytes, in which there is something to be cut

# Types whose JSON is exact as msgspec writes it, and which hold nothing else; of floats only those that are finite.
_EXACT: Final = frozenset({int, bool, type(None), Decimal, UUID, date})


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
        if session_id is not None and (type(session_id) is not str or not 0 < len(session_id) <= MAX_SESSION_ID):
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
                    if kind is str:
                        if len(value) > _LONG:
                            break
                    elif kind not in _EXACT and (kind is not float or value - value):  # NaN less itself is not 0
                        break
                else:
                    buffers = self._buffers
                    buffer = buffers.pop() if buffers else bytearray()
                    self._encode_into(event, buffer)
                    line = b"" + buffer  # of the very size; what msgspec itself returns keeps half as much again
                    if len(line) <= self._max_bytes:
                        buffers.append(buffer)
                        if not (_BACKSLASH in line and b"\\u0000" in line):
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
            EventError: An id cannot be stored, or beside the ids there is no room for data.
        """
        try:
            if data is None or self._is_plain(data):
                line = b"%b" % msgspec.json.encode(record)
                if len(line) <= self._max_bytes and not (_BACKSLASH in line and b"\\u0000" in line):
                    return line
        except Exception:  # noqa: BLE001, S110  # as above
            pass
        return self._encode_with_care(record)

    def _is_plain(self, data: Any) -> bool:
        """Whether msgspec's JSON of it is exact, every name in it may be kept, and it is not too much to look at."""
        left = self._max_bytes
        level = [data]
        for _ in range(MAX_DEPTH):
            inner: list[Any] = []
            for container in level:
                left -= self._plain_size(container, left, inner)
                if left < 0:
                    return False
            if not inner:
                return True
            level = inner
        return False

    def _plain_size(self, container: Any, left: int, inner: list[Any]) -> int:
        """The least bytes that a dict or a list can take, without those in it, which are added to `inner`.

        More than is left, if anything about it needs care.
        """
        size = 2 * len(container)
        is_kept = type(container) is list or (type(container) is dict and self.harmless.issuperset(container))
        if not is_kept or size > left:
            return left + 1
        for value in container.values() if type(container) is dict else container:
            kind = type(value)
            if kind is str:
                size += len(value)
            elif kind is dict or kind is list:
                inner.append(value)
            elif not _is_short(kind, value):
                return left + 1
        return size

    def _encode_with_care(self, record: msgspec.Struct) -> bytes:
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


def _is_short(kind: type, value: Any) -> bool:
    """Whether a value that holds no others is exact as msgspec writes it, and of a few bytes."""
    if kind is int:
        return bool(-_INT_END <= value < _INT_END)
    if kind is float:
        return bool(value - value == 0)  # neither NaN nor infinite
    return kind in _EXACT and (kind is not Decimal or value.__sizeof__() < _LONG_DECIMAL)


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
