"""Heads that came before: gunicorn would make of them what is remembered, and its answers are the same in one piece."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn
from hypothesis import given
from hypothesis import strategies as st

from analytics_collector.answer import Answer, answer
from analytics_collector.gatherer import has_listeners
from analytics_collector.heads import Parser, Repeated
from tests.collector.batches import body, event
from tests.conftest import WRITE_KEY
from tests.programs import Collector, run_collector, wait_until

CLIENT: Final = ("127.0.0.1", 50_000)
SERVER: Final = ("127.0.0.1", 8_000)
PLAIN: Final = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture
def conn() -> Iterator[TConn]:
    """A connection as gunicorn has it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield TConn(Config(), ours, CLIENT, SERVER)


def request_of(head: bytes, body: bytes) -> bytes:
    """A request whose head has a place for the length."""
    return (head % len(body) if b"%d" in head else head) + body


def repeated(parser: Parser) -> Repeated:
    """A request whose head is known."""
    parser.unreader.unread(request_of(PLAIN, b"x") * 3)
    for _ in range(3):
        assert parser.finish_body()
        request = next(parser)
    assert isinstance(request, Repeated)
    return request


def seen(request: Any, environ: dict[str, Any]) -> dict[str, Any]:
    """What an application gets to see, and what else gunicorn looks at."""
    of_request = {"method", "uri", "version", "scheme", "headers", "trailers", "proxy_protocol_info"}
    own = {"wsgi.input", "wsgi.errors", "wsgi.early_hints"}  # one of each, which are not equal
    return {
        **{name: value for name, value in environ.items() if name not in own},
        "body": environ["wsgi.input"].read(),
        **{f"its {name}": getattr(request, name) for name in of_request},
    }


def by_gunicorn(conn: TConn, bytes_of_all: bytes, count: int) -> list[dict[str, Any]]:
    """How gunicorn's own parser reads requests."""
    parser, found = RequestParser(conn.cfg, conn.sock, conn.client), []
    parser.unreader.unread(bytes_of_all)
    for _ in range(count):
        request = next(parser)
        _, environ = wsgi.create(request, conn.sock, conn.client, conn.server, conn.cfg)
        found.append(seen(request, {**environ, "wsgi.multithread": True}))
    return found


def by_us(conn: TConn, bytes_of_all: bytes, count: int) -> tuple[list[dict[str, Any]], int]:
    """How ours does, and how many heads it knew."""
    parser, found, known = Parser(conn), [], 0
    parser.unreader.unread(bytes_of_all)
    for _ in range(count):
        request = next(parser)
        known += isinstance(request, Repeated)
        if isinstance(request, Repeated):
            environ = request.environ()
        else:
            _, environ = wsgi.create(request, conn.sock, conn.client, conn.server, conn.cfg)
        found.append(seen(request, {**environ, "wsgi.multithread": True}))
    return found, known


fields = st.sampled_from(
    [
        b"Authorization: Bearer a",
        b"Authorization: Bearer b",
        b"Accept: */*",
        b"X-Forwarded-For: 10.0.0.1",
        b"X-Forwarded-Proto: https",
        b"X-Request-ID:  42 ",
        b"X-Content-Length: 3",
        b"Cookie: content-length: 4",
        b"Connection: keep-alive",
        b"Content-Type: text/plain",
    ]
)
lengths = st.sampled_from(
    [b"Content-Length: %d", b"content-length:%d", b"CONTENT-LENGTH:\t%d ", b"Content-Length: 00%d"]
)
targets = st.sampled_from([b"/v1/events", b"/v1/events?a=1", b"/%2576", b"http://localhost/v1/events"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Some head of a request, with a place for its length, or without any."""
    method, target = draw(st.sampled_from([b"POST", b"GET", b"PUT"])), draw(targets)
    lines = [*draw(st.lists(fields, max_size=4, unique_by=lambda field: field.partition(b":")[0]))]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), draw(lengths))
    target = target.replace(b"%", b"%%") if any(b"%d" in line for line in lines) else target
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: localhost", *lines, b"", b""])


@given(st.lists(heads(), min_size=1, max_size=3), st.data())
def test_what_is_remembered_is_what_gunicorn_would_read(some: list[bytes], data: st.DataObject) -> None:
    """Whatever requests follow one another on a connection, known or not, each is read as gunicorn reads it."""
    few = data.draw(st.lists(st.sampled_from(some), min_size=1, max_size=8))
    bodies = st.binary(max_size=12)
    requests = [request_of(head, data.draw(bodies) if b"%d" in head else b"") for head in few]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        conn = TConn(Config(), ours, CLIENT, SERVER)
        found, _ = by_us(conn, b"".join(requests), len(requests))
        assert found == by_gunicorn(conn, b"".join(requests), len(requests))


def test_a_head_is_known_when_it_comes_the_third_time(conn: TConn) -> None:
    """Twice is worth remembering; the length may be another each time, and a new head begins anew."""
    requests = [request_of(PLAIN, b"x" * size) for size in (1, 22, 333, 4_444, 0)]
    other = request_of(PLAIN.replace(b"localhost", b"127.0.0.1"), b"x")
    assert by_us(conn, b"".join(requests), 5)[1] == 3
    assert by_us(conn, b"".join([*requests, other, *requests]), 11)[1] == 6


@pytest.mark.parametrize(
    "head",
    [
        PLAIN.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        PLAIN.replace(b"\r\n\r\n", b"\r\nX: " + 4096 * b"x" + b"\r\n\r\n"),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + 4096 * b"x" + b"\r\n\r\n",
    ],
    ids=["expect", "chunks", "large", "large without a body"],
)
def test_what_has_to_be_heard_each_time_is_not_remembered(conn: TConn, head: bytes) -> None:
    """Who asks whether to go on is told each time, chunks are gunicorn's to read, and a large head costs no memory."""
    requests = [request_of(head, b"body" if b"%d" in head else b"") for _ in range(5)]
    assert by_us(conn, b"".join(requests), 5)[1] == 0


def test_a_body_that_is_not_there_yet_is_read_by_gunicorn(conn: TConn) -> None:
    """A known head whose body arrives later, as one that is too large does, is gunicorn's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        conn = TConn(Config(), ours, CLIENT, SERVER)
        parser = Parser(conn)
        repeated(parser)
        parser.unreader.unread(request_of(PLAIN, b"torn")[:-2])
        torn = next(parser)
        theirs.sendall(b"rn")
        assert not isinstance(torn, Repeated)
        assert torn.body.read() == b"torn"


@pytest.mark.parametrize("count", range(5))
def test_what_nobody_has_read_is_no_request(conn: TConn, count: int) -> None:
    """A body that the application leaves where it is, though it reads like a request, is not the next one."""
    parser = Parser(conn)
    parser.unreader.unread(request_of(PLAIN, request_of(PLAIN, b"inner")) * count + request_of(PLAIN, b"last"))
    for _ in range(count):
        next(parser)
    assert next(parser).body.read() == b"last"


def test_an_idle_connection_keeps_no_body(conn: TConn) -> None:
    """What was sent is forgotten with its answer, however long the connection stays."""
    parser = Parser(conn)
    assert repeated(parser) is parser.mesg
    assert parser.finish_body()
    assert parser.mesg is None


# Answers


def sent(conn: TConn, peer: socket.socket) -> bytes:
    """All that has been sent, without the date."""
    conn.sock.shutdown(socket.SHUT_WR)
    received = b"".join(iter(lambda: peer.recv(65_536), b""))
    return b"\r\n".join(line for line in received.split(b"\r\n") if not line.startswith(b"Date: "))


def answered(app: Any, *, by_gunicorn: bool) -> bytes:
    """How an application answers a request whose head is known."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        conn = TConn(Config(), ours, CLIENT, SERVER)
        request = repeated(Parser(conn))
        if not by_gunicorn:
            assert answer(app, request, ours, conn.cfg)
            return sent(conn, theirs)
        response = wsgi.Response(request, ours, conn.cfg)
        for part in app(request.environ(), response.start_response):
            response.write(part)
        response.close()
        return sent(conn, theirs)


names = st.sampled_from(
    ["Content-Type", "X-Request-ID", "content-length", "Vary", "Connection", "Upgrade", "Set-Cookie"]
)
values = st.sampled_from(["text/plain", "2", " 2", "close", "keep-alive", "websocket", "a=b", "ü"])
statuses = st.sampled_from(["200 OK", "204 No Content", "304 Not Modified", "429 Too Many Requests", "500 Oh"])


@given(
    statuses,
    st.lists(st.tuples(names, values).filter(lambda pair: pair[0] != "content-length" or pair[1].strip() == "2")),
    st.lists(st.sampled_from([b"", b"a", b"bc", b"def"]), max_size=3),
)
def test_an_answer_in_one_piece_is_the_same(status: str, headers: list[tuple[str, str]], parts: list[bytes]) -> None:
    """Whatever an application says is sent as gunicorn sends it, checked headers and framing included."""

    def app(_: Any, start_response: Any) -> list[bytes]:
        start_response(status, list(headers))
        return parts

    assert answered(app, by_gunicorn=False) == answered(app, by_gunicorn=True)


@pytest.mark.parametrize("header", [("X-A", "b\r\nSet-Cookie: evil"), ("X A", "b"), ("X-A", 1), (1, "b")])
def test_headers_that_would_be_others_are_refused(header: Any) -> None:
    """A header that gunicorn refuses is refused, the second time as the first, and nothing is sent."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        conn = TConn(Config(), ours, CLIENT, SERVER)
        request = repeated(Parser(conn))
        for _ in range(2):
            with pytest.raises(Exception, match=r"X|is not a string"):
                Answer(request, ours, conn.cfg).start_response("200 OK", [header])
        assert sent(conn, theirs) == b""


def test_an_application_that_fails_has_sent_nothing() -> None:
    """An error after the first part leaves room for a whole answer that says so, and what is to be closed is."""
    closed = []

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            yield b"part"
            raise LookupError("the second part")

        def close(self) -> None:
            closed.append(True)

    def app(_: Any, start_response: Any) -> Parts:
        start_response("200 OK", [("Content-Length", "8")])
        return Parts()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        conn = TConn(Config(), ours, CLIENT, SERVER)
        request = repeated(Parser(conn))
        with pytest.raises(LookupError):
            answer(app, request, ours, conn.cfg)
        assert sent(conn, theirs) == b""
    assert closed == [True]


# In gunicorn


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("timeout", 30, False),
        ("accesslog", "-", True),
        ("pre_request", lambda _worker, _request: None, True),
        ("post_request", lambda _worker, _request: None, True),
        ("statsd_host", "127.0.0.1:8125", True),
    ],
)
def test_who_listens_hears_of_each_request(setting: str, value: Any, expected: bool) -> None:
    """With a hook, an access log or statsd, requests are gunicorn's own to answer; without them nobody misses it."""
    cfg = Config()
    cfg.set(setting, value)
    log = cfg.logger_class(cfg)
    assert has_listeners(cfg, log) == expected
    if setting == "statsd_host":
        log.sock.close()


def ask(connection: http.client.HTTPConnection, name: object, key: str = WRITE_KEY) -> tuple[int, dict[str, str]]:
    """Send one event over a connection; tells the status, and the headers of the answer."""
    headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "7"}
    connection.request("POST", "/v1/events", body(events=[event(name)]), headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, dict(answer.headers)


def connect(collector: Collector) -> http.client.HTTPConnection:
    """A connection that is opened again when the other side has said that it closes."""
    return http.client.HTTPConnection(urlsplit(collector.url).netloc, timeout=30)


def test_a_key_is_looked_at_each_time(migrated_dsn: str, connection: psycopg.Connection) -> None:
    """Over one connection each request is judged by its own head and has its own body, however often both came."""
    keys = [WRITE_KEY] * 5 + ["wrong"] * 5 + [WRITE_KEY, "wrong"] * 3 + [WRITE_KEY] * 5
    with run_collector(migrated_dsn, workers=1) as collector, closing(connect(collector)) as client:
        answers = [ask(client, name, key) for name, key in enumerate(keys)]
    assert [status for status, _ in answers] == [200 if key == WRITE_KEY else 401 for key in keys]
    assert all(headers["X-Request-ID"] == "7" and headers["Connection"] == "keep-alive" for _, headers in answers)
    assert connection.execute("SELECT count(*), count(DISTINCT event_id) FROM analytics_event").fetchall() == [(13, 13)]


def test_a_worker_that_has_served_enough_ends(migrated_dsn: str, connection: psycopg.Connection) -> None:
    """With `--max-requests` a connection hears that it is the last answer of its worker, and the next one goes on."""
    options = "--max-requests 8"
    with (
        run_collector(migrated_dsn, workers=1, GUNICORN_CMD_ARGS=options) as collector,
        closing(connect(collector)) as client,
    ):
        answers = [ask(client, name) for name in range(20)]
    assert [status for status, _ in answers] == [200] * 20
    assert {headers["Connection"] for _, headers in answers} == {"keep-alive", "close"}
    assert connection.execute("SELECT count(*) FROM analytics_event").fetchall() == [(20,)]


def test_the_access_log_has_a_line_for_each(migrated_dsn: str, dsn: str, tmp_path: Path) -> None:
    """Who turns gunicorn's access log on reads of every request, known or not."""
    log = tmp_path / "access"
    with (
        run_collector(migrated_dsn, workers=1, GUNICORN_CMD_ARGS=f"--access-logfile {log}") as collector,
        closing(connect(collector)) as client,
    ):
        for name in range(9):
            assert ask(client, name)[0] == 200
        wait_until(lambda: log.read_text().count("POST /v1/events") == 9, what="a line for each request")
