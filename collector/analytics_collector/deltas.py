"""What a group of records changes about profiles: pure counting, one row a user."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Delta(msgspec.Struct, gc=False):
    """By how much one user's profile grows."""

    user_id: int
    total_sessions: int = 0
    total_events: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None


class Deltas:
    """The changes of all profiles that a group of records touches."""

    def __init__(self) -> None:
        self._of: dict[int, Delta] = {}

    def add_session(self, user_id: int) -> None:
        """A session has become this user's."""
        self._delta(user_id).total_sessions += 1

    def add_event(self, user_id: int, created_at: datetime) -> None:
        """An event has become this user's."""
        self.add_events(user_id, 1, created_at, created_at)

    def add_events(self, user_id: int, count: int, first: datetime, last: datetime) -> None:
        """Events have become this user's, the first and the last of them at these times."""
        delta = self._delta(user_id)
        delta.total_events += count
        if delta.first_seen is None or first < delta.first_seen:
            delta.first_seen = first
        if delta.last_seen is None or last > delta.last_seen:
            delta.last_seen = last

    def rows(self) -> list[Delta]:
        """One row a user."""
        return list(self._of.values())

    def _delta(self, user_id: int) -> Delta:
        delta = self._of.get(user_id)
        if delta is None:
            delta = self._of[user_id] = Delta(user_id)
        return delta
