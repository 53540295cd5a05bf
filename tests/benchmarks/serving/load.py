"""Keeps so many requests under way at a time, from a process of its own: `python -m tests.benchmarks.serving.load`.

Raw sockets and one selector, so that the load costs little of the machine that it shares with what is measured.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import sys
import time
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec

from analytics_sdk import _ids
from tests.conftest import WRITE_KEY

DATA = {
    "path": "/products/merino-sweater",
    "referrer": "https://www.example.org/search",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "duration": 0.012,
    "status": 200,
}
SESSIONS = [_ids.session_id(time.time_ns()) for _ in range(200)]


def new_event() -> dict[str, Any]:
    """One event of one of 200 users, each in a session."""
    who = random.randrange(len(SESSIONS))
    return {
        "event_id": _ids.event_id(time.time_ns()),
        "event_type": "page_view",
        "created_at": datetime.now(UTC),
        "session_id": SESSIONS[who],
        "user_id": who + 1,
        "event_data": DATA,
    }


def new_request(events: int) -> bytes:
    """A request with so many events."""
    body = msgspec.json.encode({"sessions": [], "users": [], "events": [new_event() for _ in range(events)]})
    head = f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {WRITE_KEY}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@attrs.define
class Visitor:
    """A connection with one request under way."""

    connection: socket.socket
    events: int
    began: float = 0.0
    answer: bytes = b""

    def ask(self) -> None:
        """Send the next request."""
        request, self.answer = new_request(self.events), b""
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


def run(port: int, visitors: int, events: int, seconds: float) -> dict[str, float]:
    """Requests a second, and milliseconds until the median answer."""
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        for _ in range(visitors):
            visitor = Visitor(socket.create_connection(("127.0.0.1", port), timeout=30), events)
            selector.register(visitor.connection, selectors.EVENT_READ, visitor)
            visitor.ask()
        began = time.perf_counter()
        while time.perf_counter() < began + seconds:
            for key, _ in selector.select(1):
                if key.data.hear():
                    times.append(time.perf_counter() - key.data.began)
                    key.data.ask()
        took = time.perf_counter() - began
    return {"requests": len(times), "rate": len(times) / took, "p50": sorted(times)[len(times) // 2] * 1000}


if __name__ == "__main__":
    port, visitors, events = map(int, sys.argv[1:4])
    print(json.dumps(run(port, visitors, events, float(sys.argv[4]))))
