"""Where records wait, in memory and on disk, and the account of what became of them.

The queue is a row of segments; new records go to the last one, the live segment. One lock guards the queue and the
account, so that the account balances at any moment.

Records are written to disk under it, too. Threads that write to one file wait for each other in any case, in the kernel;
and a record that is stored through a window is written before another thread could ask for the lock.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Final

from ._batch import Batch
from ._ledger import DropReason, Ledger, Stats
from ._segment import Segment, line_of
from .exceptions import EventError

if TYPE_CHECKING:
    from ._spool import Spool

_NEVER: Final = sys.maxsize


class Buffer:
    """A bounded queue of encoded records.

    Attributes:
        put: Accepts a record; raises EventError if there is no room for it, or the buffer is closed.

    Args:
        max_records: Most records in memory, waiting or being sent.
        max_bytes: Most bytes of them.
        full_batch: Records that are worth a request of their own.
        notice: Called with the number of records that wait, at the first one and at a full batch.
        spool: Where records go that must outlive the process, or that memory has no room for.
        is_write_ahead: True writes every record to the spool before it is accepted; False only what does not fit.
        damaged: Called with the number of records that could not be read back from the spool, when there are any.
    """

    def __init__(
        self,
        max_records: int,
        max_bytes: int,
        full_batch: int,
        notice: Callable[[int], None],
        spool: Spool | None = None,
        *,
        is_write_ahead: bool = True,
        damaged: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._full_batch = full_batch
        self._notice = notice
        self._damaged = damaged
        self._spool = spool
        self._is_write_ahead = is_write_ahead and spool is not None
        self._segments: deque[Segment] = deque()
        self._live = Segment()
        self._adopted: Segment | None = None
        self._is_closed = False
        self.put: Callable[[bytes], None] = self._put_ahead if self._is_write_ahead else self._put_in_memory
        self.reset()

    def reset(self) -> None:
        """Begin anew, with a new lock: in a forked child the inherited records are the parent's to send."""
        for segment in (self._live, *self._all_segments()):
            segment.leave()
        # Reentrant: a signal handler or a finalizer may track in the midst of a track() of the same thread.
        self._lock = threading.RLock()
        self._ledger = Ledger()
        self._accepted = 0
        self._segments = deque()
        self._adopted = None
        self._live = self._first_segment()
        self._append = self._live.waiting.append
        self._in_hand: list[Batch] = []
        self._room = -_NEVER if self._is_closed else self._max_bytes
        self._taken = 0  # of those accepted here, how many have left the queue
        # How many will have been accepted: when somebody must be told, when memory is full, when either is the case.
        self._notice_at = 1
        self._full_at = self._max_records
        self._pause_at = 0
        self._is_ended = False

    def _first_segment(self) -> Segment:
        """One in memory; or one that is full, so that the first record makes the first file."""
        is_full = self._is_write_ahead and not self._is_closed
        segment = Segment(limit=0 if is_full else _NEVER)
        if is_full:
            segment.is_durable = True
        else:
            self._segments.append(segment)
        return segment

    def _all_segments(self) -> list[Segment]:
        return [*self._segments, *([self._adopted] if self._adopted else [])]

    # Records come in

    def _put_in_memory(self, record: bytes) -> None:
        """Accept a record."""
        size = len(record)
        with self._lock:
            room = self._room - size
            if room < 0 or self._accepted >= self._pause_at:
                waiting = self._put_with_care(record)
            else:
                self._room = room
                self._accepted += 1
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
        lock = self._lock
        with lock:
            live, now = self._live, monotonic()
            room, left = self._room - size, live.left - length
            if room < 0 or left < 0 or now > live.until or self._accepted >= self._pause_at:
                waiting = self._put_with_care(record)
            else:
                live.left = left
                try:
                    live.write(line)
                except (OSError, ValueError):
                    waiting = self._put_with_care(record) if self._lock is lock else 0  # says once more what is wrong
                else:
                    if self._lock is lock:  # else a signal handler has forked: this is the child, it is the parent's
                        self._room = room
                        self._accepted += 1
                        self._append(record)
                    return
        self._tell(waiting)

    def _tell(self, waiting: int) -> None:
        self._say()
        if waiting:
            self._notice(waiting)

    def _put_with_care(self, record: bytes) -> int:
        """Accept a record where there is more to it than one more for a live segment that has room.

        Returns:
            How many records wait, if that is worth a notice, else 0.
        """
        if self._is_closed:
            raise EventError("closed", "the client is closed")
        lock = self._lock
        has_room = len(record) <= self._room and self._accepted < self._full_at
        live = self._written_with_care(record, has_room=has_room)
        if self._lock is not lock:
            return 0
        if has_room and not live.unread:
            live.waiting.append(record)
            self._room -= len(record)
        else:
            live.leave_unread(record)
            self._full_at += 1
        self._accepted += 1
        return self._waiting_to_notice()

    def _written_with_care(self, record: bytes, *, has_room: bool) -> Segment:
        """The live segment, or a new one, with the record written to it if it is on disk."""
        live = self._live
        if live.is_durable and (live.is_full or not self._try_to_write(live, record)):
            live = self._next_live(record)
        if not has_room and not live.is_durable:
            live = self._next_live(record)
            if not live.is_durable:
                raise EventError("buffer_full", "the buffer is full: max_buffer_events or max_buffer_bytes is reached")
        return live

    def _waiting_to_notice(self) -> int:
        waiting = self._accepted - self._taken
        is_due = self._accepted >= self._notice_at
        if is_due:
            self._notice_at = self._taken + self._full_batch if waiting < self._full_batch else _NEVER
        self._set_pause()
        return waiting if is_due else 0

    def _set_pause(self) -> None:
        """When the next record needs care: at once, if it is not just appended to the live segment."""
        live = self._live
        is_simple = live.is_durable == self._is_write_ahead and not live.unread
        self._pause_at = min(self._notice_at - 1, self._full_at) if is_simple else 0

    def _try_to_write(self, segment: Segment, record: bytes) -> bool:
        assert self._spool is not None
        try:
            segment.append(record)
        except OSError as error:
            self._spool.report(error)
            return False
        self._spool.note_written()
        return True

    def _next_live(self, record: bytes) -> Segment:
        """A new live segment with a record written to it; one in memory if the disk takes none now."""
        created = self._spool.create(len(record)) if self._spool else None
        if created is not None and not self._try_to_write(created, record):
            created.remove()
            created = None
        return self._make_live(created or Segment())

    def _make_live(self, segment: Segment) -> Segment:
        before, self._live = self._live, segment
        self._append = segment.waiting.append
        if self._segments and self._segments[-1] is before and not (before.owed or before.is_busy):
            self._segments.pop().remove()
        before.seal()
        self._segments.append(segment)
        self._set_pause()
        return segment

    def refuse(self, reason: str) -> None:
        """Book a record that was not accepted."""
        with self._lock:
            self._ledger.refused[reason] += 1
        self._say()

    def _say(self) -> None:
        """Log what became of the disk; never under the lock, as a host's log handler may track."""
        if self._spool is not None:
            self._spool.say()

    def close(self) -> None:
        """Accept nothing any more; what was accepted before can still be taken."""
        with self._lock:
            self._is_closed = True
            self._room = -_NEVER
            if self._live.is_durable:
                self._make_live(Segment())

    @property
    def is_closed(self) -> bool:
        """Whether nothing is accepted any more."""
        return self._is_closed

    @property
    def is_ended(self) -> bool:
        """Whether what was left has been given away."""
        return self._is_ended

    # Records go out; one thread at a time does that

    def take(self, max_records: int, max_bytes: int, *, prefer_adopted: bool = False) -> Batch | None:
        """Take the oldest records in hand; they count as pending until they are settled.

        Args:
            max_records: Most records.
            max_bytes: Most bytes, though one record is always taken.
            prefer_adopted: Whether those of a process that has ended come first.
        """
        for segment in self._sources(prefer_adopted=prefer_adopted):
            while (segment.waiting or segment.unread) and not self._is_ended:
                take = self._take_from_memory if segment.waiting else self._take_from_disk
                if (batch := take(segment, max_records, max_bytes)) is not None:
                    return batch
        return None

    def _sources(self, *, prefer_adopted: bool) -> list[Segment]:
        with self._lock:
            if self._is_ended:
                return []
            own = [segment for segment in self._segments if segment.waiting or segment.unread]
            if not own:
                self._notice_at = self._accepted + 1
                self._set_pause()
            adopted = [self._adopted] if self._adopted else []
        return [*adopted, *own] if prefer_adopted else [*own, *adopted]

    def _take_from_memory(self, segment: Segment, max_records: int, max_bytes: int) -> Batch | None:
        taken: list[bytes] = []
        size = 0
        with self._lock:
            while segment.waiting and len(taken) < max_records:
                size += len(segment.waiting[0])
                if taken and size > max_bytes:
                    break
                taken.append(segment.waiting.popleft())
            return self._in_hands(Batch(taken, segment, in_memory=True)) if taken else None  # the end was faster

    def _take_from_disk(self, segment: Segment, max_records: int, max_bytes: int) -> Batch | None:
        """Read outside the lock, as a disk may take its time; meanwhile `put()` only adds to what is unread."""
        try:
            records, passed = segment.read(max_records, max_bytes)
        except OSError:
            records, passed = [], 0
        with self._lock:
            if self._is_ended:
                return None
            passed = passed or segment.unread  # a file that ends early has lost the rest
            segment.unread -= passed
            batch = self._in_hands(Batch(records, segment, in_memory=False)) if records else None
            if damaged := passed - len(records):
                self._ledger.dropped["damaged"] += damaged
                self._taken += damaged if segment is not self._adopted else 0
                self._note_settled(segment, damaged)
        if damaged:
            self._damaged(damaged)
        return batch

    def _in_hands(self, batch: Batch) -> Batch:
        self._in_hand.append(batch)
        batch.segment.in_hand += len(batch.records)
        if batch.segment is not self._adopted:
            self._taken += len(batch.records)
        return batch

    def halve(self, batch: Batch) -> tuple[Batch, Batch]:
        """Make two batches of one."""
        halves = batch.halves()
        with self._lock, contextlib.suppress(ValueError):  # not in hand any more, as the end came first
            self._in_hand.remove(batch)
            self._in_hand += halves
        return halves

    def settle(
        self,
        batch: Batch,
        *,
        delivered: int = 0,
        duplicate: int = 0,
        rejected: int = 0,
        dropped: DropReason = "refused",
    ) -> bool:
        """Book the fate of a batch; what the three numbers leave open was given up for the reason named.

        Returns:
            Whether it was booked: not if the end was faster, as then it is booked already.
        """
        count = len(batch.records)
        with self._lock:
            if batch not in self._in_hand:
                return False
            self._in_hand.remove(batch)
            if batch.in_memory:
                self._room += sum(map(len, batch.records))
                self._full_at += count
                self._set_pause()
            self._ledger.delivered += delivered
            self._ledger.duplicate += duplicate
            self._ledger.rejected += rejected
            if lost := count - delivered - duplicate - rejected:
                self._ledger.dropped[dropped] += lost
            batch.segment.in_hand -= count
            self._note_settled(batch.segment, count)
            return True

    def _note_settled(self, segment: Segment, count: int) -> None:
        if segment is not self._adopted:
            self._ledger.settled += count
        if not (segment.owed or segment.is_busy):
            self._clear(segment)

    def _clear(self, segment: Segment) -> None:
        """All of a segment is settled: its file has done its work."""
        if segment is self._adopted:
            self._adopted = None
            segment.remove()
        elif segment is not self._live:
            self._segments.remove(segment)
            segment.remove()
        elif segment.is_durable:
            self._empty_live()

    def _empty_live(self) -> None:
        try:
            if self._is_write_ahead:
                self._live.empty()
                self._set_pause()
                return
        except OSError:
            pass  # a new one will tell what is wrong with the disk
        self._make_live(Segment())

    # The spool's own work, outside of the lock

    def adopt(self) -> bool:
        """Take over a segment of a process that has ended, unless one is being sent already.

        Returns:
            Whether there is one to be sent now.
        """
        if self._spool is None or self.has_adopted or self.is_ended:
            return self.has_adopted
        segment = self._spool.adopt()
        if segment is None:
            return False
        with self._lock:
            return self._take_over(segment)

    def _take_over(self, segment: Segment) -> bool:
        if self._adopted is not None or self._is_ended:  # another thread was faster
            segment.leave()
        else:
            self._adopted = segment
            self._ledger.adopted += segment.owed
        return not self._is_ended

    def tend(self) -> None:
        """Go back to the disk once it is worth a try again, if every record has to be on it."""
        if self._spool is not None and self._is_write_ahead and not self.is_closed:
            self._tend_live(self._spool)
        self._say()

    def _tend_live(self, spool: Spool) -> None:
        if self._is_on_disk:
            if self._live.owed:
                spool.note_written()
        elif (created := spool.create(0)) is not None and not self._begin_with(created):
            created.remove()

    def _begin_with(self, created: Segment) -> bool:
        with self._lock:
            if not self._is_closed:
                self._make_live(created)
            return not self._is_closed

    @property
    def _is_on_disk(self) -> bool:
        return self._live.is_durable and not self._live.is_gone

    def sync(self) -> None:
        """Have the disk itself take what was written."""
        with self._lock:
            durable = [segment for segment in self._segments if segment.path and segment.owed]
        for segment in durable:
            segment.sync()

    def end(self) -> Counter[str]:
        """Give away what is left: what is on disk stays there, the rest is written there or counted as lost.

        Nothing is pending after it.

        Returns:
            What was lost by it.
        """
        self.close()
        with self._lock:
            if self._is_ended:
                return Counter()
            self._is_ended = True
            lost = self._give_away(list(self._only_in_memory()))
            self._in_hand.clear()
            for segment in self._all_segments():
                segment.leave_all_unread()
        self._say()
        return lost

    def _only_in_memory(self) -> Iterator[tuple[bytes, DropReason]]:
        """Records that end with the process, and what they are lost as."""
        for segment in self._all_segments():
            if not segment.is_durable or segment.is_gone:
                for batch in self._in_hand:
                    if batch.segment is segment:
                        yield from ((record, batch.loss) for record in batch.records)
                yield from ((record, "exit") for record in segment.waiting)
                rest = segment.rest()
                yield from ((record, "exit") for record in rest)
                yield from ((b"", "damaged") for _ in range(segment.unread - len(rest)))
                segment.forget()

    def _give_away(self, leftovers: list[tuple[bytes, DropReason]]) -> Counter[str]:
        refuge, lost = None, Counter[str]()
        if leftovers and self._spool is not None:
            refuge = self._spool.create(sum(len(line_of(record)) for record, _ in leftovers), is_last=True)
        for record, reason in leftovers:
            if refuge is not None and record and self._try_to_write(refuge, record):
                refuge.unread += 1
            else:
                lost[reason] += 1
        if refuge is not None:
            self._segments.append(refuge)
        self._ledger.dropped += lost
        self._ledger.settled += lost.total()
        return lost

    # The account

    def stats(self, altered: int = 0) -> Stats:
        """The account at this moment.

        Args:
            altered: Values that became a marker, as the encoder has counted them.
        """
        with self._lock:
            segments = self._all_segments()
            in_hand = sum(len(batch.records) for batch in self._in_hand)
            return self._ledger.stats(
                accepted=self._accepted + self._ledger.adopted,
                pending=in_hand + sum(len(segment.waiting) for segment in segments),
                spooled=sum(segment.unread for segment in segments),
                altered=altered,
            )

    @property
    def progress(self) -> tuple[int, int]:
        """How many records of this process's own were accepted, and how many of them are settled."""
        with self._lock:
            return self._accepted, self._ledger.settled

    @property
    def has_adopted(self) -> bool:
        """Whether records of a process that has ended are on their way."""
        return self._adopted is not None
