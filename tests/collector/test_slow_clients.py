"""Slow clients: they cost nobody else an answer, and not for ever."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_collector.intake import MOST_HEAD_BYTES, SLOWEST, Intake
from tests.collector.batches import body, event, post
from tests.conftest import WRITE_KEY
from tests.programs import Collector, run_collector, wait_until

HEAD = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRITE_KEY}\r\n".encode()


def with_length(content: bytes) -> bytes:
    """A whole request whose length is announced."""
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content


def chunked(content: bytes, trailer: bytes = b"") -> bytes:
    """A whole request in chunks."""
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n" % (len(content), content, trailer)


# Where a request ends


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        with_length(b"{}"),
        with_length(b""),
        with_length(b'{"a":"\r\n\r\n0\r\n\r\n"}'),
        chunked(b"{}"),
        chunked(b"{}", b"Trailer: 1\r\nAnother: 2\r\n"),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: Chunked\r\n\r\n7;a=b\r\n\r\n0\r\n\r\n\r\n000\r\nX: y\r\n\r\n",
    ],
)
@given(st.data())
def test_a_request_is_whole_with_its_last_byte(request_bytes: bytes, data: st.DataObject) -> None:
    """In whatever pieces it arrives, it is whole when all of it is there, and not before."""
    intake = Intake(0, 20, 1024)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(request_bytes) - 1), max_size=9)))
    for start, end in zip([0, *cuts], [*cuts, len(request_bytes)], strict=True):
        assert intake.state == "partial"
        intake.add(request_bytes[start:end])
    assert (intake.state, bytes(intake.buffer)) == ("whole", request_bytes)


@given(st.binary(max_size=300), st.lists(st.sampled_from([b"\r\n", b"0", b"Content-Length: 9", b"\r\n\r\n", b"x"])))
def test_whatever_arrives_can_be_followed(noise: bytes, words: list[bytes]) -> None:
    """Bytes that are no HTTP are waited for or handed on, never an error."""
    intake = Intake(0, 20, 100)
    for part in (noise, *words):
        intake.add(part)
        assert intake.state in ("partial", "whole", "too_large", "expects", "broken")


def test_what_is_too_large_is_handed_on() -> None:
    """A head without end, and a body over the limit, announced or in chunks, are for others to refuse."""
    endless, announced, in_chunks = (Intake(0, 20, 1024) for _ in range(3))
    endless.add(b"x" * (MOST_HEAD_BYTES + 1))
    announced.add(HEAD + b"Content-Length: 1025\r\n\r\n")
    in_chunks.add(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + b"x" * 1025)
    assert [intake.state for intake in (endless, announced, in_chunks)] == ["too_large"] * 3


@pytest.mark.parametrize(
    "content", [b"2\r\n{}??", b"2\r\n{}\r\nmany\r\n", b"-1\r\n", b"\r\n", b"0x2\r\n{}\r\n", b"1" * 9999]
)
def test_what_are_no_chunks_is_handed_on(content: bytes) -> None:
    """Broken chunks are not waited for: the view says what is wrong."""
    intake = Intake(0, 20, 10**6)
    intake.add(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + content)
    assert intake.state == "broken"


def test_who_goes_on_sending_has_longer() -> None:
    """The time that a request may take grows with what has arrived of it."""
    intake = Intake(100, 20, 10**9)
    assert intake.deadline == 120
    intake.add(b"x" * SLOWEST * 30)
    assert intake.deadline == 150


# Over sockets


@pytest.fixture(scope="module")
def impatient(migrated_dsn: str) -> Iterator[Collector]:
    """One worker with two threads that gives a request two seconds to arrive."""
    environ = {"ANALYTICS_THREADS": "2", "ANALYTICS_REQUEST_SECONDS": "2"}
    with run_collector(migrated_dsn, workers=1, **environ) as running:
        yield running


def connect(collector: Collector) -> socket.socket:
    """A connection to a collector."""
    address = urlsplit(collector.url)
    return socket.create_connection((address.hostname, address.port), timeout=30)


def answer(connection: socket.socket) -> tuple[int, Any]:
    """Read one answer: status and JSON."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536) or pytest.fail(f"closed after {received!r}")
    head, _, rest = received.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return answer_after(connection, rest)
    return read_body(connection, head, rest)


def answer_after(connection: socket.socket, rest: bytes) -> tuple[int, Any]:
    """Read the answer behind those that only say go on."""
    while rest.count(b"HTTP/1.1") == rest.count(b"HTTP/1.1 100") or not rest.endswith(b"}"):
        rest += connection.recv(65536) or pytest.fail(f"closed after {rest!r}")
    head, _, content = rest[rest.rindex(b"HTTP/1.1") :].partition(b"\r\n\r\n")
    return read_body(connection, head, content)


def read_body(connection: socket.socket, head: bytes, content: bytes) -> tuple[int, Any]:
    """Read as much as the head announces."""
    found = re.search(rb"(?i)content-length: ([0-9]+)", head)
    assert found is not None
    while len(content) < int(found[1]):
        content += connection.recv(65536)
    return int(head.split()[1]), json.loads(content)


def dribble(connection: socket.socket, content: bytes, stop: threading.Event, pause: float = 0.05) -> None:
    """Send byte by byte until it is told to stop or the other side has had enough."""
    try:
        for byte in content:
            if stop.wait(pause):
                return
            connection.sendall(bytes([byte]))
    except OSError:
        pass


SLOW: dict[str, Callable[[int], tuple[bytes, bytes]]] = {
    "nothing": lambda number: (b"", b""),
    "a head": lambda number: (b"", HEAD + b"X: y\r\n" * 1000),
    "a head and then nothing": lambda number: (HEAD, b""),
    "a body": lambda number: (HEAD + b"Content-Length: 9999\r\n\r\n", b" " * 9999),
    "a body and then nothing": lambda number: (HEAD + b"Content-Length: 9999\r\n\r\n", b""),
    "chunks": lambda number: (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 999),
    "a body that was waited for": lambda number: (
        HEAD + b"Expect: 100-continue\r\nContent-Length: 9999\r\n\r\n",
        b" " * 9999,
    ),
    "a second request": lambda number: (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD, b"X: y\r\n" * 1000),
}


@pytest.mark.parametrize("form", SLOW)
def test_slow_clients_cost_nobody_else_an_answer(impatient: Collector, form: str, dsn: str) -> None:
    """While forty clients dribble, ten times as many as there are threads could take, others are answered at once."""
    stop = threading.Event()
    with ExitStack() as stack, ThreadPoolExecutor(40) as pool:
        stack.callback(stop.set)
        for number in range(40):
            first, rest = SLOW[form](number)
            connection = stack.enter_context(closing(connect(impatient)))
            connection.sendall(first)
            pool.submit(dribble, connection, rest, stop)
        waits = []
        for number in range(10):
            began = time.monotonic()
            assert post(impatient.url, body(events=[event(number)])).json["accepted"] == 1
            waits.append(time.monotonic() - began)
        stop.set()
    assert sorted(waits)[-2] < 1.5  # one of them may meet a busy machine


def test_slow_clients_are_not_waited_for_for_ever(impatient: Collector) -> None:
    """Each kind of request that takes longer than it may is closed without an answer, though it dribbles on."""
    stop, opened = threading.Event(), {}
    with ExitStack() as stack, ThreadPoolExecutor(len(SLOW)) as pool:
        stack.callback(stop.set)
        for form in SLOW:
            first, rest = SLOW[form](0)
            opened[form] = stack.enter_context(closing(connect(impatient)))
            opened[form].sendall(first)
            pool.submit(dribble, opened[form], rest, stop)
        for form, connection in opened.items():
            assert everything(connection) in (b"", b"HTTP/1.1 100 Continue\r\n\r\n") or form == "a second request"
        stop.set()


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes, which it does."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(4096):
            received += part
    return received


def test_too_large_and_slow_is_not_waited_for_either(impatient: Collector, dsn: str) -> None:
    """Who announces more than is allowed and dribbles it holds a thread, and not for long."""
    connections = [connect(impatient) for _ in range(2)]
    try:
        for connection in connections:
            connection.sendall(HEAD + b"Content-Length: 99999999\r\n\r\n{")
        assert post(impatient.url, body(events=[event(1)])).json["accepted"] == 1
    finally:
        for connection in connections:
            connection.close()


def test_when_it_is_crowded_the_slow_ones_go_first(migrated_dsn: str, dsn: str) -> None:
    """With more slow clients than a worker has room for connections, the oldest go, and others are answered soon."""
    environ = {"GUNICORN_CMD_ARGS": "--worker-connections 20", "ANALYTICS_REQUEST_SECONDS": "60"}
    with run_collector(migrated_dsn, workers=1, **environ) as running, ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(closing(connect(running))).sendall(HEAD)
        assert post(running.url, body(events=[event(1)]), timeout=20).json["accepted"] == 1


# And nothing else has changed


@pytest.mark.parametrize("form", [with_length, chunked])
def test_a_request_in_pieces_is_served(
    impatient: Collector, connection: psycopg.Connection, form: Callable[[bytes], bytes]
) -> None:
    """A request whose bytes come one by one, but in time, is stored; and the next on the same connection too."""
    with closing(connect(impatient)) as opened:
        for name in range(3):
            for byte in form(body(events=[event(name)])):
                opened.sendall(bytes([byte]))
            assert answer(opened) == (200, {"accepted": 1, "duplicates": 0, "rejected": []})
    assert connection.execute("SELECT count(*) FROM analytics_event").fetchall() == [(3,)]


def test_requests_behind_one_another_are_served_in_order(impatient: Collector, dsn: str) -> None:
    """Several requests in one piece, and the last of them torn, each have their answer."""
    requests = [with_length(body(events=[event(name)])) for name in range(4)]
    whole = b"".join(requests)
    with closing(connect(impatient)) as opened:
        opened.sendall(whole[:-7])
        received = b""
        while received.count(b'"accepted":1') < 3:
            received += opened.recv(65536)
        opened.sendall(whole[-7:])
        assert answer(opened) == (200, {"accepted": 1, "duplicates": 0, "rejected": []})


def test_who_asks_whether_to_go_on_is_told(impatient: Collector, dsn: str) -> None:
    """`Expect: 100-continue`, as curl sends it with a large body, is answered before the body is sent."""
    content = body(events=[event(1)])
    with closing(connect(impatient)) as opened:
        opened.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(content))
        assert opened.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        opened.sendall(content)
        assert answer(opened)[1]["accepted"] == 1


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n895440\r\n"]
)
def test_what_is_too_large_hears_so(impatient: Collector, framing: bytes) -> None:
    """A body over the limit has its 413, whether its length was announced or not."""
    with closing(connect(impatient)) as opened:
        opened.sendall(HEAD + framing)
        for _ in range(90):
            opened.sendall(b" " * 100_000)
        opened.sendall(b"\r\n0\r\n\r\n" if b"chunked" in framing else b"")
        assert answer(opened)[0] == 413


def test_broken_chunks_hear_so_at_once(impatient: Collector) -> None:
    """The answer to what are no chunks is 400, and does not wait for more of them."""
    with closing(connect(impatient)) as opened:
        opened.settimeout(1.5)
        opened.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}??")
        assert answer(opened)[0] == 400


def test_a_body_of_several_megabytes_is_served(impatient: Collector, dsn: str) -> None:
    """What does not fit into one read is gathered, up to the limit of a body."""
    events = [event(name, event_data={"text": "x" * 100_000}) for name in range(70)]
    assert post(impatient.url, body(events=events)).json["accepted"] == 70


def test_a_worker_ends_although_clients_are_connected(migrated_dsn: str) -> None:
    """SIGTERM does not wait for those who send nothing or too slowly."""
    with run_collector(migrated_dsn, workers=1, ANALYTICS_REQUEST_SECONDS="1") as running, ExitStack() as stack:
        for first in (b"", HEAD):
            stack.enter_context(closing(connect(running))).sendall(first)
        assert post(running.url, b"{}").status == 200
        running.process.terminate()
        wait_until(lambda: running.process.poll() is not None, within=12, what="the end")
        assert running.process.returncode == 0


def test_who_never_reads_keeps_nobody_waiting(migrated_dsn: str) -> None:
    """A client that asks again and again and reads no answer has a thread of its own once the kernel keeps no more."""
    with run_collector(migrated_dsn, workers=1) as running, socket.socket() as deaf:
        address = urlsplit(running.url)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((address.hostname, address.port))
        with pytest.raises(AssertionError, match="being taken"):
            ask_and_ask(deaf)
        for number in range(20):
            assert post(running.url, body(events=[event(number)]), timeout=5).status == 200


def ask_and_ask(client: socket.socket) -> None:
    """Ask for long answers, one after the other, until nobody takes what is asked."""
    for _ in range(1000):
        client.sendall(with_length(b'{"events":[' + b"{}," * 90 + b"{}]}"))
        wait_until(lambda: all_was_taken(client), within=0.5, what="its being taken")


def all_was_taken(client: socket.socket) -> bool:
    """Whether a server on this machine has read all that was sent to it."""
    ends = [f"0100007F:{port:04X}" for port in (client.getpeername()[1], client.getsockname()[1])]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    (row,) = [row for row in rows if row[1:3] == ends]
    return int(row[4].partition(":")[2], 16) == 0


@pytest.mark.parametrize(
    ("content", "is_quick"),
    [
        (body(events=[event(1)]), True),
        (body(events=[event(n) for n in range(98)]), True),
        (body(events=[event(n) for n in range(100)]), False),
        (b'{"events":[' + b"{}," * 5000 + b"{}]}", False),
        (gzip.compress(body(events=[event(1)])), False),
        (body(events=[event(1, event_data={"text": "x" * 40_000})]), False),
    ],
)
def test_what_may_share_a_thread(content: bytes, is_quick: bool) -> None:
    """A few records in plain JSON do; what is large, compressed, in chunks or incomplete does not, nor does a read."""
    for request, expected in ((with_length(content), is_quick), (chunked(content), False)):
        intake = Intake(0, 20, 10**6)
        intake.add(request[:-1])
        assert not intake.is_quick
        intake.add(request[-1:])
        assert intake.is_quick == expected
    reading = Intake(0, 20, 1024)
    reading.add(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (reading.state, reading.is_quick) == ("whole", False)
