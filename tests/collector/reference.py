"""The rules of writing, told a second time: one record after the other, in plain Python.

The writer takes whole batches in a few SQL statements; this takes records one by one. Where both end with the
same rows, a batch means no more than its records in a row, however they were cut into batches.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import attrs

User = int | str | None


@attrs.define
class Event:
    """What a row of `analytics_event` must say."""

    session_id: str
    user_id: User
    event_type: str


@attrs.define
class Session:
    """What a row of `analytics_session` must say; `started_at` is None if nobody ever named a time."""

    user_id: User = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_event_at: datetime | None = None
    user_agent: str = ""
    referrer: str = ""

    def begin_by(self, moment: datetime | None) -> None:
        """It had started at this time."""
        self.started_at = _extreme(min, self.started_at, moment)

    def last_until(self, moment: datetime | None) -> None:
        """It had not ended before this time."""
        if self.ended_at is not None:
            self.ended_at = _extreme(max, self.ended_at, moment)


@attrs.define
class Profile:
    """What a row of `analytics_useranalyticsprofile` must say."""

    total_sessions: int = 0
    total_events: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None


@attrs.define
class Reference:
    """The three tables, as they must be after the records taken so far."""

    events: dict[tuple[uuid.UUID, datetime], Event] = attrs.field(factory=dict)
    sessions: dict[str, Session] = attrs.field(factory=dict)

    def take_session(self, record: dict[str, Any]) -> None:
        """Take what is said of a session."""
        session = self.sessions.setdefault(record["session_id"], Session())
        self._claim(record["session_id"], app_user(record.get("user_id")))
        started_at, ended_at = moment(record.get("started_at")), moment(record.get("ended_at"))
        session.begin_by(started_at)
        session.begin_by(ended_at)
        session.ended_at = _extreme(max, session.ended_at, ended_at)
        session.last_until(session.last_event_at)
        session.user_agent = session.user_agent or record.get("user_agent") or ""
        session.referrer = session.referrer or record.get("referrer") or ""

    def take_event(self, record: dict[str, Any]) -> None:
        """Take an event; one that is there already still touches the session that it names."""
        user, created_at, session_id = app_user(record["user_id"]), moment(record["created_at"]), record["session_id"]
        assert created_at is not None
        if session_id:
            session = self.sessions.setdefault(session_id, Session())
            self._claim(session_id, user)
            user = session.user_id if user is None else user
            session.begin_by(created_at)
            session.last_event_at = _extreme(max, session.last_event_at, created_at)
            session.last_until(created_at)
        key = (uuid.UUID(record["event_id"]), created_at)
        self.events.setdefault(key, Event(session_id, user, record["event_type"]))

    def profiles(self) -> dict[User, Profile]:
        """Count the rows."""
        found: dict[User, Profile] = {}
        for session in self.sessions.values():
            found.setdefault(session.user_id, Profile()).total_sessions += 1
        for (_, created_at), event in self.events.items():
            profile = found.setdefault(event.user_id, Profile())
            profile.total_events += 1
            profile.first_seen = _extreme(min, profile.first_seen, created_at)
            profile.last_seen = _extreme(max, profile.last_seen, created_at)
        found.pop(None, None)
        return found

    def _claim(self, session_id: str, user: User) -> None:
        """The first user of a session owns it, and the anonymous events that it has."""
        session = self.sessions[session_id]
        if session.user_id is not None or user is None:
            return
        session.user_id = user
        for event in self.events.values():
            if event.session_id == session_id and event.user_id is None:
                event.user_id = user


def app_user(user_id: User) -> User:
    """The id as the app knows it: "42" and 42 are one user."""
    return int(user_id) if isinstance(user_id, str) and user_id.isdecimal() else user_id


def moment(text: str | None) -> datetime | None:
    """A time of the wire."""
    return None if text is None else datetime.fromisoformat(text)


def _extreme(choose: Any, one: datetime | None, other: datetime | None) -> datetime | None:
    return choose((moment for moment in (one, other) if moment is not None), default=None)
