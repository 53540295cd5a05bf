"""The books: what was sent and acknowledged, against what is stored. Pure but for `compare`, which asks Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

import attrs

from .. import profiles
from ..db import Connection
from ..sql import load
from ._diary import Acknowledged, Entry, Failed, Sent, Told


@attrs.frozen
class Profile:
    """What `analytics_useranalyticsprofile` must say of a user."""

    total_sessions: int = 0
    total_events: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None


@attrs.frozen
class Ledger:
    """The comparison; all but the names of users are numbers.

    Attributes:
        sent: Good events that were sent, each counted once.
        acknowledged: Of these, in batches that were answered 200.
        unanswered: Batches that were not, up to the end.
        stored: Events in Postgres, each counted once.
        duplicated: Rows beyond one of each event.
        lost: Events that were acknowledged and are not stored.
        unknown: Events that are stored and were never sent.
        wrong_profiles: Users whose profile is not what the rows say, or not what was sent.
        rejected: Bad records that were refused.
        kept: Of these, in `analytics_reject`.
        failures: What a sender was answered and should never have been.
    """

    sent: int
    acknowledged: int
    unanswered: int
    stored: int
    duplicated: int
    lost: int
    unknown: int
    wrong_profiles: tuple[str, ...]
    rejected: int
    kept: int
    failures: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the promise was kept, and so that there is something to show for it."""
        wrong = self.duplicated + self.lost + self.unknown + self.unanswered + len(self.wrong_profiles)
        return wrong == 0 and not self.failures and self.kept == self.rejected and self.acknowledged > 0


@attrs.define
class Books:
    """What the senders have written down so far; each has its own numbers for its batches.

    Attributes:
        open: Batches that were sent and not acknowledged, by sender and number.
    """

    open: dict[tuple[int, int], Sent] = attrs.field(factory=dict)
    answered: list[Sent] = attrs.field(factory=list)
    events_sent: int = 0
    events_answered: int = 0
    rejected: int = 0
    failures: list[str] = attrs.field(factory=list)

    def enter(self, sender: int, entries: Iterable[Entry]) -> None:
        """Take what a sender has written."""
        for entry in entries:
            match entry:
                case Sent():
                    self.open[sender, entry.number] = entry
                    self.events_sent += _events(entry)
                case Acknowledged():
                    self._answer(self.open.pop((sender, entry.number)), entry)
                case Failed():
                    self.failures.append(entry.reason)

    def _answer(self, batch: Sent, answer: Acknowledged) -> None:
        self.answered.append(batch)
        self.events_answered += _events(batch)
        self.rejected += batch.bad
        if answer.rejected != batch.bad:
            self.failures.append(f"{answer.rejected} records of a batch with {batch.bad} bad ones were refused")

    def told(self) -> list[Told]:
        """What all acknowledged batches say."""
        return [told for batch in self.answered for told in batch.told]


def compare(connection: Connection, books: Books) -> Ledger:
    """Compare the books with the tables, on a plain autocommitting connection."""
    stored: dict[UUID, int] = dict(connection.execute(load("selftest.events")).fetchall())
    told = books.told()
    acknowledged = {event.event_id for event in told if event.event_id}
    sent = acknowledged | {event.event_id for batch in books.open.values() for event in batch.told if event.event_id}
    (kept,) = connection.execute(load("selftest.rejects")).fetchone() or (0,)
    return Ledger(
        sent=len(sent),
        acknowledged=len(acknowledged),
        unanswered=len(books.open),
        stored=len(stored),
        duplicated=sum(stored.values()) - len(stored),
        lost=len(acknowledged - stored.keys()),
        unknown=len(stored.keys() - sent),
        wrong_profiles=tuple(sorted(_wrong(connection, profiles_of(told)))),
        rejected=books.rejected,
        kept=kept,
        failures=tuple(books.failures),
    )


def profiles_of(told: Iterable[Told]) -> dict[str, Profile]:
    """What the profiles must be once all of this is stored, in whatever order: a session has one user here."""
    told = list(told)
    owners = {record.session_id: str(record.user_id) for record in told if record.user_id is not None}
    found = dict.fromkeys(owners.values(), Profile())
    for owner in owners.values():
        found[owner] = attrs.evolve(found[owner], total_sessions=found[owner].total_sessions + 1)
    for record in told:
        if record.created_at is not None and record.session_id in owners:
            owner = owners[record.session_id]
            found[owner] = _grown(found[owner], record.created_at)
    return found


def _grown(profile: Profile, moment: datetime) -> Profile:
    return Profile(
        profile.total_sessions,
        profile.total_events + 1,
        min(profile.first_seen or moment, moment),
        max(profile.last_seen or moment, moment),
    )


def _wrong(connection: Connection, expected: Mapping[str, Profile]) -> set[str]:
    """The users whose profile differs from the rows, by `verify`; and from what was sent, by our own count."""
    by_rows = {f"number {wrong.user_id}" for wrong in profiles.verify(connection)}
    shown = {user: Profile(*columns) for user, *columns in connection.execute(load("selftest.profiles"))}
    return by_rows | {user for user in expected.keys() | shown.keys() if expected.get(user) != shown.get(user)}


def _events(batch: Sent) -> int:
    return sum(event.event_id is not None for event in batch.told)


def report(ledger: Ledger) -> str:
    """A ledger for people."""
    rows = (
        ("sent", ledger.sent, "events"),
        ("acknowledged", ledger.acknowledged, ""),
        ("stored", ledger.stored, ""),
        ("duplicated", ledger.duplicated, "rows of an event that has one already"),
        ("lost", ledger.lost, "acknowledged and not stored"),
        ("unknown", ledger.unknown, "stored and never sent"),
        ("unanswered", ledger.unanswered, "batches, up to the end"),
        ("wrong profiles", len(ledger.wrong_profiles), ", ".join(ledger.wrong_profiles[:5])),
        ("rejected", ledger.rejected, "records that were sent broken"),
        ("kept", ledger.kept, "of them, in analytics_reject"),
    )
    lines = [f"{name:<16}{number:>12,}  {meaning}".rstrip() for name, number, meaning in rows]
    verdict = "Every acknowledged event is stored once, and every profile is exact." if ledger.holds else "It FAILED."
    return "\n".join(["", *lines, "", *ledger.failures, verdict])
