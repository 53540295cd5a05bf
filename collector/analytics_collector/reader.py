"""Reads profiles, sessions and events. Lists go from the newest to the oldest, page by page.

A page ends with a cursor that names the last row by its keys, so pages neither skip nor repeat rows while
writing goes on, and the thousandth page costs what the first does.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, LiteralString

import attrs
import msgspec
from psycopg.sql import SQL, Composed

from . import users
from .db import Connection
from .exceptions import MalformedError
from .records import UserId, shown_user_id, stored_user_id
from .sql import load

MAX_PAGE: Final = 1000  # rows
DEFAULT_PAGE: Final = 100  # rows


@attrs.frozen
class Page:
    """Some rows, and where the next ones start.

    Attributes:
        next_cursor: None when these were the last.
    """

    rows: list[dict[str, Any]]
    next_cursor: str | None


def profiles(connection: Connection, user_ids: Sequence[UserId]) -> list[dict[str, Any]]:
    """The profiles of these users, in the order asked; a user never seen is left out."""
    asked = dict.fromkeys(map(stored_user_id, user_ids))
    numbers = [str(user_id) for user_id in asked if isinstance(user_id, int)]
    names = [user_id for user_id in asked if isinstance(user_id, str)]
    # As an array's text: the driver takes half as long again for a statement with a list as parameter.
    rows = _rows(connection, "reader.profiles", f"{{{','.join(numbers)}}}") if numbers else []
    rows += _rows(connection, "reader.named_profiles", names) if names else []
    found = {number if name is None else name: row for row in rows for number, name in [row[:2]]}
    return [_profile(found[user_id]) for user_id in asked if user_id in found]


def sessions(connection: Connection, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
    """A page of sessions.

    Args:
        connection: Any.
        filters: Any of `user_id` (one the app uses), `session_id`, `active` (bool), `since` and `until`
            (started_at, until exclusive).
        limit: Most rows, 1 to `MAX_PAGE`.
        cursor: The `next_cursor` of the page before.
    """
    return _page(connection, "reader.sessions", _SESSION_FILTERS, filters, limit, cursor, _session)


def events(connection: Connection, filters: Mapping[str, Any], limit: int, cursor: str | None) -> Page:
    """A page of events.

    Args:
        connection: Any.
        filters: Any of `user_id` (one the app uses), `session_id`, `event_type`, `since` and `until`
            (created_at, until exclusive).
        limit: Most rows, 1 to `MAX_PAGE`.
        cursor: The `next_cursor` of the page before.
    """
    return _page(connection, "reader.events", _EVENT_FILTERS, filters, limit, cursor, _event)


_SESSION_FILTERS: Final[Mapping[str, LiteralString]] = {
    "user_id": "s.user_id = %(user_id)s",
    "session_id": "s.session_id = %(session_id)s",
    "active": "(s.ended_at IS NULL) = %(active)s",
    "since": "s.started_at >= %(since)s",
    "until": "s.started_at < %(until)s",
    "cursor": "(s.started_at, s.session_id) < (%(cursor_time)s, %(cursor_id)s)",
}

_EVENT_FILTERS: Final[Mapping[str, LiteralString]] = {
    "user_id": "e.user_id = %(user_id)s",
    "session_id": "e.session_id = %(session_id)s",
    "event_type": "e.event_type = %(event_type)s",
    "since": "e.created_at >= %(since)s",
    "until": "e.created_at < %(until)s",
    "cursor": "(e.created_at, e.event_id) < (%(cursor_time)s, %(cursor_id)s)",
}

# What a cursor holds: the list that it belongs to, and the two keys of the last row.
_CursorTime = Annotated[datetime, msgspec.Meta(tz=True)]
_SessionId = Annotated[str, msgspec.Meta(max_length=64, pattern=r"\A[^\0]*\Z")]
_CURSORS: Final[Mapping[str, msgspec.json.Decoder[tuple[str, datetime, Any]]]] = {
    "reader.sessions": msgspec.json.Decoder(tuple[Literal["reader.sessions"], _CursorTime, _SessionId]),
    "reader.events": msgspec.json.Decoder(tuple[Literal["reader.events"], _CursorTime, uuid.UUID]),
}


def _page(
    connection: Connection,
    statement: str,
    conditions: Mapping[str, LiteralString],
    filters: Mapping[str, Any],
    limit: int,
    cursor: str | None,
    shape: Callable[[Sequence[Any]], dict[str, Any]],
) -> Page:
    values = dict(filters)
    if "user_id" in values:
        values["user_id"] = _number(connection, values["user_id"])
    if cursor is not None:
        values["cursor"], values["cursor_time"], values["cursor_id"] = _open_cursor(statement, cursor)
    query = SQL(load(statement)).format(where=_where(conditions, values))
    found = connection.execute(query, {**values, "limit": limit + 1}).fetchall()
    rows = found[:limit]
    more = len(found) > limit
    return Page([shape(row) for row in rows], _seal_cursor(statement, rows[-1]) if more else None)


def _where(conditions: Mapping[str, LiteralString], values: Mapping[str, Any]) -> Composed:
    return SQL(" AND ").join([SQL("TRUE"), *(SQL(text) for name, text in conditions.items() if name in values)])


def _number(connection: Connection, user_id: UserId) -> int | None:
    stored = stored_user_id(user_id)
    return stored if isinstance(stored, int) else users.find(connection, [stored]).get(stored)


def _seal_cursor(statement: str, row: Sequence[Any]) -> str:
    """Both lists have their two keys, the time and the id, in front."""
    return base64.urlsafe_b64encode(msgspec.json.encode([statement, *row[:2]])).decode()


def _open_cursor(statement: str, cursor: str) -> tuple[str, datetime, Any]:
    try:
        return _CURSORS[statement].decode(base64.urlsafe_b64decode(cursor))
    except ValueError:  # of base64, and what msgspec raises is one too
        raise MalformedError("The cursor is none of ours", "take `next_cursor` of the page before, unchanged") from None


def _rows(connection: Connection, statement: str, ids: str | list[str]) -> list[Sequence[Any]]:
    return list(connection.execute(load(statement), {"ids": ids}))


def _profile(row: Sequence[Any]) -> dict[str, Any]:
    number, external_id, total_sessions, total_events, first_seen, last_seen, traits = row
    return {
        "user_id": shown_user_id(number, external_id),
        "total_sessions": total_sessions,
        "total_events": total_events,
        "first_seen": first_seen,
        "last_seen": last_seen,
        "traits": msgspec.Raw(traits.encode()),
    }


def _session(row: Sequence[Any]) -> dict[str, Any]:
    started_at, session_id, number, external_id, ended_at, last_event_at, user_agent, referrer = row
    return {
        "session_id": session_id,
        "user_id": shown_user_id(number, external_id),
        "started_at": started_at,
        "ended_at": ended_at,
        "duration": None if ended_at is None else (ended_at - started_at).total_seconds(),
        "last_event_at": last_event_at,
        "user_agent": user_agent,
        "referrer": referrer,
    }


def _event(row: Sequence[Any]) -> dict[str, Any]:
    created_at, event_id, number, external_id, session_id, event_type, event_data, received_at, address = row
    return {
        "event_id": event_id,
        "event_type": event_type,
        "session_id": session_id,
        "user_id": shown_user_id(number, external_id),
        "event_data": msgspec.Raw(event_data.encode()),
        "created_at": created_at,
        "received_at": received_at,
        "ip_address": address,
    }
