"""A stretch of the queue: records in memory, on disk, or both.

On disk it is a file of lines, `<crc32 of the record, 8 hex digits> <record>`, after one line that names the format.
A record is JSON without line breaks, so the file can be read with the usual tools. Its owner holds a lock on it
(flock, which ends with the process however that ends, and which a pid could only pretend to know); whoever gets
the lock may send what it holds.

The operating system has each record before `track()` returns, and nothing that happens to the process can take it
away: by a system call each, or, as soon as there are more than a few, through a window (`_window`). docs/spool.md
tells what else was measured. A window makes the file longer than what it holds, by zeros; its owner cuts them off.

Everything is done by one thread at a time, under the lock of the buffer.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from pathlib import Path

    from ._window import Window  # the spool passes it on; a host without one does not load it

FORMAT: Final = b"analytics-spool 1\n"
EMPTIED: Final = b"\0" + FORMAT[1:]  # while its owner makes a segment empty, see `Window.clear()`
SUFFIX: Final = ".spool"

_CHUNK: Final = 1024 * 1024  # bytes that are read at once
_LINE_EXTRA: Final = 10  # bytes of a line beside the record
_FEW: Final = 8 * 1024  # bytes that are not worth a window


class Segment:
    """Records that were accepted one after the other.

    Args:
        path: The file; None for a segment in memory.
        fd: The file.
        size: Bytes of it that are written.
        unread: Records in it.
        limit: Bytes after which it is full.
        open_window: Makes a window of the file, from an offset to another; None if none is to be made.

    Attributes:
        waiting: Records in memory, the next ones to be taken.
        unread: How many follow on disk only.
        in_hand: How many were taken and are not settled yet.
        write: Writes a line; raises OSError or ValueError if that is not possible, and the file is as it was.
        left: Bytes that `write` takes before `append()` must have a look.
        until: When it must have one anyway, on the clock of `time.monotonic()`.
        is_busy: Whether `append()` is at work, so that a signal handler in the midst of it does not disturb it.
        is_durable: Whether there is a file.
        is_left: Whether the file is another process's to send.
    """

    __slots__ = (
        "_fd", "_offset", "_open_window", "_size", "_window", "in_hand", "is_busy", "is_durable", "is_left", "left",
        "limit", "path", "unread", "until", "waiting", "write",
    )  # fmt: skip

    def __init__(
        self,
        path: Path | None = None,
        fd: int = -1,
        *,
        size: int = len(FORMAT),
        unread: int = 0,
        limit: int = sys.maxsize,
        open_window: Callable[[int, int, int], Window] | None = None,
    ) -> None:
        self.path = path
        self.is_durable = path is not None
        self._fd = fd
        self._offset = len(FORMAT)  # where the unread ones begin
        self._size = size
        self._window: Window | None = None
        self._open_window = open_window
        self.write: Callable[[bytes], object] = self._write
        self.limit = limit
        self.left, self.until = 0, math.inf
        self.is_busy = self.is_left = False
        self.waiting: deque[bytes] = deque()
        self.unread = unread
        self.in_hand = 0

    @property
    def owed(self) -> int:
        """How many were accepted and are not settled yet, wherever they are."""
        return len(self.waiting) + self.unread + self.in_hand

    @property
    def size(self) -> int:
        """Bytes of the file that are written."""
        return self._window.position if self._window else self._size

    @property
    def is_full(self) -> bool:
        """Whether the next record is for another segment."""
        return self.is_busy or self.size > self.limit

    def append(self, record: bytes) -> None:
        """Append a record.

        Raises:
            OSError: The disk does not take it; the file is as it was.
        """
        line = line_of(record)
        self.is_busy = True
        try:
            if len(line) > self.left or monotonic() > self.until:
                self._look(len(line))
            self.left -= len(line)
            self.write(line)
        finally:
            self.is_busy = False

    def _look(self, length: int) -> None:
        """See how so many bytes can be written, and how many further ones in the same way."""
        self.left = 0
        if self._is_ready(length):
            return
        self.seal()
        if self._is_worth_a_window and self._has_opened_window() and self._is_ready(length):
            return
        self.seal()
        room = self.limit - self._size
        few = len(FORMAT) + _FEW - self._size
        self.left = max(length, min(few, room) if self._open_window and few > 0 else room)

    @property
    def _is_worth_a_window(self) -> bool:
        return self._open_window is not None and len(FORMAT) + _FEW <= self._size <= self.limit - _FEW

    def _is_ready(self, length: int) -> bool:
        """Whether the window takes so many bytes; it is given up for good if the kernel says that it does not."""
        if self._window is None:
            return False
        try:
            self.left = self._window.look(length)
        except OSError:
            self._open_window = None
            return False
        self.until = monotonic() + self._window.TRUSTED
        return self.left > 0

    def _has_opened_window(self) -> bool:
        assert self._open_window is not None
        try:
            window = self._open_window(self._fd, self._size, self.limit)
        except (OSError, ValueError):  # ValueError: somebody has cut the file in this very moment
            self._open_window = None
            self._cut()
            return False
        self._window, self.write = window, window.write
        return True

    def seal(self) -> None:
        """Close the window, and cut off what it has made the file longer by; what comes next is written without one."""
        if self._window is not None:
            self._close_window()
            self._cut()

    def _close_window(self) -> None:
        assert self._window is not None
        window, self._size = self._window, self.size
        self._window, self.write, self.left, self.until = None, self._write, 0, math.inf
        window.close()

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:  # a line may begin with zeros
            self._open_window = None
            with contextlib.suppress(OSError):
                self._size = os.fstat(self._fd).st_size

    def _write(self, line: bytes) -> None:
        written, start = 0, self._size
        self._size += len(line)
        try:
            written = os.pwrite(self._fd, line, start)
            if written < len(line):  # another call says why, or finds room again
                written += os.pwrite(self._fd, line[written:], start + written)
            if written < len(line):
                raise OSError(None, "only a part of a record was written")
        except OSError:
            self._size = start
            if written:
                self._cut()
            raise

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
        for line in _lines_from(self._fd, self._offset):
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
        self.left, self.is_busy = 0, True
        try:
            if not self._is_cleared():
                if self._window is not None:
                    self._close_window()
                os.ftruncate(self._fd, len(FORMAT))
                self._size = len(FORMAT)
            self._offset = len(FORMAT)
        finally:
            self.is_busy = False

    def _is_cleared(self) -> bool:
        """Whether the window has made zeros of all records, so that the pages and the room that it has can be kept."""
        if self._window is None or self.size > self._window.HELD:
            return False
        try:
            self._window.clear(len(FORMAT))
        except OSError:
            self._open_window = None
            return False
        return True

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
        self.seal()
        self.leave()

    def leave(self) -> None:
        """Let go of the file without touching it: whoever locks it next sends what it holds.

        Only closing does that right after a fork: the lock is the open file's, which parent and child share, and
        unlocking would unlock it for both; and the window is a window of the parent's file.
        """
        self.is_left = True
        if self._window is not None:
            self._close_window()
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = -1


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
    head = os.pread(fd, len(FORMAT), 0)
    if head != FORMAT and (head == EMPTIED or _is_another_version(head) or not _has_intact_line(fd)):
        return 0
    lines, is_torn = 0, False
    for chunk in _chunks(fd, len(FORMAT)):
        lines += chunk.count(b"\n")
        is_torn = bool(chunk[chunk.rfind(b"\n") + 1 :].strip(b"\0")) or (is_torn and b"\n" not in chunk)
    return lines + is_torn


def _is_another_version(head: bytes) -> bool:
    name, number = FORMAT[:-2], head[len(FORMAT) - 2 :]
    return head.startswith(name) and number[:1].isdigit() and (number[:1] != b"1" or number[1:].isdigit())


def _has_intact_line(fd: int) -> bool:
    """Whether there is a record of ours, though the first line does not say so: that line was damaged."""
    return any(intact(line) is not None for line in _lines_from(fd, len(FORMAT)))


def _lines_from(fd: int, offset: int) -> Iterator[bytes]:
    """The lines from an offset on; the last one may be torn."""
    rest = b""
    for chunk in _chunks(fd, offset):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _chunks(fd: int, offset: int) -> Iterator[bytes]:
    while chunk := os.pread(fd, _CHUNK, offset):
        offset += len(chunk)
        yield chunk
