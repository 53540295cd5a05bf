"""The directory of segments: what was accepted outlives the process, and another one sends it.

Any number of processes share a directory. Each writes segments of its own and holds their locks; a segment whose
lock is free belongs to a process that has ended, and whoever gets the lock adopts it. A name ends with a mark of
the collector's address, so that nothing is ever sent to another collector than the one it was meant for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import time
from collections import deque
from pathlib import Path
from typing import Final

from . import _file_system, _ids
from ._segment import EMPTIED, FORMAT, SUFFIX, Segment, count_records
from ._window import Window

logger = logging.getLogger("analytics_sdk")

SEGMENT_BYTES: Final = 4 * 1024 * 1024
_RETRY_AFTER: Final = 15.0  # seconds between two tries on a disk that is full or read-only
# Those that take room for a page when it is made writable, so that the kernel's answer to a window (`_window`) means
# what it says, and that answer without asking another machine or process.
_MAPPABLE: Final = frozenset({"ext4", "xfs", "tmpfs"})


class Spool:
    """Makes segments, and adopts those of processes that have ended.

    Args:
        directory: Made if it is missing; for this user only, as what it holds is the users' data.
        url: The collector that the records are for.
        max_bytes: Most bytes of all segments in the directory, of all processes.
    """

    def __init__(self, directory: str, url: str, max_bytes: int) -> None:
        self._directory = Path(directory).absolute()
        self._ending = ending_for(url)
        self._max_bytes = max_bytes
        self.segment_bytes = min(SEGMENT_BYTES, max(1, max_bytes // 4))
        self._is_mappable: bool | None = None
        self._retry_at = 0.0  # on the clock of time.monotonic()
        self._is_away = False
        self._unsaid: deque[tuple[int, str, tuple[object, ...]]] = deque()

    @property
    def is_ready(self) -> bool:
        """Whether the disk is worth a try."""
        return time.monotonic() >= self._retry_at

    def create(self, size: int, *, is_last: bool = False) -> Segment | None:
        """Make a segment that belongs to this process; None if the disk does not let us now.

        Args:
            size: Bytes that will be written at once, at least.
            is_last: Whether there is no later, so that the disk is tried whenever it failed last.
        """
        if not self.is_ready and not is_last:
            return None
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_sure_of_room(size)
            segment = self._new_segment()
        except OSError as error:
            self.report(error)
            return None
        return segment

    def note_written(self) -> None:
        """Note that a record is on disk; one line if the disk was away: it is back once it has taken something."""
        if self._is_away:
            self._is_away = False
            self._note(logging.INFO, "The spool %s takes events again.", self._directory)

    def report(self, error: OSError) -> None:
        """Leave the disk alone for a while; one line when that begins, none for each failed try."""
        self._retry_at = time.monotonic() + _RETRY_AFTER
        if not self._is_away:
            self._is_away = True
            self._note(
                logging.WARNING,
                "The spool %s cannot be written (%s). Events are kept in memory and sent from there; "
                "what the end of the process finds there is lost if it cannot be sent in time.",
                self._directory,
                error.strerror or error,
            )

    def _note(self, level: int, message: str, *details: object) -> None:
        self._unsaid.append((level, message, details))

    def say(self) -> None:
        """Log what happened since the last time.

        Whoever calls the rest of this holds the buffer's lock. A log handler of the host's has a lock of its own and
        may track under it: who logs under ours would wait for the one, and that one for ours.
        """
        with contextlib.suppress(IndexError):  # all is said, perhaps by another thread
            while self._unsaid:
                level, message, details = self._unsaid.popleft()
                logger.log(level, message, *details)

    def adopt(self) -> Segment | None:
        """Lock the oldest segment whose owner has ended; None if there is none.

        A segment without records is removed on the way.
        """
        for path in self._paths():
            with contextlib.suppress(OSError):  # another process was faster, or its user is another
                if (segment := _adopted(path)) is not None:
                    return segment
        return None

    def _paths(self) -> list[Path]:
        """The segments for this collector, the oldest first."""
        try:
            return sorted(path for path in self._directory.iterdir() if path.name.endswith(self._ending))
        except OSError:
            return []

    def _make_sure_of_room(self, size: int) -> None:
        used = bytes_in(self._directory, has_windows=self._has_windows())
        if used + max(size, self.segment_bytes) > self._max_bytes:
            raise OSError(None, f"its {used} bytes leave no room below max_spool_bytes={self._max_bytes}")

    def _new_segment(self) -> Segment:
        while True:
            path = self._directory / f"{_ids.session_id(time.time_ns())}{self._ending}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:  # else somebody adopted and removed it before it was locked
                    _write_format(fd)
                    return Segment(path, fd, limit=self.segment_bytes, open_window=self._open_window)
            except BlockingIOError:
                pass  # just being adopted, as empty as it is
            except OSError:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise
            os.close(fd)

    @property
    def _open_window(self) -> type[Window] | None:
        return Window if self._has_windows() else None

    def _has_windows(self) -> bool:
        if self._is_mappable is None:
            self._is_mappable = _file_system.kind_of(self._directory) in _MAPPABLE
        return self._is_mappable


def _write_format(fd: int) -> None:
    if os.write(fd, FORMAT) != len(FORMAT):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def ending_for(url: str) -> str:
    """How the names of a collector's segments end: eight hex digits stand for its address."""
    return f"-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:8]}{SUFFIX}"


def bytes_in(directory: Path, *, has_windows: bool) -> int:
    """How many bytes the segments in a directory have, whomever they are for.

    Args:
        directory: A spool's.
        has_windows: Whether they may be longer than what they take. Other file systems may tell late what that is.

    Raises:
        OSError: It cannot be read.
    """
    with os.scandir(directory) as entries:
        found = [status for entry in entries if entry.name.endswith(SUFFIX) and (status := _status_of(entry))]
    return sum(bytes_of(status) if has_windows else status.st_size for status in found)


def _status_of(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except FileNotFoundError:  # delivered and removed meanwhile
        return None


def bytes_of(status: os.stat_result) -> int:
    """How many bytes of the disk a segment takes: of one with a window (`_window`) less than it is long."""
    return min(status.st_size, status.st_blocks * 512)


def _adopted(path: Path) -> Segment | None:
    """Make a segment of another process ours, if that process has ended and it holds anything.

    Raises:
        OSError: It is locked, or gone, or not ours to read.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    kept = False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(fd).st_nlink:
            return None
        records = count_records(fd)
        if not records:
            head = os.pread(fd, len(FORMAT), 0)
            if FORMAT.startswith(head) or head == EMPTIED:  # and not a format that another version of us will know
                path.unlink()
            return None
        kept = True
        return Segment(path, fd, size=os.fstat(fd).st_size, unread=records)
    finally:
        if not kept:
            os.close(fd)
