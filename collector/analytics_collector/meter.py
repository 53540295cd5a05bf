"""Counts what each key sends, and tells those who have sent too much when to come again.

The rate is kept in memory, each of the workers having its share of it. The day's count is kept in Postgres: each
worker adds what it has counted and reads the sum of all, once a second at most. So a key can send more than its day
allows by what the other workers take in within one second, and by the requests that are in hand.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, date, datetime
from typing import Final

import attrs
import psycopg

from . import limits
from .db import Database
from .exceptions import TooManyRequestsError, UnavailableError
from .keys import Key
from .limits import Bucket
from .sql import load

PAUSE: Final = 1.0  # seconds between two times that a key's count is brought to Postgres

logger = logging.getLogger("analytics_collector")


@attrs.define
class Count:
    """What one key has sent on one day.

    Attributes:
        known: By all workers, when this one last asked.
        unsaved: By this one since then.
        asked_at: When that was, in seconds.
        saved_at: When this one last brought there what it had counted.
    """

    day: date
    known: int = 0
    unsaved: int = 0
    asked_at: float = float("-inf")
    saved_at: float = float("-inf")

    def is_stale(self, now: float, *, has_more: bool) -> bool:
        """Is it time to ask? One request that comes alone is saved at once, although it was asked for just before."""
        # A clock that is set back makes it stale.
        return abs(now - (self.saved_at if has_more else self.asked_at)) >= PAUSE


class Meter:
    """Counts and decides for the requests of one process.

    Args:
        database: Where the days' counts are.
        workers: How many processes share the limits.
    """

    def __init__(self, database: Database, *, workers: int = 1) -> None:
        self._database = database
        self._workers = workers
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        self._counts: dict[str, Count] = {}

    def check(self, key: Key, now: datetime) -> None:
        """See whether a key may send something now. Who has no limits costs nothing.

        Raises:
            TooManyRequestsError: It has sent too much; with the time to wait.
        """
        if key.rate is not None:
            with self._lock:
                wait = self._bucket(key, key.rate, now).wait(now.timestamp())
            if wait > 0:
                raise TooManyRequestsError(
                    "This key has sent too much for now",
                    f"its limit is {key.rate} records a second",
                    wait=limits.retry_after(wait),
                )
        if key.daily is not None and self._used(key, 0, now) >= key.daily:
            raise TooManyRequestsError(
                "This key has sent all it may today",
                f"its limit is {key.daily} records a day, in UTC; `analytics-collector keys set` raises it",
                wait=limits.retry_after(limits.until_tomorrow(now)),
            )

    def charge(self, key: Key, records: int, now: datetime) -> None:
        """Count what came: records that were written, refused ones among them, or one for a request that reads."""
        if key.rate is not None:
            with self._lock:
                self._bucket(key, key.rate, now).take(records, now.timestamp())
        if key.daily is not None:
            self._used(key, records, now)

    def _bucket(self, key: Key, rate: int, now: datetime) -> Bucket:
        share = rate / self._workers
        bucket = self._buckets.get(key.name)
        if bucket is None or bucket.rate != share:  # a limit that was changed begins anew
            bucket = self._buckets[key.name] = Bucket.full(share, now.timestamp())
        return bucket

    def _count(self, key: Key, now: datetime) -> Count:
        day = now.astimezone(UTC).date()
        count = self._counts.get(key.name)
        if count is None or count.day != day:
            count = self._counts[key.name] = Count(day)
        return count

    def _used(self, key: Key, more: int, now: datetime) -> int:
        """What a key has sent today with so many records more, as far as this process knows."""
        with self._lock:
            count = self._count(key, now)
            count.unsaved += more
            is_stale = count.is_stale(now.timestamp(), has_more=more > 0)
            if is_stale:  # the other threads go by what was known
                count.asked_at = now.timestamp()
                count.saved_at = count.asked_at if more else count.saved_at
                added, count.unsaved = count.unsaved, 0
                count.known += added
        if is_stale:
            self._ask(key, count, added)
        return count.known + count.unsaved

    def _ask(self, key: Key, count: Count, added: int) -> None:
        """Bring what was counted to Postgres, and learn what all have."""
        parameters = {"key_name": key.name, "day": count.day, "events": added}
        try:
            [row] = self._database.run(lambda connection: connection.execute(load("meter.add"), parameters).fetchall())
        except (UnavailableError, psycopg.Error) as error:  # whoever wants to store something will hear of it
            if isinstance(error, psycopg.Error):  # of the others the log knows already
                logger.warning("What key %s has sent today could not be counted, will try again: %s", key.name, error)
            with self._lock:
                count.unsaved += added
                count.known -= added
        else:
            with self._lock:
                count.known = row[0]
