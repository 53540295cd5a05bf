"""One record of the wire: a value that Postgres will take, or a reason why not.

Everything here is pure: bytes and the time in, values or `RecordError` out. Postgres refuses JSON that
Python accepts (NUL characters, lone surrogates, NaN, numbers no float can hold, deep nesting), and one such
value would fail a whole batch, so each record is judged alone before the insert.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypeVar

import msgspec

from .exceptions import RecordError

REASONS: Final = (
    "missing_field",
    "invalid_field",
    "invalid_json",
    "nul_character",
    "too_deep",
    "clock_ahead",
    "unknown_user",
    "unknown_event",
    "invalid_data",
    "not_allowed",
    "database_refused",
)
"""Why a record can be refused: the closed set of codes in verdicts and in `analytics_reject`."""

MAX_CLOCK_AHEAD: Final = timedelta(minutes=10)
EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
"""What lies before it, Postgres would keep, but no Python program could read again."""
MAX_DEPTH: Final = 100  # levels of nesting
FIRST_OWN_USER_ID: Final = 2**48
"""Numbers from here up are ours, given to user ids that are no small integers (see `UserId`)."""

UserId = int | str
"""An int below 2^48 is the app's own id; a str is an id that `analytics_user` gives a number."""

_UUID = r"^[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z"
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_WireUserId = int | Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None
_SessionId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class EventRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One row of `analytics_event`.

    Attributes:
        event_data: The JSON text as it arrived, an object; it is never decoded and encoded again.
        session_id: Empty when the event belongs to no session.
    """

    event_id: Annotated[str, msgspec.Meta(pattern=_UUID)]
    event_type: Annotated[str, msgspec.Meta(min_length=1, max_length=50)]
    created_at: _Time
    session_id: Annotated[str, msgspec.Meta(max_length=64)] | None = ""
    user_id: _WireUserId = None
    event_data: msgspec.Raw = msgspec.Raw(b"{}")
    ip_address: str | None = None


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What is said of one row of `analytics_session`; every field but the id may be left out."""

    session_id: _SessionId
    user_id: _WireUserId = None
    started_at: _Time | None = None
    ended_at: _Time | None = None
    user_agent: str | None = ""
    referrer: str | None = ""


class UserRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Traits of one user: a row of `analytics_user`, merged key by key, the newer record winning."""

    user_id: int | Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    traits: msgspec.Raw
    updated_at: _Time


Record = EventRecord | SessionRecord | UserRecord

_R = TypeVar("_R")

_event = msgspec.json.Decoder(EventRecord)
_session = msgspec.json.Decoder(SessionRecord)
_user = msgspec.json.Decoder(UserRecord)
_object = msgspec.json.Decoder(dict[str, Any])


def event(raw: bytes, now: datetime) -> EventRecord:
    """Read one event.

    Raises:
        RecordError: The record is refused, with the reason.
    """
    return checked_event(_decode(_event, raw), now)


def checked_event(record: EventRecord, now: datetime) -> EventRecord:
    """An event that was decoded, once its values are ones that Postgres takes.

    Raises:
        RecordError: The record is refused, with the reason.
    """
    _check_object(record.event_data, "event_data")
    _check_time(record.created_at, now, "created_at")
    _check_address(record.ip_address)
    return record


def session(raw: bytes, now: datetime) -> SessionRecord:
    """Read one session record.

    Raises:
        RecordError: The record is refused, with the reason.
    """
    return checked_session(_decode(_session, raw), now)


def checked_session(record: SessionRecord, now: datetime) -> SessionRecord:
    """A session record that was decoded, once its values are ones that Postgres takes.

    Raises:
        RecordError: The record is refused, with the reason.
    """
    for name in ("started_at", "ended_at"):
        _check_time(getattr(record, name), now, name)
    return record


def user(raw: bytes, now: datetime) -> UserRecord:
    """Read one user record.

    Raises:
        RecordError: The record is refused, with the reason.
    """
    return checked_user(_decode(_user, raw), now)


def checked_user(record: UserRecord, now: datetime) -> UserRecord:
    """A user record that was decoded, once its values are ones that Postgres takes.

    Raises:
        RecordError: The record is refused, with the reason.
    """
    _check_object(record.traits, "traits")
    _check_time(record.updated_at, now, "updated_at")
    return record


def stored_user_id(user_id: UserId) -> UserId:
    """Bring a user id into the form it is stored in.

    Integers, and strings that are nothing but an integer, are the app's own ids as long as they are below 2^48;
    anything else is a str that gets a number of ours.
    """
    if isinstance(user_id, str) and user_id.isascii() and user_id.isdecimal():
        number = int(user_id) if len(user_id) < 16 else FIRST_OWN_USER_ID
        return number if number < FIRST_OWN_USER_ID and str(number) == user_id else user_id
    if isinstance(user_id, int) and not 0 <= user_id < FIRST_OWN_USER_ID:
        return str(user_id)
    return user_id


def shown_user_id(stored: int | None, external_id: str | None) -> UserId | None:
    """Turn a stored user id back into the one that the app used."""
    if external_id is None:
        return stored
    return int(external_id) if re.fullmatch(r"-?[1-9][0-9]{0,4000}", external_id) else external_id


def _decode(decoder: msgspec.json.Decoder[_R], raw: bytes) -> _R:
    if b"\\u0000" in raw and _NUL_ESCAPE.search(raw):
        raise RecordError("nul_character", "holds \\u0000, which Postgres can store in no text")
    try:
        raw.decode()  # the decoder does not look into texts that it keeps as they are
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise RecordError(_field_code(str(error)), str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError("invalid_json", _json_fault(raw, str(error))) from None
    except RecursionError:
        raise RecordError("too_deep", f"nests deeper than {MAX_DEPTH} levels") from None


_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_A_NUMBER = re.compile(rb"\b(?:NaN|Infinity)\b")


def _field_code(message: str) -> str:
    return "missing_field" if message.startswith("Object missing required field") else "invalid_field"


def _json_fault(raw: bytes, message: str) -> str:
    """Say what is wrong in words, where the decoder is terse."""
    if _NOT_A_NUMBER.search(raw):
        return "NaN and Infinity are no JSON numbers"
    if _SURROGATE_ESCAPE.search(raw):
        return "holds half of a surrogate pair (\\ud800 to \\udfff), which no UTF-8 text can carry"
    return message


def _check_object(raw: msgspec.Raw, field: str) -> None:
    text = bytes(raw)
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise RecordError("too_deep", f"{field} nests deeper than {MAX_DEPTH} levels")
    try:
        _object.decode(text)
    except msgspec.ValidationError as error:
        raise RecordError("invalid_field", f"{field}: {error}") from None
    except msgspec.DecodeError as error:
        raise RecordError("invalid_json", f"{field}: {_json_fault(text, str(error))}") from None


_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for token in _STRUCTURE.finditer(text):
        mark = token.group()
        depth += (mark in b"[{") - (mark in b"]}")
        deepest = max(deepest, depth)
    return deepest


def _check_time(moment: datetime | None, now: datetime, field: str) -> None:
    if moment is None:
        return
    if moment < EARLIEST:
        raise RecordError("invalid_field", f"{field} {moment.isoformat()} is before the year 1 in UTC")
    if moment > now + MAX_CLOCK_AHEAD:
        raise RecordError(
            "clock_ahead",
            f"{field} {moment.isoformat()} is more than {MAX_CLOCK_AHEAD.seconds // 60} minutes ahead of"
            f" the collector's clock ({now.isoformat()}); check the sender's clock",
        )


def _check_address(address: str | None) -> None:
    if address is not None and not _is_address(address):
        raise RecordError("invalid_field", f"ip_address {address!r} is no IPv4 or IPv6 address")


@functools.lru_cache(maxsize=4096)
def _is_address(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return "%" not in address  # Postgres's inet knows no scope ids
