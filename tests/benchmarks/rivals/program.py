"""A host that tracks and then meets its end: `python -m tests.benchmarks.rivals.program NAME URL SPOOL SCENE`.

It prints where it is: ready, tracked, and raised if the SDK raised something into it.
"""

from __future__ import annotations

import signal
import sys
from typing import Final

from .event import orders
from .lineup import ALL

# How many events each scene has; "again" is the next start after another one.
SCENES: Final = {
    "exit": 1000,
    "hang": 1000,
    "sigterm": 45,
    "kill": 1000,
    "nan": 20,
    "drop": 45,
    "reset": 45,
    "again": 0,
}
FLUSHING: Final = ("nan", "drop", "reset", "again")
WAITING: Final = ("sigterm", "kill")


def main() -> None:
    """Play the scene."""
    name, url, spool, scene = sys.argv[1:]
    tracker = ALL[name].opener(url, "default", spool)
    events = list(orders(name, 0, SCENES[scene]))
    if scene == "nan":
        events[7]["discount"] = float("nan")
    print("ready", flush=True)
    try:
        tracker.burst(events)
        if scene in FLUSHING:
            tracker.drain()
    except Exception:
        print("raised", flush=True)
    print("tracked", flush=True)
    while scene in WAITING:
        signal.pause()


if __name__ == "__main__":
    main()
