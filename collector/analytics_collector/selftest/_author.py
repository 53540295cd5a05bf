"""What a sender sends: visits of made-up people, in an order that no well-behaved client would choose.

Pure: chance and time are passed in, so the same seed tells the same story.
"""

from __future__ import annotations

import json
import random
import uuid
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

Fields = dict[str, Any]

_PEOPLE: Final = 40  # users of all senders together; half of them have names instead of numbers
_TYPES: Final = ("page_view", "click", "form_submit", "purchase", "signup", "login", "logout")
_OPEN_SESSIONS: Final = 20
_LATEST: Final = 3 * 24 * 3600.0  # seconds that an event may come late


@attrs.define
class Visit:
    """A session, and whose it is; told from the start, or later, or never."""

    session_id: str
    user_id: int | str | None
    is_told: bool


@attrs.frozen
class Batch:
    """Records that are sent together.

    Attributes:
        bad: Events that the collector must refuse, each for good reason.
        bodies: Each of them, and the good ones, as JSON.
    """

    sessions: list[Fields]
    users: list[Fields]
    events: list[Fields]
    bad: list[Fields]

    @property
    def records(self) -> int:
        """How many there are."""
        return len(self.sessions) + len(self.users) + len(self.events) + len(self.bad)


class Author:
    """Makes up batches.

    Args:
        name: Of its sender; no two senders share a session, all share the users.
        chance: The only source of what is random.
    """

    def __init__(self, name: str, chance: random.Random) -> None:
        self._name = name
        self._chance = chance
        self._visits: list[Visit] = []
        self._count = 0

    def batch(self, now: datetime) -> Batch:
        """The next batch, of one to some hundred records."""
        size = self._chance.choice((1, 1, 5, 20, 100, 300))
        batch = Batch([], [], [], [])
        for _ in range(size):
            self._tell(batch, self._visit(), now)
        if self._chance.random() < 0.2:
            batch.bad.append(self._bad_event(now))
        return batch

    def body(self, batch: Batch) -> bytes:
        """A batch as a request, its events in any order: another one each time."""
        events = [*batch.events, *batch.bad]
        self._chance.shuffle(events)
        return json.dumps({"sessions": batch.sessions, "users": batch.users, "events": events}).encode()

    def _visit(self) -> Visit:
        """One that goes on, or a new one in its place."""
        if len(self._visits) < _OPEN_SESSIONS or self._chance.random() < 0.05:
            self._count += 1
            person = self._chance.randrange(_PEOPLE)
            user_id = self._chance.choice((None, person, f"person {person}"))
            self._visits.append(Visit(f"{self._name} {self._count}", user_id, is_told=False))
            del self._visits[:-_OPEN_SESSIONS]
        return self._chance.choice(self._visits)

    def _tell(self, batch: Batch, visit: Visit, now: datetime) -> None:
        """Add an event of a visit, and now and then what else there is to say of it."""
        moment = self._moment(now)
        if self._chance.random() < 0.1:  # perhaps a login: what was anonymous is claimed
            visit.is_told = True
            batch.sessions.append({"session_id": visit.session_id, "user_id": visit.user_id, "started_at": moment})
        if self._chance.random() < 0.05:  # and a later event may extend it again
            batch.sessions.append({"session_id": visit.session_id, "ended_at": moment})
        if isinstance(visit.user_id, str) and self._chance.random() < 0.1:
            traits = {"mood": self._chance.randrange(9)}
            batch.users.append({"user_id": visit.user_id, "traits": traits, "updated_at": moment})
        user_id = visit.user_id if visit.is_told and self._chance.random() < 0.5 else None
        batch.events.append(self._event(visit.session_id, user_id, moment))

    def _event(self, session_id: str, user_id: int | str | None, moment: str) -> Fields:
        return {
            "event_id": str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
            "event_type": self._chance.choice(_TYPES),
            "session_id": session_id,
            "user_id": user_id,
            "event_data": {"amount": self._chance.randrange(1000), "note": "x" * self._chance.randrange(200)},
            "created_at": moment,
        }

    def _bad_event(self, now: datetime) -> Fields:
        event = self._event("", None, now.isoformat())
        return event | self._chance.choice(
            (
                {"event_data": {"note": "\0"}},
                {"event_type": ""},
                {"created_at": (now + timedelta(days=1)).isoformat()},
                {"ip_address": "somewhere"},
            )
        )

    def _moment(self, now: datetime) -> str:
        late = self._chance.uniform(0, _LATEST) if self._chance.random() < 0.2 else self._chance.uniform(0, 60)
        return (now - timedelta(seconds=late)).isoformat()
