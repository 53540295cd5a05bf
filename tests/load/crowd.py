"""A crowd in front of a collector, from a process of its own: `python -m tests.load.crowd SECONDS PORT [IDLE] [BUSY]`.

A thousand connections that are idle, and 64 that post events without a pause, one selector for all. Each event has an
id of its own, and is sent again until it is acknowledged; what was acknowledged is printed as JSON at the end.
"""

from __future__ import annotations

import collections
import contextlib
import json
import random
import selectors
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import msgspec

from analytics_sdk import _ids
from tests.conftest import WRITE_KEY

IDLE = 1000
BUSY = 64
PATIENCE = 60.0  # seconds until an answer
HALVES = (b"", b"POST /v1/ev", b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n{")


class Variety:
    """Events of all sorts: users, sessions, types and sizes differ, some records are bad, and some are sent before.

    Args:
        seed: Of what is drawn.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._before: dict[str, Any] | None = None

    def batch(self) -> tuple[bytes, list[str]]:
        """A body, and the ids of its good events, those that are sent for the first time only."""
        events = [self._event() for _ in range(self._random.choice((1, 1, 1, 5, 20)))]
        event_ids = [event["event_id"] for event in events]
        before, self._before = self._before, events[0]
        if before is not None and self._random.random() < 0.1:
            events.append(before)
        if self._random.random() < 0.1:
            events.insert(0, {**events[0], "event_id": _ids.event_id(time.time_ns()), "event_type": ""})
        sessions = [{"session_id": events[-1]["session_id"], "user_agent": "Browser"}]
        return msgspec.json.encode({"sessions": sessions, "events": events}), event_ids

    def _event(self) -> dict[str, Any]:
        draw = self._random
        user = draw.choice((None, draw.randrange(10_000), f"user-{draw.randrange(10_000)}"))
        return {
            "event_id": _ids.event_id(time.time_ns()),
            "event_type": f"type-{draw.randrange(200)}",
            "created_at": datetime.now(UTC) - timedelta(seconds=draw.expovariate(1 / 3600)),
            "session_id": str(uuid.UUID(int=draw.randrange(20_000))),
            "user_id": user,
            "event_data": {"n": draw.random(), "text": "x" * int(draw.paretovariate(1.2) * 50 % 20_000)},
            "ip_address": f"10.{draw.randrange(256)}.{draw.randrange(256)}.1",
        }


def request_of(body: bytes) -> bytes:
    """A body with its head."""
    head = f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {WRITE_KEY}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@attrs.define
class Tally:
    """What the crowd was told.

    Attributes:
        acknowledged: Ids of events in requests that were answered 200.
        statuses: How often each came.
        faults: What should not have come.
        verdicts: The sums of what the answers say.
    """

    acknowledged: list[str] = attrs.field(factory=list)
    statuses: collections.Counter[int] = attrs.field(factory=collections.Counter)
    faults: list[str] = attrs.field(factory=list)
    verdicts: collections.Counter[str] = attrs.field(factory=collections.Counter)


class Poster:
    """A connection with a request under way."""

    def __init__(self, port: int, variety: Variety, tally: Tally) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.asked_at = 0.0
        self.again_at: float | None = None
        self.is_done = False
        self._variety = variety
        self._tally = tally
        self._answer = b""
        self._request = b""
        self._event_ids: list[str] = []

    def ask(self) -> None:
        """Send a new batch."""
        body, self._event_ids = self._variety.batch()
        self._request = request_of(body)
        self.send()

    def send(self) -> None:
        """Send the batch in hand, for the first time or again."""
        self.asked_at, self.again_at, self._answer = time.monotonic(), None, b""
        self.connection.sendall(self._request)

    def hear(self) -> bool:
        """Read on; tells whether the answer is complete."""
        part = self.connection.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {self._answer[:200]!r}")
        self._answer += part
        head, _, content = self._answer.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if b"content-length" not in headers or len(content) < int(headers[b"content-length"]):
            return False
        self._judge(int(head.split()[1]), headers, content)
        return True

    def _judge(self, status: int, headers: dict[bytes, bytes], content: bytes) -> None:
        self._tally.statuses[status] += 1
        if status == 200:
            verdict = json.loads(content)
            self._tally.acknowledged += self._event_ids
            self._tally.verdicts["accepted"] += verdict["accepted"]
            self._tally.verdicts["duplicates"] += verdict["duplicates"]
            self._tally.verdicts["rejected"] += len(verdict["rejected"])
        elif status in (429, 503) and b"retry-after" in headers:
            self.again_at = time.monotonic() + random.uniform(0, 2 * float(headers[b"retry-after"]))
        else:
            self._tally.faults.append(f"{status}: {content[:200]!r}")


class Crowd:
    """All of the connections.

    Args:
        port: Of the collector.
        idle: So many connections that send nothing, or half a request, and are opened anew when they are closed.
        busy: So many that post.
    """

    def __init__(self, port: int, idle: int = IDLE, busy: int = BUSY) -> None:
        self.tally = Tally()
        self._port = port
        self._idle = idle
        self._busy = busy
        self._selector = selectors.DefaultSelector()

    def run(self, seconds: float) -> Tally:
        """Post for so many seconds, and then until all that was sent is acknowledged."""
        with self._selector, contextlib.ExitStack() as stack:
            for number in range(self._idle):
                self._idle_on(number)
            posters = [Poster(self._port, Variety(number), self.tally) for number in range(self._busy)]
            for poster in posters:
                stack.callback(poster.connection.close)
                self._selector.register(poster.connection, selectors.EVENT_READ, poster)
                poster.ask()
            self._go_on(posters, time.monotonic() + seconds)
            self._close_idle()
        return self.tally

    def _go_on(self, posters: list[Poster], until: float) -> None:
        while not all(poster.is_done for poster in posters):
            for key, _ in self._selector.select(0.1):
                if isinstance(key.data, Poster):
                    self._hear(key.data, until)
                else:
                    self._hear_idle(key.fileobj, key.data)
            for poster in self._late(posters):
                poster.is_done = True
                self.tally.faults.append(f"no answer within {PATIENCE} seconds")
            for poster in posters:
                if poster.again_at is not None and time.monotonic() > poster.again_at:
                    poster.send()

    def _late(self, posters: list[Poster]) -> Iterator[Poster]:
        for poster in posters:
            waited = time.monotonic() - poster.asked_at
            if not poster.is_done and poster.again_at is None and waited > PATIENCE:
                yield poster

    def _hear(self, poster: Poster, until: float) -> None:
        try:
            if not poster.hear() or poster.again_at is not None:
                return
            if time.monotonic() < until:
                poster.ask()
            else:
                poster.is_done = True
        except OSError as error:
            poster.is_done = True
            self._selector.unregister(poster.connection)
            self.tally.faults.append(repr(error))

    def _idle_on(self, number: int) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        connection.sendall(HALVES[number % len(HALVES)])
        self._selector.register(connection, selectors.EVENT_READ, number)

    def _hear_idle(self, connection: Any, number: int) -> None:
        """The collector has had enough of one; it comes back."""
        with contextlib.suppress(OSError):
            if (heard := connection.recv(4096)) != b"":
                self.tally.faults.append(f"an idle connection heard {heard!r}")
        self.tally.verdicts["idle connections closed"] += 1
        self._selector.unregister(connection)
        connection.close()
        self._idle_on(number)

    def _close_idle(self) -> None:
        for key in list(self._selector.get_map().values()):
            if not isinstance(key.data, Poster):
                self._selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]


if __name__ == "__main__":
    options = dict(zip(("port", "idle", "busy"), map(int, sys.argv[2:]), strict=False))
    print(json.dumps(attrs.asdict(Crowd(**options).run(float(sys.argv[1])))))
