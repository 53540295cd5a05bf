"""The records that go over the wire, made inside `track()`: values in, JSON bytes out, once.

The same bytes are counted, kept and sent; a batch is a join of them. See docs/wire-format.md.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from ._encoder import encode
from .exceptions import EventError

UserId = int | str | UUID

MAX_EVENT_TYPE: Final = 50  # characters
MAX_SESSION_ID: Final = 64  # characters
MAX_USER_ID: Final = 255  # characters


class EventType(enum.StrEnum):
    """The standard types; any other name of 1 to 50 characters is welcome."""

    PAGE_VIEW = "page_view"
    CLICK = "click"
    FORM_SUBMIT = "form_submit"
    PURCHASE = "purchase"
    SIGNUP = "signup"
    LOGIN = "login"
    LOGOUT = "logout"


class SessionLine(bytes):
    """The bytes of a session record; those of an event are plain bytes."""

    __slots__ = ()


class UserLine(bytes):
    """The bytes of a user record."""

    __slots__ = ()


class _Event(msgspec.Struct, omit_defaults=True):
    event_id: str
    event_type: str
    created_at: datetime
    session_id: str | None = None
    user_id: int | str | None = None
    ip_address: str | None = None
    event_data: Any = None


class _Session(msgspec.Struct, omit_defaults=True):
    session_id: str
    user_id: int | str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    user_agent: str = ""
    referrer: str = ""


class _User(msgspec.Struct):
    user_id: int | str
    traits: Any
    updated_at: datetime


def event_line(
    event_id: str,
    event_type: str,
    created_at: datetime,
    session_id: str | None,
    user_id: UserId | None,
    ip_address: str | None,
    event_data: Any,
) -> bytes:
    """Encode one event.

    Raises:
        EventError: The collector would refuse it; says which field and why.
    """
    if not (isinstance(event_type, str) and 0 < len(event_type) <= MAX_EVENT_TYPE):
        raise EventError("invalid", f"event_type is a string of 1 to {MAX_EVENT_TYPE} characters, not {event_type!r}")
    if event_data is not None and not isinstance(event_data, dict):
        event_data = _as_object(event_data)
    return encode(
        _Event(
            event_id,
            event_type,
            created_at,
            None if session_id is None else checked_session_id(session_id),
            None if user_id is None else checked_user_id(user_id),
            None if ip_address is None else valid_address(str(ip_address)),
            event_data,
        )
    )


def session_line(
    session_id: str,
    *,
    user_id: UserId | None = None,
    started_at: datetime | None = None,
    ended_at: datetime | None = None,
    user_agent: str | None = None,
    referrer: str | None = None,
) -> SessionLine:
    """Encode what is known of a session.

    Raises:
        EventError: An id is unusable.
    """
    user = None if user_id is None else checked_user_id(user_id)
    agent, page = (str(text) if text else "" for text in (user_agent, referrer))
    record = _Session(checked_session_id(session_id), user, started_at, ended_at, agent, page)
    return SessionLine(encode(record))


def user_line(user_id: UserId, traits: Any, updated_at: datetime) -> UserLine:
    """Encode the traits of a user.

    Raises:
        EventError: The id is unusable, or the traits are no mapping.
    """
    return UserLine(encode(_User(checked_user_id(user_id), _as_object(traits), updated_at)))


def checked_user_id(user_id: UserId) -> int | str:
    """A user id as it goes over the wire.

    Raises:
        EventError: It is neither an integer of 64 bits, a string of 1 to 255 characters nor a UUID.
    """
    if isinstance(user_id, int) and not isinstance(user_id, bool) and -(2**63) <= user_id < 2**64:
        return user_id
    if isinstance(user_id, str) and 0 < len(user_id) <= MAX_USER_ID:
        return user_id
    if isinstance(user_id, UUID):
        return str(user_id)
    raise EventError("invalid", f"user_id is an integer or a string of 1 to {MAX_USER_ID} characters, not {user_id!r}")


def checked_session_id(session_id: str) -> str:
    """A session id as it goes over the wire.

    Raises:
        EventError: It is no string of 1 to 64 characters.
    """
    if isinstance(session_id, str) and 0 < len(session_id) <= MAX_SESSION_ID:
        return session_id
    raise EventError("invalid", f"session_id is a string of 1 to {MAX_SESSION_ID} characters, not {session_id!r}")


@functools.lru_cache(maxsize=4096)
def valid_address(text: str) -> str | None:
    """An IPv4 or IPv6 address as Postgres knows it, without a scope; None if it is none.

    A useless address is left out, rather than lose the event to it.
    """
    try:
        return str(ipaddress.ip_address(text[:64].partition("%")[0]))
    except ValueError:
        return None


def utc_moment(moment: datetime) -> datetime:
    """A moment as it goes over the wire, where every offset is UTC's; a naive one is taken as UTC.

    Raises:
        EventError: It is no datetime.
        OverflowError: It is before the year 1 or after the year 9999 in UTC.
    """
    if not isinstance(moment, datetime):
        raise EventError("invalid", f"created_at is a datetime, not {moment!r}")
    utc = moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment.astimezone(UTC)
    return datetime.combine(utc.date(), utc.timetz())  # no subclass, which the encoder would not know


def _as_object(value: Any) -> Any:
    """Anything that becomes a JSON object: mappings, dataclasses, attrs classes, structs."""
    text = encode(value)
    if text.startswith(b"{"):
        return msgspec.Raw(text)
    raise EventError("invalid", f"event_data and traits are mappings with string keys, not {type(value).__name__}")
