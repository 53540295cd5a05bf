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
        events: The events stored, in order, as they went over the wire.
        sessions: The session records.
        users: The user records.
        attempts: How often something was sent.
    """

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self.events: list[dict[str, Any]] = []
        self.sessions: list[dict[str, Any]] = []
        self.users: list[dict[str, Any]] = []
        self.attempts = 0
        self._outcomes = deque(outcomes)

    def send(self, body: bytes, timeout: float) -> Outcome:  # noqa: ARG002  # nothing here takes time
        """Keep a batch."""
        self.attempts += 1
        if self._outcomes:
            return self._outcomes.popleft()
        batch = msgspec.json.decode(body)
        known = {event["event_id"] for event in self.events}
        new = [event for event in batch["events"] if event["event_id"] not in known]
        self.events += new
        self.sessions += batch["sessions"]
        self.users += batch["users"]
        duplicates = len(batch["events"]) - len(new)
        return Outcome(
            fate="stored",
            accepted=len(new) + len(batch["sessions"]) + len(batch["users"]),
            duplicates=duplicates,
        )

    def reset(self) -> None:
        """Keep nothing of the parent's in a forked child."""
        self.__init__(self._outcomes)  # type: ignore[misc]

    def close(self) -> None:
        """Nothing is open."""
