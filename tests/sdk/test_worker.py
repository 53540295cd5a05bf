"""The worker: retries the same bytes until they are stored, isolates poison, keeps order, and stays out of the way."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from analytics_sdk import Client
from analytics_sdk._transport import HttpTransport
from analytics_sdk.testing import Outcome, RecordingTransport
from tests.conftest import WRITE_KEY
from tests.programs import Collector, wait_until
from tests.sdk.servers import Answer, answering_server

Make = Callable[..., Client]
Answerer = Callable[[httpx.Request], httpx.Response]

POISON = b'"poison"'


def body_of(request: httpx.Request) -> bytes:
    """What a request carries, inflated."""
    return gzip.decompress(request.content) if request.content.startswith(b"\x1f\x8b") else request.content


def events_of(request: httpx.Request) -> list[dict[str, Any]]:
    """The events that a request carries."""
    return list(json.loads(body_of(request))["events"])


def stored(request: httpx.Request) -> httpx.Response:
    """The collector's answer when all goes well."""
    count = sum(map(len, json.loads(body_of(request)).values()))
    return httpx.Response(200, json={"accepted": count, "duplicates": 0, "rejected": []})


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    """The collector's answer when it does not."""
    return httpx.Response(status, headers=headers, json={"code": code, "message": "...", "detail": "..."})


class Network:
    """Answers as it is told, one after the other and then for ever with the last one; keeps every request."""

    def __init__(self, *answers: httpx.Response | Exception | Answerer) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer the next request."""
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    @property
    def bodies(self) -> list[bytes]:
        """What was sent each time."""
        return [body_of(request) for request in self.requests]

    def transport(self) -> HttpTransport:
        """The real transport over this network."""
        return HttpTransport("http://127.0.0.1:8000", "k", http=httpx.MockTransport(self))


@contextlib.contextmanager
def warnings_and_up(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The levels of what the SDK logs in a block."""
    found: list[str] = []
    yield found
    found += [record.levelname for record in caplog.records if record.name == "analytics_sdk"]


# Trying again


def test_it_retries_until_delivered_with_identical_bytes(make: Make) -> None:
    """Through one trouble after the other the same bytes are sent again, and counted once."""
    network = Network(
        httpx.ConnectError("refused"),
        problem(503, "unavailable", **{"Retry-After": "0"}),
        problem(429, "too_many_requests"),
        httpx.ReadTimeout("hangs"),
        httpx.RemoteProtocolError("reset"),
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        stored,
    )
    client = make(transport=network.transport(), flush_interval=0.01, retry_cap=0.01)
    for number in range(10):
        client.track("click", {"number": number})
    wait_until(lambda: client.stats().delivered == 10)
    assert len(network.bodies) == 7
    assert set(network.bodies) == {network.bodies[-1]}
    assert client.stats().duplicate == 0


def test_an_outage_without_end_loses_nothing(make: Make) -> None:
    """A hundred failed tries do not make it give up."""
    network = Network(*[httpx.ConnectError("refused")] * 100, stored)
    client = make(transport=network.transport(), flush_interval=0.001, retry_cap=0.001)
    client.track("click")
    wait_until(lambda: client.stats().delivered == 1)
    assert len(network.requests) == 101


@pytest.mark.parametrize("header", [{"Retry-After": "60"}, {"Retry-After": "Fri, 31 Dec 2999 23:59:59 GMT"}])
def test_retry_after_is_a_minimum_also_under_load(make: Make, header: dict[str, str]) -> None:
    """When the collector asks for a pause, full batches do not cut it short."""
    network = Network(problem(503, "unavailable", **header), stored)
    client = make(transport=network.transport(), flush_interval=0.001, max_batch_events=5)
    client.track("click")
    wait_until(lambda: client.stats().pending == 1 and network.requests)
    for _ in range(100):
        client.track("click")
        time.sleep(0.001)
    assert len(network.requests) == 1
    assert client.stats().pending == 101


def test_the_end_cuts_every_pause_short(make: Make) -> None:
    """close() does not wait for the pause that the worker makes, and tries once more."""
    network = Network(problem(503, "unavailable", **{"Retry-After": "60"}), stored)
    client = make(transport=network.transport(), flush_interval=0.001)
    client.track("click")
    wait_until(lambda: network.requests)
    thread = client._engine.worker._thread
    assert thread is not None
    report = client.close(timeout=5)
    assert (report.delivered, report.elapsed < 2) == (1, True)
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("answer", [problem(401, "unauthorized"), httpx.Response(407), httpx.Response(302)])
def test_what_a_person_must_mend_is_kept_and_tried_rarely(make: Make, answer: httpx.Response) -> None:
    """With a wrong key or a wrong address everything is kept, and there is one try in each retry_cap."""
    network = Network(answer, stored)
    client = make(transport=network.transport(), flush_interval=0.001, retry_cap=0.3)
    began = time.monotonic()
    for _ in range(3):
        client.track("click")
    wait_until(lambda: client.stats().delivered == 3)
    assert len(network.requests) == 2
    assert time.monotonic() - began > 0.3


def test_a_proxys_friendly_page_is_not_taken_as_stored(make: Make) -> None:
    """A 200 that is not the collector's answer delivers nothing."""
    network = Network(httpx.Response(200, html="<html>Please log in</html>"), httpx.Response(200, json={}), stored)
    client = make(transport=network.transport(), flush_interval=60, retry_cap=0.01)
    client.track("click")
    assert client.flush().delivered == 1
    assert len(network.requests) == 3


def test_it_outlives_a_transport_with_a_bug(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody thought of is an outage like any other."""
    network = Network(ZeroDivisionError("a bug"), stored)
    client = make(transport=network.transport(), flush_interval=0.001, retry_cap=0.01)
    client.track("click")
    wait_until(lambda: client.stats().delivered == 1)
    assert "ZeroDivisionError: a bug" in caplog.text


# Poison


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("place", [0, 33, 99])
def test_poison_is_isolated(make: Make, status: int, place: int) -> None:
    """Of a batch that is refused halves are sent until the poison stands alone; the rest arrives, once, in order."""
    arrived: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if POISON in body_of(request):
            return problem(status, "malformed")
        arrived.extend(event["event_data"]["number"] for event in events_of(request))
        return stored(request)

    network = Network(answer)
    client = make(transport=network.transport(), flush_interval=60)
    for number in range(100):
        client.track("poison" if number == place else "click", {"number": number})
    client.flush()
    assert arrived == [number for number in range(100) if number != place]
    assert (client.stats().delivered, client.stats().dropped) == (99, {"refused": 1})
    assert len(network.requests) <= 2 * 7 + 1


def test_poison_in_company_of_trouble(make: Make) -> None:
    """While a batch is being halved an outage loses nothing."""
    refused, broken = Outcome(fate="refused"), Outcome(fate="again")
    transport = RecordingTransport([refused, broken, refused, broken, broken])
    client = make(transport=transport, flush_interval=60, retry_cap=0.01)
    ids = [client.track("click") for _ in range(9)]
    client.flush()
    assert [event["event_id"] for event in transport.events] == ids


# Batches


def test_the_order_is_kept(make: Make, transport: RecordingTransport) -> None:
    """Events arrive in the order in which they were tracked, over many batches."""
    client = make(transport=transport, flush_interval=0.001, max_batch_events=7)
    ids = [client.track("click") for _ in range(500)]
    client.flush()
    assert [event["event_id"] for event in transport.events] == ids


def test_the_order_is_kept_through_trouble(make: Make) -> None:
    """Later batches wait for an earlier one that fails."""
    transport = RecordingTransport([Outcome(fate="again")] * 3)
    client = make(transport=transport, flush_interval=0.001, max_batch_events=7, retry_cap=0.01)
    ids = [client.track("click") for _ in range(50)]
    client.flush()
    assert [event["event_id"] for event in transport.events] == ids


def test_no_batch_is_larger_than_configured(make: Make) -> None:
    """Neither max_batch_events nor max_batch_bytes is ever passed, and one event may always go alone."""
    network = Network(stored)
    client = make(transport=network.transport(), flush_interval=60, max_batch_events=10, max_batch_bytes=3000)
    for number in range(100):
        client.track("click", {"text": "x" * (5000 if number % 10 == 0 else number * 10)})
    client.flush()
    assert client.stats().delivered == 100
    counts = [len(events_of(request)) for request in network.requests]
    assert max(counts) <= 10
    frame = len(b'{"sessions":[],"users":[],"events":[]}') + 9  # and commas
    assert all(len(body) <= 3000 + frame for body, count in zip(network.bodies, counts, strict=True) if count > 1)


def test_an_event_is_sent_after_flush_interval(make: Make, transport: RecordingTransport) -> None:
    """Nobody needs to call flush(): an event waits for company for flush_interval, and no longer."""
    client = make(transport=transport, flush_interval=0.3)
    began = time.monotonic()
    client.track("one")
    client.track("two")
    wait_until(lambda: client.stats().delivered == 2)
    assert 0.25 < time.monotonic() - began < 4
    assert transport.attempts == 1


def test_a_full_batch_does_not_wait(make: Make, transport: RecordingTransport) -> None:
    """As soon as max_batch_events wait, they are sent."""
    client = make(transport=transport, flush_interval=60, max_batch_events=10)
    for _ in range(10):
        client.track("click")
    wait_until(lambda: client.stats().delivered == 10)


def test_the_worker_goes_on_after_a_pause(make: Make, transport: RecordingTransport) -> None:
    """Events that come one by one, each after the one before was sent, are all sent."""
    client = make(transport=transport, flush_interval=0.001)
    for number in range(1, 30):
        client.track("click")
        wait_until(lambda number=number: client.stats().delivered == number)


# The thread


def our_threads(but: Collection[threading.Thread] = ()) -> list[threading.Thread]:
    """The SDK's threads that are alive, but for those of earlier tests."""
    return [thread for thread in threading.enumerate() if thread.name == "analytics_sdk" and thread not in but]


def test_there_is_one_lazy_daemon_thread(make: Make) -> None:
    """A client has no thread before its first event, then one whatever is tracked, and none after close()."""
    others = our_threads()
    client = make(transport=RecordingTransport(), flush_interval=0.001)
    assert our_threads(others) == []
    for _ in range(100):
        client.track("click")
    (thread,) = our_threads(others)
    assert thread.daemon
    client.close()
    wait_until(lambda: our_threads(others) == [], what="the end of the worker")


def test_threads_that_begin_together_start_one_worker(make: Make, transport: RecordingTransport) -> None:
    """Sixteen threads that track for the first time at once start one worker."""
    others = our_threads()
    client = make(transport=transport, flush_interval=60)
    together = threading.Barrier(16, timeout=10)

    def work() -> None:
        together.wait()
        client.track("click")

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(our_threads(others)) == 1
    assert client.flush().delivered == 16


# What it logs


@pytest.mark.parametrize(
    ("answers", "levels"),
    [
        ([httpx.ConnectError("refused")] * 20 + [stored], ["WARNING"]),
        ([problem(503, "unavailable")] * 20 + [stored], ["WARNING"]),
        ([problem(401, "unauthorized")] * 3 + [stored], ["ERROR"]),
        ([stored], []),
    ],
    ids=["refused", "503", "401", "fine"],
)
def test_an_incident_is_one_log_line(
    make: Make, caplog: pytest.LogCaptureFixture, answers: list[Any], levels: list[str]
) -> None:
    """However many tries it takes, an incident is one line; no key and no content of an event is in it."""
    client = make(transport=Network(*answers).transport(), flush_interval=60, retry_cap=0.001)
    with warnings_and_up(caplog) as found:
        client.track("secret-type", {"secret": "value"}, user_id="secret-user")
        assert client.flush().delivered == 1
    assert found == levels
    assert "secret" not in caplog.text


def test_the_end_of_an_incident_is_told_too(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """At level INFO the log says when events are taken again; a second incident is a line of its own."""
    caplog.set_level(logging.INFO, "analytics_sdk")
    again = [httpx.ConnectError("refused")] * 2
    client = make(transport=Network(*again, stored, *again, stored).transport(), flush_interval=60, retry_cap=0.001)
    with warnings_and_up(caplog) as found:
        for _ in range(2):
            client.track("click")
            client.flush()
    assert found == ["WARNING", "INFO"] * 2


def test_rejects_are_one_log_line_a_batch(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What the collector set aside is told once a batch, with the first reason."""
    verdicts = tuple({"index": index, "code": "clock_ahead", "message": "ahead"} for index in range(50))
    client = make(transport=RecordingTransport([Outcome(fate="stored", rejected=verdicts)]), flush_interval=60)
    for _ in range(50):
        client.track("click")
    with warnings_and_up(caplog) as found:
        assert client.flush().rejected == 50
    assert found == ["WARNING"]
    assert "50 records" in caplog.text


# Over a real socket


def test_batches_share_a_connection_and_large_ones_are_packed(make: Make) -> None:
    """All batches go over one connection; bodies of over 1 KB are gzip, smaller ones are not."""
    with answering_server() as server:
        client = make(server.url, write_key="k", flush_interval=60)
        for size in (1, 2000, 5, 3000, 100_000):
            client.track("click", {"text": "x" * size})
            assert client.flush().delivered == 1
        client.close()
    assert len({request.peer for request in server.requests}) == 1
    assert [request.body.startswith(b"\x1f\x8b") for request in server.requests] == [False, True, False, True, True]
    sizes = [len(request.batch["events"][0]["event_data"]["text"]) for request in server.requests]
    assert sizes == [1, 2000, 5, 3000, 100_000]


def test_a_server_that_closes_connections_gets_everything(make: Make) -> None:
    """A connection that was closed while it was idle costs nothing."""
    with answering_server([Answer(headers={"Connection": "close"})] * 5) as server:
        client = make(server.url, write_key="k", flush_interval=60, retry_cap=0.01)
        for _ in range(5):
            client.track("click")
            assert client.flush().delivered == 1
        client.close()


def test_an_answer_that_is_lost_stores_nothing_twice(
    make: Make, collector: Collector, connection: psycopg.Connection
) -> None:
    """When the answer is lost after COMMIT, the second try is counted as duplicates, and the table has one row each."""
    real = httpx.HTTPTransport()
    lost: list[httpx.Response] = []

    def lose_the_first(request: httpx.Request) -> httpx.Response:
        answer = real.handle_request(request)
        content = answer.read()
        if not lost:
            lost.append(answer)
            raise httpx.ReadError("connection reset")
        return httpx.Response(answer.status_code, content=content)

    transport = HttpTransport(collector.url, WRITE_KEY, http=httpx.MockTransport(lose_the_first))
    client = make(transport=transport, flush_interval=60, retry_cap=0.01)
    for _ in range(10):
        client.track("click", user_id=42)
    assert client.flush().delivered == 10
    real.close()
    assert (client.stats().duplicate, client.stats().delivered) == (10, 0)
    rows = connection.execute("SELECT count(*), max(total_events) FROM analytics_event, analytics_useranalyticsprofile")
    assert rows.fetchall() == [(10, 10)]
