"""The monthly partitions: made ahead, exact at month ends, and never in the way of an event."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_collector import partitions
from analytics_collector.committer import Committer
from analytics_collector.db import Connection, Database
from analytics_collector.partitions import month_after
from tests.collector.batches import commit, event
from tests.collector.conftest import NOVEMBER


@pytest.fixture
def november(november_dsn: str) -> Iterator[Connection]:
    """A connection to it, from a place where the day begins later than in UTC."""
    with psycopg.connect(november_dsn, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'America/New_York'")
        yield connection


@pytest.fixture
def database(november_dsn: str) -> Iterator[Database]:
    """The collector's door to it."""
    with contextlib.closing(Database(november_dsn)) as database:
        yield database


def months(connection: Connection) -> list[str]:
    """The months that have a partition."""
    rows = connection.execute(
        "SELECT right(relname, 7) FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = 'analytics_event'::regclass AND relname ~ '\\d$' ORDER BY 1"
    )
    return [month for (month,) in rows]


def partition_of(connection: Connection, created_at: str) -> str:
    """The partition that an event of this time goes to."""
    row = connection.execute(
        "INSERT INTO analytics_event (session_id, event_type, created_at) VALUES ('', 'x', %s)"
        " RETURNING tableoid::regclass::text",
        [created_at],
    ).fetchone()
    assert row is not None
    return str(row[0]).removeprefix("analytics_event_")


def test_this_month_and_three_ahead(november: Connection) -> None:
    """After `migrate` there are partitions of the current month and the next three, over the year's end."""
    assert months(november) == ["2024_11", "2024_12", "2025_01", "2025_02"]


def test_migrate_makes_those_of_today(connection: Connection) -> None:
    """Without a word about the date it is today's month that counts."""
    today = datetime.now(UTC)
    assert {f"{month_after(today, ahead):%Y_%m}" for ahead in range(3)} <= set(months(connection))


def test_months_end_in_utc(november: Connection) -> None:
    """An event is in the partition of its month in UTC, to the microsecond; what has none is in DEFAULT."""
    expected = {
        "2024-10-31T23:59:59.999999Z": "default",
        "2024-11-01T00:00:00Z": "2024_11",
        "2024-11-30T23:59:59.999999Z": "2024_11",
        "2024-12-01T00:00:00Z": "2024_12",
        "2025-01-01T00:59:59+01:00": "2024_12",
        "2024-12-31T19:00:00-05:00": "2025_01",
        "2025-02-28T23:59:59.999999Z": "2025_02",
        "2025-03-01T00:00:00Z": "default",
        "1970-01-01T00:00:00Z": "default",
        "0001-01-01T00:00:00Z": "default",
        "9999-12-31T23:59:59Z": "default",
    }
    assert {created_at: partition_of(november, created_at) for created_at in expected} == expected


def test_made_again_nothing_is_new(november: Connection) -> None:
    """Looking again makes nothing; a month later it makes the one that is missing."""
    assert partitions.make_ahead(november, NOVEMBER) == []
    assert partitions.make_ahead(november, NOVEMBER + timedelta(days=30)) == ["analytics_event_2025_03"]


def test_a_month_that_default_has_rows_of(
    november: Connection, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a month stays in DEFAULT for now, with a warning; its neighbours are made and its events are taken, once."""
    march = "2025-03-15T00:00:00+00:00"
    first, second = (event(n, "s", created_at=march) for n in range(2))
    commit(Committer(database), events=[first])
    assert partitions.make_ahead(november, NOVEMBER + timedelta(days=61)) == ["analytics_event_2025_04"]
    assert "Rows of analytics_event_2025_03 are in the DEFAULT partition; housekeeping moves them" in caplog.text
    verdict = commit(Committer(database), events=[first, second])
    assert (verdict.accepted, verdict.duplicates) == (1, 1)
    assert november.execute("SELECT count(*) FROM analytics_event_default").fetchone() == (2,)


def test_two_makers_at_once(november_dsn: str, november: Connection) -> None:
    """Two that look ahead at the same moment make each partition once, and neither fails."""
    both = threading.Barrier(2)

    def make(_: int) -> list[str]:
        with psycopg.connect(november_dsn, autocommit=True) as connection:
            both.wait(10)
            return partitions.make_ahead(connection, datetime(2031, 1, 1, tzinfo=UTC))

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(make, range(2))
    assert sorted(one + other) == [f"analytics_event_2031_0{month}" for month in (1, 2, 3, 4)]
    assert months(november)[-4:] == ["2031_01", "2031_02", "2031_03", "2031_04"]


def test_events_come_in_while_partitions_are_made(november_dsn: str, november: Connection, database: Database) -> None:
    """Writers and makers do not stop one another: all events are stored, and all partitions are there."""
    committer = Committer(database)
    times = [datetime(2023, month, 28, tzinfo=UTC) for month in range(1, 13)]

    def write(writer: int) -> None:
        for number, time in enumerate(times * 3):
            commit(committer, events=[event(f"{writer} {number}", f"s{number}", writer, created_at=time.isoformat())])

    with ThreadPoolExecutor(3) as threads:
        writing = [threads.submit(write, writer) for writer in (1, 2, 3)]
        for time in times:
            partitions.make_ahead(november, time)
        for future in writing:
            future.result()
    assert november.execute("SELECT count(*) FROM analytics_event").fetchone() == (108,)


def test_a_table_that_is_no_partition(november: Connection, caplog: pytest.LogCaptureFixture) -> None:
    """A table of a month that somebody has detached is left alone, with a warning; the others are made."""
    november.execute("ALTER TABLE analytics_event DETACH PARTITION analytics_event_2024_12")
    assert partitions.make_ahead(november, NOVEMBER + timedelta(days=30)) == ["analytics_event_2025_03"]
    assert "There is a table analytics_event_2024_12 already that is no partition" in caplog.text


@given(now=st.datetimes(timezones=st.just(UTC)).filter(lambda now: now.year < 9900), count=st.integers(0, 500))
def test_months_follow_one_another(now: datetime, count: int) -> None:
    """Month 0 is the one that `now` is in; the next begins where one ends, 28 to 31 days later."""
    first, next_first = month_after(now, count), month_after(now, count + 1)
    assert month_after(now, 0) <= now < month_after(now, 1)
    assert (first.day, first.hour, first.minute, first.second, first.tzinfo) == (1, 0, 0, 0, UTC)
    assert timedelta(days=28) <= next_first - first <= timedelta(days=31)
    assert month_after(first, 1) == next_first


def test_a_year_ends() -> None:
    """After December comes January."""
    december = datetime(2024, 12, 31, 23, 59, tzinfo=UTC)
    assert [month_after(december, ahead) for ahead in (0, 1, 12, 13)] == [
        datetime(year, month, 1, tzinfo=UTC) for year, month in [(2024, 12), (2025, 1), (2025, 12), (2026, 1)]
    ]


def test_the_month_of_another_time_zone() -> None:
    """It is the month in UTC that counts, whatever zone `now` is told in."""
    new_year_in_auckland = datetime(2025, 1, 1, tzinfo=timezone(timedelta(hours=13)))
    assert month_after(new_year_in_auckland, 0) == datetime(2024, 12, 1, tzinfo=UTC)
