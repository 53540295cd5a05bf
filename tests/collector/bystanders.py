"""Who writes and reads while housekeeping is at work: nothing that they see may differ, and they hardly wait."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import psycopg

from analytics_collector import profiles
from analytics_collector.committer import Committer
from analytics_collector.db import Connection, Database
from tests.collector.batches import Fields, commit
from tests.programs import wait_until

LONGEST_PAUSE = 0.1  # seconds that a writer may have to wait
_GRACE = 0.002  # seconds between two requests


@attrs.define
class Writer:
    """Sends each event twice, one request after the other.

    Attributes:
        make: Makes the events of 0, 1, 2 ...
        begun: Events sent at least once.
        may_forget: Whether events go meanwhile, so that one that is sent again may be new.
        stored: Events that were answered for.
        longest: Seconds that the slowest request took.
        blocked: Seconds that a request has been seen to wait for a lock.
    """

    committer: Committer
    make: Callable[[int], Fields]
    may_forget: bool
    begun: int = 0
    stored: int = 0
    longest: float = 0.0
    blocked: float = 0.0

    def send(self) -> None:
        """Send the next event: new it is accepted, and again it is a duplicate."""
        record = self.make(self.begun)
        self.begun += 1
        assert self._verdict(record) == (1, 0)
        self.stored += 1
        again = self._verdict(record)
        assert again == (0, 1) or (self.may_forget and again == (1, 0))

    def _verdict(self, record: Fields) -> tuple[int, int]:
        began = time.monotonic()
        verdict = commit(self.committer, events=[record])
        self.longest = max(self.longest, time.monotonic() - began)
        return verdict.accepted, verdict.duplicates


@attrs.define
class Reader:
    """Counts the events, again and again: all that are stored, each once; and proves the profiles.

    Attributes:
        there: Events that were there before the writer began.
        looks: How often it has looked.
    """

    connection: Connection
    writer: Writer
    there: int
    looks: int = 0

    def look(self) -> None:
        """Count in one statement, prove the profiles in others."""
        least = self.there + self.writer.stored
        rows, events = self.connection.execute(
            "SELECT count(*), count(DISTINCT event_id) FROM analytics_event"
        ).fetchone() or (0, 0)
        assert rows == events
        if not self.writer.may_forget:
            assert least <= rows <= self.there + self.writer.begun
        assert profiles.verify(self.connection) == []
        self.looks += 1


def watch_locks(connection: Connection, writer: Writer) -> None:
    """Look how long the writer has been waiting for a lock, if it has."""
    row = connection.execute(
        "SELECT max(extract(epoch FROM clock_timestamp() - waitstart))::float8 FROM pg_locks JOIN pg_stat_activity"
        " USING (pid) WHERE NOT granted AND application_name = 'analytics-collector'"
    ).fetchone()
    assert row is not None
    writer.blocked = max(writer.blocked, row[0] or 0)


@contextlib.contextmanager
def bystanders(dsn: str, make: Callable[[int], Fields], *, may_forget: bool = False) -> Iterator[Writer]:
    """A writer and a reader beside the block; what they find wrong is raised at its end.

    Args:
        dsn: The database that they use.
        make: Makes the writer's events.
        may_forget: Whether events go meanwhile.
    """
    with (
        contextlib.closing(Database(dsn)) as database,
        psycopg.connect(dsn, autocommit=True) as connection,
        psycopg.connect(dsn, autocommit=True) as watcher,
    ):
        (there,) = connection.execute("SELECT count(*) FROM analytics_event").fetchone() or (0,)
        writer = Writer(Committer(database), make, may_forget)
        reader = Reader(connection, writer, there)
        writer.send()  # opens the connection
        writer.longest = 0.0
        with _again_and_again(writer.send, reader.look, lambda: watch_locks(watcher, writer)):
            yield writer
            looks = reader.looks
            wait_until(lambda: reader.looks > looks + 1, what="another look")


def calmly(attempt: Callable[[], float], tries: int = 3) -> float:
    """The least of the longest pauses, in seconds: one that is short will do, as others use the machine as well."""
    longest = attempt()
    for _ in range(tries - 1):
        if longest < LONGEST_PAUSE:
            break
        longest = min(longest, attempt())
    return longest


@contextlib.contextmanager
def _again_and_again(*work: Callable[[], Any]) -> Iterator[None]:
    """Call functions, each in a thread of its own, until the end of the block; what they raise comes out there."""
    finished = threading.Event()

    def go_on(step: Callable[[], Any]) -> None:
        while not finished.is_set():
            step()
            finished.wait(_GRACE)

    with ThreadPoolExecutor(len(work)) as threads:
        going = [threads.submit(go_on, step) for step in work]
        try:
            yield
        finally:
            finished.set()
        for future in going:
            future.result()
