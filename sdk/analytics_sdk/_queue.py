"""Where records wait, in memory and on disk: a row of segments. New ones go to the last one, the live segment.

One lock guards the queue, and the account with it (`_buffer`), so that the account balances at any moment.

Records are written to disk under it, too. Threads that write to one file wait for each other in any case, in the
kernel; and a record that is stored through a window is written before another thread could ask for the lock.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from ._segment import Segment, line_of
from .exceptions import EventError

if TYPE_CHECKING:
    from ._spool import Spool

_NEVER: Final = sys.maxsize


class Queue:
    """A bounded row of segments.

    Args:
        max_records: Most records in memory, waiting or being sent.
        max_bytes: Most bytes of them.
        full_batch: Records that are worth a request of their own.
        notice: Called with the number of records that wait, at the first one and at a full batch.
        spool: Where records go that must outlive the process, or that memory has no room for.
        is_write_ahead: True writes every record to the spool before it is accepted; False only what does not fit.

    Attributes:
        put: Accepts a record; raises EventError if there is no room for it, or the queue is closed.
        lock: Reentrant: a signal handler or a finalizer may track in the midst of a `track()` of the same thread.
        segments: All that owe a record, the oldest first, and the live one if it has had any.
        spool: As given.
        accepted: How many records were.
        is_closed: Whether nothing is accepted any more.
    """

    def __init__(
        self,
        max_records: int,
        max_bytes: int,
        full_batch: int,
        notice: Callable[[int], None],
        spool: Spool | None,
        *,
        is_write_ahead: bool,
    ) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._full_batch = full_batch
        self._notice = notice
        self.spool = spool
        self._is_write_ahead = is_write_ahead and spool is not None
        self.segments: deque[Segment] = deque()
        self._live = Segment()
        self.is_closed = False
        self.put: Callable[[bytes], None] = self._put_ahead if self._is_write_ahead else self._put_in_memory
        self.reset()

    def renew_lock(self) -> None:
        """In a forked child: whoever held the lock at the fork is not here to release it."""
        self.lock = threading.RLock()

    def reset(self) -> None:
        """Begin anew, with a new lock: in a forked child the inherited records are the parent's to send."""
        for segment in (self._live, *self.segments):
            segment.leave()
        self.renew_lock()
        self.accepted = 0
        self.segments = deque()
        self._live = self._first_segment()
        self._append = self._live.waiting.append
        self._room = -_NEVER if self.is_closed else self._max_bytes
        self._taken = 0  # of those accepted, how many have left the queue
        # How many will have been accepted: when somebody must be told, when memory is full, when either is the case.
        self._notice_at = 1
        self._full_at = self._max_records
        self._pause_at = 0

    def _first_segment(self) -> Segment:
        """One in memory; or one that is full, so that the first record makes the first file."""
        is_full = self._is_write_ahead and not self.is_closed
        segment = Segment(limit=0 if is_full else _NEVER)
        if is_full:
            segment.is_durable = True
        else:
            self.segments.append(segment)
        return segment

    # Records come in

    def _put_in_memory(self, record: bytes) -> None:
        """Accept a record."""
        size = len(record)
        with self.lock:
            room = self._room - size
            if room < 0 or self.accepted >= self._pause_at:
                waiting = self._put_with_care(record)
            else:
                self._room = room
                self.accepted += 1
                self._append(record)
                return
        self._tell(waiting)

    def _put_ahead(self, record: bytes) -> None:
        """Accept a record that is to be on disk before.

        Signal handlers run after calls: from the look at `left` to the write there is none, so that a handler that
        tracks cannot use up what the write was promised.
        """
        line = line_of(record)
        size, length = len(record), len(line)
        lock = self.lock
        with lock:
            live, now = self._live, monotonic()
            room, left = self._room - size, live.left - length
            if room < 0 or left < 0 or now > live.until or self.accepted >= self._pause_at:
                waiting = self._put_with_care(record)
            else:
                live.left = left
                try:
                    live.write(line)
                except (OSError, ValueError):
                    waiting = self._put_with_care(record) if self.lock is lock else 0  # says once more what is wrong
                else:
                    if self.lock is lock:  # else a signal handler has forked: this is the child, it is the parent's
                        self._room = room
                        self.accepted += 1
                        self._append(record)
                    return
        self._tell(waiting)

    def _tell(self, waiting: int) -> None:
        self.say()
        if waiting:
            self._notice(waiting)

    def _put_with_care(self, record: bytes) -> int:
        """Accept a record where there is more to it than one more for a live segment that has room.

        Returns:
            How many records wait, if that is worth a notice, else 0.
        """
        if self.is_closed:
            raise EventError("closed", "the client is closed")
        lock = self.lock
        has_room = len(record) <= self._room and self.accepted < self._full_at
        live = self._written_with_care(record, has_room=has_room)
        if self.lock is not lock:  # as above
            return 0
        if has_room and not live.unread:
            live.waiting.append(record)
            self._room -= len(record)
        else:
            live.leave_unread(record)
            self._full_at += 1
        self.accepted += 1
        return self._waiting_to_notice()

    def _written_with_care(self, record: bytes, *, has_room: bool) -> Segment:
        """The live segment, or a new one, with the record written to it if it is on disk."""
        live = self._live
        if live.is_durable and (live.is_full or not self.try_to_write(live, record)):
            live = self._next_live(record)
        if not has_room and not live.is_durable:
            live = self._next_live(record)
            if not live.is_durable:
                raise EventError("buffer_full", "the buffer is full: max_buffer_events or max_buffer_bytes is reached")
        return live

    def _waiting_to_notice(self) -> int:
        waiting = self.accepted - self._taken
        is_due = self.accepted >= self._notice_at
        if is_due:
            self._notice_at = self._taken + self._full_batch if waiting < self._full_batch else _NEVER
        self._set_pause()
        return waiting if is_due else 0

    def _set_pause(self) -> None:
        """When the next record needs care: at once, if it is not just appended to the live segment."""
        live = self._live
        is_simple = live.is_durable == self._is_write_ahead and not live.unread
        self._pause_at = min(self._notice_at - 1, self._full_at) if is_simple else 0

    def try_to_write(self, segment: Segment, record: bytes) -> bool:
        """Write a record to a segment's file, and tell whether the disk has taken it."""
        assert self.spool is not None
        try:
            segment.append(record)
        except OSError as error:
            self.spool.report(error)
            return False
        self.spool.note_written()
        return True

    def say(self) -> None:
        """Log what became of the disk; never under the lock, as a host's log handler may track."""
        if self.spool is not None:
            self.spool.say()

    def close(self) -> None:
        """Accept nothing any more; what was accepted before can still be taken."""
        with self.lock:
            self.is_closed = True
            self._room = -_NEVER
            if self._live.is_durable:
                self._make_live(Segment())

    # The live segment

    def _next_live(self, record: bytes) -> Segment:
        """A new live segment with a record written to it; one in memory if the disk takes none now."""
        created = self.spool.create(len(record)) if self.spool else None
        if created is not None and not self.try_to_write(created, record):
            created.remove()
            created = None
        return self._make_live(created or Segment())

    def _make_live(self, segment: Segment) -> Segment:
        before, self._live = self._live, segment
        self._append = segment.waiting.append
        if self.segments and self.segments[-1] is before and not (before.owed or before.is_busy):
            self.segments.pop().remove()
        before.seal()
        self.segments.append(segment)
        self._set_pause()
        return segment

    def _empty_live(self) -> None:
        try:
            if self._is_write_ahead:
                self._live.empty()
                self._set_pause()
                return
        except OSError:
            pass  # a new one will tell what is wrong with the disk
        self._make_live(Segment())

    def tend(self) -> None:
        """Go back to the disk once it is worth a try again, if every record has to be on it."""
        if self.spool is not None and self._is_write_ahead and not self.is_closed:
            self._tend_live(self.spool)
        self.say()

    def _tend_live(self, spool: Spool) -> None:
        if self._live.is_durable and not self._live.is_gone:
            if self._live.owed:
                spool.note_written()
        elif (created := spool.create(0)) is not None and not self._begin_with(created):
            created.remove()

    def _begin_with(self, created: Segment) -> bool:
        with self.lock:
            if not self.is_closed:
                self._make_live(created)
            return not self.is_closed

    # Records go out; the caller holds the lock

    def waiting(self) -> list[Segment]:
        """The segments that have records to be taken; if there are none, the next record is worth a notice."""
        found = [segment for segment in self.segments if segment.waiting or segment.unread]
        if not found:
            self._notice_at = self.accepted + 1
            self._set_pause()
        return found

    def note_taken(self, count: int) -> None:
        """Note that records have left the queue; they take room in memory until they are settled."""
        self._taken += count

    def give_back(self, records: list[bytes]) -> None:
        """Give back the room in memory that records took."""
        self._room += sum(map(len, records))
        self._full_at += len(records)
        self._set_pause()

    def clear(self, segment: Segment) -> None:
        """Let go of a segment that owes nothing any more: its file has done its work."""
        if segment is not self._live:
            self.segments.remove(segment)
            segment.remove()
        elif segment.is_durable:
            self._empty_live()
