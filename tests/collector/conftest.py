"""The collector's application in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from flask.testing import FlaskClient

from analytics_collector import embedded
from analytics_collector.app import create_app
from analytics_collector.config import Settings


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
