"""For the tests of applications: a transport that keeps what would have been sent, and touches no network.

transport = RecordingTransport()
client = analytics_sdk.init(transport=transport)
...
client.flush()
assert transport.events[0]["event_type"] == "purchase"
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from ._transport import Outcome

__all__ = ["Outcome", "RecordingTransport"]


class RecordingTransport:
    """Keeps every batch; as good a collector as one without a disk can be.

    Args:
        outcomes: What to answer to the first batches, instead of storing them: for trying out trouble.

    Attributes:
        sessions: The session records.
        users: The user records.
        attempts: How often something was sent.
    """

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self.attempts = 0
        self.sessions: list[dict[str, Any]] = []
        self.users: list[dict[str, Any]] = []
        self._events: dict[tuple[str, str], dict[str, Any]] = {}
        self._outcomes = deque(outcomes)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events stored, in order, as they went over the wire; each once."""
        return list(self._events.values())

    def send(self, body: bytes, timeout: float) -> Outcome:  # noqa: ARG002  # nothing here takes time
        """Keep a batch."""
        self.attempts += 1
        if self._outcomes:
            return self._outcomes.popleft()
        batch = msgspec.json.decode(body)
        before = len(self._events)
        for event in batch["events"]:
            self._events.setdefault((event["event_id"], event["created_at"]), event)
        self.sessions += batch["sessions"]
        self.users += batch["users"]
        new = len(self._events) - before
        return Outcome(
            fate="stored",
            accepted=new + len(batch["sessions"]) + len(batch["users"]),
            duplicates=len(batch["events"]) - new,
        )

    def reset(self) -> None:
        """Keep nothing of the parent's in a forked child."""
        self._events.clear()
        self.sessions.clear()
        self.users.clear()
        self.attempts = 0

    def close(self) -> None:
        """Nothing is open."""
