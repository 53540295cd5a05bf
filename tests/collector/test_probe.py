"""`/readyz` while Postgres is stopped: an answer within a second, however many ask."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from analytics_collector import embedded, keys, migrate
from analytics_collector.db import Connection
from analytics_collector.exceptions import MigrationError, UnavailableError
from analytics_collector.probe import Probe
from tests.collector.batches import body, event, post
from tests.collector.operating import ask, samples
from tests.collector.postgres import stopped
from tests.conftest import READ_KEY, WRITE_KEY
from tests.programs import Collector, free_port, run_collector, wait_until


@pytest.fixture(scope="module")
def postgres(folder: Path) -> Iterator[embedded.Server]:
    """A Postgres that may be stopped, with our tables."""
    with embedded.start(folder / "probed") as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            migrate.apply(connection)
            keys.register(connection, "tests-write", "write", WRITE_KEY)
            keys.register(connection, "tests-read", "read", READ_KEY)
        yield server


@pytest.fixture(scope="module")
def probed(postgres: embedded.Server) -> Iterator[Collector]:
    """A collector on it."""
    with run_collector(postgres.dsn, workers=1) as collector:
        yield collector


def longest_of_40_refusals(url: str) -> float:
    """Ask from four threads whether it is ready, which it is not; the longest that it took to say so, in seconds."""
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda _: timed(url, "/readyz"), range(40)))
    assert {status for status, _ in replies} == {503}
    return max(seconds for _, seconds in replies)


def test_a_stopped_postgres_is_told_within_a_second(postgres: embedded.Server, probed: Collector) -> None:
    """Under SIGSTOP each of 40 probes is answered 503 within a second, with what to do; after SIGCONT, 200 again."""
    assert post(probed.url, body(events=[event("before")])).json["accepted"] == 1
    with stopped(postgres):
        wait_until(lambda: ask(probed.url, "/readyz").status == 503, within=5, what="telling")
        # Once in three times: others use the machine as well.
        assert any(longest_of_40_refusals(probed.url) < 1 for _ in range(3))
        reply = ask(probed.url, "/readyz")
        assert (reply.json["code"], reply.headers["retry-after"]) == ("unavailable", "1")
        assert reply.json["message"] == "The database has not answered within 0.7 s"
        assert reply.json["detail"] == "is it stopped, overloaded, or cut off?"
        figures = ask(probed.url, "/metrics", timeout=2)
        assert (figures.status, samples(figures.text, "analytics_ready")) == (200, {(): 0})
    wait_until(lambda: ask(probed.url, "/readyz").status == 200, within=5, what="being ready again")


def timed(url: str, path: str) -> tuple[int, float]:
    """The status of an answer, and how many seconds it took."""
    began = time.monotonic()
    return ask(url, path, timeout=10).status, time.monotonic() - began


def test_a_storm_of_probes_is_one_question(dsn: str) -> None:
    """However many ask within a second, Postgres is asked once, and all have the same answer."""
    questions: list[int] = []

    def question(connection: Connection) -> int:
        questions.append(connection.info.backend_pid)
        return len(questions)

    probe = Probe(dsn, question, patience=10, keep=30)
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(lambda _: probe.ask(), range(500))) == {1}
    assert len(questions) == 1


def test_an_answer_gets_old(dsn: str) -> None:
    """After the time that an answer is kept, the question is put again, on the same connection."""
    probe = Probe(dsn, lambda connection: (time.monotonic(), connection.info.backend_pid), keep=0.05)
    first, pid = probe.ask()
    wait_until(lambda: probe.ask()[0] > first, within=2, what="another answer")
    assert probe.ask()[1] == pid


def test_a_lost_connection_is_replaced(dsn: str, connection: psycopg.Connection) -> None:
    """When Postgres has ended the probe's connection, one answer says so, and the next comes on a new connection."""
    probe = Probe(dsn, lambda connection: connection.execute("SELECT pg_backend_pid()").fetchone(), keep=0.0)
    (first,) = probe.ask() or (0,)
    connection.execute("SELECT pg_terminate_backend(%s)", [first])

    def has_recovered() -> bool:
        with contextlib.suppress(UnavailableError):
            return probe.ask() != (first,)
        return False

    wait_until(has_recovered, within=5, what="another connection")


def test_nobody_waits_for_a_slow_answer_twice(dsn: str) -> None:
    """Who comes while an answer is overdue waits no more: a stopped Postgres must not occupy the threads of writers."""
    go = threading.Event()
    probe = Probe(dsn, lambda _: go.wait(20), patience=1.2)
    for longest in (5, 1):
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"has not answered within 1\.2 s"):
            probe.ask()
        assert time.monotonic() - began < longest
    go.set()
    wait_until(lambda: succeeds(probe), within=5, what="the answer")


def succeeds(probe: Probe[bool]) -> bool:
    """Whether there is an answer."""
    with contextlib.suppress(UnavailableError):
        return probe.ask()
    return False


def test_a_database_that_is_away_is_told_at_once() -> None:
    """Where nobody listens, nobody waits; and no password is told."""
    probe = Probe(f"postgresql://ada:secret@127.0.0.1:{free_port()}/x", lambda _: None)
    with pytest.raises(UnavailableError, match="The database is away") as raised:
        probe.ask()
    assert "secret" not in raised.value.detail


def test_a_schema_of_ones_own_is_kept(dsn: str) -> None:
    """A search_path in the DSN counts for the probe as it does for everything else."""
    probe = Probe(
        make_conninfo(dsn, options="-c search_path=elsewhere"), lambda c: c.execute("SHOW search_path").fetchone()
    )
    assert probe.ask() == ("elsewhere",)


def test_a_role_that_may_not_look_is_told(dsn: str) -> None:
    """A privilege that is missing is not called an outage; whoever runs the doctor learns which one it is."""

    def question(connection: Connection) -> None:
        connection.execute("CREATE ROLE nobody_at_all")
        try:
            connection.execute("SET ROLE nobody_at_all; SELECT * FROM analytics_migration")
        finally:
            connection.execute("RESET ROLE; DROP ROLE nobody_at_all")

    with pytest.raises(UnavailableError, match="does not let this role look") as raised:
        Probe(dsn, question).ask()
    assert "doctor" in raised.value.detail


def test_what_the_question_says_is_passed_on(dsn: str) -> None:
    """An error of the question's own reaches all who ask."""

    def question(_: Connection) -> None:
        raise MigrationError("newer")

    probe = Probe(dsn, question)
    for _ in range(2):
        with pytest.raises(MigrationError, match="newer"):
            probe.ask()


def test_a_fork_asks_for_itself(dsn: str) -> None:
    """A process that was forked after a question shares no connection with its parent."""
    probe = Probe(dsn, lambda connection: connection.info.backend_pid, keep=30)
    ours = probe.ask()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, str(probe.ask()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert int(pipe.read()) != ours


def test_a_connection_that_has_died_says_nothing_of_postgres(dsn: str) -> None:
    """When an administrator or a firewall has ended the probe's connection, it asks on another one and is answered."""

    def who_serves(connection: Connection) -> int:
        [(pid,)] = connection.execute("SELECT pg_backend_pid()").fetchall()
        return int(pid)

    probe = Probe(dsn, who_serves, keep=0.0, patience=10.0)
    first = probe.ask()
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    assert probe.ask() not in (0, first)
