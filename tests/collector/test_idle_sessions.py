"""Sessions in which nothing happens any more end with their last event."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from analytics_collector import idle_sessions
from analytics_collector.committer import Committer
from analytics_collector.db import Connection, Database
from analytics_collector.sql import load
from tests.collector.batches import NOON, Fields, at, commit, event
from tests.collector.bystanders import LONGEST_PAUSE, bystanders, calmly

HALF_AN_HOUR = 1800


@pytest.fixture
def committer(dsn: str) -> Iterator[Committer]:
    """A committer of this process, over the clean database."""
    with contextlib.closing(Database(dsn)) as database:
        yield Committer(database)


def minute(number: float) -> datetime:
    """So many minutes after the tests' zero."""
    return NOON + timedelta(minutes=number)


def ends(connection: Connection) -> dict[str, datetime | None]:
    """When each session ended."""
    return dict(connection.execute("SELECT session_id, ended_at FROM analytics_session").fetchall())


def test_they_end_with_their_last_event(committer: Committer, connection: Connection) -> None:
    """After half an hour without an event a session has ended, at its last one; a moment earlier it has not."""
    commit(committer, events=[event(n, "s", created_at=at(n)) for n in (0, 5, 3)])
    assert idle_sessions.end(connection, minute(35), HALF_AN_HOUR) == "ended 0 sessions"
    assert ends(connection) == {"s": None}
    assert idle_sessions.end(connection, minute(35.01), HALF_AN_HOUR) == "ended 1 sessions"
    assert ends(connection) == {"s": minute(5)}


def test_a_later_event_ends_it_later(committer: Committer, connection: Connection) -> None:
    """Whoever comes back after that is in the same session, which now ends with the new event."""
    commit(committer, events=[event(0, "s", created_at=at(0))])
    idle_sessions.end(connection, minute(60), HALF_AN_HOUR)
    commit(committer, events=[event(1, "s", created_at=at(50))])
    assert ends(connection) == {"s": minute(50)}
    commit(committer, events=[event(2, "s", created_at=at(20))])
    idle_sessions.end(connection, minute(100), HALF_AN_HOUR)
    assert ends(connection) == {"s": minute(50)}


def test_the_end_that_was_told_stays(committer: Committer, connection: Connection) -> None:
    """A session that was ended by its app keeps that end, and one without an event ends when it started."""
    told = {"session_id": "told", "started_at": at(0), "ended_at": at(90)}
    commit(committer, sessions=[told, {"session_id": "empty", "started_at": at(10)}])
    idle_sessions.end(connection, minute(119), HALF_AN_HOUR)
    assert ends(connection) == {"told": minute(90), "empty": minute(10)}


def test_many(connection: Connection) -> None:
    """More than one batch of them end in one run, and active ones among them stay."""
    connection.execute(
        "INSERT INTO analytics_session (session_id, started_at, last_event_at)"
        " SELECT 's' || n, %(noon)s, %(noon)s + n %% 60 * interval '1 minute' FROM generate_series(0, 2999) AS n",
        {"noon": NOON},
    )
    assert idle_sessions.end(connection, minute(60), HALF_AN_HOUR) == "ended 1500 sessions"
    row = connection.execute("SELECT count(*) FROM analytics_session WHERE ended_at = last_event_at").fetchone()
    assert row == (1500,)


def test_one_that_a_writer_holds(dsn: str, connection: Connection, committer: Committer) -> None:
    """A session that is being written to is not idle: it is passed over, and nobody waits."""
    commit(committer, events=[event(n, f"s{n}", created_at=at(0)) for n in (0, 1)])
    with psycopg.connect(dsn) as writer:
        writer.execute("UPDATE analytics_session SET last_event_at = %s WHERE session_id = 's0'", [minute(59)])
        assert idle_sessions.end(connection, minute(60), HALF_AN_HOUR) == "ended 1 sessions"
    assert ends(connection) == {"s0": None, "s1": minute(0)}


def test_they_are_found_by_their_own_index(connection: Connection) -> None:
    """Among many sessions that have ended, the active ones are found without looking at the others."""
    connection.execute("TRUNCATE analytics_session")  # what earlier tests have deleted makes an index look large
    connection.execute(
        "INSERT INTO analytics_session (session_id, started_at, ended_at)"
        " SELECT 's' || n, now(), CASE WHEN n % 1000 <> 0 THEN now() END FROM generate_series(1, 20000) AS n"
    )
    connection.execute("ANALYZE analytics_session")
    row = connection.execute(
        f"EXPLAIN (FORMAT JSON) {load('idle_sessions.end')}".encode(), {"before": datetime.now(UTC), "most": 500}
    ).fetchone()
    assert row is not None
    assert '"analytics_session_active"' in json.dumps(row[0])


def test_an_active_session_stays_cheap(connection: Connection) -> None:
    """Each event moves the session's last_event_at, and no index has to be told (a HOT update)."""
    with connection.transaction():
        connection.execute("INSERT INTO analytics_session (session_id, last_event_at) VALUES ('s', now())")
        before = hot_updates(connection)
        for _ in range(10):
            connection.execute("UPDATE analytics_session SET last_event_at = clock_timestamp()")
        assert hot_updates(connection) == before + 10


def hot_updates(connection: Connection) -> int:
    """How many updates of this transaction touched no index."""
    row = connection.execute("SELECT pg_stat_get_xact_tuples_hot_updated('analytics_session'::regclass)").fetchone()
    assert row is not None
    return int(row[0])


def test_a_writer_beside_it(dsn: str, connection: Connection) -> None:
    """Meanwhile writers of the same sessions fail never, and do not wait for 100 ms."""

    def attempt() -> float:
        connection.execute("DELETE FROM analytics_event")
        connection.execute("DELETE FROM analytics_session")
        connection.execute("DELETE FROM analytics_useranalyticsprofile")
        connection.execute(
            "INSERT INTO analytics_session (session_id, started_at, last_event_at)"
            " SELECT 's' || n, %(noon)s, %(noon)s FROM generate_series(0, 9999) AS n",
            {"noon": NOON},
        )

        def make(number: int) -> Fields:
            return event(f"beside {number}", f"s{number * 7 % 10_000}", created_at=at(number / 600))

        with bystanders(dsn, make) as writer:
            idle_sessions.end(connection, minute(100), HALF_AN_HOUR)
        assert writer.stored > 1
        idle_sessions.end(connection, minute(100), HALF_AN_HOUR)
        assert all(end is not None for end in ends(connection).values())
        return writer.longest

    longest = calmly(attempt)
    print(f"longest pause of a writer: {longest * 1000:.0f} ms")
    assert longest < LONGEST_PAUSE
