"""How much a key may send: a bucket that fills with time. Pure: the time is passed in."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

LONGEST_WAIT: Final = 3600
"""Seconds: who has used up a day is told to come again after so long, as the limit may be raised meanwhile."""


@attrs.define
class Bucket:
    """Fills by `rate` records a second, up to one second's worth; whoever comes while it is not empty is let in.

    How many records a request has is known only after it was let in, so the bucket may go below empty; what was too
    much is paid back before the next one. Over time no more than `rate` comes through.

    Attributes:
        rate: Records a second.
        level: How many are in it.
        at: When that was, in seconds.
    """

    rate: float
    level: float
    at: float

    @classmethod
    def full(cls, rate: float, now: float) -> Bucket:
        """A bucket that nobody has taken from."""
        return cls(rate, rate, now)

    def wait(self, now: float) -> float:
        """Seconds until there is something in it; 0 if there is."""
        self._fill(now)
        # Half a record stands for "some", so that whoever has waited that long is let in whatever the rounding.
        return 0.0 if self.level > 0 else (0.5 - self.level) / self.rate

    def take(self, records: int, now: float) -> None:
        """Take so many out."""
        self._fill(now)
        self.level -= records

    def _fill(self, now: float) -> None:
        # A clock that is set back adds nothing, and is believed from there on.
        self.level = min(self.rate, self.level + max(0.0, now - self.at) * self.rate)
        self.at = now


def retry_after(wait: float) -> int:
    """A wait in whole seconds, as the header Retry-After has it: at least 1."""
    return max(1, min(LONGEST_WAIT, math.ceil(wait)))


def until_tomorrow(now: datetime) -> float:
    """Seconds until the next day begins in UTC."""
    now = now.astimezone(UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    return (midnight - now).total_seconds()
