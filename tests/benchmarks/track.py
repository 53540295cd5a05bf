"""What `track()` costs its caller, against the floor: `python tests/benchmarks/track.py`.

The floor is the least that any tracker must do: a dict with a uuid4 and the time, appended to a deque. All
contestants take turns in one process, batch by batch, so that whatever else the machine does hits all of them; what
counts is the ratio. Nothing is sent: the worker sleeps, and what was tracked is thrown away between the batches.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import analytics_sdk
from analytics_sdk.testing import Outcome

BATCH = 20  # calls that are timed together: reading the clock costs as much as a third of a call

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


def contestants() -> tuple[dict[str, Callable[[], object]], Callable[[], None]]:
    """What is compared, and what throws away what it has left."""
    waiting: deque[dict[str, Any]] = deque()
    options: dict[str, Any] = {"transport": Nowhere(), "flush_interval": 3600, "max_batch_events": 100_000}
    client = analytics_sdk.Client(**options)
    default = analytics_sdk.init(**options)

    def floor() -> None:
        event = {"id": str(uuid.uuid4()), "time": time.time(), "type": "purchase", "user": 42, "data": PROPERTIES}
        waiting.append(event)

    def forget() -> None:
        waiting.clear()
        client.flush()
        default.flush()

    contest = {
        "floor": floor,
        "Client.track": partial(client.track, "purchase", PROPERTIES, user_id=42),
        "analytics_sdk.track": partial(analytics_sdk.track, "purchase", PROPERTIES, user_id=42),
        "track in a session": partial(client.track, "purchase", PROPERTIES, session_id=client.start_session()),
    }
    return contest, forget


def measure(rounds: int) -> dict[str, list[float]]:
    """CPU microseconds of one call, for each batch of calls."""
    contest, forget = contestants()
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3000, help=f"batches of {BATCH} calls each")
    found = measure(parser.parse_args().rounds)
    print(f"{'CPU microseconds':22}{'p50':>8}{'p99':>8}{'p99.9':>8}{'p50 / floor':>14}{'p99.9 / floor':>15}")
    for name, times in found.items():
        p50, p99, p999 = (quantile(times, share) for share in (0.5, 0.99, 0.999))
        ratios = p50 / quantile(found["floor"], 0.5), p999 / quantile(found["floor"], 0.999)
        print(f"{name:22}{p50:8.2f}{p99:8.2f}{p999:8.2f}{ratios[0]:14.2f}{ratios[1]:15.2f}")
    cpu, modules = measure_import(10)
    print(f"import analytics_sdk: {cpu:.0f} ms CPU, {modules} modules")


if __name__ == "__main__":
    main()
