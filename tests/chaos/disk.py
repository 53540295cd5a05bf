"""A disk of its own for Postgres, which can be full to the last byte."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

_TRIES: Final = 1000


@attrs.frozen
class Disk:
    """A file system in memory, mounted at `path`.

    Attributes:
        size: Bytes.
        is_own: False if only root may mount one here: then it is a plain folder, and is never full.
    """

    path: Path
    size: int
    is_own: bool

    def fill(self) -> int:
        """Leave no byte free, by making it as small as what is on it; returns how many MiB those are."""
        for _ in range(_TRIES):
            used = self._used()
            if not self._resize(used):
                return used >> 20
        raise OSError(f"{self.path} grows faster than it can be made smaller")

    def clear(self) -> None:
        """Give the space back."""
        if failure := self._resize(self.size):
            raise OSError(failure)

    def _used(self) -> int:
        found = os.statvfs(self.path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def _resize(self, size: int) -> str:
        """Make it so large; tells why not, as where more is on it by now."""
        assert self.is_own
        command = ["mount", "-o", f"remount,size={size}", str(self.path)]
        return subprocess.run(command, capture_output=True, text=True).stderr


@contextlib.contextmanager
def disk_of(size: int, path: Path) -> Iterator[Disk]:
    """A disk of so many bytes for the length of the block."""
    path.mkdir(mode=0o755)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "none", str(path)]
    is_own = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield Disk(path, size, is_own)
    finally:
        if is_own:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
