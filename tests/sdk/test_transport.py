"""The transport: what goes out, and what each answer means."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest

from analytics_collector.app import create_app
from analytics_collector.config import Settings
from analytics_sdk import Client
from analytics_sdk._transport import HttpTransport, Outcome, judge
from tests.conftest import WRITE_KEY
from tests.programs import free_port
from tests.sdk.servers import Answer, answering_server, hanging_server

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
STORED = b'{"accepted":2,"duplicates":1,"rejected":[{"index":0,"code":"x","message":"y"}]}'
BODY = b'{"sessions":[],"users":[],"events":[]}'


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    """A transport to an address where nobody listens."""
    made = HttpTransport(f"http://127.0.0.1:{free_port()}", "k")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (204, "misconfigured"),
        (301, "misconfigured"),
        (302, "misconfigured"),
        (400, "doubtful"),
        (401, "misconfigured"),
        (403, "doubtful"),
        (404, "doubtful"),
        (405, "doubtful"),
        (408, "again"),
        (413, "refused"),
        (422, "doubtful"),
        (425, "again"),
        (429, "again"),
        (500, "again"),
        (502, "again"),
        (503, "again"),
        (504, "again"),
        (599, "again"),
    ],
)
def test_each_status_has_its_meaning(status: int, fate: str) -> None:
    """A status other than 200 stores nothing, whatever is in the body."""
    for content in (b"", STORED, b"<html>", b'{"code":"c","message":"m","detail":"d"}'):
        assert judge(status, {}, content, NOW).fate == fate


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"OK",
        b"<html>",
        b"{}",
        b"[]",
        b"null",
        b'{"accepted":1}',
        b'{"accepted":"1","duplicates":0,"rejected":[]}',
        b'"\xff"',
        b"\xff\xfe",
    ],
)
def test_only_the_collectors_own_answer_is_stored(content: bytes) -> None:
    """A 200 that does not count the records is somebody else's."""
    outcome = judge(200, {}, content, NOW)
    assert (outcome.fate, "is the address right?" in outcome.reason) == ("misconfigured", True)


def test_the_answer_is_read() -> None:
    """The collector's answer says how many were stored, known, and set aside."""
    outcome = judge(200, {}, STORED, NOW)
    assert (outcome.fate, outcome.accepted, outcome.duplicates) == ("stored", 2, 1)
    assert [verdict["code"] for verdict in outcome.rejected] == ["x"]


def test_the_reason_has_the_collectors_words() -> None:
    """What the collector says of an error is in the reason, for the log."""
    content = b'{"code":"unauthorized","message":"The key is wrong","detail":"see the list"}'
    assert judge(401, {}, content, NOW).reason == "HTTP 401 unauthorized: The key is wrong (see the list)"
    assert judge(502, {}, b"<html>", NOW).reason == "HTTP 502"


def test_only_the_collector_itself_can_refuse_for_good() -> None:
    """A 400 ends a batch if the collector says so; one of a proxy in between leaves that open."""
    assert judge(400, {}, b'{"code":"malformed","message":"m","detail":"d"}', NOW).fate == "refused"
    assert judge(400, {}, b"<html>The plain HTTP request was sent to HTTPS port", NOW).fate == "doubtful"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_retry_after_is_read(status: int) -> None:
    """Whoever asks for a pause gets it."""
    headers = httpx.Headers({"Retry-After": "7"})
    assert judge(status, headers, b"", NOW).retry_after == 7


def test_a_request_is_what_the_wire_format_says() -> None:
    """The key, the type and the body are sent to /v1/events of the address, whether or not it ends with a slash."""
    with answering_server() as server:
        for url in (server.url, f"{server.url}/"):
            transport = HttpTransport(url, "the key")
            assert transport.send(BODY, 5).fate == "stored"
            transport.close()
    for request in server.requests:
        assert request.body == BODY
        assert request.headers["Authorization"] == "Bearer the key"
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["Content-Encoding"] is None


def test_large_bodies_are_packed() -> None:
    """From 1 KB on a body is gzip, and says so."""
    body = b'{"events":[%b]}' % (b" " * 2000)
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=STORED)

    HttpTransport("http://example.org/base", "k", http=httpx.MockTransport(answer)).send(body, 5)
    (request,) = seen
    assert (str(request.url), request.headers["Content-Encoding"]) == ("http://example.org/base/v1/events", "gzip")
    assert gzip.decompress(request.content) == body


def test_nobody_listening_is_worth_another_try(transport: HttpTransport) -> None:
    """A refused connection is an outcome, no exception."""
    outcome = transport.send(BODY, 5)
    assert (outcome.fate, outcome.reason.partition(":")[0]) == ("again", "ConnectError")


@pytest.mark.parametrize("url", ["http://nowhere.invalid", "http://xn--.invalid", "http://127.0.0.1:1", "http://a..b"])
def test_an_address_that_leads_nowhere_is_worth_another_try(url: str) -> None:
    """Whatever is wrong with the address, send() returns."""
    assert HttpTransport(url, "k").send(BODY, 2).fate == "again"


def test_a_hanging_server_is_given_up_in_time() -> None:
    """A server that accepts and never answers costs the time-out and no more."""
    with hanging_server() as url:
        outcome = HttpTransport(url, "k").send(BODY, 0.2)
    assert (outcome.fate, outcome.reason.partition(":")[0]) == ("again", "ReadTimeout")


def test_a_torn_answer_is_worth_another_try(transport: HttpTransport) -> None:
    """An answer that ends in the middle stores nothing as far as we know."""
    with answering_server([Answer(headers={"Content-Length": "1000", "Connection": "close"})]) as server:
        broken = HttpTransport(server.url, "k")
        assert broken.send(BODY, 0.5).fate == "again"
        broken.close()


def test_after_a_fork_a_new_connection_is_opened() -> None:
    """reset() forgets the connection, and the next batch opens one."""
    with answering_server() as server:
        transport = HttpTransport(server.url, "k")
        transport.send(BODY, 5)
        inherited = transport._http
        assert inherited is not None
        transport.reset()
        transport.send(BODY, 5)
        transport.close()
        inherited.close()
    assert len({request.peer for request in server.requests}) == 2


def test_it_delivers_into_the_collectors_application(settings: Settings, connection: psycopg.Connection) -> None:
    """Over httpx.WSGITransport the SDK stores into the collector in one process, without a socket."""
    app: Any = create_app(settings)
    transport = HttpTransport("http://collector", WRITE_KEY, http=httpx.WSGITransport(app=app))
    client = Client(transport=transport, flush_interval=60)
    ids = [client.track("click", user_id=42) for _ in range(10)]
    report = client.close()
    app.extensions["analytics_collector"].database.close()
    stored = connection.execute("SELECT event_id::text FROM analytics_event ORDER BY created_at").fetchall()
    assert (report.delivered, [row[0] for row in stored]) == (10, ids)


def test_a_wrong_key_stores_nothing(settings: Settings, connection: psycopg.Connection) -> None:
    """With a wrong key the collector answers 401, and the events wait."""
    app: Any = create_app(settings)
    transport = HttpTransport("http://collector", "wrong", http=httpx.WSGITransport(app=app))
    outcome = transport.send(BODY, 5)
    app.extensions["analytics_collector"].database.close()
    assert isinstance(outcome, Outcome)
    assert (outcome.fate, "unauthorized" in outcome.reason) == ("misconfigured", True)
