"""Heads that came before: gunicorn would make of them what is remembered, and its answers are the same in one piece."""

from __future__ import annotations

import gc
import http.client
import socket
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidHeader
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_collector.answer import Answer
from analytics_collector.gatherer import has_listeners
from analytics_collector.heads import Parser, Repeated
from tests.collector.batches import body, event
from tests.conftest import WRITE_KEY
from tests.programs import Collector, gunicorn, run_collector, wait_until

CLIENT: Final = ("127.0.0.1", 50_000)
SERVER: Final = ("127.0.0.1", 8_000)
LENGTH: Final = b"<length>"
PLAIN: Final = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: <length>\r\n\r\n"


@contextmanager
def connected() -> Iterator[tuple[TConn, socket.socket]]:
    """A connection as gunicorn has it, and its other side."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield TConn(Config(), ours, CLIENT, SERVER), theirs


@pytest.fixture
def conn() -> Iterator[TConn]:
    """The same for who needs no other side."""
    with connected() as (made, _):
        yield made


def request_of(head: bytes, body: bytes) -> bytes:
    """A request whose head has a place for the length."""
    return head.replace(LENGTH, b"%d" % len(body)) + body


def repeated(parser: Parser) -> Repeated:
    """A request whose head is known."""
    parser.unreader.unread(request_of(PLAIN, b"x") * 3)
    for _ in range(3):
        assert parser.finish_body()
        request = next(parser)
    assert isinstance(request, Repeated)
    return request


def seen(request: Any, environ: dict[str, Any], size: int) -> dict[str, Any]:
    """What an application gets to see, and what else gunicorn looks at."""
    of_request = {"method", "uri", "version", "scheme", "headers", "trailers", "proxy_protocol_info"}
    own = {"wsgi.input", "wsgi.errors", "wsgi.early_hints", "gunicorn.socket"}  # one of each, which are not equal
    return {
        **{name: value for name, value in environ.items() if name not in own},
        "body": environ["wsgi.input"].read(size),
        **{f"its {name}": getattr(request, name) for name in of_request},
    }


def read(parser: RequestParser, conn: TConn, size: int) -> Iterator[dict[str, Any] | str]:
    """Read requests until there are no more, of each body so many bytes; the last one is how it ended."""
    try:
        while True:
            request = next(parser)
            if isinstance(request, Repeated):
                environ = request.environ()
            else:
                _, environ = wsgi.create(request, conn.sock, conn.client, conn.server, conn.cfg)
            is_known = isinstance(request, Repeated)
            yield {**seen(request, {**environ, "wsgi.multithread": True}, size), "is_known": is_known}
            if request.should_close() or not parser.finish_body():
                break
    except Exception as error:  # whatever it is, both have to end in the same way
        yield type(error).__name__


def by_both(arrived: bytes, later: bytes = b"", size: int = -1) -> tuple[list[Any], int]:
    """What ours and gunicorn's own parser make of a connection, and how many heads ours knew.

    Args:
        arrived: What is there before the first request is read.
        later: What comes then, before the other side closes.
        size: Bytes that are read of each body.
    """
    found = []
    for kind in (Parser, None):
        with connected() as (conn, theirs):
            theirs.sendall(later)
            theirs.shutdown(socket.SHUT_WR)
            parser = Parser(conn) if kind else RequestParser(conn.cfg, conn.sock, conn.client)
            parser.unreader.unread(arrived)
            found.append(list(read(parser, conn, size)))
    known = [request.pop("is_known") for request in found[0] if isinstance(request, dict)]
    assert [request.pop("is_known") for request in found[1] if isinstance(request, dict)] == [False] * len(known)
    assert found[0] == found[1]
    return found[0], sum(known)


fields = st.sampled_from(
    [
        b"Authorization: Bearer a",
        b"Authorization: Bearer b",
        b"X-Forwarded-For: 10.0.0.1",
        b"X-Forwarded-Proto: https",
        b"X-Request-ID:  42 ",
        b"X-Content-Length: 3",
        b"X_Y: 1",
        b"X : 1",
        b"X: " + b"y" * 3_990,
        b"Cookie: content-length: 4",
        b"Cookie: a\r\n content-length: 3",
        b"Cookie: a\nContent-Length: 3",
        b"Connection: keep-alive",
        b"Connection: close",
        b"Expect: 100-continue",
        b"SCRIPT_NAME: /v1",
        b"Transfer-Encoding: chunked",
    ]
)
lengths = st.sampled_from(
    [
        *(
            name + LENGTH
            for name in (b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH:\t", b"Content-Length: 00")
        ),
        *(b"Content-Length:" + odd for odd in (b"", b" ", b" x", b" -1", b" " + b"0" * 19, b" 1 2", b" <length> ")),
        b"Content-Length : <length>",
    ]
)
targets = st.sampled_from([b"/v1/events", b"/v1/events?a=1", b"/%2576", b"http://localhost/v1/events", b"*"])
methods = st.sampled_from([b"POST", b"POST", b"GET", b"HEAD", b"CONNECT"])
versions = st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0", b"2.0"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Some head of a request, right or wrong, mostly with a place for its length."""
    lines = [b"%b %b HTTP/%b" % (draw(methods), draw(targets), draw(versions)), b"Host: localhost"]
    lines += draw(st.lists(fields, max_size=2))
    for length in draw(st.lists(lengths, min_size=draw(st.sampled_from([0, 1, 1, 1])), max_size=1)):
        lines.insert(draw(st.integers(1, len(lines))), length)
    return draw(st.sampled_from([b"", b"", b"", b"\r\n"])) + b"\r\n".join([*lines, b"", b""])


@settings(max_examples=300)
@given(st.lists(heads(), min_size=1, max_size=2), st.data())
def test_what_is_remembered_is_what_gunicorn_would_read(some: list[bytes], data: st.DataObject) -> None:
    """Whatever comes on a connection, and however much of it is read, each request is read as gunicorn reads it."""
    bodies = st.one_of(st.binary(max_size=8), st.sampled_from([request_of(head, b"inner") for head in some]))
    few = data.draw(st.lists(st.sampled_from(some), min_size=1, max_size=6))
    whole = b"".join(request_of(head, data.draw(bodies)) for head in few)
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    by_both(whole[:cut], whole[cut:], data.draw(st.sampled_from([-1, -1, 3, 0])))


def test_a_head_is_known_when_it_comes_the_third_time() -> None:
    """Twice is worth remembering; the length may be another each time, and a new head begins anew."""
    requests = [request_of(PLAIN, b"x" * size) for size in (1, 22, 333, 4_444, 0)]
    other = request_of(PLAIN.replace(b"localhost", b"127.0.0.1"), b"x")
    assert by_both(b"".join(requests))[1] == 3
    assert by_both(b"".join([*requests, other, *requests]))[1] == 6


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
def test_what_has_to_be_heard_each_time_is_not_remembered(head: bytes) -> None:
    """Who asks whether to go on is told each time, chunks are gunicorn's to read, and a large head costs no memory."""
    found, known = by_both(request_of(head, b"body" if LENGTH in head else b"") * 5)
    assert (len(found), known) == (6, 0)  # the last is the end


def test_a_body_that_is_not_there_yet_is_read_by_gunicorn() -> None:
    """A known head whose body arrives later, as one that is too large does, is gunicorn's."""
    with connected() as (conn, theirs):
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


def test_a_body_does_not_pass_for_a_head(conn: TConn) -> None:
    """Who sends another one's head as a body that nobody reads does not get to be taken for them."""
    good, evil = (PLAIN.replace(b"\r\nContent", b"\r\nX-Who: %s\r\nContent" % who) for who in (b"good", b"evil"))
    first = request_of(evil, request_of(evil, b"5")[:-1] + b"12345")
    parser = Parser(conn)
    parser.unreader.unread(first + request_of(good, b"12345") + request_of(evil, b"12345") * 3)
    whose = [dict(next(parser).headers)["X-WHO"] for _ in range(5)]
    assert whose == ["evil", "good", "evil", "evil", "evil"]


@pytest.mark.parametrize("length", [b"", b" ", b"\0", b"x", b"-0", b"1,1"])
def test_a_length_without_digits_is_refused(conn: TConn, length: bytes) -> None:
    """What is no length is refused behind a known head as it is on a connection of its own."""
    parser = Parser(conn)
    repeated(parser)
    parser.unreader.unread(PLAIN.replace(LENGTH, length))
    with pytest.raises(InvalidHeader):
        next(parser)


@pytest.mark.parametrize("zeros", [1, 18, 19, 40])
def test_nothing_is_lost_of_a_length_that_we_do_not_see(zeros: int) -> None:
    """A Content-Length with more digits than we look at is told to the application as gunicorn tells it."""
    found, _ = by_both(PLAIN.replace(LENGTH, b"0" * zeros) * 4)
    assert [request["CONTENT_LENGTH"] for request in found[:-1]] == ["0" * zeros] * 4


def test_what_gunicorn_has_looked_at_is_not_lost(conn: TConn) -> None:
    """Bytes that gunicorn has read to see whether they are HTTP/2, and has put back, are read."""
    conn.parser = RequestParser(conn.cfg, conn.sock, conn.client)
    conn.parser.unreader.unread(request_of(PLAIN, b"first"))
    assert next(Parser(conn)).body.read() == b"first"


def test_a_closed_connection_leaves_nothing(conn: TConn) -> None:
    """What a connection has received is freed with it, without the garbage collector: bodies are large."""
    own = TConn(Config(), conn.sock, CLIENT, SERVER)
    own.parser = Parser(own)
    repeated(own.parser)
    unreader = weakref.ref(own.parser.unreader)
    gc.collect()
    gc.disable()
    try:
        del own
        assert unreader() is None
    finally:
        gc.enable()


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
    with connected() as (conn, theirs):
        request = repeated(Parser(conn))
        if not by_gunicorn:
            Answer(request, conn.sock, conn.cfg).give(app)
            return sent(conn, theirs)
        response = wsgi.Response(request, conn.sock, conn.cfg)
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
    with connected() as (conn, theirs):
        request = repeated(Parser(conn))
        for _ in range(2):
            with pytest.raises(Exception, match=r"X|is not a string"):
                Answer(request, conn.sock, conn.cfg).start_response("200 OK", [header])
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

    with connected() as (conn, theirs):
        request = repeated(Parser(conn))
        answer = Answer(request, conn.sock, conn.cfg)
        with pytest.raises(LookupError):
            answer.give(app)
        assert not answer.was_sent
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


LATE = """
from analytics_collector.app import create_app

class Parts(list):
    closed = 0

    def close(self):
        Parts.closed += 1
        if Parts.closed > 2:
            raise LookupError("too late")

def made():
    app = create_app()
    return lambda environ, start_response: Parts(app(environ, start_response))
"""


def test_nothing_follows_an_answer_that_was_sent(migrated_dsn: str, dsn: str, tmp_path: Path) -> None:
    """If an application fails at what it does after its answer, the log says so and the connection ends."""
    (tmp_path / "late.py").write_text(LATE)
    environ = {"ANALYTICS_DATABASE_URL": migrated_dsn, "ANALYTICS_WORKERS": "1", "ANALYTICS_HOUSEKEEPING_SECONDS": "0"}
    options = ("--config", "python:analytics_collector.gunicorn_config", "--pythonpath", str(tmp_path))
    head = PLAIN.replace(b"\r\nContent", b"\r\nAuthorization: Bearer %s\r\nContent" % WRITE_KEY.encode())
    with gunicorn("late:made()", environ, *options, "--error-logfile", f"{tmp_path}/log") as (url, _):
        with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=30) as client:
            client.sendall(request_of(head, body(events=[event(1)])) * 4)
            received = b"".join(iter(lambda: client.recv(65_536), b""))
        wait_until(lambda: "LookupError" in (tmp_path / "log").read_text(), what="the log saying so")
    assert (received.count(b"HTTP/1.1 200"), received.count(b"HTTP/1.1")) == (3, 3)


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
