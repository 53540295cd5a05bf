"""The way past Flask's dispatch: nobody can tell by an answer which way a request took."""

from __future__ import annotations

import gc
import weakref
from typing import Any
from urllib.parse import quote

import flask
import pytest
from flask.testing import FlaskClient
from werkzeug.test import Client, TestResponse

from analytics_collector import ingest
from tests.collector.batches import body, event
from tests.collector.test_api import AWKWARD_IDS
from tests.conftest import READ_KEY, WRITE_KEY

READ = {"Authorization": f"Bearer {READ_KEY}"}
WRITE = {"Authorization": f"Bearer {WRITE_KEY}"}


def both_ways(client: FlaskClient, method: str, path: str, **options: Any) -> list[TestResponse]:
    """The answer of the whole application, and that of Flask's own dispatch without anything before it."""
    app = client.application

    def long_way(environ: Any, start_response: Any) -> Any:
        return flask.Flask.wsgi_app(app, environ, start_response)

    return [Client(wsgi).open(path, method=method, **options) for wsgi in (app, long_way)]


def told(response: TestResponse) -> tuple[Any, ...]:
    """What an answer says, without what every answer gets on its way out."""
    kept = ("Content-Type", "Content-Length", "WWW-Authenticate", "Allow")
    return response.status, response.data, {name: response.headers.get(name) for name in kept}


@pytest.mark.parametrize("user_id", [*AWKWARD_IDS, "ada", "42"])
def test_a_profile_is_the_same_either_way(client: FlaskClient, user_id: str) -> None:
    """Whatever characters an id has, the profile of this user is found, and the bytes of both answers are equal."""
    stored = client.post("/v1/events", data=body(events=[event(1, user_id=user_id)]), headers=WRITE)
    assert stored.json == {"accepted": 1, "duplicates": 0, "rejected": []}
    short, long = both_ways(client, "GET", f"/v1/profiles/{quote(user_id, safe='')}", headers=READ)
    assert told(short) == told(long)
    assert (short.status_code, str(short.json["user_id"])) == (200, user_id)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/v1/profiles/nobody", READ),
        ("GET", "/v1/profiles/nobody", {}),
        ("GET", "/v1/profiles/nobody", {"Authorization": "Bearer nobody-made-this-key"}),
        ("GET", "/v1/profiles/nobody", WRITE),
        ("GET", "/v1/profiles/", READ),
        ("GET", "//v1/profiles/nobody", READ),
        ("GET", "/v1/profiles/%00", READ),
        ("GET", "/v1/profiles/%FF", READ),
        ("HEAD", "/v1/profiles/nobody", READ),
        ("OPTIONS", "/v1/profiles/nobody", READ),
        ("DELETE", "/v1/profiles/nobody", READ),
        ("GET", "/v1/events/", READ),
        ("PUT", "/v1/events", WRITE),
        ("POST", "/v1/events/1", WRITE),
    ],
)
def test_whatever_is_wrong_is_told_the_same(
    client: FlaskClient, method: str, path: str, headers: dict[str, str]
) -> None:
    """An error has the same status and the same words either way, and so has what no shortcut takes."""
    short, long = both_ways(client, method, path, headers=headers)
    assert told(short) == told(long)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"events": [{}]}', b'{"events": 1}', b"\xff", b"\x1f\x8b"])
def test_what_is_posted_is_answered_the_same(client: FlaskClient, content: bytes) -> None:
    """A batch is stored or refused with the same words either way."""
    short, long = both_ways(client, "POST", "/v1/events", data=content, headers=WRITE)
    assert told(short) == told(long)


def test_head_is_get_without_a_body(client: FlaskClient) -> None:
    """HEAD tells how long the answer to GET would be, and sends nothing of it."""
    client.post("/v1/events", data=body(events=[event(1, user_id=42)]), headers=WRITE)
    answer, head = (client.open("/v1/profiles/42", method=method, headers=READ) for method in ("GET", "HEAD"))
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == answer.headers["Content-Length"] == str(len(answer.data))


def test_an_error_does_not_keep_what_was_sent(door: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is refused is forgotten with its answer, without the garbage collector."""
    kept: list[weakref.ref[Any]] = []

    class Body(bytearray):
        """Bytes that can be watched."""

    def receive(*_: Any) -> Any:
        content = Body(b"[]")
        kept.append(weakref.ref(content))
        return content

    monkeypatch.setattr(ingest, "receive", receive)
    gc.collect()
    gc.disable()
    try:
        assert door.post("/v1/events", data=b"[]", headers=WRITE).status_code == 400
        assert [reference() for reference in kept] == [None]
    finally:
        gc.enable()
