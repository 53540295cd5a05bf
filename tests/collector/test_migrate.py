"""`migrate`: once, again, by four processes at once, and when it must refuse."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from analytics_collector import migrate, partitions
from analytics_collector.db import Connection
from analytics_collector.exceptions import MigrationError
from tests.programs import running


@pytest.fixture
def fresh_dsn(new_database: Callable[[], str]) -> str:
    """A database with nothing in it."""
    return new_database()


@pytest.fixture
def fresh(fresh_dsn: str) -> Iterator[Connection]:
    """A connection to a database with nothing in it."""
    with psycopg.connect(fresh_dsn, autocommit=True) as connection:
        yield connection


def names(applied: list[migrate.Migration]) -> list[str]:
    """The names of migrations."""
    return [migration.name for migration in applied]


def relations(connection: Connection) -> dict[str, int]:
    """All tables, views, indexes and sequences, with their identity: what is made anew has another one."""
    return dict(connection.execute("SELECT relname, oid FROM pg_class WHERE relnamespace = 'public'::regnamespace"))


def test_the_first_run_makes_everything(fresh: Connection) -> None:
    """On a new database every migration is applied and recorded, in order."""
    known = names(migrate.known())
    assert names(migrate.pending(fresh)) == known
    assert names(migrate.apply(fresh)) == known
    assert migrate.pending(fresh) == []
    recorded = fresh.execute("SELECT name FROM analytics_migration ORDER BY applied_at, name").fetchall()
    assert [name for (name,) in recorded] == known


def test_the_second_run_does_nothing(fresh: Connection) -> None:
    """Run again, it applies nothing and every table is the very same."""
    migrate.apply(fresh)
    before = relations(fresh)
    assert migrate.apply(fresh) == []
    assert relations(fresh) == before


def test_four_processes_at_once(fresh_dsn: str, fresh: Connection) -> None:
    """Of four processes that migrate a new database at once all succeed, and each migration is recorded once."""
    command = [sys.executable, "-m", "analytics_collector", "migrate"]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(running(command, {"ANALYTICS_DATABASE_URL": fresh_dsn}, stdout=subprocess.PIPE))
            for _ in range(4)
        ]
        said = "".join(process.communicate(timeout=60)[0] for process in processes)
    assert [process.returncode for process in processes] == [0] * 4
    for name in names(migrate.known()):
        assert said.count(f"Applied {name}\n") == 1
        assert fresh.execute("SELECT count(*) FROM analytics_migration WHERE name = %s", [name]).fetchone() == (1,)


def test_an_applied_file_that_changed_is_refused(fresh: Connection) -> None:
    """A migration that is not what was applied is named, and nothing is done."""
    migrate.apply(fresh)
    fresh.execute("UPDATE analytics_migration SET checksum = 'another' WHERE name = '0001_tables'")
    for refuse in (migrate.apply, migrate.pending):
        with pytest.raises(MigrationError, match="0001_tables has changed since it was applied"):
            refuse(fresh)


def test_a_database_that_is_newer_is_refused(fresh: Connection) -> None:
    """A version does not touch a database of a newer major, nor one with a migration that it should have."""
    migrate.apply(fresh)
    for name in ("1000_of_tomorrow", "0001_of_a_branch"):
        fresh.execute("INSERT INTO analytics_migration VALUES (%s, 'unknown')", [name])
        for refuse in (migrate.apply, migrate.pending):
            with pytest.raises(MigrationError, match=f"{name}, which this version lacks"):
                refuse(fresh)
        fresh.execute("DELETE FROM analytics_migration WHERE name = %s", [name])


def test_a_database_that_is_newer_within_its_major_is_fine(fresh: Connection) -> None:
    """An older version has nothing to do where a newer one has migrated, and knows that it is the older one."""
    migrate.apply(fresh)
    assert migrate.newer(fresh) == []
    fresh.execute("INSERT INTO analytics_migration VALUES ('0999_of_tomorrow', 'unknown')")
    assert (migrate.apply(fresh), migrate.pending(fresh), migrate.newer(fresh)) == ([], [], ["0999_of_tomorrow"])


@pytest.mark.parametrize("name", ["analytics_event", "analytics_session", "analytics_key"])
def test_somebody_elses_table_is_left_alone(fresh: Connection, name: str) -> None:
    """Where a table of such a name is, the error names it and nothing at all has been made, not even halfway."""
    fresh.execute(f"CREATE TABLE {name} (mine text)")
    before = relations(fresh)
    with pytest.raises(MigrationError, match=f'relation "{name}" already exists, but no migration of ours made it'):
        migrate.apply(fresh)
    assert relations(fresh) == before


def test_without_the_tables_everything_is_pending(fresh: Connection) -> None:
    """Asking what is pending changes nothing in a new database."""
    before = relations(fresh)
    assert names(migrate.pending(fresh)) == names(migrate.known())
    assert relations(fresh) == before


COLUMNS = {
    "analytics_event": [
        "id bigint NOT NULL identity",
        "user_id bigint",
        "created_at timestamp with time zone NOT NULL now()",
        "received_at timestamp with time zone",
        "event_id uuid NOT NULL gen_random_uuid()",
        "session_id character varying(64) NOT NULL",
        "event_type character varying(50) NOT NULL",
        "ip_address inet",
        "event_data jsonb NOT NULL '{}'::jsonb",
    ],
    "analytics_session": [
        "id bigint NOT NULL identity",
        "user_id bigint",
        "started_at timestamp with time zone NOT NULL now()",
        "ended_at timestamp with time zone",
        "last_event_at timestamp with time zone",
        "session_id character varying(64) NOT NULL",
        "user_agent text NOT NULL ''::text",
        "referrer text NOT NULL ''::text",
    ],
    "analytics_useranalyticsprofile": [
        "id bigint NOT NULL identity",
        "user_id bigint NOT NULL",
        "total_sessions bigint NOT NULL 0",
        "total_events bigint NOT NULL 0",
        "first_seen timestamp with time zone",
        "last_seen timestamp with time zone",
    ],
}
KEYS = {
    "analytics_event": ["event_id, created_at"],
    "analytics_session": ["session_id"],
    "analytics_useranalyticsprofile": ["user_id"],
    "analytics_user": ["id", "external_id"],
    "analytics_reject": ["reject_id"],
    "analytics_key": ["name", "sha256"],
    "analytics_job": ["name"],
}
INDEXES = {
    "analytics_event": ["session_id", "user_id, created_at"],
    "analytics_session": ["id", "started_at, session_id", "user_id, started_at"],
    "analytics_useranalyticsprofile": ["id"],
    "analytics_user": [],
    "analytics_reject": ["received_at"],
    "analytics_key": [],
    "analytics_job": [],
}


@pytest.mark.parametrize("table", COLUMNS)
def test_columns(connection: Connection, table: str) -> None:
    """Names, types and defaults of the tables that Django's models know are exactly these."""
    rows = connection.execute(
        "SELECT concat_ws(' ', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END,"
        "                 CASE WHEN attidentity = 'd' THEN 'identity' END, pg_get_expr(adbin, adrelid))"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        [table],
    )
    assert [column for (column,) in rows] == COLUMNS[table]


@pytest.mark.parametrize("table", KEYS)
def test_keys_and_indexes(connection: Connection, table: str) -> None:
    """Unique are these columns and no others, primary key first; the plain indexes are these."""
    assert (indexes_of(connection, table, unique=True), indexes_of(connection, table, unique=False)) == (
        KEYS[table],
        INDEXES[table],
    )


def indexes_of(connection: Connection, table: str, *, unique: bool) -> list[str]:
    """The columns of each index of a table."""
    rows = connection.execute(
        "SELECT substring(pg_get_indexdef(indexrelid) FROM '[(]([^)]*)[)]') AS columns FROM pg_index"
        " WHERE indrelid = %s::regclass AND indisunique = %s ORDER BY indisprimary DESC, columns",
        [table, unique],
    )
    return [columns for (columns,) in rows]


FOREIGN_KEYS = (
    "SELECT conrelid::regclass::text, confrelid::regclass::text, condeferrable, condeferred FROM pg_constraint"
    " WHERE contype = 'f' AND conparentid = 0 ORDER BY 1"
)


@pytest.fixture
def migrated(fresh: Connection) -> Connection:
    """A connection to a database of its own, with our tables."""
    migrate.apply(fresh)
    return fresh


def make_users(connection: Connection, *ids: int) -> None:
    """Make the app's own user table, with these users."""
    connection.execute("CREATE TABLE auth_user (id integer PRIMARY KEY)")
    connection.execute("INSERT INTO auth_user SELECT unnest(%s::integer[])", [list(ids)])


def test_the_apps_user_table(migrated: Connection) -> None:
    """`--user-table` ties all three tables to it and gives events the index that saving by `id` needs."""
    make_users(migrated, 1)
    migrate.use_user_table(migrated, "auth_user")
    tied = ["analytics_event", "analytics_session", "analytics_useranalyticsprofile"]
    assert migrated.execute(FOREIGN_KEYS).fetchall() == [(table, "auth_user", True, False) for table in tied]
    assert "id" in indexes_of(migrated, "analytics_event", unique=False)
    for table, columns in [("session", "session_id"), ("useranalyticsprofile", "total_events")]:
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            migrated.execute(f"INSERT INTO analytics_{table} (user_id, {columns}) VALUES (2, 2)")


def test_partitions_made_later_are_tied_too(migrated: Connection) -> None:
    """The months to come have the foreign key and the index as well."""
    make_users(migrated, 1)
    migrate.use_user_table(migrated, "auth_user")
    assert partitions.make_ahead(migrated, datetime(2001, 1, 1, tzinfo=UTC), months=0) == ["analytics_event_2001_01"]
    assert "id" in indexes_of(migrated, "analytics_event_2001_01", unique=False)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        migrated.execute(
            "INSERT INTO analytics_event (user_id, session_id, event_type, created_at) VALUES (2, '', '', '2001-01-31')"
        )


def test_the_apps_user_table_again(migrated: Connection) -> None:
    """Naming the user table again does nothing."""
    make_users(migrated, 1)
    migrate.use_user_table(migrated, "auth_user")
    before = relations(migrated)
    migrate.use_user_table(migrated, "public.auth_user")
    assert relations(migrated) == before


def test_users_belong_to_one_table(migrated: Connection) -> None:
    """Once users are tied to a table, tying them to another one is refused."""
    migrated.execute("CREATE TABLE auth_user (id serial PRIMARY KEY)")
    migrated.execute("CREATE TABLE members (id serial PRIMARY KEY)")
    migrate.use_user_table(migrated, "auth_user")
    with pytest.raises(MigrationError, match="those of auth_user already"):
        migrate.use_user_table(migrated, "members")


def test_a_user_table_that_is_not_there(migrated: Connection) -> None:
    """A wrong name is named in the error, and nothing has been made."""
    before = relations(migrated)
    with pytest.raises(MigrationError, match="There is no table nonsense; migrate the app that owns it first"):
        migrate.use_user_table(migrated, "nonsense")
    assert relations(migrated) == before


def test_rows_of_users_that_the_table_lacks(migrated: Connection) -> None:
    """If our rows name users that the table does not have, the error says which, and nothing has been made."""
    make_users(migrated, 1)
    migrated.execute("INSERT INTO analytics_session (session_id, user_id) VALUES ('s', 42)")
    before = relations(migrated)
    with pytest.raises(MigrationError, match=r"users that auth_user does not have: .*\(42\)"):
        migrate.use_user_table(migrated, "auth_user")
    assert relations(migrated) == before
