"""What `track()` costs its caller, against the floor: `python tests/benchmarks/track.py`.

The floor is the least that any tracker must do: a dict with a uuid4 and the time, appended to a deque. All
contestants take turns in one process, batch by batch, so that whatever else the machine does hits all of them; what
counts is the ratio. Nothing is sent: the worker sleeps, and what was tracked is thrown away between the batches.

Then, in memory and with a spool: what an event takes while it waits, in a fresh process, and what it costs the whole
process until a server has acknowledged it. How others do is in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import analytics_sdk
from analytics_sdk.testing import Outcome

ROOT = Path(__file__).parents[2]
BATCH = 20  # calls that are timed together: reading the clock costs as much as a third of a call
EVENTS = 20_000  # that wait, or are delivered

PROPERTIES: dict[str, Any] = {
    "sku": "A-1234-XL",
    "name": "Merino sweater",
    "category": "clothing/knitwear",
    "price": Decimal("89.90"),
    "quantity": 2,
    "discount": 0.15,
    "gift": False,
    "coupon": None,
}


class Nowhere:
    """Takes everything, keeps nothing."""

    def send(self, body: bytes, timeout: float) -> Outcome:  # noqa: ARG002
        """Say that it is stored."""
        return Outcome(fate="stored")

    def reset(self) -> None:
        """Nothing is open."""

    close = reset


def contestants(spool: str) -> tuple[dict[str, Callable[[], object]], Callable[[], None]]:
    """What is compared, and what throws away what it has left."""
    waiting: deque[dict[str, Any]] = deque()
    options: dict[str, Any] = {"transport": Nowhere(), "flush_interval": 3600, "max_batch_events": 100_000}
    client = analytics_sdk.Client(**options)
    spooling = analytics_sdk.Client(spool=spool, **options)
    default = analytics_sdk.init(**options)

    def floor() -> None:
        event = {"id": str(uuid.uuid4()), "time": time.time(), "type": "purchase", "user": 42, "data": PROPERTIES}
        waiting.append(event)

    def forget() -> None:
        waiting.clear()
        for each in (client, spooling, default):
            each.flush()

    contest = {
        "floor": floor,
        "Client.track": partial(client.track, "purchase", PROPERTIES, user_id=42),
        "Client.track, spool": partial(spooling.track, "purchase", PROPERTIES, user_id=42),
        "analytics_sdk.track": partial(analytics_sdk.track, "purchase", PROPERTIES, user_id=42),
        "track in a session": partial(client.track, "purchase", PROPERTIES, session_id=client.start_session()),
    }
    return contest, forget


def measure(rounds: int, spool: str) -> dict[str, list[float]]:
    """CPU microseconds of one call, for each batch of calls."""
    contest, forget = contestants(spool)
    found: dict[str, list[float]] = {name: [] for name in contest}
    for number in range(rounds):
        for name, call in contest.items():
            calls = [call] * BATCH
            began = time.thread_time_ns()
            for each in calls:
                each()
            found[name].append((time.thread_time_ns() - began) / BATCH / 1000)
        if number % 100 == 0:
            forget()
    forget()
    return {name: sorted(times[rounds // 10 :]) for name, times in found.items()}


def quantile(times: list[float], share: float) -> float:
    """The time that so large a share of the batches took at most."""
    return times[min(len(times) - 1, int(len(times) * share))]


IMPORT = """
import sys, time
before = len(sys.modules)
began = time.process_time_ns()
import analytics_sdk
print((time.process_time_ns() - began) / 1e6, len(sys.modules) - before)
"""


def measure_import(runs: int) -> tuple[float, int]:
    """CPU milliseconds (median) and modules of `import analytics_sdk` in fresh interpreters."""
    found = []
    for _ in range(runs):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        found.append(done.stdout.split())
    return statistics.median(float(cpu) for cpu, _ in found), int(found[0][1])


WAIT = """
import gc, os, sys
import analytics_sdk
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def track(numbers):
    for number in numbers:
        client.track("purchase", {{**properties, "sku": f"A-{{number}}"}}, user_id=42)

spool, properties = sys.argv[1] or None, {properties}
client = analytics_sdk.Client("http://127.0.0.1:1", write_key="none", spool=spool, flush_interval=3600,
                              max_batch_events=10**6, max_batch_bytes=2**30)
track(range(500))
gc.collect()
before = resident()
track(range(500, 500 + {events}))
gc.collect()
print((resident() - before) / {events})
os._exit(0)
"""


def measure_waiting(spool: str) -> float:
    """Bytes of memory that an event takes while it waits; "" for no spool."""
    properties = {**PROPERTIES, "price": str(PROPERTIES["price"])}
    script = WAIT.format(properties=properties, events=EVENTS)
    done = subprocess.run([sys.executable, "-c", script, spool], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure_delivered(**options: Any) -> float:
    """CPU microseconds of an event, all threads of this process, until a server in another has acknowledged it."""
    command = [sys.executable, "-m", "tests.benchmarks.rivals.sink"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout is not None
        url = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
        client = analytics_sdk.Client(url, write_key="none", **options)
        client.track("warm", user_id=42)
        client.flush()
        began = time.process_time()
        for _ in range(EVENTS):
            client.track("purchase", PROPERTIES, user_id=42)
        assert not client.flush(timeout=60).pending
        used = time.process_time() - began
        client.close()
        sink.kill()
    return used / EVENTS * 1e6


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3000, help=f"batches of {BATCH} calls each")
    parser.add_argument("--folder", type=Path, default=None, help="for the spool, on the file system to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print_tables(arguments.rounds, Path(folder))


def print_tables(rounds: int, folder: Path) -> None:
    """Measure and print."""
    found = measure(rounds, str(folder / "track"))
    print(f"{'CPU microseconds':22}{'p50':>8}{'p99':>8}{'p99.9':>8}{'p50 / floor':>14}{'p99.9 / floor':>15}")
    for name, times in found.items():
        p50, p99, p999 = (quantile(times, share) for share in (0.5, 0.99, 0.999))
        ratios = p50 / quantile(found["floor"], 0.5), p999 / quantile(found["floor"], 0.999)
        print(f"{name:22}{p50:8.2f}{p99:8.2f}{p999:8.2f}{ratios[0]:14.2f}{ratios[1]:15.2f}")
    spools = {"in memory": {}, "with a spool": {"spool": str(folder / "delivered")}}
    for name, options in spools.items():
        waiting = measure_waiting(str(folder / "waiting") if options else "")
        delivered = measure_delivered(**options)
        print(f"{name:22}{waiting:8.0f} bytes of memory per waiting event, {delivered:.1f} us CPU per delivered one")
    cpu, modules = measure_import(10)
    print(f"import analytics_sdk: {cpu:.0f} ms CPU, {modules} modules")


if __name__ == "__main__":
    main()
