"""What an event costs the whole process until the sink has acknowledged it."""

from __future__ import annotations

import time
from typing import Final

from .contestant import Tracker
from .event import orders

ROUNDS: Final = 7
EVENTS: Final = 4000  # in a turn


def measure(tracker: Tracker, name: str, start: int) -> dict[str, float]:
    """One turn: CPU and wall microseconds an event, all threads."""
    made = list(orders(name, start, EVENTS))
    began, cpu = time.perf_counter(), time.process_time()
    tracker.burst(made)
    tracker.drain()
    used, took = time.process_time() - cpu, time.perf_counter() - began
    return {"cpu": used / EVENTS * 1e6, "wall": took / EVENTS * 1e6}
