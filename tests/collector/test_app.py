"""The application: is it alive and ready, and what it says when something is wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from wsgiref.validate import validator

import psycopg
import pytest
from flask.testing import FlaskClient
from werkzeug.test import Client

from analytics_collector import keys, migrate
from analytics_collector.app import create_app
from analytics_collector.config import Settings
from analytics_collector.exceptions import ConfigError
from tests.conftest import READ_KEY, WRITE_KEY
from tests.programs import free_port, wait_until

READ = {"Authorization": f"Bearer {READ_KEY}"}


@pytest.fixture
def away() -> Iterator[FlaskClient]:
    """A collector whose Postgres nobody has started."""
    nowhere = f"postgresql://ada:secret@127.0.0.1:{free_port()}/analytics"
    app = create_app(Settings(database_url=nowhere, database_patience_seconds=1))
    with closing(app.extensions["analytics_collector"].database):
        yield app.test_client()


@pytest.fixture
def empty_dsn(new_database: Callable[[], str]) -> str:
    """An empty database of the test's own."""
    return new_database()


@pytest.fixture
def own(empty_dsn: str) -> Iterator[FlaskClient]:
    """A collector over that database."""
    app = create_app(Settings(database_url=empty_dsn, database_patience_seconds=1))
    with closing(app.extensions["analytics_collector"].database):
        yield app.test_client()


@pytest.fixture
def own_connection(empty_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to that database."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        yield connection


def test_a_collector_is_alive_and_ready(client: FlaskClient) -> None:
    """With its database migrated, the collector is alive and ready, and asks for no key to say so."""
    for path in ("/healthz", "/readyz"):
        response = client.get(path)
        assert (response.status_code, response.mimetype, response.json) == (200, "application/json", {"status": "ok"})


def test_an_unmigrated_collector_is_alive_and_not_ready(own: FlaskClient) -> None:
    """Without our tables the process is alive but not ready; the answer names what is pending and the remedy."""
    assert own.get("/healthz").status_code == 200
    response = own.get("/readyz")
    assert (response.status_code, response.json["code"]) == (503, "unmigrated")
    assert response.headers["Retry-After"] == "1"
    assert "0001_tables" in response.json["message"]
    assert "analytics-collector migrate" in response.json["detail"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/events"), ("GET", "/v1/events"), ("GET", "/v1/profiles/1")])
def test_an_unmigrated_collector_asks_for_patience(own: FlaskClient, method: str, path: str) -> None:
    """Whoever comes before the migration is told to come again, so nothing is lost."""
    response = own.open(path, method=method, headers=READ)
    assert (response.status_code, response.json["code"]) == (503, "unmigrated")
    assert "Retry-After" in response.headers


def test_a_collector_is_ready_once_it_is_migrated(own: FlaskClient, own_connection: psycopg.Connection) -> None:
    """A collector that runs before the migration becomes ready by it, without a restart."""
    assert own.get("/readyz").status_code == 503
    migrate.apply(own_connection)
    wait_until(lambda: own.get("/readyz").status_code == 200, within=3, what="being ready")


def test_a_pending_migration_is_named(own: FlaskClient, own_connection: psycopg.Connection) -> None:
    """A database that lacks one migration is not ready, and so is one of a newer major."""
    migrate.apply(own_connection)
    own_connection.execute("INSERT INTO analytics_migration (name, checksum) VALUES ('9999_future', '')")
    newer = own.get("/readyz")
    assert (newer.status_code, newer.json["code"]) == (503, "unmigrated")
    assert "9999_future" in newer.json["detail"]
    own_connection.execute("DELETE FROM analytics_migration")
    wait_until(lambda: "0001_tables" in own.get("/readyz").json["message"], within=3, what="naming what is pending")
    older = own.get("/readyz")
    assert (older.status_code, older.json["code"]) == (503, "unmigrated")


def test_a_collector_without_its_database_is_alive(away: FlaskClient) -> None:
    """The process does not depend on Postgres to be alive, so nobody restarts it for nothing."""
    assert away.get("/healthz").json == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/readyz"), ("POST", "/v1/events"), ("GET", "/v1/events"), ("GET", "/v1/profiles/1")]
)
def test_a_collector_without_its_database_asks_for_patience(away: FlaskClient, method: str, path: str) -> None:
    """While Postgres is away the answer is 503 with Retry-After, and shows no password."""
    response = away.open(path, method=method, headers={"Authorization": f"Bearer {WRITE_KEY}"})
    assert (response.status_code, response.json["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"] == "1"
    assert response.json.keys() == {"code", "message", "detail"}
    assert "secret" not in response.text


def test_nobody_waits_longer_for_postgres_than_set(away: FlaskClient) -> None:
    """While Postgres is away, each of four requests at once has its answer after the patience of one."""
    asked_at = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: away.application.test_client().get("/v1/events", headers=READ), range(4)))
    assert [answer.status_code for answer in answers] == [503] * 4
    assert time.monotonic() - asked_at < 3


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/event", "/v1/events/", "//v1/events", "/v2/events", "/static/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_answered_404(away: FlaskClient, method: str, path: str) -> None:
    """What is not there is answered in JSON, and never by a redirect."""
    response = away.open(path, method=method)
    assert (response.status_code, response.mimetype, response.json["code"]) == (404, "application/json", "not_found")
    assert response.json.keys() == {"code", "message", "detail"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/events", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("PUT", "/v1/events", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", "/v1/profiles/1", {"GET", "HEAD", "OPTIONS"}),
        ("PATCH", "/v1/sessions", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_answered_405(away: FlaskClient, method: str, path: str, allowed: set[str]) -> None:
    """What cannot be done is answered in JSON, with what can."""
    response = away.open(path, method=method)
    assert (response.status_code, response.mimetype) == (405, "application/json")
    assert response.json["code"] == "method_not_allowed"
    assert set(response.headers["Allow"].split(", ")) == allowed


def test_a_bug_is_answered_500_and_shows_nothing(
    own: FlaskClient, own_connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody thought of, here a column of another type, is in the log; the answer has nothing of it."""
    migrate.apply(own_connection)
    keys.register(own_connection, "tests", "read", READ_KEY)
    own_connection.execute("ALTER TABLE analytics_useranalyticsprofile ALTER user_id TYPE text")
    with caplog.at_level(logging.ERROR):
        response = own.get("/v1/profiles/1", headers=READ)
    assert (response.status_code, response.mimetype) == (500, "application/json")
    assert response.json == {
        "code": "internal",
        "message": "Something went wrong in the collector",
        "detail": "the collector's log has it",
    }
    assert "operator does not exist" in caplog.text
    assert READ_KEY not in caplog.text


def test_a_collector_needs_a_database() -> None:
    """An application without a database is never made, and the error says what to set."""
    with pytest.raises(ConfigError, match="Set ANALYTICS_DATABASE_URL"):
        create_app(Settings())


@pytest.mark.parametrize("origin", [None, "https://shop.example"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/events", 200),
        ("POST", "//v1/events", 200),
        ("POST", "/v1/events?bad", 400),
        ("POST", "//v1/events?bad", 400),
        ("POST", "/v1/events/", 404),
        ("PUT", "/v1/events", 405),
        ("OPTIONS", "/v1/events", 200),
        ("HEAD", "/healthz", 200),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_stands_before_flask_keeps_to_wsgi(
    client: FlaskClient, method: str, path: str, status: int, origin: str | None
) -> None:
    """Whatever is asked, and by a page or not, the whole application is one that any WSGI server can run (PEP 3333)."""
    headers = {"Authorization": f"Bearer {WRITE_KEY}", **({"Origin": origin} if origin else {})}
    body = b"{" if path.endswith("bad") else b"{}"
    response = Client(validator(client.application)).open(
        method=method,
        data=body,
        headers=headers,
        environ_overrides={"PATH_INFO": path.partition("?")[0], "REQUEST_METHOD": method},
        buffered=True,
    )
    assert (response.status_code, len(response.headers["X-Request-ID"])) == (status, 16)
