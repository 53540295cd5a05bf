"""Records that were refused: what they are, and trying them again once something has changed.

Replaying is safe to repeat, to kill and to run twice at once. A reject goes only after the transaction that stored
its record; whoever is killed in between leaves it, and the next replay stores nothing twice: an event is one row by
its id and time, and session and user records are merges.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import attrs
import msgspec

from . import batch
from .batch import KINDS, Batch, Kind
from .committer import Committer, Verdict
from .db import Connection, Database
from .sql import load

PAGE: Final = 500  # rejects that are replayed in one transaction, at most
_MOST_BYTES: Final = 16 * 1024 * 1024  # of a page's records in memory, beside the last one
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_FIRST_ID: Final = uuid.UUID(int=0)

Judge = Callable[["Stored", datetime], Batch]
"""Judges one reject by what holds now: the time is the present."""


@attrs.frozen
class Stored:
    """One row of `analytics_reject`.

    Attributes:
        code: One of `records.REASONS`.
        record: The bytes, as they arrived.
    """

    received_at: datetime
    reject_id: uuid.UUID
    kind: Kind
    code: str
    message: str
    record: bytes
    key_name: str


@attrs.frozen
class Group:
    """Rejects of one code, kind and key."""

    code: str
    kind: str
    key_name: str
    rejects: int
    oldest: datetime
    newest: datetime


@attrs.frozen
class Selection:
    """Which rejects are meant.

    Attributes:
        codes: With one of these codes; None is all.
        since: That arrived then or later.
    """

    codes: tuple[str, ...] | None = None
    since: datetime = _BEGINNING

    def parameters(self, **more: object) -> dict[str, object]:
        """What the statements are given."""
        return {"codes": None if self.codes is None else list(self.codes), "since": self.since, **more}


@attrs.frozen
class Outcome:
    """What became of the rejects that a replay has read.

    Attributes:
        read: How many it were.
        stored: Those that are in the tables now, duplicates among them.
        duplicates: Events that had been stored before.
        refused: Those that are still refused, by code.
    """

    read: int = 0
    stored: int = 0
    duplicates: int = 0
    refused: Mapping[str, int] = attrs.field(factory=dict)

    def __add__(self, other: Outcome) -> Outcome:
        """The outcome of both together."""
        codes = sorted({*self.refused, *other.refused})
        refused = {code: self.refused.get(code, 0) + other.refused.get(code, 0) for code in codes}
        return Outcome(self.read + other.read, self.stored + other.stored, self.duplicates + other.duplicates, refused)


def groups(connection: Connection, selection: Selection = Selection()) -> list[Group]:  # immutable
    """Count rejects by code, kind and key, the most frequent first."""
    return [Group(*row) for row in connection.execute(load("rejects.groups"), selection.parameters())]


def newest(connection: Connection, selection: Selection, limit: int) -> list[Stored]:
    """So many rejects, the newest first."""
    return [Stored(*row) for row in connection.execute(load("rejects.newest"), selection.parameters(limit=limit))]


def count(database: Database, selection: Selection) -> tuple[int, datetime]:
    """How many rejects are meant, and when the last of them arrived."""
    [row] = database.run(lambda to: to.execute(load("rejects.count"), selection.parameters()).fetchall())
    return row[0], row[1]


def judge(reject: Stored, now: datetime) -> Batch:
    """Judge a reject with the functions of ingestion.

    The clock is today's and not that of its arrival: no row may lie in the future, and once time has passed a
    `clock_ahead` record, it does not.
    """
    return batch.read({reject.kind: [reject.record]}, now)


class Replay:
    """Tries rejects again.

    Args:
        database: Where they are.
        committer: Stores what is good by now.
        judge: Tells what is good.
        store: False only judges, and changes nothing.
    """

    def __init__(self, database: Database, committer: Committer, *, judge: Judge = judge, store: bool = True) -> None:
        self._database = database
        self._committer = committer
        self._judge = judge
        self._is_storing = store

    def run(self, selection: Selection, until: datetime, limit: int) -> Iterator[Outcome]:
        """Go through the selection in the order in which it arrived, and say page by page what became of it.

        Args:
            selection: Which rejects.
            until: Later ones are left alone, so that it ends.
            limit: Most rejects to read.
        """
        after = (selection.since, _FIRST_ID)
        while limit > 0 and (page := self._page(selection, until, after, min(limit, PAGE))):
            yield self._take(page)
            limit -= len(page)
            after = (page[-1].received_at, page[-1].reject_id)

    def _page(
        self, selection: Selection, until: datetime, after: tuple[datetime, uuid.UUID], limit: int
    ) -> list[Stored]:
        parameters = selection.parameters(
            after_time=after[0], after_id=after[1], until=until, limit=limit, most_bytes=_MOST_BYTES
        )
        return [Stored(*row) for row in self._fetch("rejects.page", parameters)]

    def _fetch(self, name: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        # A statement's name and not its text, as only `load` may say that a text is ours.
        return self._database.run(lambda connection: connection.execute(load(name), parameters).fetchall())

    def _take(self, page: Sequence[Stored]) -> Outcome:
        """Replay one page. Each key's are committed under its name, sessions first, as within a request."""
        ordered = sorted(page, key=lambda reject: (reject.key_name, reject.received_at, KINDS.index(reject.kind)))
        of_keys = [list(rejects) for _, rejects in groupby(ordered, attrgetter("key_name"))]
        return sum(map(self._take_of_one_key, of_keys), Outcome())

    def _take_of_one_key(self, rejects: Sequence[Stored]) -> Outcome:
        judged = self._judge_all(rejects)
        verdict = self._commit(judged, rejects[0].key_name)
        if self._is_storing:
            self._settle(rejects, verdict)
        refused: dict[str, int] = {}
        for reject in verdict.rejected:
            refused[reject.code] = refused.get(reject.code, 0) + 1
        return Outcome(len(rejects), len(rejects) - len(verdict.rejected), verdict.duplicates, refused)

    def _judge_all(self, rejects: Sequence[Stored]) -> Batch:
        """One batch, in which each record's index is its place in `rejects`."""
        now = datetime.now(UTC)
        judged = [(index, self._judge(reject, now)) for index, reject in enumerate(rejects)]
        return Batch(
            tuple(msgspec.structs.replace(item, index=index) for index, alone in judged for item in alone.items),
            tuple(attrs.evolve(reject, index=index) for index, alone in judged for reject in alone.rejects),
            arrays=lambda: {kind: [reject.record for reject in rejects] for kind in KINDS},
        )

    def _commit(self, judged: Batch, key_name: str) -> Verdict:
        """Those that are refused by now are not committed again: they are in the table already."""
        if not judged.items or not self._is_storing:
            return Verdict(rejected=judged.rejects)
        verdict = self._committer.commit(attrs.evolve(judged, rejects=()), key_name)
        return attrs.evolve(verdict, rejected=(*verdict.rejected, *judged.rejects))

    def _settle(self, rejects: Sequence[Stored], verdict: Verdict) -> None:
        """Forget what is stored now, which COMMIT has confirmed, and keep the rest with its present reason."""
        still = {reject.index: reject for reject in verdict.rejected}
        kept = [(rejects[index].reject_id, reject.code, reject.message) for index, reject in sorted(still.items())]
        stored = [reject.reject_id for index, reject in enumerate(rejects) if index not in still]
        columns = dict(zip(("reject_ids", "codes", "messages"), map(list, zip(*kept, strict=True)), strict=False))

        def work(connection: Connection) -> None:
            connection.execute(load("rejects.forget"), {"reject_ids": sorted(stored)})
            if columns:
                connection.execute(load("rejects.judge"), columns)

        self._database.run(work)
