"""Clocks that can be stepped: a process that is started with one has it instead of the machine's.

Nobody sets the machine's clock for a test. A small library (`clock.c`) stands between the process and the system's
calls, so Python, its C code and libraries all see the step; the monotonic clock goes on, as it does in life.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import attrs

SOURCE = Path(__file__).with_name("clock.c")


def build(folder: Path) -> Path | None:
    """Compile the library; None if there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "clock.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library


@attrs.frozen
class Clock:
    """A clock, which every process has that was started with its `environ`.

    Attributes:
        path: Where it is kept how many seconds it is ahead.
        library: What `build` made, or None: then it is the machine's clock and cannot be stepped.
    """

    path: Path
    library: Path | None

    def __attrs_post_init__(self) -> None:
        if not self.path.exists():
            self.set(0)

    @property
    def environ(self) -> dict[str, str]:
        """What makes a process use it."""
        return {"LD_PRELOAD": str(self.library), "CHAOS_CLOCK": str(self.path)} if self.library else {}

    def set(self, seconds: int) -> None:
        """Be so many seconds ahead of the real time, from now on; below zero is behind it."""
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))
