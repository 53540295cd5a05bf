"""The indexes of months that are over lose their gaps, while writing goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from analytics_collector import migrate, packing, partitions
from analytics_collector.db import Connection
from tests.collector.batches import Fields, event
from tests.collector.bystanders import LONGEST_PAUSE, bystanders, calmly

NOW = datetime(2024, 11, 15, 12, tzinfo=UTC)
MONTHS = ("analytics_event_2024_10", "analytics_event_2024_11")
SIZES = "SELECT indexrelname, pg_relation_size(indexrelid) FROM pg_stat_user_indexes WHERE relname = %s"
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"


@pytest.fixture
def own_dsn(new_database: Callable[[], str]) -> str:
    """A database of two months, each with many events that came in any order."""
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate.apply(connection, NOW)
        partitions.make_ahead(connection, NOW - timedelta(days=31), months=0)
        for month in MONTHS:
            connection.execute(
                "INSERT INTO analytics_event (user_id, session_id, event_type, created_at)"
                " SELECT random() * 1000, 's' || n * 7919 %% 5000, 'x', %s::date + random() * interval '20 days'"
                " FROM generate_series(1, 20000) AS n",
                [f"{month[-7:].replace('_', '-')}-01"],
            )
    return dsn


@pytest.fixture
def own(own_dsn: str) -> Iterator[Connection]:
    """A connection to it."""
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        yield connection


def sizes(connection: Connection, month: str) -> dict[str, int]:
    """The bytes of each index of a month."""
    return dict(connection.execute(SIZES, [month]).fetchall())


def test_a_month_that_is_over(own: Connection) -> None:
    """Its indexes shrink, those of the month that goes on are the same, and it is done once."""
    before, other = (sizes(own, month) for month in MONTHS)
    assert packing.pack(own, NOW) == f"packed {', '.join(sorted(before))}"
    after = sizes(own, MONTHS[0])
    assert after.keys() == before.keys()
    assert sum(after.values()) < 0.75 * sum(before.values())
    assert sizes(own, MONTHS[1]) == other
    assert packing.pack(own, NOW) == "packed none"


@pytest.mark.parametrize(("now", "over"), [("2024-11-07T23:59:59Z", False), ("2024-11-08T00:00:00Z", True)])
def test_a_month_is_over_a_week_after_its_end(own: Connection, now: str, over: bool) -> None:
    """What comes late finds the gaps still there."""
    assert (packing.pack(own, datetime.fromisoformat(now)) != "packed none") is over


def test_new_partitions_are_not_taken_for_packed(own: Connection) -> None:
    """That a month has been packed is known of its own indexes only."""
    packing.pack(own, NOW)
    partitions.make_ahead(own, NOW - timedelta(days=62), months=0)
    assert packing.pack(own, NOW).count("2024_09") == 3


def test_a_broken_off_rebuild(own: Connection) -> None:
    """It leaves an index that is not valid; the next run removes that, and packs what had not been packed."""
    own.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM analytics_event LIMIT 1")
    with psycopg.connect(own.info.dsn, autocommit=True) as other:
        other.execute("SET lock_timeout = '10ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(f"REINDEX INDEX CONCURRENTLY {MONTHS[0]}_pkey")
    own.execute("ROLLBACK")
    assert own.execute(INVALID).fetchone() == (1,)
    assert packing.pack(own, NOW).count("2024_10") == 3
    assert own.execute(INVALID).fetchone() == (0,)


def test_it_is_no_more_patient_afterwards(own: Connection) -> None:
    """The connection's own patience with locks is what it was before."""
    before = own.execute("SHOW lock_timeout").fetchone()
    packing.pack(own, NOW)
    assert own.execute("SHOW lock_timeout").fetchone() == before


def test_writing_goes_on(own: Connection, own_dsn: str) -> None:
    """Events of that very month are stored once and counted meanwhile, and no writer waits longer than 100 ms."""

    def attempt() -> float:
        own.execute("COMMENT ON INDEX analytics_event_2024_10_pkey IS NULL")
        own.execute("COMMENT ON INDEX analytics_event_2024_10_user_id_created_at_idx IS NULL")
        with bystanders(own_dsn, late_event) as writer:
            packing.pack(own, NOW)
        return writer.blocked

    own.execute("DELETE FROM analytics_event")  # so that the profiles are right
    assert calmly(attempt) < LONGEST_PAUSE
    assert own.execute(INVALID).fetchone() == (0,)


def late_event(number: int) -> Fields:
    """An event of the month that is over."""
    return event(f"{number} {datetime.now(UTC)}", "late", 1, created_at=f"2024-10-{number % 30 + 1:02}T12:00:00Z")
