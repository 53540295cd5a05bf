"""Cores that do not fall asleep between the turns: they would take a tenth of a second to be fast again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

# Of the policy SCHED_IDLE: whoever else has something to do goes first.
SPIN: Final = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == {parent}:
    for _ in range(1_000_000):
        pass
"""


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keep every core busy with nothing; only where the system is Linux."""
    if not hasattr(os, "SCHED_IDLE"):
        yield
        return
    command = [sys.executable, "-c", SPIN.format(parent=os.getpid())]
    spinners = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
