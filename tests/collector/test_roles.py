"""Least privilege: the collector runs with what `migrate --grant-to` gives, and can do nothing else."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files

import psycopg
import pytest
from click.testing import CliRunner, Result

from analytics_collector import keys, migrate, roles
from analytics_collector.cli import main
from analytics_collector.exceptions import MigrationError
from analytics_collector.partitions import MONTHS_AHEAD, month_after
from analytics_collector.sql import load
from tests import programs
from tests.collector.batches import body, event
from tests.conftest import READ_KEY, WRITE_KEY
from tests.programs import Collector

ROLE = "collector_of_the_tests"


@pytest.fixture
def owner(new_database: Callable[[], str]) -> Iterator[psycopg.Connection]:
    """The role that migrates, in a database of the test's own; and another role that may log in."""
    with psycopg.connect(new_database(), autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {ROLE}")
        connection.execute(f"CREATE ROLE {ROLE} LOGIN")
        connection.execute(f"REVOKE ALL ON DATABASE {connection.info.dbname} FROM PUBLIC")  # as the page says
        connection.execute(f"GRANT CONNECT ON DATABASE {connection.info.dbname} TO {ROLE}")
        for kind in ("FUNCTIONS", "TYPES"):  # as careful operators do
            connection.execute(f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON {kind} FROM PUBLIC")
        migrate.apply(connection)
        yield connection
        connection.execute(f"DROP OWNED BY {ROLE}")
        connection.execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def dsn_of_role(owner: psycopg.Connection) -> str:
    """The database as the role without privileges reaches it."""
    return psycopg.conninfo.make_conninfo(owner.info.dsn, user=ROLE)


def invoke(*arguments: str, dsn: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments, env={"ANALYTICS_DATABASE_URL": dsn})


def privileges(owner: psycopg.Connection) -> dict[str, str]:
    """All that the role was given, on every relation there is."""
    rows = owner.execute(
        "SELECT c.relname, string_agg(a.privilege_type, ' ' ORDER BY a.privilege_type)"
        " FROM pg_class AS c, LATERAL aclexplode(c.relacl) AS a JOIN pg_roles AS r ON r.oid = a.grantee"
        " WHERE r.rolname = %s GROUP BY c.relname",
        [ROLE],
    )
    return dict(rows.fetchall())


def test_the_grants_are_exactly_these(owner: psycopg.Connection) -> None:
    """The role reads, adds and changes rows, deletes none and changes no table; a second time changes nothing."""
    for _ in range(2):
        said = invoke("migrate", "--grant-to", ROLE, dsn=owner.info.dsn)
        assert (said.exit_code, f"{ROLE} may run the collector" in said.output) == (0, True)
        assert privileges(owner) == {
            "analytics_event": "INSERT SELECT UPDATE",
            "analytics_session": "INSERT SELECT UPDATE",
            "analytics_useranalyticsprofile": "INSERT SELECT UPDATE",
            "analytics_user": "INSERT SELECT UPDATE",
            "analytics_quota": "INSERT SELECT UPDATE",
            "analytics_reject": "INSERT SELECT",
            "analytics_key": "SELECT",
            "analytics_migration": "SELECT",
            "analytics_job": "SELECT",
        }


def test_no_table_is_forgotten() -> None:
    """Every table that a migration makes is in the grants: whoever adds one decides what the collector may do."""
    folder = files("analytics_collector") / "sql" / "migrations"
    made = {
        name
        for entry in folder.iterdir()
        for name in re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) \(", entry.read_text("utf-8"))
    }
    assert made != set()
    assert [name for name in made if name not in load("roles.grant")] == []


@pytest.fixture
def collector(owner: psycopg.Connection, dsn_of_role: str) -> Iterator[Collector]:
    """A real collector that logs in as that role."""
    keys.register(owner, "web", "write", WRITE_KEY)
    keys.register(owner, "dashboard", "read", READ_KEY)
    keys.limit(owner, "web", daily=10_000, rate=10_000)
    roles.grant(owner, ROLE)
    # A month is missing that this role may not make: that costs a line in the log and no request.
    owner.execute(f"DROP TABLE analytics_event_{month_after(datetime.now(UTC), MONTHS_AHEAD):%Y_%m}")
    with programs.run_collector(dsn_of_role) as running:
        yield running


def test_everything_works_with_these_grants(collector: Collector, owner: psycopg.Connection) -> None:
    """Sessions, users, events, claims, duplicates, rejects, quotas and all reads work, and readiness says so."""
    first = body(
        sessions=[{"session_id": "s"}],
        users=[{"user_id": "ann", "traits": {"plan": "pro"}, "updated_at": "2026-01-31T12:00:00Z"}],
        events=[event(1, "s"), event(2, user_id="ann"), {"bad": 1}],
    )
    answer = http(collector, "/v1/events", first)
    assert (answer["accepted"], [reject["code"] for reject in answer["rejected"]]) == (4, ["invalid_field"])
    answer = http(collector, "/v1/events", body(sessions=[{"session_id": "s", "user_id": 7}], events=[event(1, "s")]))
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert http(collector, "/v1/profiles/7")["total_events"] == 1
    assert http(collector, "/v1/profiles/ann")["traits"] == {"plan": "pro"}
    for path in ("/v1/events?session_id=s", "/v1/sessions?user_id=7", "/v1/sessions/s", "/readyz"):
        assert http(collector, path)
    assert owner.execute("SELECT sum(events) >= 5 FROM analytics_quota").fetchall() == [(True,)]
    assert owner.execute("SELECT count(*) FROM analytics_reject").fetchall() == [(1,)]


def http(collector: Collector, path: str, content: bytes | None = None) -> dict[str, object]:
    """Write or read, and have the answer."""
    key = READ_KEY if content is None else WRITE_KEY
    request = urllib.request.Request(f"{collector.url}{path}", content, {"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=20) as response:
        answer: dict[str, object] = json.load(response)
        return answer


FORBIDDEN = [
    "DELETE FROM analytics_event",
    "DELETE FROM analytics_reject",
    "TRUNCATE analytics_session",
    "UPDATE analytics_key SET revoked_at = NULL",
    "INSERT INTO analytics_key (name, kind, sha256) VALUES ('mine', 'admin', '')",
    "UPDATE analytics_reject SET code = ''",
    "INSERT INTO analytics_migration VALUES ('9999', '')",
    "ALTER TABLE analytics_event ADD COLUMN mine text",
    "DROP TABLE analytics_event",
    "CREATE TABLE mine ()",
    "CREATE TEMP TABLE mine ()",
]


def test_nothing_else_does(owner: psycopg.Connection, dsn_of_role: str) -> None:
    """Whoever breaks into the collector deletes nothing, makes no key and changes no table."""
    roles.grant(owner, ROLE)
    with psycopg.connect(dsn_of_role, autocommit=True) as connection:
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


@pytest.mark.parametrize("is_granted", [True, False])
def test_migrating_as_that_role_says_what_to_do(owner: psycopg.Connection, dsn_of_role: str, is_granted: bool) -> None:
    """`migrate` as the collector's role is one sentence with role, reason and remedy, and changes nothing."""
    if is_granted:
        roles.grant(owner, ROLE)
    said = invoke("migrate", dsn=dsn_of_role)
    assert (said.exit_code, len(said.output.splitlines())) == (1, 1)
    assert said.output.startswith(f"Error: The role {ROLE} may not change the tables (permission denied")
    assert "Migrate with the role that owns them" in said.output


def test_a_role_that_cannot_be_granted_to(owner: psycopg.Connection) -> None:
    """A role that is not there is told with the statement that mends it."""
    with pytest.raises(MigrationError, match="There is no role nobody_knows; make it first: CREATE ROLE"):
        roles.grant(owner, "nobody_knows")


def test_the_apps_users_are_looked_up_and_not_read(owner: psycopg.Connection, dsn_of_role: str) -> None:
    """With `--user-table` the role sees which users there are, and nothing else of them."""
    owner.execute("CREATE TABLE auth_user (id integer PRIMARY KEY, password text)")
    migrate.use_user_table(owner, "auth_user")
    roles.grant(owner, ROLE)
    with psycopg.connect(dsn_of_role, autocommit=True) as connection:
        assert connection.execute("SELECT id FROM analytics_known_user").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT password FROM auth_user")
