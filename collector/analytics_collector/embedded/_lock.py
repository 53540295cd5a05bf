"""One owner per data directory: an flock that is held for life."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

    from ._account import Account

# The open locks of this process, so that a forked child can let go of its copies.
_held: set[int] = set()


class Lock:
    """A lock file: who holds it owns the server, and its first line names the folder of the server's socket.

    The kernel drops an flock with the process: a lock that is free proves that its owner has gone. A pid
    proves nothing.
    """

    def __init__(self, path: Path, account: Account) -> None:
        _let_go_after_fork()
        # O_NOFOLLOW: root opens this file in a folder that belongs to somebody else.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._pid = os.getpid()
        _held.add(self._fd)
        account.give(self._fd)

    def take(self) -> bool:
        """Try to become the owner, without waiting."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def announce(self, folder: str) -> None:
        """Tell those who join where the socket is."""
        self._write("+", folder)

    def withdraw(self) -> None:
        """Tell nobody any more, but keep the folder for the next owner: a server may be left there."""
        self._write("-", self.last)

    @property
    def announced(self) -> str:
        """The socket folder of the owner's server, or an empty string while there is none."""
        return self.last if self._read().startswith("+") else ""

    @property
    def last(self) -> str:
        """The socket folder of this owner's or the last one's server, or an empty string."""
        return self._read()[1:]

    def _read(self) -> str:
        return os.fsdecode(os.pread(self._fd, 4096, 0)).partition("\n")[0]

    def _write(self, state: str, folder: str) -> None:
        # One write and no truncation: killed at any moment, the first line is whole.
        os.pwrite(self._fd, os.fsencode(f"{state}{folder}\n"), 0)

    def release(self) -> None:
        """Close the file, which frees the lock; in a forked child this does nothing."""
        if os.getpid() == self._pid and self._fd in _held:
            _held.discard(self._fd)
            os.close(self._fd)


@functools.cache
def _let_go_after_fork() -> None:
    os.register_at_fork(after_in_child=_close_copies)


def _close_copies() -> None:
    """Close the inherited locks, or a worker that outlives the owner would hold the data directory."""
    for fd in _held:
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()
