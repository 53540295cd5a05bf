"""Ways to keep an event on disk before `track()` returns, and what each costs: `python tests/benchmarks/spool.py`.

Each writes the same lines, one at a time, in turns, and each is then killed with SIGKILL in the midst of it to see
what is left. docs/spool.md tells what was chosen, and why.
"""

from __future__ import annotations

import argparse
import mmap
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

from analytics_sdk._segment import FORMAT, Segment
from analytics_sdk._window import Window

RECORD = (
    b'{"event_id":"019c13ec-9e7b-7000-8000-102030405060","event_type":"purchase","created_at":"2026-01-31T12:00:00.123'
    b'456Z","user_id":42,"event_data":{"sku":"A-1234-XL","name":"Merino sweater","category":"clothing/knitwear","price'
    b'":"89.90","quantity":2,"discount":0.15,"gift":false,"coupon":null}}'
)
BATCH = 50  # records that are timed together
KILLED_AFTER = 5_000  # records

Write = Callable[[bytes], object]


def new_file(path: Path) -> int:
    """A file that is appended to."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)


def bare_write(folder: Path) -> Write:
    """The floor: one system call, no checksum."""
    fd = new_file(folder / "bare")
    return lambda record: os.write(fd, record)


def new_segment(path: Path, open_window: type[Window] | None) -> Segment:
    """A segment of the SDK's."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, FORMAT)
    return Segment(path, fd, open_window=open_window, limit=512 * 1024 * 1024)


def written(folder: Path) -> Write:
    """What the SDK does with few events, and where it makes no windows."""
    return new_segment(folder / "written", None).append


def through_window(folder: Path) -> Write:
    """What the SDK does with many events."""
    return new_segment(folder / "window", Window).append


def asked_each_time(folder: Path) -> Write:
    """The same, if so much time passes between two events that the kernel is asked for each."""
    segment = new_segment(folder / "asked", Window)

    def write(record: bytes) -> None:
        segment.until = 0.0
        segment.append(record)

    return write


def memory_map(folder: Path) -> Write:
    """No system call and no question: a store into a mapped file."""
    fd = os.open(folder / "mapped", os.O_RDWR | os.O_CREAT, 0o600)
    size = 512 * 1024 * 1024
    os.posix_fallocate(fd, 0, size)
    mapped = mmap.mmap(fd, size)
    place = 0

    def write(record: bytes) -> None:
        nonlocal place
        line = b"%08x %b\n" % (crc32(record), record)
        mapped[place : place + len(line)] = line
        place += len(line)

    return write


def sqlite(synchronous: str) -> Callable[[Path], Write]:
    """A row and a commit each."""

    def make(folder: Path) -> Write:
        connection = sqlite3.connect(folder / f"sqlite-{synchronous}", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("CREATE TABLE IF NOT EXISTS record (id INTEGER PRIMARY KEY, line BLOB)")
        return lambda record: connection.execute("INSERT INTO record (line) VALUES (?)", (record,))

    return make


WAYS: dict[str, Callable[[Path], Write]] = {
    "os.write alone": bare_write,
    "segment, written": written,
    "segment, window": through_window,
    "segment, window, asked each time": asked_each_time,
    "memory map, never asked": memory_map,
    "sqlite3, WAL, synchronous=OFF": sqlite("OFF"),
    "sqlite3, WAL, synchronous=NORMAL": sqlite("NORMAL"),
}


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """CPU microseconds of one record, for each batch, sorted."""
    writes = {name: make(folder) for name, make in WAYS.items()}
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, write in writes.items():
            began = time.thread_time_ns()
            for _ in range(BATCH):
                write(RECORD)
            found[name].append((time.thread_time_ns() - began) / BATCH / 1000)
    return {name: sorted(times) for name, times in found.items()}


def killed(make: Callable[[Path], Write]) -> str:
    """How many records are there after a process that wrote them was killed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pid = os.fork()
        if pid == 0:
            write = make(folder)
            for _ in range(KILLED_AFTER):
                write(RECORD)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        return f"{count(next(folder.iterdir()))} of {KILLED_AFTER}"


def count(path: Path) -> int:
    """The records in a file of any of the ways."""
    if path.name.startswith("sqlite"):
        rows: Any = sqlite3.connect(path.with_name(path.name.split("-wal")[0].split("-shm")[0])).execute(
            "SELECT count(*) FROM record"
        )
        return int(rows.fetchone()[0])
    return path.read_bytes().count(RECORD)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help=f"batches of {BATCH} records each")
    parser.add_argument("--folder", type=Path, default=None, help="on the file system to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder), options.rounds)
    floor = found["os.write alone"]
    print(f"{'CPU us per record':36}{'p50':>8}{'p99.9':>9}{'p50 / os.write':>16}{'after kill -9':>16}")
    for name, times in found.items():
        p50, p999 = times[len(times) // 2], times[int(len(times) * 0.999)]
        left = killed(WAYS[name])
        print(f"{name:36}{p50:8.2f}{p999:9.2f}{p50 / floor[len(floor) // 2]:16.2f}{left:>16}")


if __name__ == "__main__":
    main()
