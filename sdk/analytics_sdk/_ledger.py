"""The account of every record: what `stats()`, `flush()` and `close()` return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class Stats:
    """Where all records are. A record is an event, or what is said of a session or a user.

    At any moment `accepted == delivered + duplicate + rejected + sum(dropped.values()) + pending`.

    Attributes:
        accepted: Taken into the buffer.
        delivered: Stored by the collector.
        duplicate: Stored by the collector before, as the answer to an earlier try was lost.
        rejected: Set aside by the collector with a reason, in `analytics_reject`.
        dropped: Given up after they were accepted, by reason: `refused` (the collector will never take it).
        pending: Waiting or being sent.
        refused: Never accepted, by reason: `invalid`, `too_large`, `buffer_full`, `closed`; not part of the sum.
    """

    accepted: int
    delivered: int
    duplicate: int
    rejected: int
    dropped: Mapping[str, int]
    pending: int
    refused: Mapping[str, int]


@attrs.frozen(kw_only=True)
class Report:
    """What a flush came to.

    Attributes:
        delivered: Records that the collector has, counted during this call; duplicates are among them.
        rejected: Records that it set aside, counted during this call.
        pending: Records that still wait.
        elapsed: Seconds that the call took.
    """

    delivered: int
    rejected: int
    pending: int
    elapsed: float


@attrs.define
class Ledger:
    """The counters. Whoever changes them holds the buffer's lock."""

    accepted: int = 0
    delivered: int = 0
    duplicate: int = 0
    rejected: int = 0
    dropped: Counter[str] = attrs.field(factory=Counter)
    refused: Counter[str] = attrs.field(factory=Counter)

    @property
    def settled(self) -> int:
        """Records whose fate is known."""
        return self.delivered + self.duplicate + self.rejected + self.dropped.total()
