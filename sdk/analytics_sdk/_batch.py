"""A batch: records on their way, and the one body they have on every try."""

from __future__ import annotations

import functools
from typing import Final

from ._ledger import DropReason
from ._segment import Segment

_LETTER: Final = 2  # every record begins with {"event_id", {"session_id" or {"user_id": this byte tells them apart


class Batch:
    """Records that are sent together.

    Attributes:
        records: As `track()` encoded them, in order.
        segment: The stretch of the queue that they are from.
        in_memory: Whether they count as memory of the buffer; those read back from disk do not.
        loss: What its records are lost as if the process ends now: "unanswered" if they may be stored all the same.
        is_suspect: Whether it is one record that was refused while nothing else went through either.
    """

    def __init__(self, records: list[bytes], segment: Segment, *, in_memory: bool) -> None:
        self.records = records
        self.segment = segment
        self.in_memory = in_memory
        self.loss: DropReason = "exit"
        self.is_suspect = False

    @functools.cached_property
    def body(self) -> bytes:
        """The request body: a join of what `track()` encoded, the same bytes on every try."""
        return b'{"sessions":[%b],"users":[%b],"events":[%b]}' % tuple(
            b",".join(self.records_of(kind)) for kind in ("session", "user", "event")
        )

    def records_of(self, kind: str) -> list[bytes]:
        """Its records of one kind, "event", "session" or "user", in the order in which the collector counts them."""
        letter = ord(kind[0])
        return [record for record in self.records if record[_LETTER] == letter]

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches in the place of one that was refused."""
        middle = len(self.records) // 2
        return self._part(self.records[:middle]), self._part(self.records[middle:])

    def _part(self, records: list[bytes]) -> Batch:
        part = Batch(records, self.segment, in_memory=self.in_memory)
        part.loss = self.loss
        return part
