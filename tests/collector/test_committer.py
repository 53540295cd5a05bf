"""Group commit: requests that come while a commit is under way share the next transaction, each with its verdict."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
import pytest

from analytics_collector import profiles
from analytics_collector.committer import Committer, Verdict
from analytics_collector.config import Settings
from analytics_collector.db import Connection, Database
from analytics_collector.exceptions import UnavailableError
from analytics_collector.protocols import native
from tests.collector.batches import Fields, at, body, commit, event, event_id
from tests.programs import wait_until

_T = TypeVar("_T")


class Gate(Database):
    """A database that counts transactions, and whose next one waits until it is let go."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.transactions = 0
        self.is_open = threading.Event()
        self.is_open.set()
        self.has_visitor = threading.Event()

    def run(self, work: Callable[[Connection], _T]) -> _T:
        """Wait at the gate, then as usual."""
        self.wait()
        return super().run(work)

    def autocommit(self, work: Callable[[Connection], _T]) -> _T:
        """The same."""
        self.wait()
        return super().autocommit(work)

    def wait(self) -> None:
        """Come to the gate."""
        self.transactions += 1
        self.has_visitor.set()
        assert self.is_open.wait(30)


@pytest.fixture
def gate(settings: Settings) -> Iterator[Gate]:
    """The clean database behind a gate."""
    with contextlib.closing(Gate(settings.database_url)) as database:
        yield database


def commit_together(gate: Gate, committer: Committer, requests: list[list[Fields]]) -> list[Verdict]:
    """Commit the first request alone, and the others while it is held up at the gate, so that they are one group."""
    gate.is_open.clear()
    gate.has_visitor.clear()
    with ThreadPoolExecutor(len(requests)) as threads:
        verdicts = [threads.submit(commit, committer, events=requests[0])]
        assert gate.has_visitor.wait(30)
        for number, events in enumerate(requests[1:], 1):
            verdicts.append(threads.submit(commit, committer, events=events))
            wait_until(lambda number=number: len(committer._waiting) == number, what="the request in line")
        gate.is_open.set()
        return [verdict.result(30) for verdict in verdicts]


def numbers(verdicts: list[Verdict]) -> list[tuple[int, int, int]]:
    """Accepted, duplicates and rejected of each."""
    return [(verdict.accepted, verdict.duplicates, len(verdict.rejected)) for verdict in verdicts]


def test_those_who_wait_share_a_transaction(gate: Gate, connection: Connection) -> None:
    """Twenty requests that come during a commit are one further commit, and each hears of its own records."""
    requests = [[event((n, m), f"s{n % 5}", n % 3 + 1, created_at=at(n)) for m in range(n % 4 + 1)] for n in range(21)]
    verdicts = commit_together(gate, Committer(gate), requests)
    assert gate.transactions == 2
    assert numbers(verdicts) == [(len(events), 0, 0) for events in requests]
    assert connection.execute("SELECT count(*) FROM analytics_event").fetchone() == (sum(map(len, requests)),)
    assert profiles.verify(connection) == []


def test_a_lone_request_waits_for_nobody(gate: Gate) -> None:
    """Where nobody else comes, each request is a transaction of its own, in the thread of the request."""
    committer = Committer(gate)
    for n in range(3):
        assert commit(committer, events=[event(n, "s", 7)]).accepted == 1
    assert gate.transactions == 3


def test_a_duplicate_in_a_group_is_the_later_ones(gate: Gate, connection: Connection) -> None:
    """Of requests in one group that bring the same event the first has it accepted, and with its user."""
    committer = Committer(gate)
    commit(committer, events=[event("stored", "s", 7)])
    requests = [
        [event("held up")],
        [event("new", "s", 7), event("stored", "s", 7)],
        [event("new", "s", 8), event("mine", "t", 8)],
    ]
    verdicts = commit_together(gate, committer, requests)
    assert numbers(verdicts) == [(1, 0, 0), (1, 1, 0), (1, 1, 0)]
    rows = connection.execute("SELECT user_id FROM analytics_event WHERE event_id = %s", [event_id("new")]).fetchall()
    assert rows == [(7,)]
    assert profiles.verify(connection) == []


def test_what_postgres_refuses_costs_no_neighbour(gate: Gate, connection: Connection) -> None:
    """A record that only Postgres refuses is rejected alone; requests in the same group never notice."""
    connection.execute("ALTER TABLE analytics_event ADD CONSTRAINT no_evil CHECK (event_type <> 'evil') NOT VALID")
    try:
        evil = event("evil", "s", 7, event_type="evil")
        requests = [
            [event("held up")],
            [event(n, "s", 7) for n in range(5)],
            [event("before", "s", 7), evil, event("after", "s", 7)],
        ]
        verdicts = commit_together(gate, Committer(gate), requests)
    finally:
        connection.execute("ALTER TABLE analytics_event DROP CONSTRAINT no_evil")
    assert numbers(verdicts) == [(1, 0, 0), (5, 0, 0), (2, 0, 1)]
    (reject,) = verdicts[2].rejected
    assert (reject.index, reject.code, reject.event_id) == (1, "database_refused", event_id("evil"))
    kept = connection.execute("SELECT code, key_name, record FROM analytics_reject").fetchall()
    assert kept == [("database_refused", "tests", reject.raw)]
    assert profiles.verify(connection) == []


def test_claims_within_a_group(gate: Gate, connection: Connection) -> None:
    """An anonymous event and the login that claims its session, in one group, end as if one had followed the other."""
    requests = [
        [event("anonymous first", "s")],
        [event("anonymous", "s", created_at=at(1))],
        [event("login", "s", 7, created_at=at(2))],
        [event("second user", "s", 8, created_at=at(3)), event("late", "s", created_at=at(-5))],
    ]
    assert numbers(commit_together(gate, Committer(gate), requests)) == [(1, 0, 0), (1, 0, 0), (1, 0, 0), (2, 0, 0)]
    owners = dict(connection.execute("SELECT event_id::text, user_id FROM analytics_event").fetchall())
    named = ("anonymous first", "anonymous", "login", "second user", "late")
    assert [owners[event_id(name)] for name in named] == [7, 7, 7, 8, 7]
    assert profiles.verify(connection) == []


def test_memory_has_a_bound(gate: Gate) -> None:
    """When more bytes wait than may, a request is turned away at once, and those in line are stored."""
    content = body(events=[event(n, "s", 7) for n in range(10)])
    batch = native.parse(content, datetime.now(UTC))
    committer = Committer(gate, most_waiting=2 * len(content))
    gate.is_open.clear()
    with ThreadPoolExecutor(2) as threads:
        held = [threads.submit(committer.commit, batch, "tests") for _ in range(2)]
        wait_until(lambda: committer._room < len(content), what="both in line")
        with pytest.raises(UnavailableError) as caught:
            committer.commit(batch, "tests")
        gate.is_open.set()
        assert sum(verdict.result(30).accepted for verdict in held) == 10
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    assert committer.commit(batch, "tests").duplicates == 10


def test_a_slow_database_turns_those_in_line_away(gate: Gate, connection: Connection) -> None:
    """Who waits for longer than the patience is answered 503, and nothing of it is stored later on its own."""
    committer = Committer(gate, patience=0.1)
    gate.is_open.clear()
    gate.has_visitor.clear()
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(commit, committer, events=[event("held up")])
        assert gate.has_visitor.wait(30)
        with pytest.raises(UnavailableError):
            commit(committer, events=[event("impatient")])
        gate.is_open.set()
        assert held.result(30).accepted == 1
    assert commit(committer, events=[event("next")]).accepted == 1
    stored = {row[0] for row in connection.execute("SELECT event_id::text FROM analytics_event")}
    assert stored == {event_id("held up"), event_id("next")}


def test_a_group_that_fails_is_told_so(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database goes away under a group, each of its requests hears of it, and the next group is led."""
    committer = Committer(gate)

    def fail(work: Callable[[Connection], _T]) -> _T:
        raise UnavailableError("The database is away", "send the same request again")

    gate.is_open.clear()
    gate.has_visitor.clear()
    with ThreadPoolExecutor(4) as threads:
        held = threads.submit(commit, committer, events=[event("held up")])
        assert gate.has_visitor.wait(30)
        monkeypatch.setattr(gate, "autocommit", fail)
        others = [threads.submit(commit, committer, events=[event(n)]) for n in range(3)]
        wait_until(lambda: len(committer._waiting) == 3, what="the others in line")
        gate.is_open.set()
        assert held.result(30).accepted == 1
        assert [type(other.exception(30)) for other in others] == [UnavailableError] * 3
    monkeypatch.undo()
    assert numbers([commit(committer, events=[event(n) for n in range(3)])]) == [(3, 0, 0)]


def test_many_threads(settings: Settings, connection: psycopg.Connection) -> None:
    """From 16 threads, each event is accepted once and told as a duplicate ever after, whoever shares its group."""
    with contextlib.closing(Database(settings.database_url)) as database, ThreadPoolExecutor(16) as threads:
        committer = Committer(database, patience=60)
        batches = [[event(n % 200, f"s{n % 7}", n % 5 + 1)] for n in range(600)]
        verdicts = list(threads.map(lambda events: commit(committer, events=events), batches))
    assert sum(verdict.accepted for verdict in verdicts) == 200
    assert sum(verdict.duplicates for verdict in verdicts) == 400
    assert connection.execute("SELECT count(*) FROM analytics_event").fetchone() == (200,)
    assert profiles.verify(connection) == []
