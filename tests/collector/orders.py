"""Which order requests that came at once were taken in: there must be one in which the reference agrees with Postgres.

What is decided once and for ever (whose a session is, what an event says, how many records were new) leads the search,
so that it hardly ever has to turn back. Traits that were told at the same time are left out of it: they lead nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import attrs

from tests.collector.reference import Batch, Entry, Event, Reference, Session, is_evil

_MOST_TRIED = 3_000  # steps
_OFTEN = 50  # steps, after which it is worth while to know where the search has been


@attrs.frozen
class Answer:
    """What a sender is told: how many records are new, how many known, how many are rejected by which code."""

    accepted: int
    duplicates: int
    rejected: Mapping[str, int]

    @classmethod
    def of(cls, fates: Sequence[str]) -> Answer:
        """Count what `Reference.take` says."""
        codes = Counter(fate for fate in fates if fate not in ("accepted", "duplicate"))
        return cls(fates.count("accepted"), fates.count("duplicate"), codes)


@attrs.define
class _Request:
    """A request, how far the search has taken it, and what became of its records.

    One that Postgres refused was halved and halved again, so that others may have come in between any two records.
    """

    entries: Sequence[Entry]
    answer: Answer | None
    fates: tuple[str, ...] = ()

    def rest(self) -> Sequence[Entry]:
        """The records that must be taken together next."""
        size = 1 if any(is_evil(record) for _, record in self.entries) else len(self.entries)
        return self.entries[len(self.fates) : len(self.fates) + size]


@attrs.define
class Search:
    """Looks for the order.

    Attributes:
        found: What Postgres says in the end.
        since: When the first of the requests was sent.
        until: When the last was answered.
        rested: Up to which time of the last event idle sessions were ended meanwhile; None if they were not.
    """

    found: Reference
    since: datetime
    until: datetime
    rested: datetime | None = None
    tried: int = 0
    been: set[object] = attrs.field(factory=set)

    def run(self, before: Reference, batches: Sequence[Batch], answers: Sequence[Answer | None]) -> Reference | None:
        """Go on from what held before; None if there is no such order.

        Args:
            before: What held before.
            batches: What was sent.
            answers: What came back; None where nothing can be concluded from it.
        """
        requests = [_Request(batch.entries(), answer) for batch, answer in zip(batches, answers, strict=True)]
        model = before.copy()
        model.settle_traits(before)  # who came last before is known
        return next(self._orders(model, requests, []), None)

    def _orders(
        self, model: Reference, requests: Sequence[_Request], taken: Sequence[tuple[Reference, Sequence[Entry]]]
    ) -> Iterator[Reference]:
        if self._has_been_here(model, requests):
            return
        waiting = [index for index, request in enumerate(requests) if request.rest()]
        if not waiting and self._is_the_end(model, taken):
            yield model
        for index in sorted(waiting, key=lambda index: not requests[index].fates):  # what has begun, soon ends
            self.tried += 1
            assert self.tried < _MOST_TRIED, "no order was found in reasonable time"
            after, request, entries = model.copy(), requests[index], requests[index].rest()
            moved = attrs.evolve(request, fates=(*request.fates, *after.take(entries, self.until)))
            if self._may_be_so(after) and self._was_told(moved):
                others = [moved if request is one else one for one in requests]
                yield from self._orders(after, others, [*taken, (model, entries)])

    def _has_been_here(self, model: Reference, requests: Sequence[_Request]) -> bool:
        """Whether another order has led to the same rows, and so to nothing; those of idle sessions depend on when."""
        if self.rested is not None or self.tried < _OFTEN:
            return False
        rows = (*model.events.items(), *model.sessions.items(), *model.users.items(), *model.rejects.items())
        here = (tuple(request.fates for request in requests), frozenset(map(repr, rows)))
        is_known = here in self.been
        self.been.add(here)
        return is_known

    def _was_told(self, request: _Request) -> bool:
        """Whether the sender was told of what became of its records; so far of no more than that."""
        answer, fates = request.answer, Answer.of(request.fates)
        if answer is None or answer == fates:
            return True
        return bool(request.rest()) and fates.accepted <= answer.accepted and fates.duplicates <= answer.duplicates

    def _may_be_so(self, model: Reference) -> bool:
        """Whether all that can never change again is as Postgres has it in the end."""
        events, sessions = self.found.events, self.found.sessions
        return all(
            key in events and _is_kept(event, events[key], "session_id", "event_type", "user_id")
            for key, event in model.events.items()
        ) and all(
            session_id in sessions and _is_kept(session, sessions[session_id], "user_id", "user_agent", "referrer")
            for session_id, session in model.sessions.items()
        )

    def _is_the_end(self, model: Reference, taken: Sequence[tuple[Reference, Sequence[Entry]]]) -> bool:
        model.date(self.found, self.since, self.until)
        model.settle_traits(self.found)
        if self.rested is not None:
            self._end_idle(model, taken)
        return model == self.found

    def _end_idle(self, model: Reference, taken: Sequence[tuple[Reference, Sequence[Entry]]]) -> None:
        """Idle sessions ended meanwhile, each at some moment; a locked one stayed as it was."""
        assert self.rested is not None
        touched = {record.get("session_id") for _, entries in taken for _, record in entries}
        for session_id, session in model.sessions.items():
            stored = self.found.sessions.get(session_id)
            if session_id not in touched:
                session.rest(self.rested)
            elif stored and stored.ended_at in self._ends(session_id, taken):
                session.ended_at = stored.ended_at

    def _ends(self, session_id: str, taken: Sequence[tuple[Reference, Sequence[Entry]]]) -> Iterator[datetime | None]:
        """When a session may have ended, depending on the moment at which it was found to be idle."""
        assert self.rested is not None
        for number in range(len(taken) + 1):
            before = taken[min(number, len(taken) - 1)][0]
            alone = Reference(sessions={session_id: attrs.evolve(before.sessions.get(session_id, Session()))})
            if number == len(taken):
                alone.take(_about(session_id, taken[-1][1]), self.until)
            alone.date(self.found, self.since, self.until)
            alone.end_idle(self.rested)
            for _, entries in taken[number:]:
                alone.take(_about(session_id, entries), self.until)
            yield alone.sessions[session_id].ended_at


def _about(session_id: str, entries: Sequence[Entry]) -> list[Entry]:
    return [
        (kind, record) for kind, record in entries if record.get("session_id") == session_id and not is_evil(record)
    ]


def _is_kept(one: Event | Session, stored: Event | Session, *names: str) -> bool:
    """Whether these fields are as they are in the end, or still empty."""
    return all(getattr(one, name) in (None, "", getattr(stored, name)) for name in names)
