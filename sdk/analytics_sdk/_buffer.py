"""Where records wait: a queue bounded by count and by bytes, and the account of what became of them.

One lock for both, so that the account balances at any moment. Nothing under it blocks or does I/O.
"""

from __future__ import annotations

import threading
from collections import deque

from ._ledger import Ledger, Stats


class Buffer:
    """A bounded queue of encoded records.

    Args:
        max_records: Most records that wait or are being sent.
        max_bytes: Most bytes of them.
    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Begin anew, with a new lock: in a forked child the inherited records are the parent's to send."""
        # Reentrant: a signal handler or a finalizer may track in the midst of a track() of the same thread.
        self._lock = threading.RLock()
        self._waiting: deque[bytes] = deque()
        self._in_hand = 0
        self._bytes = 0
        self._ledger = Ledger()

    def put(self, record: bytes) -> int:
        """Accept a record.

        Returns:
            How many wait now; 0 if it was not accepted, as the buffer is full or closed.
        """
        size = len(record)
        with self._lock:
            waiting = self._waiting
            if self._closed:
                self._ledger.refused["closed"] += 1
                return 0
            if self._bytes + size > self._max_bytes or len(waiting) + self._in_hand >= self._max_records:
                self._ledger.refused["buffer_full"] += 1
                return 0
            waiting.append(record)
            self._bytes += size
            self._ledger.accepted += 1
            return len(waiting)

    def close(self) -> None:
        """Accept nothing any more; what was accepted before can still be taken."""
        with self._lock:
            self._closed = True

    @property
    def is_closed(self) -> bool:
        """Whether nothing is accepted any more."""
        return self._closed

    def take(self, max_records: int, max_bytes: int) -> list[bytes]:
        """Take the oldest records in hand; they count as pending until they are settled.

        Args:
            max_records: Most records.
            max_bytes: Most bytes, though one record is always taken.
        """
        taken: list[bytes] = []
        size = 0
        with self._lock:
            while self._waiting and len(taken) < max_records:
                size += len(self._waiting[0])
                if taken and size > max_bytes:
                    break
                taken.append(self._waiting.popleft())
            self._in_hand += len(taken)
        return taken

    def settle(self, records: list[bytes], *, delivered: int = 0, duplicate: int = 0, rejected: int = 0) -> None:
        """Book the fate of records taken in hand; what the three numbers leave open was given up."""
        lost = len(records) - delivered - duplicate - rejected
        with self._lock:
            self._in_hand -= len(records)
            self._bytes -= sum(map(len, records))
            self._ledger.delivered += delivered
            self._ledger.duplicate += duplicate
            self._ledger.rejected += rejected
            if lost:
                self._ledger.dropped["refused"] += lost

    def refuse(self, reason: str) -> None:
        """Book a record that was not accepted."""
        with self._lock:
            self._ledger.refused[reason] += 1

    def stats(self) -> Stats:
        """The account at this moment."""
        with self._lock:
            return Stats(
                accepted=self._ledger.accepted,
                delivered=self._ledger.delivered,
                duplicate=self._ledger.duplicate,
                rejected=self._ledger.rejected,
                dropped=dict(self._ledger.dropped),
                pending=len(self._waiting) + self._in_hand,
                refused=dict(self._ledger.refused),
            )

    @property
    def settled(self) -> int:
        """Records whose fate is known."""
        with self._lock:
            return self._ledger.settled
