"""Tables that an app had before us become ours, with every row."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from analytics_collector import migrate, profiles
from analytics_collector.adopt import adopt
from analytics_collector.exceptions import MigrationError

BEFORE = """
CREATE TABLE auth_user (id serial PRIMARY KEY);
INSERT INTO auth_user SELECT generate_series(1, 10);
CREATE TABLE analytics_event (
    id bigserial PRIMARY KEY, user_id integer REFERENCES auth_user (id), session_id varchar(64) NOT NULL,
    event_type varchar(50) NOT NULL, event_data jsonb, created_at timestamptz DEFAULT now(), ip_address inet);
CREATE TABLE analytics_session (
    id bigserial PRIMARY KEY, session_id varchar(64) UNIQUE NOT NULL, user_id integer REFERENCES auth_user (id),
    started_at timestamptz DEFAULT now(), ended_at timestamptz, user_agent text, referrer text);
INSERT INTO analytics_session (session_id, user_id) SELECT 's' || n, n % 10 + 1 FROM generate_series(1, 50) AS n;
INSERT INTO analytics_event (user_id, session_id, event_type, event_data, created_at)
SELECT NULLIF(n % 11, 0), 's' || n % 50 + 1, 'click', CASE WHEN n % 2 = 0 THEN '{"n": 1.50}'::jsonb END,
    '2026-01-31T23:59:59Z'::timestamptz + n * interval '1 day'
FROM generate_series(1, 400) AS n;
"""
COLUMNS = "id, user_id, session_id, event_type, coalesce(event_data, '{}'), created_at, ip_address"


@pytest.fixture
def before(new_database: Callable[[], str]) -> Iterator[psycopg.Connection]:
    """A database with the plain tables of an app, and rows in them."""
    with psycopg.connect(new_database(), autocommit=True) as connection:
        connection.execute(BEFORE)
        yield connection


def test_every_row_is_brought_along(before: psycopg.Connection) -> None:
    """All events and sessions keep ids, times and values, and the profiles are what the rows say."""
    events = before.execute(f"SELECT {COLUMNS} FROM analytics_event ORDER BY id").fetchall()
    sessions = before.execute("SELECT id, session_id, user_id FROM analytics_session ORDER BY id").fetchall()
    adopt(before, lambda _: None)
    migrate.use_user_table(before, "auth_user")
    assert before.execute(f"SELECT {COLUMNS} FROM analytics_event ORDER BY id").fetchall() == events
    assert before.execute("SELECT id, session_id, user_id FROM analytics_session ORDER BY id").fetchall() == sessions
    assert profiles.verify(before) == []
    assert before.execute("SELECT sum(total_events) FROM analytics_useranalyticsprofile").fetchone() == (364,)


def test_rows_are_in_their_months_and_ids_go_on(before: psycopg.Connection) -> None:
    """No row is left to the DEFAULT partition, and the next row's id comes after the last one's."""
    adopt(before, lambda _: None)
    assert before.execute("SELECT count(*) FROM analytics_event_default").fetchone() == (0,)
    insert = "INSERT INTO analytics_event (session_id, event_type) VALUES ('s', 't') RETURNING id"
    assert before.execute(insert).fetchone() == (401,)


def test_the_old_tables_stay_aside(before: psycopg.Connection) -> None:
    """What was taken over can be looked at, until its owner drops the schema."""
    adopt(before, lambda _: None)
    assert before.execute("SELECT count(*) FROM analytics_before.analytics_event").fetchone() == (400,)


def test_a_database_without_such_tables_is_refused(new_database: Callable[[], str]) -> None:
    """There is a clear error when there is nothing to take over, also when all was taken over already."""
    with psycopg.connect(new_database(), autocommit=True) as connection:
        with pytest.raises(MigrationError, match="nothing to take over"):
            adopt(connection, lambda _: None)
        migrate.apply(connection)
        with pytest.raises(MigrationError, match="nothing to take over"):
            adopt(connection, lambda _: None)


def test_a_failure_changes_nothing(before: psycopg.Connection) -> None:
    """If it cannot be done, the app's tables are where they were."""
    before.execute("ALTER TABLE analytics_session DROP COLUMN user_agent")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        adopt(before, lambda _: None)
    assert before.execute("SELECT count(*) FROM analytics_event").fetchone() == (400,)
    assert before.execute("SELECT to_regclass('analytics_migration')").fetchone() == (None,)
