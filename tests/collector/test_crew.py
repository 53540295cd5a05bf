"""Small requests are served together: many in one thread, each as if it were alone."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from greenlet import greenlet

from analytics_collector import together
from analytics_collector.crew import Crew
from tests.collector.batches import body, event
from tests.conftest import WRITE_KEY
from tests.programs import Collector, run_collector, wait_until

# One thread


def test_all_come_as_far_before_one_goes_on() -> None:
    """Whoever has to wait lets the others come first, and all go on in the order in which they came."""
    steps: list[str] = []

    def task(name: str) -> str:
        steps.append(f"{name} comes")
        together.let_others_come()
        steps.append(f"{name} goes on")
        return name

    assert together.serve([lambda name=name: task(name) for name in "abc"]) == ["a", "b", "c"]
    assert steps == ["a comes", "b comes", "c comes", "a goes on", "b goes on", "c goes on"]


def test_who_does_not_wait_is_done_at_once() -> None:
    """A request that is refused before its commit is answered, and its neighbours still wait for each other."""
    assert together.serve([lambda: 1, lambda: together.let_others_come() or 2, lambda: 3]) == [1, 2, 3]


def test_each_has_a_context_of_its_own() -> None:
    """What one request has set in a context variable, as Flask and the log do, no other one sees."""
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")

    def task(name: str) -> tuple[str, str]:
        before = whose.get()
        whose.set(name)
        together.let_others_come()
        return before, whose.get()

    found = together.serve([lambda name=name: task(name) for name in "ab"])
    assert found == [("nobody's", "a"), ("nobody's", "b")]
    assert whose.get() == "nobody's"


def test_alone_nobody_waits() -> None:
    """In a thread of its own, and in a greenlet of somebody else's, a request goes on at once."""
    together.let_others_come()
    assert greenlet(lambda: together.let_others_come() or "went on").switch() == "went on"


# The crew


class Service:
    """Serves numbers, and keeps who was served by which thread."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.crew: Crew[int] = Crew(threads.submit, self.serve, self.finish)
        self.is_open = threading.Event()
        self.is_open.set()
        self.threads: dict[int, int] = {}
        self.batches: list[list[int]] = []

    def serve(self, number: int) -> bool:
        """Wait until it may."""
        together.let_others_come()
        self.is_open.wait(30)
        self.threads[number] = threading.get_ident()
        return number % 2 == 0

    def finish(self, served: Sequence[tuple[int, bool]]) -> None:
        """Keep them."""
        assert all(stays == (number % 2 == 0) for number, stays in served)
        self.batches.append([number for number, _ in served])

    def served(self) -> list[int]:
        """All that were finished."""
        return [number for batch in self.batches for number in batch]


@pytest.fixture
def service() -> Iterator[Service]:
    """A crew with more threads than it should want."""
    with ThreadPoolExecutor(8) as threads:
        yield Service(threads)


def add(service: Service, *numbers: int) -> None:
    """Let these arrive at once."""
    for number in numbers:
        service.crew.add(number)
    service.crew.call()


def test_what_is_there_at_once_is_served_in_one_thread(service: Service) -> None:
    """Ten requests that arrive together are one batch, finished in their order."""
    add(service, *range(10))
    wait_until(lambda: service.batches == [list(range(10))], what="one batch")
    assert len(set(service.threads.values())) == 1


def test_a_thousand_do_not_wait_for_each_other(service: Service) -> None:
    """A batch has an end, however many are there."""
    add(service, *range(1000))
    wait_until(lambda: len(service.served()) == 1000, what="all served")
    assert max(map(len, service.batches)) == 64


def test_those_who_come_meanwhile_are_the_next_batch(service: Service) -> None:
    """While the thread is at it nobody else is sent to work, and nobody has to be called for those who came."""
    service.is_open.clear()
    add(service, 0)
    wait_until(lambda: not service.crew._ready, what="the thread's being at it")
    for number in range(1, 20):
        add(service, number)
    service.is_open.set()
    wait_until(lambda: len(service.served()) == 20, what="all served")
    assert service.batches == [[0], list(range(1, 20))]


def test_nobody_is_forgotten_or_served_twice(service: Service) -> None:
    """Whoever comes at the moment when a thread goes is served all the same."""
    for number in range(20_000):
        add(service, number)
    wait_until(lambda: len(service.served()) >= 20_000, what="all served")
    assert sorted(service.served()) == list(range(20_000))


# Behind gunicorn


@pytest.fixture(scope="module")
def one_worker(migrated_dsn: str) -> Iterator[Collector]:
    """A collector with one worker, whose crew gets all of it."""
    with run_collector(migrated_dsn, workers=1, ANALYTICS_LOG_FORMAT="json") as collector:
        yield collector


def ask(connection: socket.socket, name: str, content: bytes, key: str = WRITE_KEY) -> None:
    """Send a request with an id."""
    head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nX-Request-ID: {name}\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)


def hear(connection: socket.socket) -> tuple[int, str, dict[str, Any]]:
    """Status, request id and content of an answer."""
    with connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        lines = iter(lambda: stream.readline().decode().strip(), "")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return status, headers["x-request-id"], json.loads(stream.read(int(headers["content-length"])))


def five_of_a_kind(number: int) -> list[tuple[bytes, str, int]]:
    """Requests that have little to do with each other: content, key, and the status that is due."""
    return [
        (body(events=[event(number)]), WRITE_KEY, 200),
        (body(events=[event(number)]), WRITE_KEY, 200),
        (b"{", WRITE_KEY, 400),
        (body(events=[event(100 + number), {"event_id": "x"}]), WRITE_KEY, 200),
        (body(events=[event(200 + number)]), "wrong", 401),
    ]


def test_each_is_answered_as_if_it_were_alone(one_worker: Collector, connection: psycopg.Connection) -> None:
    """Good, bad, refused and repeated requests that arrive together each have their own id, status and verdict."""
    requests = [request for number in range(10) for request in five_of_a_kind(number)]
    address = urlsplit(one_worker.url)
    with ExitStack() as stack:
        here = (address.hostname or "", address.port or 0)
        sockets = [stack.enter_context(socket.create_connection(here, 30)) for _ in requests]
        for number, (content, key, _) in enumerate(requests):
            ask(sockets[number], f"r{number}", content, key)
        answers = [hear(each) for each in sockets]
    assert [answer[:2] for answer in answers] == [(status, f"r{n}") for n, (_, _, status) in enumerate(requests)]
    verdicts = [found for status, _, found in answers if status == 200]
    assert [found["accepted"] + found["duplicates"] + len(found["rejected"]) for found in verdicts] == [1, 1, 2] * 10
    assert sum(found["accepted"] for found in verdicts) == 20
    assert sum(found["duplicates"] for found in verdicts) == 10
    assert connection.execute("SELECT count(*) FROM analytics_event").fetchone() == (20,)
