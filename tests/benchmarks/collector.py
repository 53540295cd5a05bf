"""What an event costs the collector, against COPY and against an empty view: `python tests/benchmarks/collector.py`.

CPU of web processes and Postgres together, in one run, each contestant in turn; what counts is the ratio. The floor of
batches is COPY of the same rows into the same table; that of single events a Flask view behind the same gunicorn that
only parses the body. docs/benchmarks.md has the figures of one machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import msgspec
import psycopg

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from analytics_collector import embedded, keys, migrate, packing, partitions  # noqa: E402
from analytics_collector.event_rows import EventRow, copied, key_of  # noqa: E402
from analytics_collector.protocols import native  # noqa: E402
from analytics_collector.sql import load  # noqa: E402
from tests.benchmarks.serving import room  # noqa: E402
from tests.benchmarks.serving.load import new_event  # noqa: E402
from tests.benchmarks.serving.usage import children_of, used  # noqa: E402
from tests.conftest import WRITE_KEY  # noqa: E402
from tests.programs import free_port, wait_until  # noqa: E402

BATCH = 500
VISITORS = 32
GUNICORN = [sys.executable, "-m", "gunicorn"]


@attrs.frozen
class Server:
    """A gunicorn with two workers."""

    port: int
    process: subprocess.Popen[bytes]

    def workers(self) -> list[int]:
        """The processes that do the work."""
        return children_of(self.process.pid)


@attrs.frozen
class Figures:
    """What one turn came to; `cpu` is microseconds an event."""

    rate: float
    p50: float
    cpu: float


@contextlib.contextmanager
def serving(*command: str, port: int, **environ: str) -> Iterator[Server]:
    """A server, until the end of the block."""
    process = subprocess.Popen([*GUNICORN, *command], env=os.environ | environ, cwd=ROOT, stderr=subprocess.DEVNULL)
    server = Server(port, process)
    try:
        wait_until(lambda: len(server.workers()) == 2 and answers(port), within=30, what="the server")
        yield server
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    """Whether a server takes requests."""
    return bool(load_on(port, 1, 1, 0.1))


def load_on(port: int, visitors: int, events: int, seconds: float) -> dict[str, float]:
    """Put load on a server, from a process of its own; empty if the server is not there."""
    command = [sys.executable, "-m", "tests.benchmarks.serving.load", *map(str, (port, visitors, events, seconds))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found: dict[str, float] = json.loads(done.stdout or "{}")
    return found


def measure(server: Server, postmaster: int, visitors: int, events: int, seconds: float) -> Figures:
    """One turn."""
    pids = [*server.workers(), *children_of(postmaster)]
    before = used(pids)
    found = load_on(server.port, visitors, events, seconds)
    cpu = (used(pids) - before) / (found["requests"] * events) * 1e6
    return Figures(found["rate"], found["p50"], cpu)


def copy_floor(dsn: str, rounds: int) -> float:
    """CPU microseconds of an event that goes from JSON by COPY into the table, no more than that, both processes."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        backend = [connection.info.backend_pid]
        bodies = [msgspec.json.encode({"events": [new_event() for _ in range(BATCH)]}) for _ in range(rounds)]
        began = used(backend) + time.process_time()
        for body in bodies:
            copy_body(connection, body)
        return (used(backend) + time.process_time() - began) / rounds / BATCH * 1e6


def copy_body(connection: psycopg.Connection, body: bytes) -> None:
    """Read a body, and COPY its events."""
    records = [item.record for item in native.parse(body, datetime.now(UTC)).items]
    rows = [EventRow(key_of(record), int(record.user_id or 0), record) for record in records]  # type: ignore[arg-type]
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(load("writer.copy_events")) as copy:
        copy.write(copied(rows))


def print_disk(dsn: str) -> None:
    """Bytes of an event on disk in a month that goes on, and in one that is over."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM analytics_event")
        print(f"\n{room.of_event(connection)}")
        packing.pack(connection, datetime.now(UTC) + timedelta(days=40))
        print(f"{room.of_event(connection)}, as housekeeping leaves a month that is over")


def print_tables(seconds: float, rounds: int, folder: Path) -> None:
    """Measure and print."""
    with embedded.start(folder / "postgres") as postgres:
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            migrate.apply(connection)
            partitions.make_ahead(connection, datetime.now(UTC))
            keys.register(connection, "benchmark", "write", WRITE_KEY)
        postmaster = int(next(folder.rglob("postmaster.pid")).read_text().splitlines()[0])
        view, ours = free_port(), free_port()
        plain = ("--bind", f"127.0.0.1:{view}", "--workers", "2", "--threads", "16", "--no-control-socket")
        environ = {"ANALYTICS_DATABASE_URL": postgres.dsn, "ANALYTICS_BIND": f"127.0.0.1:{ours}"}
        application = ("--config", "python:analytics_collector.gunicorn_config", "analytics_collector.app:create_app()")
        with (
            serving(*plain, "--keep-alive", "75", "tests.benchmarks.serving.view:app", port=view) as floor,
            serving(*application, port=ours, **environ) as collector,
        ):
            print_comparison(floor, collector, postmaster, seconds, rounds)
            copy = statistics.median(copy_floor(postgres.dsn, 40) for _ in range(3))
        print(f"\nCOPY of {BATCH} rows, from JSON bytes: {copy:.1f} us CPU an event, both processes")
        print_disk(postgres.dsn)


def print_comparison(floor: Server, collector: Server, postmaster: int, seconds: float, rounds: int) -> None:
    """Both servers in turn, under three loads."""
    print(f"{'':34}{'requests/s':>12}{'p50 ms':>9}{'us CPU an event':>17}")
    for visitors, events in ((VISITORS, 1), (1, 1), (8, BATCH)):
        turns: dict[str, list[Figures]] = {"view": [], "collector": []}
        for _ in range(rounds):
            turns["view"].append(measure(floor, postmaster, visitors, events, seconds))
            turns["collector"].append(measure(collector, postmaster, visitors, events, seconds))
        for name, found in turns.items():
            middle = [statistics.median(getattr(turn, field) for turn in found) for field in ("rate", "p50", "cpu")]
            label = f"{name}, {visitors} at a time, {events} each"
            print(f"{label:34}{middle[0]:12.0f}{middle[1]:9.2f}{middle[2]:17.1f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server under each load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)  # Postgres does not run as root
        print_tables(arguments.seconds, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
