"""The records that go over the wire, and what makes a value fit to be in one. See docs/wire-format.md."""

from __future__ import annotations

import enum
import functools
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from ._form import is_storable
from .exceptions import EventError

UserId = int | str | UUID

MAX_EVENT_TYPE: Final = 50  # characters
MAX_SESSION_ID: Final = 64  # characters
MAX_USER_ID: Final = 255  # characters
_LONGEST_ADDRESS: Final = 64  # characters, with a scope


class EventType(enum.StrEnum):
    """The standard types; any other name of 1 to 50 characters is welcome."""

    PAGE_VIEW = "page_view"
    CLICK = "click"
    FORM_SUBMIT = "form_submit"
    PURCHASE = "purchase"
    SIGNUP = "signup"
    LOGIN = "login"
    LOGOUT = "logout"


# The field that comes first tells the kinds of records apart (_batch.py), and has no default, so it is always there.


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """What happened: one row of analytics_event."""

    event_id: str
    event_type: str
    created_at: datetime
    session_id: str | None = None
    user_id: int | str | None = None
    ip_address: str | None = None
    event_data: Any = None


class Session(msgspec.Struct, omit_defaults=True):
    """What is known of a session."""

    session_id: str
    user_id: int | str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    user_agent: str = ""
    referrer: str = ""


class User(msgspec.Struct):
    """What is known of a user."""

    user_id: int | str
    traits: Any
    updated_at: datetime


def as_stored(line: bytes) -> dict[str, Any]:
    """An encoded event in plain values, which are nobody's but the receiver's."""
    event: dict[str, Any] = msgspec.json.decode(line)
    return event


def checked_event_type(event_type: str) -> str:
    """An event type as it goes over the wire.

    Raises:
        EventError: It is no string of 1 to 50 characters.
    """
    if isinstance(event_type, str) and 0 < len(event_type) <= MAX_EVENT_TYPE:
        return str.__str__(event_type)
    raise EventError("invalid", f"event_type is a string of 1 to {MAX_EVENT_TYPE} characters, not {event_type!r}")


def checked_user_id(user_id: UserId) -> int | str:
    """A user id as it goes over the wire.

    Raises:
        EventError: It is neither an integer of 64 bits, a string of 1 to 255 characters nor a UUID.
    """
    if isinstance(user_id, int) and not isinstance(user_id, bool) and -(2**63) <= user_id < 2**64:
        return user_id
    if isinstance(user_id, str) and 0 < len(user_id) <= MAX_USER_ID and is_storable(user_id):
        return user_id
    if isinstance(user_id, UUID):
        return str(user_id)
    raise EventError(
        "invalid", f"user_id is an integer or a string of 1 to {MAX_USER_ID} characters without NUL, not {user_id!r}"
    )


def checked_session_id(session_id: str) -> str:
    """A session id as it goes over the wire.

    Raises:
        EventError: It is no string of 1 to 64 characters.
    """
    if isinstance(session_id, str) and 0 < len(session_id) <= MAX_SESSION_ID and is_storable(session_id):
        return session_id
    raise EventError(
        "invalid", f"session_id is a string of 1 to {MAX_SESSION_ID} characters without NUL, not {session_id!r}"
    )


def checked_address(address: object) -> str | None:
    """An IPv4 or IPv6 address as Postgres knows it, without a scope, and IPv4 as such on a dual socket.

    A useless one is None, and so left out, rather than lose the event to it.
    """
    return _known_address(str(address)[:_LONGEST_ADDRESS])


@functools.lru_cache(maxsize=4096)
def _known_address(text: str) -> str | None:
    import ipaddress  # not needed by a process that only imports us

    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


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
