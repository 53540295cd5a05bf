"""Engines: shared by clients with the same settings, closed once, and the account outlives them."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from analytics_sdk import Client, _process, _transport, _worker
from analytics_sdk._transport import HttpTransport
from analytics_sdk.testing import Outcome, RecordingTransport
from tests.programs import wait_until
from tests.sdk.test_worker import Network, events_of, our_threads, problem, stored
from tests.sdk.world import HEADER, Clock, assert_balanced, keys_on_disk, without_waiting

Make = Callable[..., Client]
URL = "http://collector.test"


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """What clients without a transport of their own send to."""
    network = Network(stored)
    monkeypatch.setattr(_transport, "new_http_transport", lambda _: httpx.MockTransport(network))
    return network


def engines_of(folder: Path) -> list[Any]:
    """The engines with a spool that the process would close at its end."""
    return [engine for engine in _process.engines() if engine.config.spool == str(folder)]


def leave_behind(make: Make, folder: Path, count: int) -> None:
    """Leave so many events in a spool."""
    with mock.patch.object(_process, "lacks_threads", return_value=True):  # which would be faster, now and then
        client = make(URL, write_key="k", spool=folder, flush_interval=60)
        for _ in range(count):
            client.track("click")
        client.close(timeout=0)


# Sharing


def test_clients_with_the_same_settings_share(make: Make, network: Network) -> None:
    """They have one account, one thread and one stream of batches; other settings make another engine."""
    one, two = (make(URL, write_key="k", flush_interval=60) for _ in range(2))
    other = make(URL, write_key="other", flush_interval=60)
    one.track("click")
    two.track("click")
    other.track("click")
    assert one.stats() == two.stats()
    assert (one.stats().accepted, other.stats().accepted) == (2, 1)
    assert one.flush().delivered == 2
    assert len(network.requests) == 1


def test_settings_that_cannot_be_compared_are_not_shared(make: Make, network: Network) -> None:
    """A function that cannot be hashed is welcome, and such clients have an engine each."""

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, *_: object) -> None:
            """Do nothing."""

    one, two = (make(URL, write_key="k", flush_interval=60, on_drop=Unhashable()) for _ in range(2))
    one.track("click")
    assert (one.stats().accepted, two.stats().accepted) == (1, 0)
    assert one.close().delivered == 1


def test_the_last_client_closes(make: Make, network: Network) -> None:
    """A client that is closed refuses, and has sent what waited; the other one goes on until it is closed, too."""
    one, two = (make(URL, write_key="k", flush_interval=60) for _ in range(2))
    one.track("click")
    assert one.close().delivered == 1
    assert one.track("click") is None
    assert two.track("click") is not None
    assert two.close().delivered == 1
    assert two.track("click") is None
    assert one.stats() == two.stats()
    assert one.stats().refused == {"closed": 2}


def test_a_client_after_the_end_begins_anew(make: Make, network: Network) -> None:
    """The same settings once more, after all clients were closed, are a new engine with a new account."""
    for _ in range(3):
        client = make(URL, write_key="k", flush_interval=60)
        client.track("click")
        assert client.close().delivered == 1
        assert client.stats().accepted == 1


# The end


def test_a_second_close_changes_nothing(make: Make) -> None:
    """Closing again, and the end of the process after that, neither send nor count nor tell anything again."""
    told: list[Any] = []
    transport = RecordingTransport([Outcome(fate="again")] * 100)
    client = make(transport=transport, flush_interval=60, on_drop=lambda *what: told.append(what))
    engine = client._engine
    client.track("click")
    client.close(timeout=0.05)
    stats, attempts = client.stats(), transport.attempts
    assert client.close(timeout=0.05).dropped == 0
    engine.finish(0.0)
    engine.finish(0.0)
    assert (client.stats(), transport.attempts, told) == (stats, attempts, [("exit", 1)])


def test_threads_that_close_together_book_the_end_once(make: Make) -> None:
    """Of many threads that close at once each returns, and what is lost is counted once."""
    told: list[tuple[str, int]] = []
    transport = RecordingTransport([Outcome(fate="again")] * 1000)
    client = make(transport=transport, flush_interval=60, on_drop=lambda *what: told.append(what))
    for _ in range(10):
        client.track("click")
    threads = [threading.Thread(target=client.close, args=(0.1,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (client.stats().dropped, told) == ({"exit": 10}, [("exit", 10)])
    assert_balanced(client.stats())


def test_a_flush_after_the_end_sends_nothing(make: Make, network: Network, tmp_path: Path) -> None:
    """What the end left to the next process is that one's to send, also if a batch of it was under way."""
    network._answers[:] = [problem(503, "unavailable"), stored]
    with without_waiting(Clock()):
        client = make(URL, write_key="k", spool=tmp_path, retry_cap=0.01)
        client.track("click")
        client.flush(timeout=0.001)
        client.close(timeout=0)
        requests, stats = len(network.requests), client.stats()
        assert client.flush().delivered == 0
    assert (len(network.requests), client.stats()) == (requests, stats)
    assert (stats.spooled, len(keys_on_disk(tmp_path))) == (1, 1)


def test_an_engine_that_is_closed_is_let_go(make: Make, network: Network, tmp_path: Path) -> None:
    """Neither the end of the process nor the next client holds on to an engine that is closed."""
    others = our_threads()
    client = Client(URL, write_key="k", spool=tmp_path)
    engine = weakref.ref(client._engine)
    client.track("click")
    client.close()
    wait_until(lambda: our_threads(others) == [], what="the end of the worker")
    del client
    gc.collect()
    assert engine() is None
    assert engines_of(tmp_path) == []


def test_an_engine_without_clients_is_retired(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client has accepted that went out of scope is sent all the same, and then the engine is closed."""
    monkeypatch.setattr(_worker, "_ADOPT_INTERVAL", 0.02)
    client = Client(URL, write_key="k", spool=tmp_path, flush_interval=0.01)
    client.track("click")
    del client
    gc.collect()
    wait_until(lambda: engines_of(tmp_path) == [], what="the end of the engine")
    assert len(network.requests) == 1
    assert keys_on_disk(tmp_path) == set()


def test_an_unused_engine_without_a_thread_is_closed_by_the_next(network: Network, tmp_path: Path) -> None:
    """Clients that are made and forgotten without an event do not pile up."""
    for number in range(5):
        Client(URL, write_key=f"k{number}", spool=tmp_path)
        gc.collect()
    assert len(engines_of(tmp_path)) <= 1
    Client(URL, write_key="other").close()


# With a spool


def test_what_a_killed_process_left_is_adopted(make: Make, network: Network, tmp_path: Path) -> None:
    """A process that is killed in the midst of tracking loses nothing that track() has returned for."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        child = Client(URL, write_key="k", spool=tmp_path, flush_interval=60)
        os.write(writer, "".join(str(child.track("click")) for _ in range(50)).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    with os.fdopen(reader) as told:
        ids = told.read()
    os.waitpid(pid, 0)
    client = make(URL, write_key="k", spool=tmp_path, flush_interval=60)
    report = client.flush()
    assert (report.delivered, client.stats().adopted) == (50, 50)
    assert all(event["event_id"] in ids for event in network_events(network))
    assert list(tmp_path.glob("*")) == []


def network_events(network: Network) -> list[dict[str, Any]]:
    """All events that were sent."""
    return [event for request in network.requests for event in events_of(request)]


def test_closing_tells_what_stays_on_disk(make: Make, network: Network, tmp_path: Path) -> None:
    """With a spool nothing is lost when the collector is away: the report says what waits on disk."""
    network._answers[:] = [httpx.ConnectError("refused")]
    client = make(URL, write_key="k", spool=tmp_path, flush_interval=60, retry_cap=0.01)
    for _ in range(7):
        client.track("click")
    report = client.close(timeout=0.05)
    assert (report.spooled, report.dropped, report.pending) == (7, 0, 0)
    network._answers[:] = [stored]
    assert make(URL, write_key="k", spool=tmp_path).flush().delivered == 7


@pytest.mark.parametrize("has_thread", [True, False])
def test_damaged_segments_do_not_hold_up_those_behind(
    make: Make, network: Network, tmp_path: Path, has_thread: bool
) -> None:
    """A flush sends what is whole at once, whatever lies before it."""
    for _ in range(3):
        leave_behind(make, tmp_path, 2)
    for path in sorted(tmp_path.iterdir())[:2]:
        path.write_bytes(HEADER + b"00000000 {}\n")
    client = make(URL, write_key="k", spool=tmp_path, flush_interval=60)
    with mock.patch.object(_process, "lacks_threads", return_value=not has_thread):
        client.track("click")
        report = client.flush(timeout=5)
    assert (report.delivered, client.stats().dropped, report.elapsed < 4) == (3, {"damaged": 2}, True)


def test_the_spool_may_be_removed_at_any_time(make: Make, network: Network, tmp_path: Path) -> None:
    """Somebody who removes the folder of a host that runs costs it nothing: all arrives, and the folder comes back."""
    folder = tmp_path / "spool"
    client = make(URL, write_key="k", spool=folder, flush_interval=60)
    for _ in range(5):
        client.track("click")
        shutil.rmtree(folder, ignore_errors=True)
        client.track("click")
        assert client.flush().delivered == 2
    client.track("click")
    assert len(keys_on_disk(folder)) == 1


# Without a thread


def test_without_a_thread_a_second_flush_heeds_retry_after(make: Make) -> None:
    """Where flush() itself sends, the pause that the collector asked for holds over several calls."""
    clock = Clock()
    network = Network(problem(503, "unavailable", **{"Retry-After": "60"}), stored)
    with without_waiting(clock):
        client = make(transport=HttpTransport(URL, "k", http=httpx.MockTransport(network)))
        client.track("click")
        for _ in range(5):
            assert client.flush(timeout=5).pending == 1
        assert len(network.requests) == 1
        clock.sleep(40)
        assert client.flush(timeout=5).delivered == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"accepted": 1, "duplicates": 5000, "rejected": []},
        {"accepted": 0, "duplicates": -3, "rejected": []},
        {"accepted": -3, "duplicates": 6, "rejected": []},
        {"accepted": 7, "duplicates": 0, "rejected": []},
        {"accepted": 3, "duplicates": 0, "rejected": [{"index": 0}]},
    ],
)
def test_an_answer_about_another_batch_is_none(make: Make, answer: dict[str, Any]) -> None:
    """Numbers that cannot be those of the batch, as a cache may answer with, deliver nothing: it is sent again."""
    network = Network(httpx.Response(200, json=answer), stored)
    client = make(transport=network.transport(), flush_interval=60, retry_cap=0.01)
    for _ in range(3):
        client.track("click")
    assert client.flush().delivered == 3
    assert len(network.requests) == 2
    assert_balanced(client.stats())


def test_an_heir_waits_for_nobody_who_is_not_there(
    make: Make, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that sends what its parent tracked begins although another thread held the lock at the fork."""
    client = make(URL, write_key="k", flush_interval=60)
    client.track("click")
    monkeypatch.setattr(_process, "_is_heir", lambda: True)
    lock, held, done = client._engine.buffer._queue.lock, threading.Event(), threading.Event()
    holder = threading.Thread(target=lambda: (lock.acquire(), held.set(), done.wait(10), lock.release()))
    holder.start()
    assert held.wait(10)
    assert pending_in_child(client) == 1
    done.set()
    holder.join(10)
    assert client.stats().pending == 1


def pending_in_child(client: Client) -> int:
    """How many records wait in a forked child, which is killed if it does not say so within 10 seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        pid = os.fork()
    if pid == 0:
        os._exit(client.stats().pending)
    try:
        wait_until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)
    finally:
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)
