"""What `import` costs, and the way to the first delivered event."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from .worker import environment

RUNS: Final = 11

# The benchmark's own modules are imported after the SDK's, between the clocks: who shares them has paid for them.
SCRIPT: Final = """
import sys, time
name, url, spool = sys.argv[1:]
before = len(sys.modules)
began = time.process_time()
import {module}
imported = time.process_time() - began
modules = len(sys.modules) - before
from tests.benchmarks.rivals.event import orders
from tests.benchmarks.rivals.lineup import ALL
began = time.process_time()
tracker = ALL[name].opener(url, "sending", spool)
tracker.burst(orders(name, 0, 1))
tracker.drain()
delivered = time.process_time() - began
print(imported * 1000, modules, (imported + delivered) * 1000, flush=True)
import os
os._exit(0)
"""


def start_once(name: str, module: str, url: str, spool: str) -> tuple[float, int, float]:
    """CPU milliseconds and modules of an import in a fresh interpreter, then until one event is delivered."""
    command = [sys.executable, "-c", SCRIPT.format(module=module), name, url, spool]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(), timeout=60)
    imported, modules, delivered = done.stdout.split()[-3:]
    return float(imported), int(modules), float(delivered)
