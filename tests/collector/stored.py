"""What is in Postgres, in the words of the reference: with the user ids that the app uses."""

from __future__ import annotations

from typing import Any

from analytics_collector.db import Connection
from tests.collector.reference import Event, Profile, Reference, Session, Traits, User

_EVENTS = """
    SELECT event_id, created_at, session_id, user_id, event_type, event_data, host(ip_address) FROM analytics_event
"""
_SESSIONS = (
    "SELECT session_id, user_id, started_at, ended_at, last_event_at, user_agent, referrer FROM analytics_session"
)
_REJECTS = "SELECT kind, record, code FROM analytics_reject"
_PROFILES = "SELECT user_id, total_sessions, total_events, first_seen, last_seen FROM analytics_useranalyticsprofile"


def stored(connection: Connection) -> tuple[Reference, dict[User, Profile]]:
    """All rows; the profiles apart, as the reference counts them.

    Args:
        connection: With the time zone UTC, as the times of long ago have odd offsets elsewhere.
    """
    users = connection.execute("SELECT id, external_id, traits FROM analytics_user").fetchall()
    names: dict[int | None, Any] = {number: name for number, name, _ in users if name is not None}
    reference = Reference(
        {
            (key, time): Event(session_id, names.get(user, user), *rest)
            for key, time, session_id, user, *rest in connection.execute(_EVENTS)
        },
        {
            session_id: Session(names.get(user, user), *rest)
            for session_id, user, *rest in connection.execute(_SESSIONS)
        },
        {names.get(number, number): Traits(traits) for number, _, traits in users},
        {(kind, bytes(record)): code for kind, record, code in connection.execute(_REJECTS)},
    )
    return reference, {names.get(user, user): Profile(*rest) for user, *rest in connection.execute(_PROFILES)}
