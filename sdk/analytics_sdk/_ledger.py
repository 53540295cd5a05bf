"""The account of every record: what `stats()`, `flush()` and `close()` return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

import msgspec

DropReason = Literal["refused", "damaged", "exit", "unanswered"]
"""Why a record that was accepted is given up.

refused: the collector, or what stands before it, will never take this very record.
damaged: it cannot be read back from the spool.
exit: the process ended before it could be sent, and there is no spool.
unanswered: as exit, but it was sent and the answer never came: whether it is stored is not known.
"""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Where all records are. A record is an event, or what is said of a session or a user.

    At any moment `accepted == delivered + duplicate + rejected + sum(dropped.values()) + pending + spooled`.

    Attributes:
        accepted: Taken by this client, from `track()` or from the spool of a process that has ended.
        adopted: Those of them that come from the spool of a process that has ended.
        delivered: Stored by the collector.
        duplicate: Stored by the collector before, as the answer to an earlier try was lost.
        rejected: Set aside by the collector with a reason, in `analytics_reject`.
        dropped: Given up after they were accepted, by `DropReason`.
        pending: In memory, waiting or being sent; with a spool most of them are on disk as well.
        spooled: Waiting on disk only, for this process or for another one.
        refused: Never accepted, by reason; not part of the sum. `invalid` and `too_large`: what was passed cannot be
            stored. `buffer_full`: neither memory nor spool has room. `closed`: the client is. `sampled_out` and
            `before_send`: as you wished.
        altered: Values inside of accepted events that could not be stored as they were and became a marker.
    """

    accepted: int
    adopted: int
    delivered: int
    duplicate: int
    rejected: int
    dropped: Mapping[str, int]
    pending: int
    spooled: int
    refused: Mapping[str, int]
    altered: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a flush came to.

    Attributes:
        delivered: Records that the collector has, counted during this call; duplicates are among them.
        rejected: Records that it set aside, counted during this call.
        dropped: Records that were given up, counted during this call.
        pending: Records that still wait in memory.
        spooled: Records that wait on disk only; they are sent by this process, or by the next one.
        elapsed: Seconds that the call took.
    """

    delivered: int
    rejected: int
    dropped: int
    pending: int
    spooled: int
    elapsed: float


def report_between(before: Stats, after: Stats, elapsed: float) -> Report:
    """What happened between two accounts.

    Args:
        before: The account at the beginning of the call.
        after: The account at its end.
        elapsed: Seconds.
    """
    return Report(
        delivered=after.delivered + after.duplicate - before.delivered - before.duplicate,
        rejected=after.rejected - before.rejected,
        dropped=sum(after.dropped.values()) - sum(before.dropped.values()),
        pending=after.pending,
        spooled=after.spooled,
        elapsed=elapsed,
    )


class Ledger:
    """The counters of what became of records. Whoever changes them holds the buffer's lock."""

    def __init__(self) -> None:
        self.adopted = 0
        self.delivered = 0
        self.duplicate = 0
        self.rejected = 0
        self.dropped: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.settled = 0  # of the records of this process, those whose fate is known

    def stats(self, *, accepted: int, pending: int, spooled: int, altered: int) -> Stats:
        """The account, with what is counted elsewhere."""
        return Stats(
            accepted=accepted,
            adopted=self.adopted,
            delivered=self.delivered,
            duplicate=self.duplicate,
            rejected=self.rejected,
            dropped=dict(self.dropped),
            pending=pending,
            spooled=spooled,
            refused=dict(self.refused),
            altered=altered,
        )
