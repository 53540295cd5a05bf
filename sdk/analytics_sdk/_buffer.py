"""The account of every record: which wait (`_queue`), which are under way, and what became of the others."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ._batch import Batch
from ._ledger import DropReason, Ledger, Stats
from ._queue import Queue
from ._segment import Segment, line_of

if TYPE_CHECKING:
    from ._spool import Spool


class Buffer:
    """A bounded queue of encoded records, and the account of them.

    Attributes:
        put: Accepts a record; raises EventError if there is no room for it, or the buffer is closed.
        is_ended: Whether what was left has been given away.

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
        self._queue = Queue(max_records, max_bytes, full_batch, notice, spool, is_write_ahead=is_write_ahead)
        self._damaged = damaged
        self._adopted: Segment | None = None
        self.put: Callable[[bytes], None] = self._queue.put
        self._begin()

    def _begin(self) -> None:
        self._ledger = Ledger()
        self._in_hand: list[Batch] = []
        self._adopted = None
        self.is_ended = False

    def renew_lock(self) -> None:
        """In a forked child that sends what it has inherited: whoever held the lock at the fork is not here."""
        self._queue.renew_lock()

    def reset(self) -> None:
        """Begin anew, with a new lock: in a forked child the inherited records are the parent's to send."""
        if self._adopted is not None:
            self._adopted.leave()
        self._queue.reset()
        self._begin()

    def _all_segments(self) -> list[Segment]:
        return [*self._queue.segments, *([self._adopted] if self._adopted else [])]

    def refuse(self, reason: str) -> None:
        """Book a record that was not accepted."""
        with self._queue.lock:
            self._ledger.refused[reason] += 1
        self._queue.say()

    def close(self) -> None:
        """Accept nothing any more; what was accepted before can still be taken."""
        self._queue.close()

    @property
    def is_closed(self) -> bool:
        """Whether nothing is accepted any more."""
        return self._queue.is_closed

    # Records go out; one thread at a time does that

    def take(self, max_records: int, max_bytes: int, *, prefer_adopted: bool = False) -> Batch | None:
        """Take the oldest records in hand; they count as pending until they are settled.

        Args:
            max_records: Most records.
            max_bytes: Most bytes, though one record is always taken.
            prefer_adopted: Whether those of a process that has ended come first.
        """
        for segment in self._sources(prefer_adopted=prefer_adopted):
            while (segment.waiting or segment.unread) and not self.is_ended:
                take = self._take_from_memory if segment.waiting else self._take_from_disk
                if (batch := take(segment, max_records, max_bytes)) is not None:
                    return batch
        return None

    def _sources(self, *, prefer_adopted: bool) -> list[Segment]:
        with self._queue.lock:
            if self.is_ended:
                return []
            own = self._queue.waiting()
            adopted = [self._adopted] if self._adopted else []
        return [*adopted, *own] if prefer_adopted else [*own, *adopted]

    def _take_from_memory(self, segment: Segment, max_records: int, max_bytes: int) -> Batch | None:
        taken: list[bytes] = []
        size = 0
        with self._queue.lock:
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
        with self._queue.lock:
            if self.is_ended:
                return None
            passed = passed or segment.unread  # a file that ends early has lost the rest
            segment.unread -= passed
            batch = self._in_hands(Batch(records, segment, in_memory=False)) if records else None
            if damaged := passed - len(records):
                self._ledger.dropped["damaged"] += damaged
                self._note_taken(segment, damaged)
                self._note_settled(segment, damaged)
        if damaged:
            self._damaged(damaged)
        return batch

    def _in_hands(self, batch: Batch) -> Batch:
        self._in_hand.append(batch)
        batch.segment.in_hand += len(batch.records)
        self._note_taken(batch.segment, len(batch.records))
        return batch

    def _note_taken(self, segment: Segment, count: int) -> None:
        if segment is not self._adopted:
            self._queue.note_taken(count)

    def halve(self, batch: Batch) -> tuple[Batch, Batch]:
        """Make two batches of one."""
        halves = batch.halves()
        with self._queue.lock, contextlib.suppress(ValueError):  # not in hand any more, as the end came first
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
        with self._queue.lock:
            if batch not in self._in_hand:
                return False
            self._in_hand.remove(batch)
            if batch.in_memory:
                self._queue.give_back(batch.records)
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
        else:
            self._queue.clear(segment)

    # The spool's own work, outside of the lock

    def adopt(self) -> bool:
        """Take over a segment of a process that has ended, unless one is being sent already.

        Returns:
            Whether there is one to be sent now.
        """
        if self._queue.spool is None or self.has_adopted or self.is_ended:
            return self.has_adopted
        segment = self._queue.spool.adopt()
        if segment is None:
            return False
        with self._queue.lock:
            return self._take_over(segment)

    def _take_over(self, segment: Segment) -> bool:
        if self._adopted is not None or self.is_ended:  # another thread was faster
            segment.leave()
        else:
            self._adopted = segment
            self._ledger.adopted += segment.owed
        return not self.is_ended

    def tend(self) -> None:
        """Go back to the disk once it is worth a try again, if every record has to be on it."""
        self._queue.tend()

    def sync(self) -> None:
        """Have the disk itself take what was written."""
        with self._queue.lock:
            durable = [segment for segment in self._queue.segments if segment.path and segment.owed]
        for segment in durable:
            segment.sync()

    def end(self) -> Counter[str]:
        """Give away what is left: what is on disk stays there, the rest is written there or counted as lost.

        Nothing is pending after it.

        Returns:
            What was lost by it.
        """
        self.close()
        with self._queue.lock:
            if self.is_ended:
                return Counter()
            self.is_ended = True
            lost = self._give_away(list(self._only_in_memory()))
            self._in_hand.clear()
            for segment in self._all_segments():
                segment.leave_all_unread()
        self._queue.say()
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
        if leftovers and self._queue.spool is not None:
            refuge = self._queue.spool.create(sum(len(line_of(record)) for record, _ in leftovers), is_last=True)
        for record, reason in leftovers:
            if refuge is not None and record and self._queue.try_to_write(refuge, record):
                refuge.unread += 1
            else:
                lost[reason] += 1
        if refuge is not None:
            self._queue.segments.append(refuge)
        self._ledger.dropped += lost
        self._ledger.settled += lost.total()
        return lost

    # The account

    def stats(self, altered: int = 0) -> Stats:
        """The account at this moment.

        Args:
            altered: Values that became a marker, as the encoder has counted them.
        """
        with self._queue.lock:
            segments = self._all_segments()
            in_hand = sum(len(batch.records) for batch in self._in_hand)
            return self._ledger.stats(
                accepted=self._queue.accepted + self._ledger.adopted,
                pending=in_hand + sum(len(segment.waiting) for segment in segments),
                spooled=sum(segment.unread for segment in segments),
                altered=altered,
            )

    @property
    def progress(self) -> tuple[int, int]:
        """How many records of this process's own were accepted, and how many of them are settled."""
        with self._queue.lock:
            return self._queue.accepted, self._ledger.settled

    @property
    def has_adopted(self) -> bool:
        """Whether records of a process that has ended are on their way."""
        return self._adopted is not None
