"""CPU time and memory of other processes, as Linux accounts them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_OWN: Final = slice(11, 13)  # of the fields of /proc/PID/stat after the name
_OF_THE_DEAD: Final = slice(13, 15)


def children_of(pid: int) -> list[int]:
    """The processes that one has started and that live."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def used(pid: int) -> float:
    """CPU seconds so far of a process."""
    return _ticks(pid, _OWN) / _TICK


def used_by_all(pid: int) -> float:
    """CPU seconds so far of a process and of all that it has started, those that have ended among them."""
    children = sum(_ticks(child, _OWN) for child in children_of(pid))
    return (_ticks(pid, _OWN) + _ticks(pid, _OF_THE_DEAD) + children) / _TICK


def private_memory(pid: int) -> int:
    """Bytes of memory that are this process's alone: what would be free if it ended."""
    sizes = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in sizes if line.startswith("Private_")) * 1024


def most_memory(pid: int) -> int:
    """The most bytes of memory that this process ever had, with what it shares."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _ticks(pid: int, fields: slice) -> int:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0
    return sum(map(int, after_name[fields]))
