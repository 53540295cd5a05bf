"""Restarts of every kind under load, from clients on keep-alive connections and from the SDK: nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import psycopg
import pytest

import analytics_collector
import analytics_sdk
from tests.collector.operating import answers, ask, workers_of
from tests.collector.senders import Ledger, goes_on, load
from tests.conftest import WRITE_KEY
from tests.programs import ROOT, free_port, running, wait_until

WORKERS = 2
LONGEST_PAUSE = 0.1  # seconds that a writer may wait for a lock

COLUMNS = """
ALTER TABLE analytics_event ADD COLUMN of_tomorrow text;
ALTER TABLE analytics_session ADD COLUMN of_tomorrow integer NOT NULL DEFAULT 1;
ALTER TABLE analytics_useranalyticsprofile ADD COLUMN of_tomorrow integer NOT NULL DEFAULT 1;
CREATE TABLE analytics_of_tomorrow (id bigint PRIMARY KEY);
"""

often = pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(600)])
times = pytest.mark.parametrize("count", [2, often])
costly_times = pytest.mark.parametrize("count", [1, often])  # each starts a master and its workers


@attrs.frozen
class Served:
    """`analytics-collector serve`, on an address of its own."""

    url: str
    process: subprocess.Popen[str]

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        self.process.send_signal(number)

    @property
    def workers(self) -> set[int]:
        """The master's children."""
        return workers_of(self.process.pid)


@contextlib.contextmanager
def serve(dsn: str, log: Path, *, port: int = 0, **environ: str) -> Iterator[Served]:
    """Run the command; it is ready when the block begins."""
    port = port or free_port()
    settings = {"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_BIND": f"127.0.0.1:{port}", "ANALYTICS_WORKERS": str(WORKERS)}
    command = [sys.executable, "-m", "analytics_collector", "serve"]
    with log.open("ab") as stream, running(command, {**settings, **environ}, stderr=stream, cwd="/") as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url, "/readyz"), within=90, what="being ready")
        yield Served(url, process)


@contextlib.contextmanager
def tracking(url: str, ledger: Ledger) -> Iterator[None]:
    """A process with the SDK tracks until the end of the block; what it tracked is in the ledger then."""
    environ = {"ANALYTICS_URL": url, "ANALYTICS_WRITE_KEY": WRITE_KEY, "ANALYTICS_RETRY_CAP": "0.5"}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    with running([sys.executable, "-m", "tests.collector.tracker"], environ, **options) as process:
        yield
        said, _ = process.communicate(timeout=60)
    *ids, account = said.splitlines()
    assert "None" not in ids
    assert json.loads(account) == {"accepted": len(ids), "delivered": len(ids)}
    ledger.stored |= set(ids)


@contextlib.contextmanager
def under_load(dsn: str, log: Path) -> Iterator[tuple[Served, Ledger]]:
    """A collector that clients and the SDK send to, and the ledger of what they sent."""
    with serve(dsn, log) as served, load(served.url, clients=4) as ledger, tracking(served.url, ledger):
        yield served, ledger


@times
def test_reloads_in_a_row(own_dsn: str, tmp_path: Path, count: int) -> None:
    """SIGHUP after SIGHUP, also before the last one is over: every event is stored once, and nobody is refused."""
    with under_load(own_dsn, tmp_path / "log") as (served, ledger):
        for number in range(count):
            before = served.workers
            served.signal(signal.SIGHUP)
            if number % 3:  # else the next one comes in the midst of it
                wait_until(lambda before=before: len(served.workers - before) >= WORKERS, within=60, what="new workers")
                wait_until(goes_on(ledger), within=60, what="going on")
    ledger.assert_balanced(own_dsn)
    assert ledger.seen["refused"] == ledger.seen["503"] == 0
    assert_calm(tmp_path / "log")


@times
def test_more_workers_and_fewer(own_dsn: str, tmp_path: Path, count: int) -> None:
    """SIGTTIN and SIGTTOU under load: a worker more, a worker less, every event once, and nobody is refused."""
    with under_load(own_dsn, tmp_path / "log") as (served, ledger):
        for _ in range(count):
            for number, workers in ((signal.SIGTTIN, WORKERS + 1), (signal.SIGTTOU, WORKERS)):
                served.signal(number)
                wait_until(lambda workers=workers: len(served.workers) == workers, within=30, what=number.name)
                wait_until(goes_on(ledger), within=60, what="going on")
    ledger.assert_balanced(own_dsn)
    assert ledger.seen["refused"] == ledger.seen["503"] == 0
    assert_calm(tmp_path / "log")


@costly_times
def test_one_of_two_collectors_is_restarted(own_dsn: str, tmp_path: Path, count: int) -> None:
    """SIGTERM to one of two: its clients go to the other one; the SDK, which has one address, keeps what it has."""
    port, log = free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}"
    with (
        serve(own_dsn, log) as other,
        contextlib.ExitStack() as last,
        load(url, other.url, clients=4) as ledger,
        tracking(url, ledger),
    ):
        for _ in range(count):
            with serve(own_dsn, log, port=port):
                wait_until(goes_on(ledger), within=60, what="going on")
            wait_until(goes_on(ledger), within=60, what="going on without it")
        last.enter_context(serve(own_dsn, log, port=port))  # which takes the last of what is tracked
        wait_until(goes_on(ledger), within=60, what="going on")
    ledger.assert_balanced(own_dsn)
    assert ledger.seen["503"] == 0
    assert_calm(log)


@costly_times
def test_another_master_on_the_same_socket(own_dsn: str, tmp_path: Path, count: int) -> None:
    """SIGUSR2 and then SIGTERM to the old master, again and again: every event once, and nobody is refused."""
    with contextlib.ExitStack() as last, serve(own_dsn, tmp_path / "log") as served:
        master = served.process.pid
        with load(served.url, clients=4) as ledger, tracking(served.url, ledger):
            for _ in range(count):
                new = next_master(master)
                last.callback(end, new)
                wait_until(goes_on(ledger), within=60, what="going on with two masters")
                os.kill(master, signal.SIGTERM)
                wait_until(lambda master=master: has_ended(master, served.process), within=60, what="its end")
                master = new
                wait_until(goes_on(ledger), within=60, what="going on with the new one")
    ledger.assert_balanced(own_dsn)
    assert ledger.seen["refused"] == ledger.seen["503"] == 0
    assert_calm(tmp_path / "log")


def next_master(master: int) -> int:
    """Have a second master beside the first; returns its process once it has workers."""
    before, found, asked_at = workers_of(master), [], float("-inf")

    def is_there() -> bool:
        nonlocal asked_at
        if time.monotonic() > asked_at + 2:  # again, as it is ignored until the master knows that it is the only one
            asked_at = time.monotonic()
            os.kill(master, signal.SIGUSR2)
        found[:] = [pid for pid in workers_of(master) - before if len(workers_of(pid)) >= WORKERS]
        return bool(found)

    wait_until(is_there, within=60, what="another master")
    return found[0]


def end(pid: int) -> None:
    """End a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def has_ended(pid: int, ours: subprocess.Popen[str]) -> bool:
    """Whether a process is gone, or is only waited for; one of our own children has to be asked."""
    if pid == ours.pid:
        return ours.poll() is not None
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.fixture
def version_of_tomorrow(tmp_path: Path) -> str:
    """The same code with one migration more, as PYTHONPATH has it."""
    home = tmp_path / "tomorrow"
    for package in (analytics_collector, analytics_sdk):
        source = Path(package.__file__ or "").parent
        shutil.copytree(source, home / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    migrations = home / "analytics_collector/sql/migrations"
    (migrations / "0999_of_tomorrow.sql").write_text(COLUMNS)
    return str(home)


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_two_versions_side_by_side(own_dsn: str, tmp_path: Path, version_of_tomorrow: str, rounds: int) -> None:
    """Migrate, then roll: the old version stays ready on the new tables, both write, and every event is stored once."""
    log, tomorrow = tmp_path / "log", {"PYTHONPATH": version_of_tomorrow}
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with contextlib.ExitStack() as new_version, contextlib.ExitStack() as clients:
        with serve(own_dsn, log, port=ports[0]) as old, readiness_of(old.url) as unready:
            ledger = clients.enter_context(load(*urls, clients=4))
            clients.enter_context(tracking(urls[1], ledger))
            assert upgrade(own_dsn, version_of_tomorrow, ledger) == ["Applied 0999_of_tomorrow"]
            for _ in range(rounds):
                new_version.close()
                new = new_version.enter_context(serve(own_dsn, log, port=ports[1], **tomorrow))
                wait_until(goes_on(ledger, 100), within=60, what="both going on")
                assert ask(new.url, "/readyz").status == ask(old.url, "/readyz").status == 200
            assert unready == []
        wait_until(goes_on(ledger), what="the new one going on alone")
    ledger.assert_balanced(own_dsn)
    assert_calm(log)


@contextlib.contextmanager
def readiness_of(url: str) -> Iterator[list[str]]:
    """Ask /readyz again and again; what was not 200 is in the list."""
    unready: list[str] = []
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(0.05):
            answer = ask(url, "/readyz")
            if answer.status != 200:
                unready.append(answer.text)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield unready
    finally:
        finished.set()
        thread.join()


def upgrade(dsn: str, path: str, ledger: Ledger) -> list[str]:
    """Migrate while there is load and somebody reads for long; no writer waits for a lock for long."""
    command = [sys.executable, "-m", "analytics_collector", "migrate"]
    environ = {"ANALYTICS_DATABASE_URL": dsn, "PYTHONPATH": path}
    longest = 0.0
    with (
        psycopg.connect(dsn) as reader,
        psycopg.connect(dsn, autocommit=True) as watcher,
        running(command, environ, stdout=subprocess.PIPE, cwd="/") as process,
    ):
        reader.execute("SELECT count(*) FROM analytics_event")
        reading_until = time.monotonic() + 3
        while process.poll() is None:
            longest = max(longest, wait_of_a_writer(watcher))
            if time.monotonic() > reading_until:
                reader.rollback()
        said = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0
    print(f"longest wait of a writer for a lock: {longest * 1000:.0f} ms")
    assert longest < LONGEST_PAUSE
    wait_until(goes_on(ledger), what="the old one going on")
    return said.splitlines()[:-1]


def wait_of_a_writer(watcher: psycopg.Connection) -> float:
    """For how many seconds a writer has been waiting for a table that the migration has, or wants."""
    row = watcher.execute(
        "SELECT max(extract(epoch FROM clock_timestamp() - waitstart))::float8 FROM pg_locks"
        " WHERE NOT granted AND locktype = 'relation' AND mode = 'RowExclusiveLock'"
    ).fetchone()
    return float(row[0] or 0) if row else 0.0


def assert_calm(log: Path) -> None:
    """The log has no error."""
    told = log.read_text()
    assert "Traceback" not in told, told
    assert " ERROR " not in told, told
