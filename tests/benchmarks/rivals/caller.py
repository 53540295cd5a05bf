"""What `track()` costs the thread that calls it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from .contestant import Tracker
from .event import orders

ROUNDS: Final = 60
WARM: Final = 100  # calls at the start of a turn that do not count: the others have had the caches
BATCHES: Final = 20
BATCH: Final = 20  # calls timed together: reading the clock costs as much as a tenth of a call
SINGLES: Final = 400  # calls timed one by one, for the rare slow ones
CALLS: Final = WARM + BATCHES * BATCH + SINGLES  # of one turn


def measure(tracker: Tracker, name: str, start: int) -> dict[str, list[float]]:
    """One turn: CPU microseconds a call, of the calling thread; then everything is delivered."""
    tracker.burst(orders(name, start, WARM))
    batched, alone = start + WARM, start + WARM + BATCHES * BATCH
    found = {
        "batches": [cost(tracker.burst, name, batched + number * BATCH, BATCH) for number in range(BATCHES)],
        "singles": [cost(tracker.burst, name, alone + number, 1) for number in range(SINGLES)],
    }
    tracker.drain()
    return found


def cost(burst: Callable[[list[Any]], object], name: str, start: int, size: int) -> float:
    """CPU microseconds a call, of this thread; the properties are made just before, as a host would."""
    batch = list(orders(name, start, size))
    began = time.thread_time_ns()
    burst(batch)
    return ((time.thread_time_ns() - began) / 1000 - IDLE[size]) / size


def idle(batch: Iterable[Any]) -> None:
    """The loop without the call."""
    for _ in batch:
        pass


IDLE: Final = {1: 0.0, BATCH: 0.0}  # microseconds that reading the clock and the loop cost; subtracted
IDLE.update({size: statistics.median(cost(idle, "idle", 0, size) for _ in range(1001)) * size for size in (1, BATCH)})


def quantile(costs: list[float], share: float) -> float:
    """What so large a share of the calls cost at most."""
    ordered = sorted(costs)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
