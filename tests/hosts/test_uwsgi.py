"""uWSGI: it forks in C, may have no threads, and its master ends without a word; nothing is lost to any of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.delivery.ledger import Verdict
from tests.delivery.trial import Trial
from tests.hosts.visits import Visit, visit
from tests.programs import ROOT, Collector, free_port, running, wait_until
from tests.sdk.servers import hanging_server

UWSGI = str(Path(sys.executable).with_name("pyuwsgi"))  # the whole server, as a wheel
THREADS = {"enable-threads": ("--enable-threads",), "threads": ("--threads", "2")}
NO_THREADS = {"no threads": ()}
QUICK = ["enable-threads", pytest.param("threads", marks=pytest.mark.slow)]  # which is the same to us
LOADED = pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["loaded by the master", "loaded by workers"])

COMPLAINT = "ERROR analytics_sdk uWSGI runs without threads"


@attrs.frozen
class Server:
    """A uWSGI that runs.

    Attributes:
        stats_port: Where it tells what its workers do.
    """

    url: str
    stats_port: int
    process: subprocess.Popen[str]
    trial: Trial

    def visit(self, path: str) -> Visit:
        """Ask for a page."""
        return visit(f"{self.url}/{path}")

    def wait_until_ready(self, max_requests: int = sys.maxsize) -> None:
        """Return once all workers can be told to end.

        A worker that is only being made loses the signal: just after the fork it has no handler of its own yet, and its
        master waits 60 seconds before it kills it. uWSGI calls it idle all the same, so what counts is that it accepts.
        And in a worker that is stopped in a request, uWSGI runs no exit handlers.

        Args:
            max_requests: After so many a worker is replaced by another one, and this waits for that one.
        """
        wait_until(lambda: all(_is_ready(worker, max_requests) for worker in self._workers()), what="rest", within=20)

    def _workers(self) -> list[dict[str, Any]]:
        """What its stats server says of each; nothing is known until that is there."""
        try:
            with socket.create_connection(("127.0.0.1", self.stats_port)) as connection:
                return list(json.load(connection.makefile("rb"))["workers"])
        except (OSError, ValueError):
            return [{"accepting": 0}]

    def stop(self, max_requests: int = sys.maxsize) -> float:
        """End it by SIGTERM and wait for that; returns how many seconds it took."""
        self.wait_until_ready(max_requests)
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(30) == 0
        return time.monotonic() - began


def _is_ready(worker: dict[str, Any], max_requests: int) -> bool:
    return bool(worker["accepting"]) and worker["status"] == "idle" and worker["delta_requests"] < max_requests


@contextlib.contextmanager
def serve(trial: Trial, *options: str, workers: int = 2, module: str = "tests.hosts.web_app") -> Iterator[Server]:
    """The host's application behind uWSGI, with a master; yields once all workers can answer."""
    port = free_port()
    place = ["--http-socket", f"127.0.0.1:{port}", "--module", f"{module}:app", "--pythonpath", str(ROOT)]
    stats = free_port()
    settled = ["--master", "--die-on-term", "--disable-logging", "--processes", str(workers)]
    command = [UWSGI, *place, *settled, "--stats", f"127.0.0.1:{stats}", *options]
    with (
        (trial.folder / "log").open("ab") as log,
        running(command, trial.settings(), stdout=log, stderr=log) as process,
    ):
        server = Server(f"http://127.0.0.1:{port}", stats, process, trial)
        wait_until(lambda: has_answered(server), what="an answer")
        server.wait_until_ready()
        yield server


def has_answered(server: Server) -> bool:
    """Whether a worker answers."""
    try:
        return server.visit("?0").pid > 0
    except OSError:
        return False


def assert_all_there_once(verdict: Verdict, least: int) -> None:
    """Every accepted id is in Postgres, once."""
    assert len(verdict.accepted) >= least
    assert (verdict.lost, verdict.duplicated) == (set(), set())


@LOADED
@pytest.mark.parametrize("threads", QUICK)
def test_with_threads_events_leave_by_themselves(
    make_trial: Callable[..., Trial], collector: Collector, threads: str, lazy: tuple[str, ...]
) -> None:
    """With threads, events are sent while the server runs; the master's, at the latest, as its first worker ends."""
    trial = make_trial(collector.url, ANALYTICS_EXIT_TIMEOUT="20", ANALYTICS_FLUSH_INTERVAL="0.05")
    with serve(trial, *THREADS[threads], *lazy) as server:
        for _ in range(10):
            server.visit("?3")
        wait_until(lambda: len(trial.verdict().lost) <= (0 if lazy else 1), what="the delivery")
        server.stop()
    assert_all_there_once(trial.verdict(), 31)
    assert COMPLAINT not in trial.log
    assert "could not be sent" not in trial.log


@LOADED
@pytest.mark.parametrize("options", [(), ("--py-call-osafterfork",)], ids=["plain", "py-call-osafterfork"])
def test_without_threads_events_leave_at_the_end(
    make_trial: Callable[..., Trial], collector: Collector, lazy: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Without threads, all is sent as the workers end, also what the master tracked; one line a process says why."""
    trial = make_trial(collector.url, ANALYTICS_EXIT_TIMEOUT="20")
    with serve(trial, *lazy, *options) as server:
        for _ in range(10):
            server.visit("?3")
        assert trial.verdict().stored.total() == 0
        server.stop()
    assert_all_there_once(trial.verdict(), 31)
    assert trial.log.count(COMPLAINT) == (2 if lazy else 1)  # what forked workers would say, their master has said
    assert "Exception ignored" not in trial.log
    assert "could not be sent" not in trial.log


def test_without_threads_a_flush_sends(make_trial: Callable[..., Trial], collector: Collector) -> None:
    """Without threads, flush() sends in the request that calls it."""
    trial = make_trial(collector.url)
    with serve(trial, workers=1) as server:
        server.visit("?5")
        server.visit("flush?5")
        assert_all_there_once(trial.verdict(), 6)


@pytest.mark.parametrize("threads", [*QUICK, *NO_THREADS])
def test_workers_that_are_replaced_lose_nothing(
    make_trial: Callable[..., Trial], collector: Collector, threads: str
) -> None:
    """Workers that end after a few requests each deliver what they have, with threads and without."""
    trial = make_trial(collector.url, ANALYTICS_EXIT_TIMEOUT="20", ANALYTICS_FLUSH_INTERVAL="0.05")
    with serve(trial, *(THREADS | NO_THREADS)[threads], "--max-requests", "5", "--min-worker-lifetime", "0") as server:
        pids = {server.visit("?3").pid for _ in range(12)}
        server.stop(max_requests=5)
    assert len(pids) > 2
    assert_all_there_once(trial.verdict(), 37)


def test_a_reload_loses_nothing(make_trial: Callable[..., Trial], collector: Collector) -> None:
    """A reload replaces the workers; without threads, the old ones deliver what they have as they end."""
    trial = make_trial(collector.url, ANALYTICS_EXIT_TIMEOUT="20")
    touched = trial.folder / "reload"
    touched.touch()
    with serve(trial, "--lazy-apps", "--touch-workers-reload", str(touched)) as server:
        before = {server.visit("?3").pid for _ in range(6)}
        server.wait_until_ready()
        os.utime(touched, (time.time() + 10,) * 2)  # uWSGI looks at seconds
        wait_until(lambda: trial.log.count("WSGI app 0") == 4, within=20, what="the reload")
        assert server.visit("?3").pid not in before
        server.stop()
    assert_all_there_once(trial.verdict(), 25)


def test_a_killed_worker_leaves_its_spool(make_trial: Callable[..., Trial], collector: Collector) -> None:
    """Without threads and with a spool, kill -9 loses nothing: the next process delivers it."""
    trial = make_trial(collector.url, spool=True)
    with serve(trial, workers=1) as server:
        os.kill(server.visit("?5").pid, signal.SIGKILL)
        wait_until(lambda: has_answered(server), what="an answer")
        server.visit("?5")
        server.stop()
    trial.adopt()
    assert_all_there_once(trial.verdict(), 11)


@pytest.mark.parametrize("threads", ["enable-threads", "no threads"])
def test_a_hanging_collector_does_not_hold_the_end(make_trial: Callable[..., Trial], threads: str) -> None:
    """A server whose collector hangs ends within its workers' budget; a worker that tracked nothing says nothing."""
    with hanging_server() as url:
        trial = make_trial(url, ANALYTICS_EXIT_TIMEOUT="0.5")
        with serve(trial, *(THREADS | NO_THREADS)[threads], "--lazy-apps", workers=1) as server:
            server.visit("?3")
            assert server.stop() < 8  # and not the 10 of a request; uWSGI looks after its workers once a second
    assert trial.log.count("no answer came") == 1


def test_a_worker_that_tracked_nothing_has_nothing_to_lose(make_trial: Callable[..., Trial]) -> None:
    """Of what the master tracked, one worker alone tells that it is lost; the other one has lost nothing."""
    with hanging_server() as url:
        trial = make_trial(url, ANALYTICS_EXIT_TIMEOUT="0.2")
        with serve(trial, "--enable-threads") as server:
            server.stop()
    assert trial.log.count("no answer came") == 1
    assert sorted(account.stats["accepted"] for account in trial.verdict().accounts) == [0, 1]


@pytest.mark.parametrize("threads", QUICK)
def test_a_fork_in_the_midst_of_tracking(make_trial: Callable[..., Trial], collector: Collector, threads: str) -> None:
    """Workers that are forked while a thread of ours would be sending live on, and the first one sends it all."""
    trial = make_trial(collector.url, ANALYTICS_FLUSH_INTERVAL="0.001", ANALYTICS_EXIT_TIMEOUT="20")
    with serve(trial, *THREADS[threads], module="tests.hosts.busy_app") as server:
        server.visit("?3")
        server.stop()
    assert_all_there_once(trial.verdict(), 104)
