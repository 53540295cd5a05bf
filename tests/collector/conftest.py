"""The collector's application in this process, and databases of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pytest
from flask.testing import FlaskClient

from analytics_collector import embedded, keys, migrate
from analytics_collector.app import create_app
from analytics_collector.config import Settings
from tests.conftest import READ_KEY, WRITE_KEY

NOVEMBER = datetime(2024, 11, 15, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def door(migrated_dsn: str) -> Iterator[FlaskClient]:
    """The application over the session's database as it is: for requests of which only the answer matters."""
    app = create_app(Settings(database_url=migrated_dsn))
    with closing(app.extensions["analytics_collector"].database):
        yield app.test_client()


@pytest.fixture
def no_deadlocks(server: embedded.Server) -> Iterator[None]:
    """Postgres never had to break a deadlock, not even one that the collector's retry would have hidden."""
    log = server.data_dir / "postgres.log"
    before = log.read_text(errors="replace").count("deadlock detected")
    yield
    assert before == log.read_text(errors="replace").count("deadlock detected")


@pytest.fixture
def own_dsn(new_database: Callable[[], str]) -> str:
    """A migrated database of the test's own, with a write and a read key."""
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate.apply(connection)
        keys.register(connection, "web", "write", WRITE_KEY)
        keys.register(connection, "ops", "read", READ_KEY)
    return dsn


@pytest.fixture
def registry(new_database: Callable[[], str]) -> Iterator[psycopg.Connection]:
    """A connection to a migrated database of the test's own, without a key."""
    with psycopg.connect(new_database(), autocommit=True) as connection:
        migrate.apply(connection)
        yield connection


@pytest.fixture
def november_database(new_database: Callable[[], str]) -> Callable[[], str]:
    """Makes databases that were migrated in November 2024, so that they know that month and the next three."""

    def make() -> str:
        dsn = new_database()
        with psycopg.connect(dsn, autocommit=True) as connection:
            migrate.apply(connection, NOVEMBER)
        return dsn

    return make


@pytest.fixture
def november_dsn(november_database: Callable[[], str]) -> str:
    """One of them."""
    return november_database()
