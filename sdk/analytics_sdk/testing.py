"""For the tests of applications: everything that is tracked is kept to look at, and nothing touches the network.

With pytest, whose plugin has the fixture `analytics`:

    def test_buying(analytics):
        buy("teapot")
        analytics.assert_tracked("purchase", {"product": "teapot"}, user_id=42)

Without pytest the same object is what `with analytics_sdk.testing.recording() as analytics` gives.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import EllipsisType
from typing import Any

import msgspec

from ._event import UserId
from ._expectation import Expectation, failure
from ._rows import Row, Rows
from ._stand_in import StandIns, standing_in
from ._transport import Outcome

__all__ = ["Outcome", "Recorder", "RecordingTransport", "recording"]


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """Keep what all clients of this process track in a block, and let nothing of it touch the network.

    That is the default client, clients that there are, and clients that are made in the block; neither of them needs
    an address or a key, and what `init()` says in the block is forgotten after it. Everything is tracked: `enabled`,
    `sample_rate`, `spool` and `handle_sigterm` have no effect. All other settings have theirs.

    Yields:
        What was tracked, and assertions about it.
    """
    stand_ins = StandIns(RecordingTransport())
    with standing_in(stand_ins):
        yield Recorder(stand_ins)


class Recorder:
    """What was tracked so far, as the collector would store it; there is no need to flush.

    Rows are dicts, in the order in which they were made. Those of events have `event_id`, `event_type`, `session_id`
    ("" outside of any session), `user_id` (None if it is nobody's), `event_data`, `created_at` (a datetime in UTC) and
    `ip_address`.
    """

    def __init__(self, stand_ins: StandIns) -> None:
        self._stand_ins = stand_ins

    @property
    def events(self) -> list[Row]:
        """The events, each once, with the user that they have by now."""
        return list(self._rows().events.values())

    @property
    def sessions(self) -> list[Row]:
        """The sessions: session_id, user_id, started_at, ended_at, last_event_at, user_agent, referrer."""
        return list(self._rows().sessions.values())

    @property
    def users(self) -> list[Row]:
        """The users of whom `identify()` has told traits: user_id, traits."""
        return list(self._rows().users.values())

    @property
    def refused(self) -> Mapping[str, int]:
        """How many events were not accepted, by reason (see `Stats.refused`)."""
        total: Counter[str] = Counter()
        for engine in self._stand_ins.engines:
            total.update(engine.stats().refused)
        return dict(total)

    def clear(self) -> None:
        """Forget all that was tracked so far."""
        self._stand_ins.records.clear()

    def assert_tracked(
        self,
        event_type: str,
        event_data: Mapping[str, Any] | None = None,
        *,
        user_id: UserId | EllipsisType | None = ...,
        session_id: str | EllipsisType = ...,
        times: int | None = None,
    ) -> list[Row]:
        """Assert that an event was tracked.

        Args:
            event_type: Its name.
            event_data: What it must hold; it may hold more, at any depth. Values are compared as they are stored,
                so a Decimal is equal to the Decimal that was tracked; `unittest.mock.ANY` and the like are welcome.
            user_id: Whose event it is, None for nobody's; anybody's if left out.
            session_id: "" for outside of any session; wherever if left out.
            times: How often exactly; at least once if left out.

        Returns:
            The events that are as expected, in order.

        Raises:
            AssertionError: There are too few or too many; says what was tracked, the nearest first.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        return self._assert(self._expect(event_type, event_data, user_id, session_id), times)

    def assert_not_tracked(
        self,
        event_type: str | None = None,
        event_data: Mapping[str, Any] | None = None,
        *,
        user_id: UserId | EllipsisType | None = ...,
        session_id: str | EllipsisType = ...,
    ) -> None:
        """Assert that no such event was tracked; the arguments are those of `assert_tracked()`.

        Args:
            event_type: Its name; any if left out.
            event_data: What it would hold.
            user_id: Whose event it would be.
            session_id: Where it would be.

        Raises:
            AssertionError: There is such an event; says which.
        """
        __tracebackhide__ = True
        self._assert(self._expect(event_type, event_data, user_id, session_id), 0)

    def _assert(self, expected: Expectation, times: int | None) -> list[Row]:
        __tracebackhide__ = True
        events = self.events
        found = [event for event in events if expected.matches(event)]
        if len(found) == times or (found and times is None):
            return found
        raise AssertionError(failure(expected, events, times, self._notes()))

    def _expect(self, event_type: str | None, event_data: Any, user_id: Any, session_id: Any) -> Expectation:
        return Expectation(
            event_type=event_type,
            event_data=event_data or {},
            user_id=user_id,
            session_id=session_id,
            stored=[engine.stored for engine in self._stand_ins.engines],
        )

    def _notes(self) -> list[str]:
        refused = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        return [f"Not accepted: {refused}. With strict=True track() raises and says why."] if refused else []

    def _rows(self) -> Rows:
        rows = Rows()
        for record in list(self._stand_ins.records):
            rows.add(record)
        for session in rows.sessions.values():
            session["started_at"] = session["started_at"] or datetime.now(UTC)
        return rows


class RecordingTransport:
    """Keeps every batch; as good a collector as one without a disk can be. For a client of your own making.

    Args:
        outcomes: What to answer to the first batches, instead of storing them: for trying out trouble.

    Attributes:
        sessions: The session records.
        users: The user records.
        attempts: How often something was sent.
    """

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self._outcomes = deque(outcomes)
        self.reset()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events stored, in order, as they went over the wire; each once."""
        return list(self._events.values())

    def send(self, body: bytes, timeout: float) -> Outcome:  # noqa: ARG002  # nothing here takes time
        """Keep a batch."""
        with self._lock:
            self.attempts += 1
            return self._outcomes.popleft() if self._outcomes else self._store(msgspec.json.decode(body))

    def _store(self, batch: Mapping[str, list[dict[str, Any]]]) -> Outcome:
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
        self._lock = threading.Lock()  # several clients may share a transport
        self._events: dict[tuple[str, str], dict[str, Any]] = {}
        self.sessions: list[dict[str, Any]] = []
        self.users: list[dict[str, Any]] = []
        self.attempts = 0

    def close(self) -> None:
        """Nothing is open."""
