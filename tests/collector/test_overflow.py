"""The DEFAULT partition is emptied while others write and read, and nobody can tell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from analytics_collector import migrate, overflow, partitions, profiles, short_lock
from analytics_collector.db import Connection
from analytics_collector.exceptions import HousekeepingError
from tests.collector.batches import Fields, event
from tests.collector.bystanders import LONGEST_PAUSE, bystanders, calmly
from tests.collector.conftest import NOVEMBER as NOW
from tests.programs import wait_until

NEW = "'new', 'x', '2024-02-29'"
ALL = "SELECT * FROM analytics_event ORDER BY event_id, created_at"
COLUMNS = """
    SELECT attname, attnotnull, attidentity, pg_get_expr(adbin, adrelid)
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum
"""
INDEXES = """
    SELECT regexp_replace(pg_get_indexdef(indexrelid), 'INDEX .* USING', ''), indisunique, inhparent::regclass
    FROM pg_index LEFT JOIN pg_inherits ON inhrelid = indexrelid WHERE indrelid = %s::regclass ORDER BY 1
"""
CONSTRAINTS = "SELECT contype FROM pg_constraint WHERE conrelid = %s::regclass AND contype <> 'n' ORDER BY 1"
SHAPE = (COLUMNS, INDEXES, CONSTRAINTS)
CHANGES = (
    "DELETE FROM analytics_event WHERE session_id = 's1'",
    "UPDATE analytics_event SET user_id = 42 WHERE session_id = 's2'",
    "UPDATE analytics_event SET created_at = created_at + interval '29 days' WHERE session_id = 's3'",
    "UPDATE analytics_event SET created_at = '2024-12-24' WHERE session_id = 's4'",
    "UPDATE analytics_event SET event_id = gen_random_uuid() WHERE session_id = 's5'",
    f"INSERT INTO analytics_event (session_id, event_type, created_at) SELECT {NEW} FROM generate_series(1, 500)",
    "DELETE FROM analytics_event WHERE session_id = 'new' AND id % 2 = 0",
)
FILL = """
    INSERT INTO analytics_event (user_id, session_id, event_type, created_at)
    SELECT NULLIF(n %% 7, 0), 's' || n %% 50, 'x', '2024-01-31T23:59:59Z'::timestamptz + (n %% %s) * interval '28 days'
    FROM generate_series(1, %s) AS n
"""


@pytest.fixture
def full(november_dsn: str) -> Iterator[Connection]:
    """A connection to tables that know November 2024 and later."""
    with psycopg.connect(november_dsn, autocommit=True) as connection:
        yield connection


def fill(connection: Connection, months: int, rows: int) -> None:
    """Put rows of the months from January 2024 on into DEFAULT, and set the profiles right."""
    connection.execute(FILL, [months, rows])
    profiles.rebuild(connection)


def in_default(connection: Connection) -> int:
    """How many rows DEFAULT has."""
    row = connection.execute("SELECT count(*) FROM analytics_event_default").fetchone()
    assert row is not None
    return int(row[0])


def leftovers(connection: Connection) -> list[str]:
    """Whatever is not there for good."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relname ~ 'staging|moved|changed|rest' AND relkind IN ('r', 'p')"
        " UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal UNION ALL SELECT proname FROM pg_proc"
        " WHERE proname = 'analytics_note_change'"
        " UNION ALL SELECT conname FROM pg_constraint WHERE conname = 'analytics_moving'"
    )
    return [name for (name,) in rows]


def test_rows_go_to_their_months(full: Connection) -> None:
    """Every row goes to the partition of its month, as it was to the last column; nothing else is left behind."""
    fill(full, 9, 500)
    before = full.execute(ALL).fetchall()
    assert overflow.empty(full, NOW).startswith("moved rows to analytics_event_2024_01, analytics_event_2024_02")
    assert (full.execute(ALL).fetchall(), in_default(full), leftovers(full)) == (before, 0, [])
    assert partitions.attached(full)[:9] == [f"analytics_event_2024_0{month}" for month in range(1, 10)]
    assert profiles.verify(full) == []
    assert overflow.empty(full, NOW) == "nothing to move"


def test_partitions_are_as_if_made_ahead(full: Connection) -> None:
    """A month that was moved has the columns, indexes and bounds of one that was made ahead; so has the new DEFAULT."""
    fill(full, 1, 10)

    def shape(table: str) -> list[Any]:
        return [full.execute(query, [table]).fetchall() for query in SHAPE]

    old_default = shape("analytics_event_default")
    overflow.empty(full, NOW)
    assert shape("analytics_event_2024_01") == shape("analytics_event_2024_11")
    assert shape("analytics_event_default") == old_default


def test_odd_times_stay(full: Connection) -> None:
    """A few rows of broken clocks make no partitions, however odd they are; a thousand of one old month do."""
    for odd in ("0001-01-01", "1970-01-01", "9999-12-31", "infinity", "-infinity", "0044-03-15 BC"):
        full.execute("INSERT INTO analytics_event (session_id, event_type, created_at) VALUES ('', 'x', %s)", [odd])
    full.execute(
        "INSERT INTO analytics_event (session_id, event_type, created_at)"
        " SELECT '', 'x', '1999-12-31T23:59:59Z' FROM generate_series(1, 1000)"
    )
    assert overflow.empty(full, NOW) == "moved rows to analytics_event_1999_12"
    assert in_default(full) == 6


def test_a_month_that_was_missing_at_its_time(full: Connection) -> None:
    """If the current month has no partition, because nobody made it, it gets one with its rows."""
    full.execute("DROP TABLE analytics_event_2024_11")
    full.execute("INSERT INTO analytics_event (session_id, event_type, created_at) VALUES ('', 'x', %s)", [NOW])
    assert partitions.make_ahead(full, NOW) == []
    assert overflow.empty(full, NOW) == "moved rows to analytics_event_2024_11"


def test_more_months_than_go_at_once(full: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many months go a few at a time, those with most rows first, until none is left."""
    monkeypatch.setattr(overflow, "_MONTHS_AT_A_TIME", 2)
    fill(full, 7, 100)
    before = full.execute(ALL).fetchall()
    overflow.empty(full, NOW)
    assert (full.execute(ALL).fetchall(), in_default(full), leftovers(full)) == (before, 0, [])


def test_no_row_is_looked_at_under_the_lock(full: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres concludes from the checks that the rows fit, for every month and for DEFAULT with the rows that stay."""
    monkeypatch.setattr(overflow, "_MONTHS_AT_A_TIME", 2)
    fill(full, 4, 100)
    said: list[str] = []
    full.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    full.execute("SET client_min_messages = debug1")
    overflow.empty(full, NOW)
    concluded = [text for text in said if text.endswith("is implied by existing constraints")]
    assert len([text for text in concluded if "analytics_event_2024" in text]) == 4
    assert len([text for text in concluded if "analytics_event_default" in text]) == 2


def test_changes_in_the_middle(full: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that come, change, change their month, or go while others are copied, are what they are in the end."""
    fill(full, 3, 300)
    copy = overflow._copy

    def copy_and_change(connection: Connection) -> int:
        file = copy(connection)
        if not seen:
            for statement in CHANGES:
                connection.execute(statement)
            seen.extend(connection.execute(ALL).fetchall())
        return file

    seen: list[Any] = []
    monkeypatch.setattr(overflow, "_copy", copy_and_change)
    overflow.empty(full, NOW)
    assert full.execute(ALL).fetchall() == seen
    assert in_default(full) == 0


def test_changes_while_it_waits_for_the_lock(
    november_dsn: str, full: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that come while somebody keeps it from the last step are copied before each try, not under the lock."""
    fill(full, 3, 300)
    follow, followed = overflow._follow, []

    def follow_and_note(connection: Connection) -> int:
        followed.append(follow(connection))
        return followed[-1]

    monkeypatch.setattr(overflow, "_follow", follow_and_note)
    with psycopg.connect(november_dsn) as reader, psycopg.connect(november_dsn, autocommit=True) as writer:
        reader.execute("SELECT count(*) FROM analytics_event")
        with ThreadPoolExecutor(1) as threads:
            emptying = threads.submit(overflow.empty, full, NOW)
            wait_until(lambda: followed, what="the first try")
            writer.execute(CHANGES[5])
            wait_until(lambda: 500 in followed, what="the copies of new rows")
            reader.rollback()
            assert emptying.result(20).startswith("moved rows")
    assert followed[-1] == 0
    assert (in_default(full), leftovers(full)) == (0, [])


def test_a_truncated_table_stays_empty(full: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that somebody truncates in the middle do not come back: the move gives up."""
    fill(full, 3, 300)
    copy = overflow._copy

    def copy_and_truncate(connection: Connection) -> int:
        file = copy(connection)
        connection.execute("TRUNCATE analytics_event")
        return file

    monkeypatch.setattr(overflow, "_copy", copy_and_truncate)
    with pytest.raises(HousekeepingError, match="truncated"):
        overflow.empty(full, NOW)
    assert (full.execute(ALL).fetchall(), leftovers(full)) == ([], [])


@pytest.mark.parametrize("step", ["_copy", "_catch_up", "_swap"])
def test_ending_in_the_middle(full: Connection, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Wherever a move ends halfway, and if nobody clears up, no row has moved, and the next run goes through."""
    fill(full, 3, 300)
    before = full.execute(ALL).fetchall()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(overflow, step, die)
        patched.setattr(overflow, "clear", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            overflow.empty(full, NOW)
    assert leftovers(full) != []
    assert (full.execute(ALL).fetchall(), in_default(full)) == (before, 300)
    overflow.empty(full, NOW)
    assert (full.execute(ALL).fetchall(), in_default(full), leftovers(full)) == (before, 0, [])


def test_users_stay_tied(full: Connection) -> None:
    """With the app's user table, the months that were moved are tied to it, and so is the new DEFAULT."""
    full.execute("CREATE TABLE auth_user (id integer PRIMARY KEY)")
    full.execute("INSERT INTO auth_user SELECT generate_series(1, 7)")
    migrate.use_user_table(full, "auth_user")
    fill(full, 3, 300)
    before = full.execute(ALL).fetchall()
    overflow.empty(full, NOW)
    assert (full.execute(ALL).fetchall(), in_default(full), leftovers(full)) == (before, 0, [])
    for day in ("2024-01-31", "2019-01-01"):
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            full.execute(
                "INSERT INTO analytics_event (user_id, session_id, event_type, created_at) VALUES (8, '', 'x', %s)",
                [day],
            )
    row = full.execute("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text ~ 'event'")
    assert row.fetchone() == (1 + 4 + 3 + 1,)  # the table, four months made ahead, three that were moved, DEFAULT


def test_somebody_who_reads_for_long(november_dsn: str, full: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody's transaction reads on and on, the job gives up; nothing has moved and nothing is left behind."""
    monkeypatch.setattr(short_lock, "_TRIES", 2)
    fill(full, 3, 300)
    with psycopg.connect(november_dsn) as reader:
        reader.execute("SELECT count(*) FROM analytics_event")
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            overflow.empty(full, NOW)
        assert in_default(full) == 300
    overflow.empty(full, NOW)
    assert (in_default(full), leftovers(full)) == (0, [])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_writer_and_a_reader_beside_it(november_database: Callable[[], str], rows: int) -> None:
    """Meanwhile every event is stored once and seen once, profiles are exact, and no writer waits for 100 ms."""
    start = datetime(2024, 1, 15, tzinfo=UTC)

    def make(number: int) -> Fields:
        """Anonymous events and logins, in months that are being moved."""
        user_id = number % 5 + 1 if number % 3 == 0 else None
        created_at = start + timedelta(days=28 * (number % 9), seconds=number)
        return event(f"beside {number}", f"s{number // 4}", user_id, created_at=created_at.isoformat())

    blocked: list[float] = []

    def attempt() -> float:
        dsn = november_database()
        with psycopg.connect(dsn, autocommit=True) as connection:
            fill(connection, 9, rows)
            with bystanders(dsn, make) as writer:
                overflow.empty(connection, NOW)
            assert writer.stored > 10
            overflow.empty(connection, NOW)
            assert (in_default(connection), leftovers(connection), profiles.verify(connection)) == (0, [], [])
        blocked.append(writer.blocked)
        # A million rows keep disk and processors busy; it is the locks that must not stop anybody.
        return writer.blocked if rows == 1_000_000 else writer.longest

    longest = calmly(attempt)
    print(f"longest pause of a writer: {longest * 1000:.0f} ms, for a lock: {min(blocked) * 1000:.0f} ms")
    assert longest < LONGEST_PAUSE
