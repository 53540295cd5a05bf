"""What an event that waits takes, in a fresh process."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path
from typing import Final

from .contestant import Tracker
from .event import orders

EVENTS: Final = 20_000
WARM: Final = 500  # events tracked before, so that threads, imports and caches are there


def measure(tracker: Tracker, name: str, traced: bool) -> dict[str, float]:
    """Bytes that each of so many further events takes.

    Args:
        tracker: The client; its sink does not answer.
        name: The contestant's.
        traced: What Python's allocators have handed out, else what the process has of the machine's memory.
    """
    tracker.burst(orders(name, 0, WARM))
    gc.collect()
    if traced:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if traced else resident()
    tracker.burst(orders(name, WARM, EVENTS))
    gc.collect()
    after = tracemalloc.get_traced_memory()[0] if traced else resident()
    return {"bytes": (after - before) / EVENTS}


def resident() -> int:
    """Bytes of memory that the process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
