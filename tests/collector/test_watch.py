"""A Postgres that is slow is waited for, one that does not answer is not; pure parts first."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from analytics_collector import symptom
from analytics_collector.circuit import Circuit
from analytics_collector.db import Connection, Database
from analytics_collector.exceptions import UnavailableError
from analytics_collector.incident import Incident, Past
from analytics_collector.watch import Watch


def test_one_finds_out_for_all() -> None:
    """After a try in vain one caller at a time may try, after a rest; with the first answer all may again."""
    circuit = Circuit(patience=10.0)
    assert [circuit.may_try(0.0), circuit.may_try(0.0)] == [True, True]
    circuit.tried(5.0, in_vain=True)
    assert [circuit.may_try(5.9), circuit.may_try(6.0), circuit.may_try(6.0)] == [False, True, False]
    circuit.tried(16.0, in_vain=True)
    assert [circuit.may_try(16.0), circuit.may_try(17.0), circuit.may_try(17.0)] == [False, True, False]
    circuit.tried(17.5, in_vain=False)
    assert [circuit.may_try(17.5), circuit.may_try(17.5), circuit.is_open] == [True, True, False]


def test_an_incident_is_told_once() -> None:
    """The same failure is no news until a quiet minute has passed; another kind of failure is."""
    incident = Incident()
    assert [incident.failed(what, at) for at, what in enumerate("aabab")] == [True, False, True, False, False]
    assert [incident.succeeded(at) for at in (5.0, 64.0, 64.1, 64.2)] == [None, None, Past(4.0, 5), None]
    assert [incident.failed("a", at) for at in (70.0, 71.0, 140.0)] == [True, False, True]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('connection failed: FATAL:  password authentication failed for user "ada"', "does not let this role in"),
        ('connection failed: FATAL:  database "product" does not exist', "no database of this name"),
        ('connection failed: FATAL:  role "ada" does not exist', "does not let this role in"),
        ("connection failed: FATAL:  sorry, too many clients already", "no connection left"),
        ("connection failed: FATAL:  the database system is in recovery mode", "starting or stopping"),
        ("connection failed: Connection refused", "is away"),
        ("FATAL:  sorry, too many clients already", "no connection left"),
    ],
)
def test_words_that_show_nothing(said: str, expected: str) -> None:
    """What Postgres says to somebody who connects becomes words without hosts, users and files."""
    found = symptom.of(psycopg.OperationalError(said))
    assert expected in found.message
    assert "ada" not in found.message + found.advice


@contextlib.contextmanager
def database(dsn: str, patience: float) -> Iterator[Database]:
    """A door to Postgres, closed at the end."""
    with contextlib.closing(Database(dsn, patience=patience)) as opened:
        yield opened


def test_slow_is_not_silent(dsn: str) -> None:
    """A transaction that takes five times the patience is waited for, as Postgres answers others meanwhile."""
    with database(dsn, 0.4) as door:
        assert door.run(lambda connection: connection.execute("SELECT 42, pg_sleep(2)").fetchone()) == (42, "")
        assert not door.is_away


def test_one_server_process_that_hangs(dsn: str, connection: psycopg.Connection) -> None:
    """A connection whose own server process hangs, while others answer, is shut after the longest time."""
    watch = Watch(dsn, patience=0.4, longest=1.0)
    with psycopg.connect(dsn, autocommit=True) as hanging:
        pid = hanging.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(psycopg.errors.ConnectionTimeout), watch.over(hanging):
                hanging.execute("SELECT 1")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert 0.9 < time.monotonic() - began < 10
        assert hanging.closed
    with watch.over(connection):  # and nobody else's
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_session_that_only_reads_is_given_up(dsn: str) -> None:
    """The connection of a server that became read-only is replaced, as the next one may lead to one that writes."""
    sessions: list[int] = []

    def write(connection: Connection, setup: str = "") -> int | None:
        sessions.append(connection.info.backend_pid)
        connection.execute(setup)
        return connection.execute("INSERT INTO analytics_quota VALUES ('of a test', now(), 1)").rowcount

    with database(dsn, 5.0) as door:
        with pytest.raises(UnavailableError):
            door.run(lambda connection: write(connection, "SET TRANSACTION READ ONLY"))
        found = door.trouble()
        assert found is not None
        assert found.message == "The database only reads"
        assert door.run(write) == 1
    assert len(set(sessions)) == 2


def test_what_a_lost_connection_costs_others(dsn: str, connection: psycopg.Connection) -> None:
    """A connection that an administrator has ended is done again on another one, and nobody is turned away."""

    def end_oneself(own: Connection) -> str:
        if not ended:
            ended.append(True)
            connection.execute("SELECT pg_terminate_backend(%s)", [own.info.backend_pid])
        own.execute("SELECT pg_sleep(0.01)")
        return "done"

    ended: list[bool] = []
    with database(dsn, 5.0) as door:
        assert (door.run(end_oneself), door.is_away, door.trouble()) == ("done", False, None)


def test_the_log_has_one_line(dsn: str, caplog: pytest.LogCaptureFixture, new_database: Callable[[], str]) -> None:
    """However many requests find no tables, the log says so once; and each of them is told."""
    with database(new_database(), 5.0) as door:
        for _ in range(20):
            with pytest.raises(UnavailableError):
                door.run(lambda connection: connection.execute("SELECT * FROM analytics_event"))
    assert [record.levelname for record in caplog.records if record.name == "analytics_collector"] == ["WARNING"]
