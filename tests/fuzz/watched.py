"""A collector that is watched: its workers, their memory and its log, while whatever comes is posted to it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import psycopg

from tests.benchmarks.serving.usage import most_memory, private_memory
from tests.collector.batches import Answer
from tests.collector.operating import logging_collector, workers_of
from tests.conftest import WRITE_KEY
from tests.programs import Collector

STATUSES = {200, 400, 413, 429, 503}
MEBIBYTE = 1024 * 1024
# Of one worker: 16 threads have a heap each, and the C library keeps up to two large bodies' worth in some of them.
MOST_GROWTH = 256 * MEBIBYTE
# 16 largest bodies at a time, as sent, inflated, and what reading makes of them.
MOST_AT_ONCE = 1536 * MEBIBYTE


@attrs.frozen
class Sending:
    """How a body is sent.

    Attributes:
        headers: Beside the key.
        cuts: Where it is cut into chunks; none sends it with its length.
    """

    headers: dict[str, str] = attrs.field(factory=dict)
    cuts: Sequence[int] = ()


@attrs.frozen
class Watched:
    """A collector with what is known of it; `post` uses one connection again and again."""

    collector: Collector
    log: Path
    connection: http.client.HTTPConnection
    database: psycopg.Connection

    def post(self, body: bytes, sending: Sending = Sending()) -> Answer:
        """Send a body, and check that the answer is one of those that the wire has."""
        headers = {"Authorization": f"Bearer {WRITE_KEY}", **sending.headers}
        content = pieces(body, sending.cuts) if sending.cuts else body
        self.connection.request("POST", "/v1/events", content, headers, encode_chunked=bool(sending.cuts))
        response = self.connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), json.loads(response.read()))
        assert answer.status in STATUSES, answer
        assert answer.status not in (429, 503) or "Retry-After" in answer.headers
        names = {"accepted", "duplicates", "rejected"} if answer.status == 200 else {"code", "message", "detail"}
        assert answer.json.keys() == names
        return answer

    def stored(self, event_ids: Sequence[str]) -> dict[str, tuple[str, Any]]:
        """Type and data of those of these events that are there."""
        query = "SELECT event_id::text, event_type, event_data FROM analytics_event WHERE event_id = ANY(%s::uuid[])"
        return {row[0]: row[1:] for row in self.database.execute(query, [list(event_ids)])}

    def kept(self, kind: str, record: bytes) -> bytes | None:
        """A refused record, as it is kept."""
        reject_id = uuid.UUID(bytes=hashlib.sha256(kind.encode() + b"\0" + record).digest()[:16])
        row = self.database.execute("SELECT record FROM analytics_reject WHERE reject_id = %s", [reject_id]).fetchone()
        return None if row is None else row[0]

    def workers(self) -> dict[int, int]:
        """The workers, with the bytes of memory that are theirs alone."""
        return {pid: private_memory(pid) for pid in workers_of(self.collector.process.pid)}

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """Whatever happens in the block: no worker dies or grows beyond bounds, and the log has no bug."""
        self.connection.close()  # it opens again by itself: the collector closes one that was idle for 75 s
        self.post(b"{}")
        before, began = self.workers(), self.log.stat().st_size
        yield
        after = self.workers()
        growth = {pid: after.get(pid, 0) - bytes_before for pid, bytes_before in before.items()}
        peak = max(map(most_memory, before))
        print(f"the workers grew by {[grown // MEBIBYTE for grown in growth.values()]} MiB, at most {peak // MEBIBYTE}")
        assert after.keys() == before.keys(), "a worker has died"
        assert max(growth.values()) < MOST_GROWTH, growth
        assert peak < MOST_AT_ONCE
        said = self.log.read_bytes()[began:]
        assert b"Traceback" not in said, said.decode(errors="replace")


def pieces(body: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """The body in so many pieces, none of them empty, as an empty chunk is the last."""
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return (body[start:end] for start, end in itertools.pairwise(places))


@contextlib.contextmanager
def watched_collector(dsn: str, log: Path, **environ: str) -> Iterator[Watched]:
    """A collector behind gunicorn with two workers, for the block."""
    with (
        logging_collector(dsn, log, ANALYTICS_HOUSEKEEPING_SECONDS="0", **environ) as running,
        psycopg.connect(dsn, autocommit=True) as database,
        contextlib.closing(connect(running)) as connection,
    ):
        yield Watched(running, log, connection, database)


def connect(collector: Collector, *, timeout: float = 60.0) -> http.client.HTTPConnection:
    """A connection to a collector; the time-out is in seconds."""
    address = urlsplit(collector.url)
    return http.client.HTTPConnection(str(address.hostname), address.port, timeout=timeout)
