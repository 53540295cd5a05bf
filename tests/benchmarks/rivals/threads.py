"""Throughput when 8 threads track at once, while delivery goes on."""

from __future__ import annotations

import threading
import time
from typing import Final

from .contestant import Tracker
from .event import orders

ROUNDS: Final = 5
THREADS: Final = 8
EVENTS: Final = 1000  # of each thread, in a turn


def measure(tracker: Tracker, name: str, start: int) -> dict[str, float]:
    """One turn: events a second accepted and delivered, and CPU microseconds an event, all threads."""
    shares = [list(orders(name, start + number * EVENTS, EVENTS)) for number in range(THREADS)]
    gate = threading.Barrier(THREADS + 1)

    def work(share: list[dict[str, object]]) -> None:
        gate.wait()
        tracker.burst(share)

    workers = [threading.Thread(target=work, args=(share,)) for share in shares]
    for worker in workers:
        worker.start()
    cpu = time.process_time()
    gate.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    accepted = time.perf_counter() - began
    tracker.drain()
    delivered = time.perf_counter() - began
    total = THREADS * EVENTS
    return {
        "accepted": total / accepted,
        "delivered": total / delivered,
        "cpu": (time.process_time() - cpu) / total * 1e6,
    }
