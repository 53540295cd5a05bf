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
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.serving import databases, disk  # noqa: E402
from tests.benchmarks.serving.event import new_event  # noqa: E402
from tests.benchmarks.serving.load import WRITE_KEY  # noqa: E402
from tests.benchmarks.serving.usage import children_of, private_memory, used_by_all  # noqa: E402
from tests.programs import run_collector  # noqa: E402

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


def send(url: str, batches: list[bytes]) -> None:
    """Post batches on one connection."""
    address = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(address.hostname or "", address.port)) as connection:
        for content in batches:
            connection.request("POST", "/v1/events", content, {"Authorization": f"Bearer {WRITE_KEY}"})
            answer = json.loads(connection.getresponse().read())
            assert answer["rejected"] == [], answer


def measure(events: int) -> None:
    """Print the table."""
    with databases.running() as on, run_collector(on.ours, workers=1) as collector:
        measure_batches(collector.url, collector.process.pid, on.postmaster, events)
        memory = max(map(private_memory, children_of(collector.process.pid))) / 2**20
        print(f"\nprivate memory of a worker: {memory:.0f} MiB")
        print(disk.per_event(on.ours))


def measure_batches(url: str, gunicorn: int, postgres: int, events: int) -> None:
    """Print what an event takes, for each size of a batch."""
    send(url, [msgspec.json.encode({"events": [new_event() for _ in range(100)]}) for _ in range(20)])  # to warm up
    print(f"{'events a batch':>14} {'collector':>12} {'Postgres':>12} {'events a CPU second':>20}")
    for size in SIZES:
        count = max(50, min(1_000, events // size))
        batches = [msgspec.json.encode({"events": [new_event() for _ in range(size)]}) for _ in range(count)]
        before = used_by_all(gunicorn), used_by_all(postgres)
        send(url, batches)
        ours, theirs = used_by_all(gunicorn) - before[0], used_by_all(postgres) - before[1]
        each = [f"{seconds / size / count * 1e6:,.0f} us" for seconds in (ours, theirs)]
        print(f"{size:>14} {each[0]:>12} {each[1]:>12} {size * count / (ours + theirs):>20,.0f}")


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
