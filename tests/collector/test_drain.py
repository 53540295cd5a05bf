"""SIGTERM: what is in hand is finished, nothing new is begun, and the process is gone in time."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from analytics_collector import gunicorn_config
from analytics_collector.worker import Worker
from tests.collector.batches import Answer, body, event, event_id, post
from tests.collector.operating import logging_collector, workers_of
from tests.programs import free_port, running, wait_until

BATCHES = 6


def waiting(connection: psycopg.Connection) -> int:
    """How many transactions wait for a lock in this database."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return int(row[0]) if row else 0


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["as it is", "preloaded"])
def test_sigterm_finishes_what_is_in_hand(
    dsn: str, connection: psycopg.Connection, tmp_path: Path, options: list[str]
) -> None:
    """Requests whose commits wait at SIGTERM get their 200 and are stored once; new connections are refused."""
    names = [f"{options} {number}" for number in range(BATCHES)]
    with (
        ThreadPoolExecutor(BATCHES) as threads,
        logging_collector(dsn, tmp_path / "log", *options, ANALYTICS_DATABASE_PATIENCE_SECONDS="15") as collector,
    ):
        with psycopg.connect(dsn) as blocker:
            blocker.execute("LOCK TABLE analytics_event IN SHARE MODE")  # lets nobody insert
            answers = [threads.submit(post, collector.url, body(events=[event(name)])) for name in names]
            wait_until(lambda: waiting(connection) >= 1, what="commits that wait")
            collector.process.send_signal(signal.SIGTERM)
            asked_at = time.monotonic()
            wait_until(lambda: refuses(collector.url), what="refusing")
            assert not any(answer.done() and answer.result().status == 200 for answer in answers)
        in_hand = [name for name, answer in zip(names, answers, strict=True) if was_served(answer)]
        assert collector.process.wait(gunicorn_config.graceful_timeout) == 0
        assert time.monotonic() - asked_at < gunicorn_config.graceful_timeout
    stored = {str(row[0]) for row in connection.execute("SELECT event_id FROM analytics_event")}
    assert stored == {event_id(name) for name in in_hand}
    assert len(in_hand) >= 2  # one a worker at least


def was_served(answer: Future[Answer]) -> bool:
    """Whether a request was answered 200; the others were not accepted any more."""
    try:
        return answer.result(30).status == 200
    except OSError:
        return False


def refuses(url: str) -> bool:
    """Whether a new connection is refused."""
    try:
        post(url, body(), timeout=0.2)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


SLOWLY = "import os, time; os.register_at_fork(after_in_child=lambda: time.sleep(1))"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_was_just_forked_ends(dsn: str, tmp_path: Path, number: signal.Signals) -> None:
    """A master that is asked to end just as it forks does not wait in vain for workers that do not listen yet."""
    (tmp_path / "sitecustomize.py").write_text(SLOWLY)
    command = [sys.executable, "-m", "gunicorn", "--preload", "--bind", f"127.0.0.1:{free_port()}"]
    command += ["--config", "python:analytics_collector.gunicorn_config", "analytics_collector.app:create_app()"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with running(command, {"ANALYTICS_DATABASE_URL": dsn, "PYTHONPATH": path}) as process:
        wait_until(lambda: workers_of(process.pid), within=20, what="forking")
        process.send_signal(number)
        assert process.wait(gunicorn_config.graceful_timeout / 2) == 0


def test_a_worker_that_is_asked_to_end_before_it_has_begun() -> None:
    """It lets go of the socket that all share: what comes to others must not be an event of its loop."""
    config = Config()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = Worker(1, os.getppid(), [listener], None, 30, config, Logger(config))
        with selectors.DefaultSelector() as worker.poller, contextlib.closing(worker.tmp):
            worker.alive = False
            worker.set_accept_enabled(True)
            worker.set_accept_enabled(False)
            assert listener.fileno() == -1
            assert not worker.poller.get_map()
