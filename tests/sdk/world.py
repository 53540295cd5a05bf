"""What is around a client, made up: a clock that is set by hand, a collector that misbehaves as told, a bad disk."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import resource
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import httpx

from analytics_sdk import Stats, _process
from analytics_sdk._ledger import DropReason

Key = tuple[object, ...]
"""What tells a record from all others: an event's id; what is said of a session or a user is said once only."""

HEADER = b"analytics-spool 1\n"


def key_of(record: Mapping[str, Any]) -> Key:
    """The key of a record as it goes over the wire."""
    if "event_id" in record:
        return ("event", record["event_id"])
    if "session_id" in record:
        return ("session", record["session_id"], "started_at" in record, "ended_at" in record, record.get("user_id"))
    return ("user", record["user_id"])


# The account


def assert_balanced(stats: Stats) -> None:
    """Everything accepted is in exactly one place, and no number is below zero."""
    places = (stats.delivered, stats.duplicate, stats.rejected, *stats.dropped.values(), stats.pending, stats.spooled)
    assert stats.accepted == sum(places), stats
    assert min(*places, stats.adopted, stats.altered, *stats.refused.values(), 0) == 0, stats
    assert stats.dropped.keys() <= set(get_args(DropReason)), stats


# Time


class Clock:
    """The time of `time.monotonic()`: it passes when somebody sleeps, and when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Take no time, but let it pass."""
        self.now += max(0.0, seconds)


@contextlib.contextmanager
def without_waiting(clock: Clock) -> Iterator[None]:
    """Have the SDK live by a clock of ours, send in the thread of whoever asks, and roll the same dice each time."""
    with contextlib.ExitStack() as stack:
        for name in ("monotonic", "sleep"):
            stack.enter_context(mock.patch.object(time, name, getattr(clock, name)))
        stack.enter_context(mock.patch.object(_process, "lacks_threads", return_value=True))
        stack.enter_context(mock.patch.object(random, "SystemRandom", side_effect=lambda: random.Random(0)))
        yield


# The collector


class FakeCollector:
    """Answers as the collector does, or as it is told; what it has stored stays stored, whoever hears of it.

    Attributes:
        stored: What is in its tables.
        settled: What a client was told the fate of.
        told: How many records a client was told were accepted, duplicates and rejected, since that was last cleared.
        refusable: Records that whoever sends may give up: refused alone for what they are, or refused alone by somebody
            who may mean all of them, and once more after something else went through.
        plan: The misbehaviour for the next requests, one each.
        habit: The misbehaviour for all further ones; None for none.
        firewall: Whether something before it answers 403 to a certain word.
        largest: Bytes of the largest body that it takes.
        patience: Whether whoever sends must heed Retry-After.
        was_pressed: Whether somebody did not.
        meanwhile: Called while the next request is under way, once; its answer is heard by nobody then.
    """

    def __init__(self, clock: Clock) -> None:
        self.stored: set[Key] = set()
        self.settled: set[Key] = set()
        self.told: Counter[str] = Counter()
        self.refusable: set[Key] = set()
        self._doubted: dict[Key, int] = {}  # how many batches had gone through then
        self._went_through = 0
        self.plan: deque[str] = deque()
        self.habit: str | None = None
        self.firewall = False
        self.largest = 1_000_000
        self.patience = True
        self.meanwhile: Callable[[], None] | None = None
        self.not_before = 0.0
        self.was_pressed = False
        self._clock = clock

    def be_healthy(self) -> None:
        """Behave from now on."""
        self.plan.clear()
        self.habit, self.firewall, self.largest, self.not_before = None, False, 1_000_000, 0.0

    @property
    def is_healthy(self) -> bool:
        """Whether it takes everything, now."""
        is_open = not self.firewall and self.largest > 100_000 and self.not_before <= self._clock.now
        return not self.plan and self.habit is None and self.meanwhile is None and is_open

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.was_pressed |= self.patience and self._clock.now < self.not_before
        content = request.content
        body = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
            return httpx.Response(200, json=self.take(body)[0])
        what = self.plan.popleft() if self.plan else self.habit
        answer = self._answer(body) if what is None else MISBEHAVIOURS[what](self, request, body)
        self._note_refusal(answer.status_code, body)
        return answer

    def _note_refusal(self, status: int, body: bytes) -> None:
        """Note what may be given up from now on."""
        keys = [key_of(record) for records in json.loads(body).values() for record in records]
        if len(keys) != 1:
            return
        is_doubt_confirmed = (
            status in (403, 404) and self._doubted.setdefault(keys[0], self._went_through) < self._went_through
        )
        if status in (400, 413) or is_doubt_confirmed:
            self.refusable.update(keys)

    def _answer(self, body: bytes) -> httpx.Response:
        if self.firewall and b"poison" in body:
            return httpx.Response(403, html="<h1>Blocked</h1>")
        if len(body) > self.largest:
            return problem(413, "too_large")
        if b"malformed" in body:
            return problem(400, "malformed")
        answer, keys = self.take(body)
        self._went_through += 1
        self.settled |= keys
        self.told.update({name: count for name, count in answer.items() if isinstance(count, int)})
        self.told["rejected"] += len(answer["rejected"])
        return httpx.Response(200, json=answer)

    def take(self, body: bytes) -> tuple[dict[str, Any], set[Key]]:
        """Store what a body carries; the answer, and what it is about."""
        batch = json.loads(body)
        others = [key_of(record) for record in batch["sessions"] + batch["users"]]
        answer: dict[str, Any] = {"accepted": len(others), "duplicates": 0, "rejected": []}
        self.stored.update(others)
        for index, event in enumerate(batch["events"]):
            self._take_event(event, index, answer)
        return answer, {*others, *map(key_of, batch["events"])}

    def _take_event(self, event: Mapping[str, Any], index: int, answer: dict[str, Any]) -> None:
        if event["event_type"] == "reject":
            verdict = {"event_id": event["event_id"], "record": "event", "index": index, "code": "x", "message": "x"}
            answer["rejected"].append(verdict)
        elif key_of(event) in self.stored:
            answer["duplicates"] += 1
        else:
            self.stored.add(key_of(event))
            answer["accepted"] += 1

    def ask_to_wait(self, status: int, header: str, seconds: float) -> httpx.Response:
        """Answer with Retry-After."""
        self.not_before = self._clock.now + seconds
        return problem(status, "unavailable", **{"Retry-After": header})

    def hang(self, request: httpx.Request) -> httpx.Response:
        """Let the time of a request pass."""
        self._clock.now += request.extensions["timeout"]["read"]
        raise httpx.ReadTimeout("hangs")

    def reset(self) -> httpx.Response:
        """Break the connection."""
        raise httpx.ReadError("connection reset")

    def never_connect(self) -> httpx.Response:
        """Do not even listen."""
        raise httpx.ConnectError("connection refused")


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    """One of the collector's errors."""
    return httpx.Response(status, headers=headers, json={"code": code, "message": "...", "detail": "..."})


Misbehaviour = Callable[[FakeCollector, httpx.Request, bytes], httpx.Response]

MISBEHAVIOURS: dict[str, Misbehaviour] = {
    "500": lambda server, request, body: httpx.Response(500, text="Internal Server Error"),
    "500 after storing": lambda server, request, body: (server.take(body), httpx.Response(500))[1],
    "503 in seconds": lambda server, request, body: server.ask_to_wait(503, "7", 7.0),
    "429 with a date": lambda server, request, body: server.ask_to_wait(429, "Fri, 31 Dec 2999 23:59:59 GMT", 300.0),
    "429": lambda server, request, body: problem(429, "too_many_requests"),
    "413": lambda server, request, body: problem(413, "too_large") if len(body) > 400 else server._answer(body),
    "401": lambda server, request, body: problem(401, "unauthorized"),
    "404": lambda server, request, body: httpx.Response(404, html="<h1>Not Found</h1>"),
    "refuses connections": lambda server, request, body: server.never_connect(),
    "reset": lambda server, request, body: server.reset(),
    "reset after storing": lambda server, request, body: (server.take(body), server.reset())[1],
    "hangs": lambda server, request, body: server.hang(request),
    "hangs after storing": lambda server, request, body: (server.take(body), server.hang(request))[1],
    "a login page": lambda server, request, body: httpx.Response(200, html="<h1>Please log in</h1>"),
    "an empty object": lambda server, request, body: httpx.Response(200, json={}),
    "somebody else's answer": lambda server, request, body: httpx.Response(
        200, json={"accepted": 1, "duplicates": 5000, "rejected": []}
    ),
    "an answer below zero": lambda server, request, body: httpx.Response(
        200, json={"accepted": 1, "duplicates": -7, "rejected": []}
    ),
}


# The disk


def lines_of(content: bytes) -> Iterator[Key]:
    """The keys of the records in a segment that are whole, read as docs/spool.md tells."""
    if content.startswith(HEADER):
        for line in content.removeprefix(HEADER).split(b"\n")[:-1]:
            checksum, _, record = line.partition(b" ")
            if checksum == b"%08x" % zlib.crc32(record) and record:
                yield key_of(json.loads(record))


def keys_on_disk(folder: Path) -> set[Key]:
    """The keys of all records that a spool holds."""
    return {key for path in folder.glob("*.spool") for key in lines_of(path.read_bytes())}


def open_in(folder: Path) -> Iterable[tuple[int, str]]:
    """The files of a folder that this process has open: descriptor and path."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            target = str(Path(f"/proc/self/fd/{name}").readlink())
            if target.startswith(f"{folder}/"):
                yield int(name), target


@contextlib.contextmanager
def disk_with_room_for(size: int | None) -> Iterator[None]:
    """For a block no file may grow beyond so many bytes; the last write before that is cut short, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def rot(content: bytes, place: float, *, is_torn: bool) -> bytes:
    """A segment that was torn, or a bit of it changed, at a place between its first record, 0, and its end, 1."""
    content = content.rstrip(b"\0")  # which a window has made it longer by
    offset = len(HEADER) + int(place * (len(content) - len(HEADER) - 1))
    if is_torn or offset >= len(content):
        return content[:offset]
    return content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]
