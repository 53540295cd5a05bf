"""`serve` in front of a crowd: a thousand idle connections, and 64 that post without a pause."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import psycopg
import pytest

from analytics_collector import keys, migrate
from tests.benchmarks.serving.usage import private_memory
from tests.collector.operating import answers, workers_of
from tests.conftest import WRITE_KEY
from tests.programs import ROOT, Collector, free_port, running, wait_until

MEBIBYTE = 1024 * 1024
SECONDS = float(os.environ.get("TEST_LOAD_SECONDS", "300"))
"""How long the slow ones put load on it."""

SLOW = pytest.param(SECONDS, marks=[pytest.mark.slow, pytest.mark.timeout(SECONDS + 300)])


@pytest.fixture
def served(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Collector]:
    """`analytics-collector serve` with two workers, over a database of its own; what it says is in a file."""
    dsn, port = new_database(), free_port()
    with psycopg.connect(dsn, autocommit=True) as opened:
        migrate.apply(opened)
        keys.register(opened, "load", "write", WRITE_KEY)
    settings = {"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_BIND": f"127.0.0.1:{port}", "ANALYTICS_WORKERS": "2"}
    command = [sys.executable, "-m", "analytics_collector", "serve"]
    with (tmp_path / "log").open("ab") as log, running(command, settings, stdout=log, stderr=log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url, "/readyz"), within=30, what="the collector")
        yield Collector(url, dsn, process)
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said, said


def crowd(served: Collector, seconds: float, *numbers: int) -> subprocess.Popen[str]:
    """Begin to put load on it, from another process."""
    command = [sys.executable, "-m", "tests.load.crowd", str(seconds), str(urlsplit(served.url).port)]
    return subprocess.Popen([*command, *map(str, numbers)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def check_ledger(served: Collector, tally: dict[str, Any]) -> None:
    """What was acknowledged is stored, once, and nothing else; and the profiles are right."""
    print({name: value for name, value in tally.items() if name != "acknowledged"}, len(tally["acknowledged"]))
    assert tally["faults"] == []
    assert set(tally["statuses"]) <= {"200", "429", "503"}
    with psycopg.connect(served.dsn, autocommit=True) as database:
        stored = [row[0] for row in database.execute("SELECT event_id::text FROM analytics_event")]
        rejects = database.execute("SELECT count(*) FROM analytics_reject").fetchall()
    acknowledged = tally["acknowledged"]
    assert (len(stored), len(acknowledged)) == (len(set(stored)), len(set(acknowledged)))
    assert set(stored) == set(acknowledged)
    assert rejects == [(tally["verdicts"]["rejected"],)]
    verify = [sys.executable, "-m", "analytics_collector", "verify"]
    environ = os.environ | {"ANALYTICS_DATABASE_URL": served.dsn}
    verified = subprocess.run(verify, env=environ, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize("seconds", [5.0, SLOW])
def test_a_crowd_is_served(served: Collector, seconds: float) -> None:
    """With 1,000 connections idle and 64 busy nobody hears an error but 429 and 503, and the ledger balances."""
    workers = workers_of(served.process.pid)
    with crowd(served, seconds) as process:
        tally = json.loads(process.communicate()[0])
    check_ledger(served, tally)
    assert workers_of(served.process.pid) == workers, "a worker has died"
    assert tally["verdicts"]["accepted"] > 0
    assert "200" in tally["statuses"]


@attrs.define
class Memory:
    """The private memory of each worker, sampled while load is on it."""

    series: dict[int, list[int]]

    def sample(self) -> None:
        """Look once."""
        for pid, samples in self.series.items():
            samples.append(private_memory(pid))

    def at_the_end(self) -> dict[int, tuple[float, float]]:
        """The medians of the last fifth but one, and of the last."""
        found = {}
        for pid, samples in self.series.items():
            fifth = len(samples) // 5
            found[pid] = (statistics.median(samples[3 * fifth : 4 * fifth]), statistics.median(samples[4 * fifth :]))
        return found


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_memory_is_flat_under_load(served: Collector) -> None:
    """Under full load of all sorts of events, a worker needs no more memory in the last fifth than in the one before.

    Behind gunicorn an empty application grows as well at first, as the C library's heaps keep what large bodies left
    free; there it slows down after some 50,000 requests.
    """
    memory = Memory({pid: [] for pid in sorted(workers_of(served.process.pid))})
    began = time.monotonic()
    with crowd(served, SECONDS, 0, 32) as process:
        while process.poll() is None and time.monotonic() < began + SECONDS:
            memory.sample()
            try:
                process.wait(SECONDS / 100)
            except subprocess.TimeoutExpired:
                continue
        tally = json.loads(process.communicate()[0])
    for pid, samples in memory.series.items():
        print(f"worker {pid}, private MiB: {' '.join(f'{sample / MEBIBYTE:.1f}' for sample in samples)}")
    check_ledger(served, tally)
    for before, last in memory.at_the_end().values():
        assert last < before + max(2 * MEBIBYTE, 0.05 * before), memory.at_the_end()
