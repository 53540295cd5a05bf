"""Keeps so many requests under way at a time, from a process of its own.

Raw sockets and one selector, so that the load costs little of the machine that it shares with what is measured.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

import attrs
import msgspec

from tests.benchmarks.serving.event import new_event
from tests.programs import ROOT

# Not those of the tests: this starts often, and to import what they need takes a second.
WRITE_KEY: Final = "write-key-of-the-benchmarks"
READ_KEY: Final = "read-key-of-the-benchmarks"
_COMMAND: Final = [sys.executable, "-m", "tests.benchmarks.serving.load"]
_CONNECTED: Final = "connected"


@attrs.frozen(kw_only=True)
class Load:
    """What visitors ask for, each on a connection of its own.

    Attributes:
        visitors: How many.
        seconds: For how long.
        paths: What each asks for, one after the other, and again from the first.
        events: How many events each request brings; without any it is a GET.
        user_id: Whose events; anybody's if None.
        pause: Seconds between an answer and the next request.
    """

    visitors: int = 1
    seconds: float = 3.0
    paths: tuple[str, ...] = ("/v1/events",)
    events: int = 0
    user_id: int | None = None
    pause: float = 0.0

    def request(self, path: str) -> bytes:
        """The bytes of one request."""
        if not self.events:
            return _request("GET", path, READ_KEY, b"")
        events = [new_event(self.user_id) for _ in range(self.events)]
        return _request("POST", path, WRITE_KEY, msgspec.json.encode({"sessions": [], "users": [], "events": events}))


@attrs.frozen
class Heard:
    """How a server answered.

    Attributes:
        requests: How many it answered.
        rate: Requests a second.
        p50: Milliseconds until the median answer, for each path.
    """

    requests: int
    rate: float
    p50: tuple[float, ...]


@attrs.define
class Visitor:
    """A connection with one request under way at most."""

    connection: socket.socket
    load: Load
    paths: Iterator[int]
    path: int = 0
    due: float = 0.0
    began: float = 0.0
    answer: bytes = b""

    @classmethod
    def connect(cls, port: int, load: Load) -> Visitor:
        """Somebody who comes now."""
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connection, load, itertools.cycle(range(len(load.paths))))

    def ask(self) -> None:
        """Send the next request."""
        self.path = next(self.paths)
        request, self.answer = self.load.request(self.load.paths[self.path]), b""
        self.began = time.perf_counter()
        self.connection.sendall(request)

    def hear(self) -> bool:
        """Read on; tells whether the answer is complete.

        Raises:
            AssertionError: It is not a 200.
        """
        self.answer += self.connection.recv(65536)
        head, _, body = self.answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not length or len(body) < int(length):
            return False
        assert head.startswith(b"HTTP/1.1 200"), self.answer
        return True


def put_on(port: int, load: Load) -> Heard:
    """Put load on a server, from another process, and wait for its end."""
    command = [*_COMMAND, str(port), msgspec.json.encode(load).decode()]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=load.seconds + 60)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Heard)


@contextlib.contextmanager
def under(port: int, load: Load) -> Iterator[None]:
    """Keep load on a server until the end of the block; `seconds` must be longer."""
    command = [*_COMMAND, str(port), msgspec.json.encode(load).decode()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == _CONNECTED
        try:
            yield
            assert process.poll() is None, "the load ended before its time"
        finally:
            process.terminate()


def run(port: int, load: Load) -> Heard:
    """Put load on a server, from this process, until every path has been answered at least."""
    times: list[list[float]] = [[] for _ in load.paths]
    with selectors.DefaultSelector() as selector:
        idle = deque(Visitor.connect(port, load) for _ in range(load.visitors))
        for visitor in idle:
            selector.register(visitor.connection, selectors.EVENT_READ, visitor)
        print(_CONNECTED, flush=True)
        began = time.perf_counter()
        while (now := time.perf_counter()) < began + load.seconds or not all(times):
            while idle and idle[0].due <= now:
                idle.popleft().ask()
            for key, _ in selector.select(idle[0].due - now if idle else 1):
                if key.data.hear():
                    now = time.perf_counter()
                    times[key.data.path].append(now - key.data.began)
                    key.data.due = now + load.pause
                    idle.append(key.data)
        took = time.perf_counter() - began
    requests = sum(map(len, times))
    return Heard(requests, requests / took, tuple(sorted(one)[len(one) // 2] * 1000 for one in times))


def _request(method: str, path: str, key: str, body: bytes) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


if __name__ == "__main__":
    print(msgspec.json.encode(run(int(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Load))).decode())
