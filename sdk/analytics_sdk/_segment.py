"""A stretch of the queue: records in memory, on disk, or both.

On disk it is a file of lines, `<crc32 of the record, 8 hex digits> <record>`, after one line that names the format.
A record is JSON without line breaks, so the file can be read with the usual tools. Its owner holds a lock on it
(flock, which ends with the process however that ends, and which a pid could only pretend to know); whoever gets
the lock may send what it holds.

Each record is written by a system call of its own before `track()` returns: from then on the operating system has
it, and nothing that happens to the process can take it away. docs/spool.md tells what else was measured.

Any number of threads write at once, each its own line, without a lock of ours: the system appends one after the other
(O_APPEND). Everything else is done by one thread at a time, under the lock of the buffer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections import deque
from collections.abc import Iterator
from os import write
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = b"analytics-spool 1\n"
SUFFIX: Final = ".spool"

_CHUNK: Final = 1024 * 1024  # bytes that are read at once
_LINE_EXTRA: Final = 10  # bytes of a line beside the record


class Segment:
    """Records that were accepted one after the other.

    Attributes:
        waiting: Records in memory, the next ones to be taken.
        unread: How many follow on disk only.
        in_hand: How many were taken and are not settled yet.
        writers: How many threads are just writing a line each; as long as there are any, the file stays as it is.
        size: Bytes of the file that are written.
        is_durable: Whether there is a file.
        is_left: Whether the file is another process's to send.
    """

    __slots__ = ("_fd", "_offset", "in_hand", "is_durable", "is_left", "path", "size", "unread", "waiting", "writers")

    def __init__(self, path: Path | None = None, fd: int = -1, *, size: int = len(FORMAT), unread: int = 0) -> None:
        self.path = path
        self.is_durable = path is not None
        self._fd = fd
        self._offset = len(FORMAT)  # where the unread ones begin
        self.is_left = False
        self.size = size
        self.waiting: deque[bytes] = deque()
        self.unread = unread
        self.in_hand = self.writers = 0

    @property
    def owed(self) -> int:
        """How many were accepted and are not settled yet, wherever they are."""
        return len(self.waiting) + self.unread + self.in_hand

    def append(self, record: bytes) -> None:
        """Append a record.

        Raises:
            OSError: The disk does not take it; the file is as it was.
        """
        line = line_of(record)
        self.writers += 1
        try:
            self.write(line)
        except OSError:
            self.give_up_write(line)
            raise
        self.end_write(line)

    def write(self, line: bytes) -> None:
        """Append a line without the lock, as one of the `writers`; `end_write()` or `give_up_write()` follows.

        Raises:
            OSError: The disk does not take it, or not all of it.
        """
        if write(self._fd, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def end_write(self, line: bytes) -> None:
        """Note that a line is in the file now."""
        self.size += len(line)
        self._end_one_write()

    def give_up_write(self, line: bytes) -> None:
        """Note that a line is not in the file, and cut off what a write that failed half-way has left of it.

        If there are other writers, it stays: it is then the torn last line, or stands before an intact one.
        """
        if self.writers == 1:
            with contextlib.suppress(OSError):
                self._cut(line)
        self._end_one_write()

    def _cut(self, line: bytes) -> None:
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, len(line) - 1, max(0, size - len(line) + 1))
        torn = next((length for length in range(len(line) - 1, 0, -1) if tail.endswith(line[:length])), 0)
        if torn:
            os.ftruncate(self._fd, size - torn)
        self.size = size - torn

    def _end_one_write(self) -> None:
        self.writers -= 1
        if self.is_left and not self.writers:
            self._close()

    def leave_unread(self, record: bytes) -> None:
        """Note that the record written last is on disk only."""
        if not self.unread:
            self._offset = self.size - len(record) - _LINE_EXTRA
        self.unread += 1

    def read(self, max_records: int, max_bytes: int) -> tuple[list[bytes], int]:
        """Read the next records that are on disk only; the caller takes as many off `unread`.

        Returns:
            Records that are whole, and the number of lines passed, which is larger if some are damaged.
        """
        records: list[bytes] = []
        passed = size = 0
        for line in self._lines():
            if passed == min(max_records, self.unread) or (passed and size + len(line) > max_bytes):
                break
            passed += 1
            size += len(line)
            if (record := intact(line)) is not None:
                records.append(record)
        self._offset += size
        return records, passed

    def rest(self) -> list[bytes]:
        """All records that are on disk only, as far as they can be read."""
        try:
            return self.read(self.unread, sys.maxsize)[0] if self.unread else []
        except OSError:
            return []

    @property
    def is_gone(self) -> bool:
        """Whether somebody has removed the file: it serves us as before, but nobody will find it."""
        try:
            return self.path is not None and not os.fstat(self._fd).st_nlink
        except OSError:
            return True

    def empty(self) -> None:
        """Forget all records, as they are settled.

        Raises:
            OSError: The disk does not do it.
        """
        os.ftruncate(self._fd, len(FORMAT))
        self.size = self._offset = len(FORMAT)

    def sync(self) -> None:
        """Have the disk itself take what was written; until then a power cut can lose it."""
        with contextlib.suppress(OSError, ValueError):  # a file system that cannot, or closed meanwhile
            os.fsync(self._fd)

    def remove(self) -> None:
        """Remove the file, as nothing in it is of use any more, and let go of it."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.leave()

    def forget(self) -> None:
        """Hold no records any more."""
        self.waiting.clear()
        self.unread = self.in_hand = 0

    def leave_all_unread(self) -> None:
        """Leave all that is owed to whoever locks the file next."""
        owed = self.owed
        self.forget()
        self.unread = owed
        self.leave()

    def leave(self) -> None:
        """Let go of the file without touching it: whoever locks it next sends what it holds.

        Only closing does that right after a fork: the lock is the open file's, which parent and child share, and
        unlocking would unlock it for both. A thread that is just writing closes it when it is done: meanwhile the
        number could become that of another file.
        """
        self.is_left = True
        if not self.writers:
            self._close()

    def leave_at_fork(self) -> None:
        """Let go of the file in a forked child, where the threads that were just writing do not exist."""
        self.writers = 0
        self.leave()

    def _close(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = -1

    def _lines(self) -> Iterator[bytes]:
        """The lines from the first unread one on; the last one may be torn."""
        offset, rest = self._offset, b""
        while chunk := os.pread(self._fd, _CHUNK, offset):
            offset += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest


def line_of(record: bytes) -> bytes:
    """The line of a record in a file."""
    return b"%08x %b\n" % (crc32(record), record)


def intact(line: bytes) -> bytes | None:
    """The record in a line; None if the line is torn or was changed.

    A write that failed half-way may have left its beginning in the place where the line begins. A record has the
    three characters that begin with a blank nowhere: its quotation marks follow no blank, or have a backslash.
    """
    start = line.rfind(b' {"') - 8
    record = line[start + 9 : -1]
    try:
        is_intact = start >= 0 and line.endswith(b"\n") and int(line[start : start + 8], 16) == crc32(record)
    except ValueError:
        return None
    return record if is_intact else None


def count_records(fd: int) -> int:
    """How many records a segment's file holds; none if it is of another format. A torn last line counts as one.

    Raises:
        OSError: It cannot be read.
    """
    if os.pread(fd, len(FORMAT), 0) != FORMAT:
        return 0
    offset, lines, last = len(FORMAT), 0, b"\n"
    while chunk := os.pread(fd, _CHUNK, offset):
        offset += len(chunk)
        lines += chunk.count(b"\n")
        last = chunk[-1:]
    return lines + (last != b"\n")
