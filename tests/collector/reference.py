"""The rules of the collector, told a second time: one record after the other, in plain Python.

The writer takes whole groups of batches in a few SQL statements; this takes records one by one. Where both end with
the same rows, a group means no more than its records in a row, however they were cut into batches.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import attrs

User = int | str | None
Kind = Literal["session", "user", "event"]
Entry = tuple[Kind, dict[str, Any]]

_AHEAD = timedelta(minutes=10)
_TIMES = ("created_at", "started_at", "ended_at", "updated_at")


@attrs.frozen
class Batch:
    """The records of one request."""

    sessions: Sequence[dict[str, Any]] = ()
    users: Sequence[dict[str, Any]] = ()
    events: Sequence[dict[str, Any]] = ()

    def entries(self) -> list[Entry]:
        """In the order in which they count."""
        kinds: list[tuple[Kind, Sequence[dict[str, Any]]]]
        kinds = [("session", self.sessions), ("user", self.users), ("event", self.events)]
        return [(kind, record) for kind, records in kinds for record in records]


@attrs.define
class Event:
    """What a row of `analytics_event` must say."""

    session_id: str
    user_id: User
    event_type: str
    event_data: Any = attrs.field(factory=dict)
    ip_address: str | None = None


@attrs.define
class Session:
    """What a row of `analytics_session` must say.

    Attributes:
        started_at: None if nobody ever named a time: then it is when it arrived, which only the database knows.
        is_undated: A record without any time has come, so that it had started by then; see `Reference.date`.
    """

    user_id: User = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_event_at: datetime | None = None
    user_agent: str = ""
    referrer: str = ""
    is_undated: bool = attrs.field(default=False, eq=False)

    def begin_by(self, moment: datetime | None) -> None:
        """It had started at this time."""
        self.started_at = _extreme(min, self.started_at, moment)

    def last_until(self, moment: datetime | None) -> None:
        """It had not ended before this time."""
        if self.ended_at is not None:
            self.ended_at = _extreme(max, self.ended_at, moment)

    def rest(self, before: datetime) -> None:
        """End it, if nothing has happened in it since some time."""
        last = _extreme(max, self.started_at, self.last_event_at)
        if self.ended_at is None and last is not None and last < before:
            self.ended_at = last

    def is_past(self, before: datetime) -> bool:
        """Whether all that is known of it happened before some time."""
        last = _extreme(max, _extreme(max, self.started_at, self.last_event_at), self.ended_at)
        return last is not None and last < before


@attrs.define
class Traits:
    """What a row of `analytics_user` must say.

    Attributes:
        told_at: When each trait was told.
        tied: Of traits that were told by several at the same time, what each of them said.
    """

    values: dict[str, Any] = attrs.field(factory=dict)
    told_at: dict[str, datetime] = attrs.field(factory=dict, eq=False)
    tied: dict[str, list[Any]] = attrs.field(factory=dict, eq=False)

    def merge(self, values: dict[str, Any], told_at: datetime) -> None:
        """Key by key the newest wins; of two that are equally old, the later to arrive."""
        for key, value in values.items():
            if key not in self.told_at or self.told_at[key] <= told_at:
                self.tied[key] = [*(self.tied.get(key, ()) if self.told_at.get(key) == told_at else ()), value]
                self.values[key], self.told_at[key] = value, told_at

    def settle(self, values: dict[str, Any]) -> None:
        """Believe the database who of those came last; the others are forgotten."""
        for key, said in self.tied.items():
            if values.get(key) in said:
                self.values[key] = values[key]
        self.tied = {}


@attrs.define
class Profile:
    """What a row of `analytics_useranalyticsprofile` must say."""

    total_sessions: int = 0
    total_events: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None


@attrs.define
class Reference:
    """The tables, as they must be after the records taken so far.

    Attributes:
        rejects: The code of each record that is set aside.
        app_users: Whom the app's user table has; None if there is no such table.
    """

    events: dict[tuple[uuid.UUID, datetime], Event] = attrs.field(factory=dict)
    sessions: dict[str, Session] = attrs.field(factory=dict)
    users: dict[User, Traits] = attrs.field(factory=dict)
    rejects: dict[tuple[Kind, bytes], str] = attrs.field(factory=dict)
    app_users: frozenset[int] | None = attrs.field(default=None, eq=False)

    def copy(self) -> Reference:
        """Another one that goes its own way."""
        return Reference(
            {key: attrs.evolve(event) for key, event in self.events.items()},
            {session_id: attrs.evolve(session) for session_id, session in self.sessions.items()},
            {user: Traits(*map(dict, attrs.astuple(traits, recurse=False))) for user, traits in self.users.items()},
            dict(self.rejects),
            self.app_users,
        )

    def take(self, entries: Iterable[Entry], now: datetime) -> list[str]:
        """Take records that come together: a request's, or those that are replayed.

        If the database would refuse one of them, records of users whom the app does not have are set aside first.

        Args:
            entries: In the order in which they count.
            now: The collector's clock.

        Returns:
            What becomes of each: "accepted", "duplicate", or the code by which it is rejected.
        """
        judged = [(kind, record, _fault(kind, record, now)) for kind, record in entries]
        if self._refuses_one([(kind, record) for kind, record, fault in judged if fault is None]):
            judged = [(kind, record, fault or self._refusal(kind, record)) for kind, record, fault in judged]
        return [self._take_one(kind, record, fault) for kind, record, fault in judged]

    def _take_one(self, kind: Kind, record: dict[str, Any], fault: str | None) -> str:
        if fault is not None:
            self.rejects.setdefault((kind, raw(record)), fault)
            return fault
        if isinstance(user := app_user(record.get("user_id")), str):
            self.users.setdefault(user, Traits())
        if kind == "event":
            return "accepted" if self.take_event(record) else "duplicate"
        self.take_session(record) if kind == "session" else self.take_user(record)
        return "accepted"

    def take_session(self, record: dict[str, Any]) -> None:
        """Take what is said of a session."""
        session = self.sessions.setdefault(record["session_id"], Session())
        self._claim(record["session_id"], app_user(record.get("user_id")))
        started_at, ended_at = moment(record.get("started_at")), moment(record.get("ended_at"))
        session.is_undated |= started_at is None and ended_at is None
        session.begin_by(started_at)
        session.begin_by(ended_at)
        session.ended_at = _extreme(max, session.ended_at, ended_at)
        session.last_until(session.last_event_at)
        session.user_agent = session.user_agent or record.get("user_agent") or ""
        session.referrer = session.referrer or record.get("referrer") or ""

    def take_user(self, record: dict[str, Any]) -> None:
        """Take a user's traits."""
        told_at = moment(record["updated_at"])
        assert told_at is not None
        self.users.setdefault(app_user(record["user_id"]), Traits()).merge(record["traits"], told_at)

    def take_event(self, record: dict[str, Any]) -> bool:
        """Take an event; one that is there already, which False tells, still touches the session that it names."""
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
        is_new = key not in self.events
        if is_new:
            data, address = record.get("event_data", {}), record.get("ip_address")
            self.events[key] = Event(session_id or "", user, record["event_type"], data, address)
        return is_new

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

    def end_idle(self, before: datetime) -> None:
        """End the sessions in which nothing has happened since some time."""
        for session in self.sessions.values():
            session.rest(before)

    def forget(self, before: datetime) -> None:
        """Forget the events before some time, and the sessions that were over by then."""
        self.events = {key: event for key, event in self.events.items() if key[1] >= before}
        self.sessions = {name: session for name, session in self.sessions.items() if not session.is_past(before)}

    def settle_traits(self, found: Reference) -> None:
        """Believe the database who came last of those who told the same trait at the same time."""
        for user, traits in self.users.items():
            traits.settle(found.users[user].values if user in found.users else {})

    def date(self, found: Reference, since: datetime, until: datetime) -> None:
        """Believe the database when those sessions arrived that no record gave a time, if it was in this window."""
        for session_id, session in self.sessions.items():
            stored = found.sessions.get(session_id)
            if session.is_undated and stored and stored.started_at and since <= stored.started_at <= until:
                session.begin_by(stored.started_at)
            session.is_undated = False

    def _claim(self, session_id: str, user: User) -> None:
        """The first user of a session owns it, and the anonymous events that it has."""
        session = self.sessions[session_id]
        if session.user_id is not None or user is None:
            return
        session.user_id = user
        for event in self.events.values():
            if event.session_id == session_id and event.user_id is None:
                event.user_id = user

    def _refusal(self, kind: Kind, record: dict[str, Any]) -> str | None:
        if kind != "user" and self._is_strange(app_user(record.get("user_id"))):
            return "unknown_user"
        return "database_refused" if is_evil(record) else None

    def _is_strange(self, user: User) -> bool:
        return self.app_users is not None and user is not None and user not in self.app_users

    def _refuses_one(self, entries: Sequence[Entry]) -> bool:
        """Whether one of them would write what the database refuses; a stranger's that writes no user is fine."""
        if any(is_evil(record) for _, record in entries):
            return True
        if not any(self._refusal(kind, record) for kind, record in entries):
            return False
        trial = self.copy()
        for kind, record in entries:
            trial._take_one(kind, record, None)  # its own kind
        rows = (*trial.events.values(), *trial.sessions.values())
        return any(self._is_strange(row.user_id) for row in rows)


def is_evil(record: dict[str, Any]) -> bool:
    """Whether it breaks the check that the tests put on the table of events."""
    return record.get("event_type") == "evil"


def app_user(user_id: User) -> User:
    """The id as the app knows it: "42" and 42 are one user, "042" and 2^48 are no small numbers."""
    if isinstance(user_id, str):
        is_plain = user_id.isascii() and user_id.isdecimal() and str(int(user_id)) == user_id
        return int(user_id) if is_plain and int(user_id) < 2**48 else user_id
    return user_id if user_id is None or 0 <= user_id < 2**48 else str(user_id)


def moment(text: str | None) -> datetime | None:
    """A time of the wire."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def raw(record: dict[str, Any]) -> bytes:
    """The record as it stands in a request."""
    return json.dumps(record).encode()


def _fault(kind: Kind, record: dict[str, Any], now: datetime) -> str | None:
    """By which code it is refused on sight."""
    if kind == "event" and "event_type" not in record:
        return "missing_field"
    times = filter(None, (moment(record.get(name)) for name in _TIMES))
    return "clock_ahead" if any(time > now + _AHEAD for time in times) else None


def _extreme(choose: Any, one: datetime | None, other: datetime | None) -> datetime | None:
    return choose((moment for moment in (one, other) if moment is not None), default=None)
