"""Browser keys: what they may not say, which pages may use them, and where their visitors are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from analytics_collector import address, browser, keys, metrics
from analytics_collector.app import create_app
from analytics_collector.batch import Batch, read
from analytics_collector.cli import main
from analytics_collector.config import Settings
from analytics_collector.exceptions import ConfigError, KeyRegistryError
from tests.collector.batches import event
from tests.collector.operating import samples
from tests.conftest import WRITE_KEY

NOW = datetime.now(UTC)
PAGE = "https://shop.example"


def ago(**delta: float) -> str:
    """A time before now, as the wire has it."""
    return (NOW - timedelta(**delta)).isoformat()


# What it may not say


def batch(kind: Any, *records: dict[str, Any]) -> Batch:
    """Judged records of a kind."""
    return read({kind: [json.dumps(record).encode() for record in records]}, NOW)


@pytest.mark.parametrize(
    ("kind", "record", "said"),
    [
        ("event", event(1, user_id=5, created_at=ago(minutes=59)), None),
        ("event", event(1, created_at=ago(minutes=-9)), None),
        ("event", event(1, created_at=ago(minutes=61)), "is more than an hour old"),
        ("session", {"session_id": "s", "user_id": 5, "user_agent": "Browser"}, None),
        ("session", {"session_id": "s", "started_at": ago(minutes=5), "ended_at": ago(minutes=1)}, None),
        ("session", {"session_id": "s", "started_at": ago(days=900)}, "started_at "),
        ("session", {"session_id": "s", "ended_at": ago(hours=2)}, "ended_at "),
        ("user", {"user_id": 5, "traits": {"plan": "pro"}, "updated_at": ago(minutes=1)}, "may not set traits"),
    ],
)
def test_what_a_browser_may_say(kind: Any, record: dict[str, Any], said: str | None) -> None:
    """It may tell what happens now and by whom; the past and traits are refused alone, with the reason."""
    restricted = browser.restrict(batch(kind, record, record), "192.0.2.1", NOW)
    if said is None:
        assert (len(restricted.items), restricted.rejects) == (2, ())
    else:
        assert restricted.items == ()
        assert [(reject.index, reject.code) for reject in restricted.rejects] == [
            (0, "not_allowed"),
            (1, "not_allowed"),
        ]
        assert said in restricted.rejects[0].message


@pytest.mark.parametrize("said", ["10.0.0.1", None])
@pytest.mark.parametrize("found", ["192.0.2.1", None])
def test_the_address_is_the_connections(said: str | None, found: str | None) -> None:
    """Whatever address a record says, the event gets the one that the request came from, and none if it has none."""
    restricted = browser.restrict(batch("event", event(1, created_at=ago(), ip_address=said)), found, NOW)
    assert [item.record.ip_address for item in restricted.items] == [found]


# Where it is

TRUSTED = address.networks("10.0.0.0/8, ::1")


@pytest.mark.parametrize(
    ("remote", "forwarded_for", "visitor"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("::1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"),
        ("10.0.0.1", ",,", "10.0.0.1"),
        ("fe80::1%eth0", "", "fe80::1"),
        ("", "198.51.100.7", None),
        (None, "198.51.100.7", None),
    ],
)
def test_a_visitor_is_found_behind_trusted_proxies(remote: str | None, forwarded_for: str, visitor: str | None) -> None:
    """X-Forwarded-For is believed from its end, as far as trusted proxies reach, and no further."""
    assert address.of_visitor(remote, forwarded_for, TRUSTED) == visitor


@given(st.text())
def test_without_trusted_proxies_no_header_is_believed(forwarded_for: str) -> None:
    """Whatever the header says, the visitor is the other end; and behind a proxy, always an address."""
    assert address.of_visitor("192.0.2.1", forwarded_for, ()) == "192.0.2.1"
    assert address.of_visitor("10.0.0.1", forwarded_for, TRUSTED) is not None


def test_wrong_proxies_are_told() -> None:
    """A setting that names no networks stops the start."""
    with pytest.raises(ConfigError, match=r"ANALYTICS_TRUSTED_PROXIES: '10\.0\.0' does not appear"):
        create_app(Settings(database_url="postgresql://", trusted_proxies="10.0.0"))


# Over HTTP


@pytest.fixture
def registry(registry: psycopg.Connection) -> psycopg.Connection:
    """The database knows the key of a server, too."""
    keys.register(registry, "server", "write", WRITE_KEY)
    return registry


@pytest.fixture
def key(registry: psycopg.Connection) -> str:
    """A browser key of two pages."""
    return keys.create(registry, "page", "browser", origins=[PAGE, "http://localhost:3000"])


@pytest.fixture
def web(registry: psycopg.Connection, key: str) -> Iterator[FlaskClient]:
    """The application, behind a proxy on this machine."""
    app = create_app(Settings(database_url=registry.info.dsn, trusted_proxies="127.0.0.1"))
    with closing(app.extensions["analytics_collector"].database):
        yield app.test_client()


def post(web: FlaskClient, key: str, origin: str | None = PAGE, **records: Any) -> Any:
    """Send records from a page."""
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    return web.post("/v1/events", json=records, headers=headers | ({"Origin": origin} if origin else {}))


def test_a_page_on_the_list_may_post_and_read_the_answer(
    web: FlaskClient, key: str, registry: psycopg.Connection
) -> None:
    """What the page says is stored with the visitor's address, and the answer is readable by exactly that page."""
    response = post(web, key, events=[event(1, "s", 7, created_at=ago(), ip_address="1.2.3.4")])
    assert (response.status_code, response.json["accepted"]) == (200, 1)
    assert response.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Origin" in response.headers["Vary"]
    assert registry.execute("SELECT host(ip_address), user_id FROM analytics_event").fetchall() == [("198.51.100.7", 7)]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://shop.example:8443", "http://shop.example", "null", None]
)
def test_another_page_may_not(web: FlaskClient, key: str, registry: psycopg.Connection, origin: str | None) -> None:
    """From any other origin, or none, the key is refused before the body is read, and no page may read why."""
    response = post(web, key, origin, events=[event(1)])
    assert (response.status_code, response.json["code"]) == (401, "unauthorized")
    assert "Access-Control-Allow-Origin" not in response.headers
    assert registry.execute("SELECT count(*) FROM analytics_event").fetchall() == [(0,)]


def test_the_browser_is_told_before_it_asks(web: FlaskClient) -> None:
    """The preflight is answered, without a key, to exactly the pages of the list; the header of the key is allowed."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin in (PAGE, "http://localhost:3000"):
        response = web.options("/v1/events", headers=asked | {"Origin": origin})
        assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (204, origin)
        assert response.headers["Access-Control-Allow-Methods"] == "POST"
        assert "authorization" in response.headers["Access-Control-Allow-Headers"]
    for wrong in ({"Origin": "https://evil.example"}, {"Origin": PAGE, "Access-Control-Request-Method": "GET"}, {}):
        response = web.options("/v1/events", headers=asked | wrong)
        assert "Access-Control-Allow-Methods" not in response.headers


def test_what_the_browser_asks_is_counted_where_it_asks(web: FlaskClient) -> None:
    """A preflight is one more request of the address that the page will post to."""

    def counted() -> float:
        return samples(metrics.render(()).decode(), "analytics_requests_total").get(("OPTIONS", "/v1/events", "204"), 0)

    before = counted()
    web.options("/v1/events", headers={"Access-Control-Request-Method": "POST", "Origin": PAGE})
    assert counted() == before + 1


def test_errors_are_readable_too(web: FlaskClient, key: str, registry: psycopg.Connection) -> None:
    """A page of the list can read what is wrong, and when to come again."""
    keys.limit(registry, "page", daily=1)
    assert post(web, key, events=[event(1, created_at=ago())]).status_code == 200
    refused = post(web, key, events=[event(2, created_at=ago())])
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (429, PAGE)
    assert refused.headers["Access-Control-Expose-Headers"] == "Retry-After"
    assert int(refused.headers["Retry-After"]) >= 1


def test_a_write_key_asks_for_no_origin(web: FlaskClient, registry: psycopg.Connection) -> None:
    """Programs send none, and say address, time and traits as ever."""
    traits = {"user_id": 5, "traits": {"plan": "pro"}, "updated_at": ago(days=9)}
    old = event(1, created_at=ago(days=9), ip_address="1.2.3.4")
    assert post(web, WRITE_KEY, None, events=[old], users=[traits]).json["accepted"] == 2
    assert registry.execute("SELECT host(ip_address) FROM analytics_event").fetchall() == [("1.2.3.4",)]


def test_a_browser_key_reads_nothing(web: FlaskClient, key: str) -> None:
    """Everybody has it, so it opens no read."""
    response = web.get("/v1/events", headers={"Authorization": f"Bearer {key}", "Origin": PAGE})
    assert response.status_code == 401


def test_a_replay_lets_in_nothing_that_a_browser_may_not_say(
    web: FlaskClient, key: str, registry: psycopg.Connection
) -> None:
    """What was refused is refused again, and what was refused for another reason is stored without its address."""
    post(web, key, users=[{"user_id": 5, "traits": {"plan": "pro"}, "updated_at": ago()}])
    spoofed = json.dumps(event("x", created_at=ago(), ip_address="1.2.3.4")).encode()
    registry.execute(
        "INSERT INTO analytics_reject VALUES (gen_random_uuid(), 'event', 'unknown_user', '', %s, 'page')", [spoofed]
    )
    said = CliRunner().invoke(main, ["replay", "--json"], env={"ANALYTICS_DATABASE_URL": registry.info.dsn})
    assert json.loads(said.stdout) == {"read": 2, "stored": 1, "duplicates": 0, "refused": {"not_allowed": 1}}
    assert registry.execute("SELECT ip_address FROM analytics_event").fetchall() == [(None,)]


def test_a_browser_key_needs_origins(registry: psycopg.Connection) -> None:
    """Without a list, or with what is no origin, none is made; and no other kind has a list."""
    wrong = ("*", "shop.example", "https://shop.example/", "https://shop.example/page", "HTTPS://x", "null", "")
    for origins in ([], *([origin] for origin in wrong)):
        with pytest.raises(KeyRegistryError, match="origin"):
            keys.create(registry, "another", "browser", origins=origins)
    with pytest.raises(KeyRegistryError, match="is for programs"):
        keys.create(registry, "another", "write", origins=[PAGE])
