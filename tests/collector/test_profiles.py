"""Profiles: one indexed row to look up, provable at any time, and mended while writing goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from analytics_collector import profiles
from analytics_collector.committer import Committer
from analytics_collector.config import Settings
from analytics_collector.db import Connection, Database
from analytics_collector.sql import load
from tests.collector.batches import at, commit, event


@pytest.fixture
def committer(settings: Settings) -> Iterator[Committer]:
    """A committer of this process, over the clean database."""
    with contextlib.closing(Database(settings.database_url)) as database:
        yield Committer(database)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan and all below it."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def test_a_lookup_is_one_indexed_row(connection: Connection) -> None:
    """A profile is found by index scans of two small tables in a few blocks, whatever the user's history."""
    connection.execute(
        "INSERT INTO analytics_event (user_id, session_id, event_type)"
        " SELECT CASE WHEN n % 2 = 0 THEN 7 ELSE n END, '', 'x' FROM generate_series(1, 20000) AS n"
    )
    assert profiles.rebuild(connection) == 10_000
    connection.execute("INSERT INTO analytics_user (id) SELECT generate_series(1, 20000)")
    connection.execute("ANALYZE analytics_useranalyticsprofile, analytics_user")
    statement = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {load('reader.profiles')}"
    for user_id, events in [(7, 10_001), (9, 1)]:
        row = connection.execute(statement, {"ids": [user_id]}).fetchone()
        assert row is not None
        plan = row[0][0]["Plan"]
        tables = {node["Relation Name"]: node["Node Type"] for node in nodes(plan) if "Relation Name" in node}
        assert tables == {"analytics_useranalyticsprofile": "Index Scan", "analytics_user": "Index Scan"}
        assert (plan["Actual Rows"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 12) == (1, True)
        found = connection.execute(load("reader.profiles"), {"ids": [user_id]}).fetchone()
        assert found is not None
        assert found[3] == events


@pytest.fixture
def histories(committer: Committer, connection: Connection) -> None:
    """Three users with sessions and events, and exact profiles."""
    commit(
        committer,
        sessions=[{"session_id": "s1", "user_id": 1}, {"session_id": "s2", "user_id": 2}],
        events=[event(n, f"s{n % 2 + 1}", created_at=at(n)) for n in range(6)] + [event("no session", user_id=3)],
    )
    assert profiles.verify(connection) == []


@pytest.mark.parametrize(
    "falsification",
    [
        "UPDATE analytics_useranalyticsprofile SET total_events = total_events + 1 WHERE user_id = 1",
        "UPDATE analytics_useranalyticsprofile SET total_sessions = 0 WHERE user_id = 1",
        "UPDATE analytics_useranalyticsprofile SET first_seen = first_seen - interval '1 us' WHERE user_id = 1",
        "UPDATE analytics_useranalyticsprofile SET last_seen = NULL WHERE user_id = 1",
        "UPDATE analytics_useranalyticsprofile SET user_id = 99 WHERE user_id = 1",
        "DELETE FROM analytics_useranalyticsprofile WHERE user_id = 1",
        "INSERT INTO analytics_useranalyticsprofile (user_id, total_events) VALUES (99, 1)",
        "INSERT INTO analytics_useranalyticsprofile (user_id, last_seen) VALUES (99, now())",
        "DELETE FROM analytics_event WHERE user_id = 1 AND created_at = (SELECT MIN(created_at) FROM analytics_event)",
        "DELETE FROM analytics_event WHERE user_id = 3",
        "INSERT INTO analytics_event (user_id, session_id, event_type) VALUES (1, 's1', 'x')",
        "UPDATE analytics_event SET user_id = NULL WHERE user_id = 2",
        "DELETE FROM analytics_session WHERE user_id = 2",
        "INSERT INTO analytics_session (session_id, user_id) VALUES ('s3', 99)",
        "UPDATE analytics_session SET user_id = 1",
    ],
)
def test_every_falsification_is_found_and_mended(histories: None, connection: Connection, falsification: str) -> None:
    """`verify` finds whatever is not as the rows say, `rebuild` mends all of it and then finds nothing to do."""
    connection.execute(falsification)
    wrong = profiles.verify(connection)
    assert wrong != []
    assert profiles.rebuild(connection) == len(wrong)
    assert profiles.verify(connection) == []
    assert profiles.rebuild(connection) == 0


def test_verify_says_what_differs(histories: None, connection: Connection) -> None:
    """A difference comes with what is stored and what was counted; None where there is neither profile nor row."""
    connection.execute("UPDATE analytics_useranalyticsprofile SET user_id = 99 WHERE user_id = 1")
    one, other = profiles.verify(connection)
    assert (one.user_id, one.stored, other.user_id, other.counted) == (1, None, 99, None)
    assert one.counted == other.stored
    assert one.counted is not None
    assert one.counted[:2] == (1, 3)


def test_users_without_anything_left_are_no_difference(histories: None, connection: Connection) -> None:
    """A profile of zeros says the same as none: whoever lost all rows is mended to zeros."""
    for table in ("event", "session"):
        connection.execute(f"DELETE FROM analytics_{table}")
    assert profiles.rebuild(connection) == 3
    rows = connection.execute(
        "SELECT DISTINCT total_sessions, total_events, first_seen, last_seen FROM analytics_useranalyticsprofile"
    )
    assert rows.fetchall() == [(0, 0, None, None)]


def test_verify_tells_how_far_it_is(histories: None, connection: Connection) -> None:
    """Part by part it says how many blocks of how many are counted; in the end that is all of them."""
    told: list[tuple[int, int]] = []
    profiles.verify(connection, lambda done, total: told.append((done, total)))
    parts = connection.execute("SELECT count(*) FROM pg_partition_tree('analytics_event') WHERE isleaf").fetchone()
    assert (len(told),) == parts
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {total for _, total in told} == {told[-1][0]}


def test_all_parts_are_added_up(connection: Connection) -> None:
    """A user's rows in several partitions, DEFAULT among them, are one history."""
    connection.execute(
        "INSERT INTO analytics_event (user_id, session_id, event_type, created_at)"
        " SELECT 7, '', 'x', now() + n * interval '25 days' FROM generate_series(-3, 3) AS n"
    )
    assert profiles.rebuild(connection) == 1
    row = connection.execute("SELECT total_events, last_seen - first_seen FROM analytics_useranalyticsprofile")
    assert row.fetchone() == (7, timedelta(days=150))
    assert profiles.verify(connection) == []


def test_verify_is_one_moment(committer: Committer, connection: Connection) -> None:
    """What is committed while it counts is in no part of it; and nobody waits for it."""
    commit(committer, events=[event(0, "s", 1)])
    written: list[int] = []

    def write(done: int, _: int) -> None:
        written.append(commit(committer, events=[event(done, f"s{done}", 1)]).accepted)

    assert profiles.verify(connection, write) == []
    assert sum(written) == len(written) > 1
    assert profiles.verify(connection) == []


def test_mending_while_writers_write(committer: Committer, connection: Connection) -> None:
    """`rebuild` is exact and no writer fails, while others write, claim and send again; nobody waits in a circle."""
    finished = threading.Event()

    def write(writer: int) -> int:
        rounds = 0
        while not finished.is_set():
            anonymous = [event(f"{writer} {rounds} {n}", f"s{rounds} {n % 5}", created_at=at(n)) for n in range(20)]
            login = [event(f"{writer} {rounds} {n}", f"s{rounds} {n}", n % 3 + 1) for n in range(20, 25)]
            for batch in (anonymous, login, anonymous + login):
                assert commit(committer, events=batch).rejected == ()
            rounds += 1
        return rounds

    with ThreadPoolExecutor(3) as threads:
        writing = [threads.submit(write, writer) for writer in range(3)]
        try:
            for user_id in [1, 2, 3] * 50:
                falsify = "UPDATE analytics_useranalyticsprofile SET total_events = total_events + 5, last_seen = NULL"
                connection.execute(f"{falsify} WHERE user_id = %s", [user_id])
                profiles.rebuild(connection)
                assert profiles.verify(connection) == []
        finally:
            finished.set()
        rounds = [future.result() for future in writing]
    assert min(rounds) > 0
    assert profiles.verify(connection) == []
