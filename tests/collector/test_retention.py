"""What is older than retention goes, and profiles count what is left, at every moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from analytics_collector import partitions, profiles, retention
from analytics_collector.committer import Committer
from analytics_collector.db import Connection, Database
from analytics_collector.exceptions import HousekeepingError
from tests.collector.batches import Fields, commit, event
from tests.collector.bystanders import LONGEST_PAUSE, bystanders, calmly
from tests.collector.conftest import NOVEMBER as NOW

FILL = """
    INSERT INTO analytics_event (user_id, session_id, event_type, created_at)
    SELECT NULLIF(n % 40, 0), 's' || n / 5, 'x', '2024-11-14T00:00:00Z'::timestamptz - n % 120 * interval '1 day'
    FROM generate_series(1, {rows}) AS n;
    INSERT INTO analytics_session (session_id, user_id, started_at, last_event_at)
    SELECT session_id, MIN(user_id), MIN(created_at), MAX(created_at) FROM analytics_event GROUP BY session_id;
"""


def grow_old(connection: Connection) -> None:
    """Let tables that know November 2024 and later have partitions from August on."""
    partitions.make_ahead(connection, datetime(2024, 8, 1, tzinfo=UTC), months=2)


@pytest.fixture
def aged(november_dsn: str) -> Iterator[Connection]:
    """A connection to such tables."""
    with psycopg.connect(november_dsn, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        grow_old(connection)
        yield connection


def fill(connection: Connection, rows: int) -> None:
    """Put in events of 120 days, 40 users, nobody, and their sessions; the oldest are in DEFAULT."""
    connection.execute(FILL.format(rows=rows).encode())
    profiles.rebuild(connection)


def store(connection: Connection, created_at: str, user_id: int | None = None, session_id: str = "") -> None:
    """Put in one event."""
    connection.execute(
        "INSERT INTO analytics_event (user_id, session_id, event_type, created_at) VALUES (%s, %s, 'x', %s)",
        [user_id, session_id, created_at],
    )


def number(connection: Connection, query: str) -> int:
    """The one number that a query asks for."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_by_default_everything_is_kept(aged: Connection) -> None:
    """A retention of 0 days forgets nothing."""
    fill(aged, 500)
    assert retention.drop_old_partitions(aged, NOW, 0) == "everything is kept"
    assert number(aged, "SELECT count(*) FROM analytics_event") == 500


def test_whole_months_go(aged: Connection) -> None:
    """Months that ended before retention began are dropped, DEFAULT loses their rows; all later rows stay."""
    fill(aged, 2000)
    kept = "SELECT count(*) FROM analytics_event WHERE created_at >= '2024-10-01'"
    later = number(aged, kept)
    outcome = retention.drop_old_partitions(aged, NOW, 30)  # that is 16 October, so October stays
    assert outcome.startswith("dropped analytics_event_2024_08, analytics_event_2024_09, ")
    assert partitions.attached(aged)[0] == "analytics_event_2024_10"
    assert number(aged, kept) == later
    assert number(aged, "SELECT count(*) FROM analytics_event WHERE created_at < '2024-10-01'") == 0
    assert profiles.verify(aged) == []
    assert retention.drop_old_partitions(aged, NOW, 30) == "dropped no partition, 0 rows of DEFAULT and 0 sessions"


def test_the_edge_of_a_month(aged: Connection) -> None:
    """Its last microsecond goes, and the first one of the next month stays."""
    store(aged, "2024-09-30T23:59:59.999999Z", 1)
    store(aged, "2024-10-01T00:00:00Z", 1)
    profiles.rebuild(aged)
    for day, left in [("2024-10-01T23:59:59Z", 2), ("2024-10-02T00:00:00Z", 1)]:
        retention.drop_old_partitions(aged, datetime.fromisoformat(day), 1)
        assert number(aged, "SELECT count(*) FROM analytics_event") == left
    row = aged.execute("SELECT total_events, first_seen, last_seen FROM analytics_useranalyticsprofile").fetchone()
    assert row == (1, datetime(2024, 10, 1, tzinfo=UTC), datetime(2024, 10, 1, tzinfo=UTC))


def test_what_becomes_of_profiles(aged: Connection) -> None:
    """Counts and first event are those of what is left; without anything left there is no profile."""
    told = {1: ("2024-08-01", "2024-10-03", "2024-11-02"), 2: ("2024-08-02",), 3: ("2020-01-01",), 4: ("2024-11-01",)}
    for user_id, created_at in [(user_id, day) for user_id, days in told.items() for day in days]:
        store(aged, f"{created_at}T00:00:00Z", user_id)
    profiles.rebuild(aged)
    retention.drop_old_partitions(aged, NOW, 30)
    rows = aged.execute(
        "SELECT user_id, total_events, first_seen::date::text, last_seen::date::text"
        " FROM analytics_useranalyticsprofile ORDER BY user_id"
    )
    assert rows.fetchall() == [(1, 2, "2024-10-03", "2024-11-02"), (4, 1, "2024-11-01", "2024-11-01")]


def test_sessions_that_are_wholly_past(aged: Connection) -> None:
    """Sessions that began, ended and had their last event before go; any later sign keeps one."""
    for name, times in {
        "past": ("2024-08-01", "2024-08-01", "2024-08-02"),
        "never ended": ("2024-08-01", None, None),
        "ended later": ("2024-08-01", None, "2024-10-01"),
        "heard of later": ("2024-08-01", "2024-10-01", None),
        "has a row": ("2024-08-01", None, None),
    }.items():
        aged.execute(
            "INSERT INTO analytics_session (session_id, user_id, started_at, last_event_at, ended_at)"
            " VALUES (%s, 1, %s, %s, %s)",
            [name, *times],
        )
    store(aged, "2024-10-01T00:00:00Z", None, "has a row")
    profiles.rebuild(aged)
    assert retention.drop_old_partitions(aged, NOW, 30).endswith(" 2 sessions")
    rows = aged.execute("SELECT session_id FROM analytics_session ORDER BY session_id").fetchall()
    assert [name for (name,) in rows] == ["ended later", "has a row", "heard of later"]
    assert profiles.verify(aged) == []


def test_many_sessions(aged: Connection) -> None:
    """All windows of the key are gone through, whatever the names of the sessions."""
    aged.execute(
        "INSERT INTO analytics_session (session_id, user_id, started_at)"
        " SELECT md5(n::text), n % 3, CASE WHEN n % 2 = 0 THEN '2024-08-01' ELSE '2024-11-01' END::timestamptz"
        " FROM generate_series(1, 1800) AS n"
    )
    profiles.rebuild(aged)
    assert retention.drop_old_partitions(aged, NOW, 30).endswith(" 900 sessions")
    assert number(aged, "SELECT count(*) FROM analytics_session WHERE started_at = '2024-11-01'") == 900
    assert profiles.verify(aged) == []


def test_a_row_that_somebody_holds(november_dsn: str, aged: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a row that is being written to nobody waits for another: the job gives up, and goes through the next time."""
    monkeypatch.setattr(retention, "_TRIES", 2)
    fill(aged, 500)
    with psycopg.connect(november_dsn) as other:
        other.execute("UPDATE analytics_event SET event_type = 'y' WHERE user_id = 1 AND created_at < '2024-09-01'")
        with pytest.raises(HousekeepingError, match="Rows of users keep coming into analytics_event_2024_08"):
            retention.drop_old_partitions(aged, NOW, 30)
        assert profiles.verify(aged) == []
    retention.drop_old_partitions(aged, NOW, 30)
    assert "analytics_event_2024_08" not in partitions.attached(aged)
    assert profiles.verify(aged) == []


def test_old_rejects_go(aged: Connection) -> None:
    """Rejects that came before retention began go, in batches; later ones stay."""
    aged.execute(
        "INSERT INTO analytics_reject (reject_id, kind, code, message, record, key_name, received_at)"
        " SELECT gen_random_uuid(), 'event', 'x', '', '', '', %s - n * interval '1 hour'"
        " FROM generate_series(1, 2400) AS n",
        [NOW],
    )
    assert retention.trim_rejects(aged, NOW, 30) == "forgot 1680 rejects"
    assert number(aged, "SELECT count(*) FROM analytics_reject") == 30 * 24
    assert retention.trim_rejects(aged, NOW, 30) == "forgot 0 rejects"


def test_counts_of_days_gone_by_go(aged: Connection) -> None:
    """What keys sent more than a week ago goes; today's counts, which the limits need, stay."""
    aged.execute(
        "INSERT INTO analytics_quota (key_name, day, events)"
        " SELECT key_name, %s::date - n, 1 FROM generate_series(0, 99) AS n, unnest('{web,app}'::text[]) AS key_name",
        [NOW],
    )
    assert retention.trim_quotas(aged, NOW) == "forgot 184 counts"
    left = aged.execute("SELECT max(day), min(day), count(*) FROM analytics_quota").fetchone()
    assert left == (NOW.date(), NOW.date() - timedelta(days=7), 16)
    assert retention.trim_quotas(aged, NOW) == "forgot 0 counts"


def test_a_writer_of_rejects_beside_it(november_dsn: str, aged: Connection) -> None:
    """While old rejects go, even ones that are refused again at this moment, no writer waits for 100 ms."""

    def refused(number: int) -> Fields:
        return event(number, created_at=f"the {number}th of yesterday")

    def attempt() -> float:
        aged.execute("DELETE FROM analytics_reject")
        with contextlib.closing(Database(november_dsn)) as database:
            committer = Committer(database)
            for start in range(0, 6000, 1000):
                commit(committer, events=[refused(number) for number in range(start, start + 1000)])
            aged.execute("UPDATE analytics_reject SET received_at = '2024-01-01'")
            longest = 0.0
            with ThreadPoolExecutor(1) as threads:
                trimming = threads.submit(retention.trim_rejects, aged, NOW, 30)
                for number in range(0, 6000, 50):
                    began = time.monotonic()
                    commit(committer, events=[refused(number)])
                    longest = max(longest, time.monotonic() - began)
                assert trimming.result() == "forgot 6000 rejects"
        return longest

    longest = calmly(attempt)
    print(f"longest pause of a writer: {longest * 1000:.0f} ms")
    assert longest < LONGEST_PAUSE


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rows", [12_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_writer_and_a_reader_beside_it(november_database: Callable[[], str], rows: int) -> None:
    """Profiles are exact at every moment meanwhile, whether rows are old or new; no writer waits for 100 ms."""

    def make(number: int) -> Fields:
        """Events of users who lose rows, in months that stay, in those that go, and in DEFAULT."""
        created_at = NOW - timedelta(days=(1, 60, 130)[number % 3], seconds=number)
        user_id = number % 9 + 1 if number % 4 else None
        return event(f"beside {number}", f"new {number // 4}", user_id, created_at=created_at.isoformat())

    blocked: list[float] = []

    def attempt() -> float:
        dsn = november_database()
        with psycopg.connect(dsn, autocommit=True) as connection:
            grow_old(connection)
            fill(connection, rows)
            with bystanders(dsn, make, may_forget=True) as writer:
                retention.drop_old_partitions(connection, NOW, 30)
            assert writer.stored > 10
            assert "analytics_event_2024_09" not in partitions.attached(connection)
            retention.drop_old_partitions(connection, NOW, 30)
            assert number(connection, "SELECT count(*) FROM analytics_event WHERE created_at < '2024-10-01'") == 0
            assert profiles.verify(connection) == []
        blocked.append(writer.blocked)
        # A million rows keep disk and processors busy; it is the locks that must not stop anybody.
        return writer.blocked if rows == 1_000_000 else writer.longest

    longest = calmly(attempt)
    print(f"longest pause of a writer: {longest * 1000:.0f} ms, for a lock: {min(blocked) * 1000:.0f} ms")
    assert longest < LONGEST_PAUSE
