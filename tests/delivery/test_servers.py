"""Servers that replace their processes all the time: gunicorn and Celery."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest

from tests.delivery.trial import PATIENCE, Size, Trial, sizes
from tests.programs import ROOT, Collector, gunicorn, running, wait_until

VISITORS = 4
RECYCLED = 50  # requests after which a worker of gunicorn is replaced

LOADED = pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["loaded by workers", "preloaded"])


def visit(url: str) -> int:
    """Open a page that tracks; returns which process did, or 0 if that was killed meanwhile."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return int(response.read())
    except (OSError, HTTPException):
        return 0


def visit_and_kill(url: str) -> int:
    """Open a page, and kill -9 the process that served it."""
    pid = visit(url)
    if pid:
        os.kill(pid, signal.SIGKILL)
    return pid


def tracks_of(size: Size) -> int:
    """How many events a request tracks."""
    return 10 if size.run else 1


def serve(trial: Trial, *options: str) -> Callable[..., object]:
    """The host's application behind gunicorn."""
    settled = ("--workers", "2", "--no-control-socket", "--pythonpath", str(ROOT))
    return gunicorn("tests.delivery.web_app:app", trial.settings(), *settled, *options)


@LOADED
@sizes(runs=5)
def test_gunicorn_replaces_its_workers(
    make_trial: Callable[..., Trial], collector: Collector, preload: tuple[str, ...], size: Size, *, spool: bool
) -> None:
    """Workers that end after 50 requests each, and the last ones at the server's end, lose nothing."""
    trial = make_trial(collector.url, spool=spool, ANALYTICS_EXIT_TIMEOUT="10")
    tracks = tracks_of(size)
    visits = size.count // tracks
    with (
        serve(trial, "--max-requests", str(RECYCLED), *preload) as (url, _),
        ThreadPoolExecutor(VISITORS) as visitors,
    ):
        pids = list(visitors.map(visit, [f"{url}/?{tracks}"] * visits))
    assert 0 not in pids
    assert len(set(pids)) >= visits // RECYCLED // 2
    if spool:
        trial.adopt()
    verdict = trial.verdict()
    verdict.assert_nothing_lost()
    assert len(verdict.accepted) > size.count  # and what was tracked as the application was loaded


@LOADED
@sizes(runs=20)
def test_gunicorn_loses_workers_to_kill_9(
    make_trial: Callable[..., Trial], collector: Collector, preload: tuple[str, ...], size: Size
) -> None:
    """A worker that is killed in the midst of its work leaves what it has accepted to a living one, with a spool."""
    trial = make_trial(collector.url, spool=True)
    tracks = tracks_of(size)
    visits = [visit_and_kill if number % RECYCLED == 0 else visit for number in range(1, size.count // tracks + 1)]
    with serve(trial, *preload) as (url, _), ThreadPoolExecutor(VISITORS) as visitors:
        list(visitors.map(lambda kind: kind(f"{url}/?{tracks}"), visits))
    trial.adopt()
    verdict = trial.verdict()
    verdict.assert_nothing_lost(kills=visits.count(visit_and_kill))
    assert len(verdict.accepted) > size.count // 2


@sizes(runs=5)
def test_celery_replaces_its_workers(
    make_trial: Callable[..., Trial], collector: Collector, size: Size, *, spool: bool
) -> None:
    """A worker process that does one task and is thrown away by `os._exit` loses nothing of it, with a spool."""
    trial = make_trial(collector.url, spool=spool, ANALYTICS_FLUSH_INTERVAL="60")
    environ = {**trial.settings(), "DELIVERY_BROKER": str(trial.folder / "broker")}
    order = "import sys; from tests.delivery.celery_app import work; [work.delay(int(n)) for n in sys.argv[1:]]"
    tasks = 40 if size.run else 4
    counts = [str(size.count // tasks)] * tasks
    subprocess.run([sys.executable, "-c", order, *counts], env=environ, cwd=ROOT, check=True, timeout=PATIENCE)
    command = [sys.executable, "-m", "celery", "-A", "tests.delivery.celery_app", "worker", "--pool", "prefork"]
    limits = ["--concurrency", "4", "--max-tasks-per-child", "1", "--without-gossip", "--without-mingle"]
    with (
        (trial.folder / "log").open("ab") as log,
        running([*command, *limits], environ, stderr=log, stdout=log, cwd=ROOT),
    ):
        wait_until(lambda: len(trial.verdict().accepted) == size.count, within=PATIENCE, what="the tasks")
    if spool:
        trial.adopt()
        trial.verdict().assert_nothing_lost(size.count)
    else:
        trial.verdict().assert_losses_reported(size.count)
