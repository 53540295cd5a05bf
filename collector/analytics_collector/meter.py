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
    """

    day: date
    known: int = 0
    unsaved: int = 0
    asked_at: float = float("-inf")


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
        if key.daily is not None and self._used(key, now) >= key.daily:
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
            with self._lock:
                self._count(key, now).unsaved += records
            self._used(key, now)  # now and not with the next request, which may never come

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

    def _used(self, key: Key, now: datetime) -> int:
        with self._lock:
            count = self._count(key, now)
            is_old = abs(now.timestamp() - count.asked_at) >= PAUSE
        if is_old:
            self._ask(key, count, now.timestamp())
        return count.known + count.unsaved

    def _ask(self, key: Key, count: Count, now: float) -> None:
        with self._lock:
            if abs(now - count.asked_at) < PAUSE:  # another thread does; we go by what was known
                return
            count.asked_at = now
            added, count.unsaved = count.unsaved, 0
            count.known += added
        parameters = {"key_name": key.name, "day": count.day, "events": added}
        try:
            [row] = self._database.run(lambda connection: connection.execute(load("meter.add"), parameters).fetchall())
        except (UnavailableError, psycopg.Error) as error:  # whoever wants to store something will hear of it
            logger.warning("What key %s has sent today could not be counted, will try again: %s", key.name, error)
            with self._lock:
                count.unsaved += added
                count.known -= added
        else:
            with self._lock:
                count.known = row[0]
