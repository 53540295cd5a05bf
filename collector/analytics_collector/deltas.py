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

    def add(self, user_id: int, sessions: int, events: int, first: datetime | None, last: datetime | None) -> None:
        """So many sessions and events have become this user's, the first and the last event at these times."""
        delta = self._delta(user_id)
        delta.total_sessions += sessions
        delta.total_events += events
        if first is not None and (delta.first_seen is None or first < delta.first_seen):
            delta.first_seen = first
        if last is not None and (delta.last_seen is None or last > delta.last_seen):
            delta.last_seen = last

    def rows(self) -> list[Delta]:
        """One row a user."""
        return list(self._of.values())

    def _delta(self, user_id: int) -> Delta:
        delta = self._of.get(user_id)
        if delta is None:
            delta = self._of[user_id] = Delta(user_id)
        return delta
