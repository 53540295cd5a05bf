"""A file mapped into memory: what is stored there is the operating system's at once, without a system call.

A store into mapped memory cannot fail: where the kernel has no page for it (the disk is full, has failed, or somebody
has cut the file), it ends the process with SIGBUS. So pages are made by a write of zeros, which takes room on the disk
or returns an error as any write does; and then the kernel is asked for them: MADV_POPULATE_WRITE returns an error where
a store would raise the signal. What it says holds until the page has been written back to the disk and the disk fails
then, so it is believed for `Window.TRUSTED` only.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import Final

_ZEROS: Final = bytes(16 * 1024)  # that are written at once: larger pieces cost less a page, and longer a call
_MADV_POPULATE_WRITE: Final = 23  # madvise(2), Linux 5.14


class Window:
    """A file in memory, with a position.

    The position is the map's own: to store a line and to move on is one step, in which no other thread and no signal
    handler comes between.

    Args:
        fd: The file; it is made longer, by zeros that take no room on the disk yet.
        start: Where the next line begins.
        end: How long the file is made.

    Attributes:
        TRUSTED: Seconds for which the kernel is believed that it has a page.
        HELD: Bytes of memory, about, that a window has at most, however much of the file it passes.
        write: Stores a line at the position; raises ValueError if it does not fit, or the window is closed.

    Raises:
        OSError: The file cannot be made longer, or not be mapped.
        ValueError: Somebody cuts the file meanwhile.
    """

    TRUSTED: Final = 0.0001
    HELD: Final = 512 * 1024

    __slots__ = ("_fd", "_held", "_map", "_ready", "write")

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd = fd
        self._held = start - start % mmap.PAGESIZE  # from where on pages are in memory for us
        self._ready = start  # up to where there are pages
        os.ftruncate(fd, end)
        self._map = mmap.mmap(fd, end)
        self._map.seek(start)
        self._map.madvise(mmap.MADV_RANDOM)  # the kernel makes no pages but those that are asked for
        self.write = self._map.write

    @property
    def position(self) -> int:
        """Where the next line begins."""
        return self._map.tell()

    def look(self, length: int) -> int:
        """See to it that the next bytes can be stored.

        Returns:
            How many can: so many or more; 0 if the window ends before.

        Raises:
            OSError: A store would end the process.
        """
        here = self._map.tell()
        if here + length > len(self._map):
            return 0
        if here - self._held > self.HELD:
            self._let_go(here - here % mmap.PAGESIZE)
        while here + length > self._ready:
            self._make_ready()
        end = min(self._ready, here + max(length, len(_ZEROS)))
        self._ask_for(here, end)
        return end - here

    def _make_ready(self) -> None:
        length = len(_ZEROS) - self._ready % len(_ZEROS)
        zeros = _ZEROS[: min(length, len(self._map) - self._ready)]
        if os.pwrite(self._fd, zeros, self._ready) != len(zeros):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._ready += len(zeros)

    def _let_go(self, end: int) -> None:
        """Take pages that were passed out of our memory; the operating system has what is in them."""
        self._map.madvise(mmap.MADV_DONTNEED, self._held, end - self._held)
        self._held = end

    def _ask_for(self, start: int, end: int) -> None:
        first = start - start % mmap.PAGESIZE
        self._map.madvise(_MADV_POPULATE_WRITE, first, end - first)

    def clear(self, start: int) -> None:
        """Make zeros of all that was written from a place on, where the next line begins then; the pages stay.

        While that goes on, the first byte of the file is a zero: whoever finds it so knows that nothing of the rest is
        of use any more, and that the end did not come between two lines.

        Raises:
            OSError: A store would end the process.
        """
        end = self._map.tell()
        self._ask_for(0, end)
        first, self._map[:1] = self._map[:1], b"\0"
        for place in range(start, end, len(_ZEROS)):
            length = min(len(_ZEROS), end - place)
            self._map[place : place + length] = _ZEROS[:length]
        self._map.seek(start)
        self._map[:1] = first
        self._held = 0

    def close(self) -> None:
        """Let go of the memory; the file stays as long as it is."""
        self._map.close()
