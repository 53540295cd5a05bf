"""Commits what requests bring, in groups: whoever comes while a commit is under way is part of the next one.

There is no thread for it and nothing waits for company: the first request leads, commits its group in its own thread,
tells the others what became of theirs, and hands over to the first of those that came meanwhile. So a lone request
waits for nobody, and the busier it gets the more share one transaction (group commit, as databases do it). Requests
that one thread serves (`crew`) all stand in line before the first of them leads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final, TypeVar

import attrs
import psycopg

from . import metrics, together, users, writer
from .batch import Batch, Item, Reject, user_ids
from .db import Connection, Database, fault_of
from .event_rows import Key, key_of
from .exceptions import UnavailableError
from .records import EventRecord, Record, UserId, stored_user_id

MOST_WAITING: Final = 64 * 1024 * 1024  # bytes of requests that wait for a commit, before others are turned away
_MOST_RECORDS: Final = 10_000  # in one transaction
_MOST_BYTES: Final = 16 * 1024 * 1024  # of the requests in one transaction

_T = TypeVar("_T")


@attrs.frozen
class Verdict:
    """What became of a batch: accepted, duplicates and rejected add up to its records.

    Attributes:
        accepted: Events stored now for the first time, and session and user records applied.
        duplicates: Events that were stored before.
        rejected: Records kept in `analytics_reject`, each with its reason.
    """

    accepted: int = 0
    duplicates: int = 0
    rejected: tuple[Reject, ...] = ()


class _Ticket:
    """One request's batch on its way, and what is known of its fate."""

    def __init__(self, batch: Batch, key_name: str) -> None:
        self.batch = batch
        self.key_name = key_name
        self.error: BaseException | None = None
        self.is_done = False
        self.is_called = False  # its fate is known, or it is to lead
        self.bell: threading.Event | None = None  # rings then, if somebody waits for it: most never have to
        self._accepted = self._duplicates = 0
        self._rejected = list(batch.rejects)

    def count(self, *, is_new: bool) -> None:
        """Book one record that Postgres has."""
        if is_new:
            self._accepted += 1
        else:
            self._duplicates += 1

    def reject(self, reject: Reject) -> None:
        """Book one record that is set aside."""
        self._rejected.append(reject)

    def call(self) -> None:
        """Say that it is done, or its turn."""
        self.is_called = True
        if self.bell is not None:
            self.bell.set()

    def verdict(self) -> Verdict:
        """All of it.

        Raises:
            UnavailableError: Postgres is away.
        """
        error, self.error = self.error, None  # or it would hold itself: its traceback leads here
        if error is not None:
            raise error
        return Verdict(self._accepted, self._duplicates, tuple(self._rejected))


Entry = tuple[_Ticket, Item]


class Committer:
    """Puts batches into Postgres; when `commit` returns they are there.

    Args:
        database: Where.
        patience: Seconds that a request waits for its turn.
        most_waiting: Bytes of requests that may wait for a commit.
    """

    def __init__(self, database: Database, *, patience: float = 5.0, most_waiting: int = MOST_WAITING) -> None:
        self._database = database
        self._patience = patience
        self._room = most_waiting
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket] = deque()
        self._is_led = False

    def commit(self, batch: Batch, key_name: str) -> Verdict:
        """Store a batch, in one transaction with others; only what Postgres refuses of it is left out.

        Args:
            batch: Judged records; those refused already are kept too.
            key_name: Whose records these are.

        Raises:
            UnavailableError: Postgres is away, or too much waits for it. Sending the same batch again stores
                nothing twice.
        """
        ticket = _Ticket(batch, key_name)
        until = time.monotonic() + self._patience
        self._join(ticket)
        together.let_others_come()
        while not ticket.is_done:
            if not self._takes_lead(ticket):
                self._wait_for_turn(ticket, until)
            if not ticket.is_done:
                self._lead()
        return ticket.verdict()

    def _join(self, ticket: _Ticket) -> None:
        """Stand in line."""
        with self._lock:
            if self._is_led and self._database.is_away:  # whoever leads is finding out whether it still is
                raise UnavailableError("The database is away", "send the same request again")
            if ticket.batch.size > self._room:
                raise UnavailableError("Too much waits for the database", "send the same request again")
            self._room -= ticket.batch.size
            self._waiting.append(ticket)

    def _takes_lead(self, ticket: _Ticket) -> bool:
        """Take the lead, unless another request has it, for this one as well."""
        with self._lock:
            takes = not self._is_led and not ticket.is_done
            self._is_led |= takes
            if not takes and not ticket.is_called:
                ticket.bell = threading.Event()
        return takes

    def _wait_for_turn(self, ticket: _Ticket, until: float) -> None:
        """Wait until this request's fate is known, or it is its turn to lead."""
        if ticket.bell is None or ticket.bell.wait(max(0.0, until - time.monotonic())):
            return
        with self._lock:
            is_waiting = ticket in self._waiting and not ticket.is_called
            if is_waiting:
                self._waiting.remove(ticket)
                self._room += ticket.batch.size
        if is_waiting:
            raise UnavailableError("The database is slow", "send the same request again")
        ticket.bell.wait()  # it is in a transaction, which has a time limit of its own

    def _lead(self) -> None:
        group = self._next_group()
        try:
            self._commit_group(group)
        except BaseException as error:
            for ticket in group:
                ticket.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._hand_over(group)

    def _next_group(self) -> list[_Ticket]:
        """The first in line, and as many behind it as one transaction should have."""
        group: list[_Ticket] = []
        records = size = 0
        with self._lock:
            while self._waiting:
                batch = self._waiting[0].batch
                records, size = records + len(batch.items), size + batch.size
                if group and (records > _MOST_RECORDS or size > _MOST_BYTES):
                    break
                group.append(self._waiting.popleft())
        return group

    def _hand_over(self, group: Sequence[_Ticket]) -> None:
        with self._lock:
            self._room += sum(ticket.batch.size for ticket in group)
            for ticket in group:
                ticket.is_done = True
            self._is_led = bool(self._waiting)
            for ticket in (*group, *islice(self._waiting, 1)):
                ticket.call()

    # One group

    def _commit_group(self, group: Sequence[_Ticket]) -> None:
        entries = [(ticket, item) for ticket in group for item in ticket.batch.items]
        rejects = [(ticket.key_name, reject) for ticket in group for reject in ticket.batch.rejects]
        try:
            self._store(entries, rejects)
        except psycopg.Error as error:
            if fault_of(error) != "refused":
                raise
            known = self._set_strangers_aside(entries, rejects)
            self._bisect(known)

    def _store(self, entries: Sequence[Entry], rejects: Sequence[tuple[str, Reject]] = ()) -> None:
        """Store all of it in one transaction, and book it."""
        before = self._put([item for _, item in entries], rejects)
        for ticket, item in entries:
            ticket.count(is_new=before is None or _is_new(item.record, before))

    def _put(self, items: Sequence[Item], rejects: Sequence[tuple[str, Reject]]) -> set[Key] | None:
        """Store all of it; tells which events were stored before, or None if all of them are new and different."""
        if len(items) > writer.FEW:
            try:
                self._write(writer.copy, items, rejects)
            except psycopg.errors.UniqueViolation:  # some are there already: sent again, as an answer was lost
                pass
            else:
                return None
        return self._write(writer.write, items, rejects)

    def _write(self, store: Callable[..., _T], items: Sequence[Item], rejects: Sequence[tuple[str, Reject]]) -> _T:
        names = user_ids(items)

        def work(connection: Connection) -> _T:
            writer.write_rejects(connection, rejects)
            return store(connection, items, users.number(connection, names), datetime.now(UTC))

        began = time.perf_counter()
        is_one_call = store == writer.write and not rejects and _is_one_call(items, names)
        result = self._database.autocommit(work) if is_one_call else self._database.run(work)
        metrics.note_commit(time.perf_counter() - began, len(items) + len(rejects))
        return result

    def _bisect(self, entries: Sequence[Entry]) -> None:
        """Store all that Postgres takes; halves that it refuses are halved again, until a record stands alone."""
        if not entries:
            return
        try:
            self._store(entries)
        except psycopg.Error as error:
            if fault_of(error) != "refused":
                raise
            if len(entries) > 1:
                middle = len(entries) // 2
                self._bisect(entries[:middle])
                self._bisect(entries[middle:])
                return
            ticket, item = entries[0]
            reject = ticket.batch.refuse(item, "database_refused", str(error).partition("\n")[0])
            self._store((), [(ticket.key_name, reject)])
            ticket.reject(reject)

    def _set_strangers_aside(self, entries: Sequence[Entry], rejects: Sequence[tuple[str, Reject]]) -> list[Entry]:
        """Set sessions and events of users that the app does not have aside, all at once; traits may come first."""
        items = [item for _, item in entries]
        strangers = self._database.run(lambda connection: users.strangers(connection, user_ids(items)))
        known: list[Entry] = []
        unknown: list[tuple[_Ticket, Reject]] = []
        for ticket, item in entries:
            user_id = item.record.user_id
            if item.kind != "user" and user_id is not None and stored_user_id(user_id) in strangers:
                words = f"the app's user table has no user {user_id}"
                unknown.append((ticket, ticket.batch.refuse(item, "unknown_user", words)))
            else:
                known.append((ticket, item))
        self._store((), [*rejects, *((ticket.key_name, reject) for ticket, reject in unknown)])
        for ticket, reject in unknown:
            ticket.reject(reject)
        return known


def _is_one_call(items: Sequence[Item], names: Iterable[UserId]) -> bool:
    """Whether items are stored by one statement, which is a transaction of its own: BEGIN and COMMIT are spared."""
    return all(item.kind != "user" for item in items) and not any(isinstance(name, str) for name in names)


def _is_new(record: Record, seen: set[Key]) -> bool:
    """Whether a record is one more; an event is seen from here on."""
    if not isinstance(record, EventRecord):
        return True
    key = key_of(record)
    is_new = key not in seen
    seen.add(key)
    return is_new
