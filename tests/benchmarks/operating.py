"""What a collector takes for an event, and what its figures take of that: `python tests/benchmarks/operating.py`.

A collector with one worker on the development Postgres, and one sender that posts batches of different sizes, one after
the other. CPU time counts, of the worker and of all of Postgres, as the wall clock tells more of the machine than of
the program. The table is that of docs/operating.md.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from analytics_collector import embedded, keys, migrate, partitions  # noqa: E402
from tests.programs import run_collector  # noqa: E402

KEY = "write-key-of-the-benchmark"
TICK = os.sysconf("SC_CLK_TCK")
USERS = 1_000
SIZES = (1, 10, 100, 1000)  # events in a batch

NOTES = """
import time
from analytics_collector import metrics
def cost(note, count=50_000):
    began = time.process_time()
    for _ in range(count):
        note()
    return (time.process_time() - began) / count * 1e6
print("note_commit", min(cost(lambda: metrics.note_commit(0.012, 50)) for _ in range(5)))
print("note_verdict", min(cost(lambda: metrics.note_verdict(50, 3, ("clock_ahead",))) for _ in range(5)))
print("note_request", min(cost(lambda: metrics.note_request("POST", "/v1/events", 200, 0.01)) for _ in range(5)))
"""


def event() -> dict[str, object]:
    """A purchase of one of so many users."""
    user_id = random.randrange(USERS)
    data = {"sku": "A-1234-XL", "category": "clothing/knitwear", "price": 89.9, "quantity": 2, "gift": False}
    ids = {"event_id": str(uuid.uuid4()), "session_id": f"session-of-{user_id:012}", "user_id": user_id}
    return {"event_type": "purchase", "created_at": datetime.now(UTC).isoformat(), "event_data": data, **ids}


def family(pid: int) -> Iterator[int]:
    """A process and those that it has forked."""
    yield pid
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(path.parent.name)


def cpu_seconds(pid: int) -> float:
    """What a process, those that it has forked, and those of them that have ended, have used."""
    total = 0
    for number, member in enumerate(family(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11 : 13 if number else 15]))
    return total / TICK


def memory(pid: int) -> float:
    """The private memory, in MiB, of the largest process that this one has forked."""
    found = []
    for member in list(family(pid))[1:]:
        lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        found.append(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024)
    return max(found)


def send(url: str, batches: list[bytes]) -> None:
    """Post batches on one connection."""
    address = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(address.hostname or "", address.port)) as connection:
        for content in batches:
            connection.request("POST", "/v1/events", content, {"Authorization": f"Bearer {KEY}"})
            answer = json.loads(connection.getresponse().read())
            assert answer["rejected"] == [], answer


def postmaster(dsn: str) -> int:
    """The process id of a Postgres on this machine."""
    with psycopg.connect(dsn) as connection:
        (directory,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    return int((Path(directory) / "postmaster.pid").read_text().splitlines()[0])


def measure(events: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        with embedded.start(Path(folder) / "postgres") as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                migrate.apply(connection)
                keys.register(connection, "benchmark", "write", KEY)
            with run_collector(server.dsn, workers=1) as collector:
                measure_batches(collector.url, collector.process.pid, postmaster(server.dsn), events)
                print(f"\nprivate memory of a worker: {memory(collector.process.pid):.0f} MiB")
            print_room(server.dsn)


def measure_batches(url: str, gunicorn: int, postgres: int, events: int) -> None:
    """Print what an event takes, for each size of a batch."""
    send(url, [json.dumps({"events": [event() for _ in range(100)]}).encode() for _ in range(20)])  # to warm up
    print(f"{'events a batch':>14} {'collector':>12} {'Postgres':>12} {'events a CPU second':>20}")
    for size in SIZES:
        count = max(50, min(1_000, events // size))
        batches = [json.dumps({"events": [event() for _ in range(size)]}).encode() for _ in range(count)]
        before = cpu_seconds(gunicorn), cpu_seconds(postgres)
        send(url, batches)
        ours, theirs = cpu_seconds(gunicorn) - before[0], cpu_seconds(postgres) - before[1]
        each = [f"{seconds / size / count * 1e6:,.0f} us" for seconds in (ours, theirs)]
        print(f"{size:>14} {each[0]:>12} {each[1]:>12} {size * count / (ours + theirs):>20,.0f}")


def print_room(dsn: str) -> None:
    """Print what an event takes on the disk, with its indexes."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        name = f"analytics_event_{partitions.month_after(datetime.now(UTC), 0):%Y_%m}"
        query = f"SELECT pg_table_size('{name}'), pg_indexes_size('{name}'), count(*) FROM {name}"
        rows, indexes, count = connection.execute(query).fetchone() or (0, 0, 1)
        print(
            f"on the disk: {rows / count:.0f} bytes an event, and {indexes / count:.0f} of indexes, of {count:,} events"
        )


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000, help="events of each size of a batch, at most")
    measure(parser.parse_args().events)
    with tempfile.TemporaryDirectory() as counts:
        environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": counts}
        told = subprocess.run([sys.executable, "-c", NOTES], env=environ, capture_output=True, text=True, check=True)
    print("\nwhat counting takes, in microseconds of CPU:")
    print(told.stdout)


if __name__ == "__main__":
    main()
