"""What an event costs when the tables have grown, against new ones: `python tests/benchmarks/growth.py`.

CPU of web processes and Postgres together, for batches of 500. Each size has a Postgres of its own; they take turns,
so that what else the machine does hits both. All rows are of one month, the worst case. A user has 200 events and a
session 10, and 3,000 sessions go on at any time. A checkpoint comes first: that is when a page costs most to change.

`--rows 100000 20000000` needs 10 GB in TMPDIR (or /var/tmp), and some minutes to make the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import msgspec
import psycopg

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from analytics_collector import embedded, keys, migrate, partitions  # noqa: E402
from analytics_sdk import _ids  # noqa: E402
from tests.benchmarks.serving import disk  # noqa: E402
from tests.benchmarks.serving.event import DATA  # noqa: E402
from tests.benchmarks.serving.load import WRITE_KEY  # noqa: E402
from tests.benchmarks.serving.usage import children_of, used  # noqa: E402
from tests.programs import run_collector  # noqa: E402

BATCH = 500
SESSION = 10  # events in one
USER = 200  # events of one
LIVE = 3_000  # sessions that go on at a time
STEP = 10  # milliseconds from one event to the next
CHUNK = 1_000_000  # rows in a transaction

# The user of a session and its id are functions of its number, the same in all of its rows. Events come within a
# second, as the SDK sends them; one in a hundred was spooled, for up to ten minutes.
FILL_EVENTS = """
INSERT INTO analytics_event (event_id, created_at, user_id, session_id, event_type, event_data)
SELECT
    (lpad(to_hex(ms), 12, '0') || '7' || substr(noise, 1, 3) || '8' || substr(noise, 4, 15))::uuid,
    to_timestamp(ms / 1000.0::float8),
    s * 2654435761 %% %(users)s + 1,
    lpad(to_hex(%(zero)s + s * %(session)s * %(step)s), 11, '0') || lpad(to_hex(s * 40503 %% 16777216), 6, 'u'),
    'page_view',
    %(data)s::jsonb
FROM (
    SELECT
        %(zero)s + n * %(step)s - (random() * CASE WHEN random() < 0.99 THEN 1000 ELSE 600000 END)::bigint AS ms,
        n / %(session)s + (random() * %(live)s)::bigint AS s,
        md5(n::text) AS noise
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
    OFFSET 0  -- lest each random number be another one at each mention
) AS made
"""
FILL_SESSIONS = """
INSERT INTO analytics_session (session_id, user_id, started_at, last_event_at)
SELECT session_id, MIN(user_id), MIN(created_at), MAX(created_at) FROM analytics_event GROUP BY session_id
ORDER BY MIN(created_at)
"""


@attrs.define
class Side:
    """A collector on tables of one size, and what its turns came to: microseconds an event, bytes of WAL an event."""

    rows: int
    port: int
    gunicorn: int
    postgres: embedded.Server
    postmaster: int
    live: list[tuple[str, int]]
    costs: list[float] = attrs.field(factory=list)
    logs: list[float] = attrs.field(factory=list)

    def turn(self, batches: int) -> None:
        """Send so many batches, and note what it cost."""
        bodies = [self._body() for _ in range(batches)]
        before, wal = self._used(), self._wal()
        send(self.port, bodies)
        self.costs.append((self._used() - before) / batches / BATCH * 1e6)
        self.logs.append((self._wal() - wal) / batches / BATCH)

    def _body(self) -> bytes:
        return msgspec.json.encode({"sessions": [], "users": [], "events": [self._event() for _ in range(BATCH)]})

    def _event(self) -> dict[str, Any]:
        place = random.randrange(LIVE)
        if random.random() < 1 / SESSION or len(self.live) < LIVE:
            place = min(place, len(self.live))
            user_id = random.randrange(1, self.rows // USER + 1)
            self.live[place : place + 1] = [(_ids.session_id(time.time_ns()), user_id)]
        session_id, user_id = self.live[min(place, len(self.live) - 1)]
        stamped = {"event_id": _ids.event_id(time.time_ns()), "created_at": datetime.now(UTC)}
        words = {"event_type": "page_view", "event_data": DATA}
        return {**stamped, **words, "session_id": session_id, "user_id": user_id}

    def _used(self) -> float:
        """Of the processes that there are now: a backend may be new."""
        return sum(map(used, [*children_of(self.gunicorn), *children_of(self.postmaster)]))

    def _wal(self) -> int:
        with psycopg.connect(self.postgres.dsn) as connection:
            query = "SELECT pg_current_wal_insert_lsn() - '0/0'"
            return int((connection.execute(query).fetchone() or (0,))[0])


def send(port: int, bodies: list[bytes]) -> None:
    """Post batches on one connection.

    Raises:
        AssertionError: One of them is not taken whole.
    """
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for content in bodies:
            connection.request("POST", "/v1/events", content, {"Authorization": f"Bearer {WRITE_KEY}"})
            answer = msgspec.json.decode(connection.getresponse().read())
            assert answer["accepted"] == BATCH, answer


@contextlib.contextmanager
def grown(rows: int, folder: Path, settings: dict[str, str]) -> Iterator[Side]:
    """A collector whose tables have so many rows."""
    with embedded.start(folder / f"postgres-{rows}", settings=settings) as postgres:
        began = time.monotonic()
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            migrate.apply(connection)
            keys.register(connection, "benchmark", "write", WRITE_KEY)
            fill(connection, rows)
        print(f"{rows:,} rows in {time.monotonic() - began:.0f} s; {disk.per_event(postgres.dsn)}", flush=True)
        with run_collector(postgres.dsn, workers=2) as collector:
            postmaster = int(next((folder / f"postgres-{rows}").rglob("postmaster.pid")).read_text().split()[0])
            yield Side(rows, int(collector.url.rpartition(":")[2]), collector.process.pid, postgres, postmaster, [])


def fill(connection: psycopg.Connection, rows: int) -> None:
    """Make rows as time would have made them, so that the indexes have their usual gaps."""
    now = datetime.now(UTC)
    partitions.make_ahead(connection, now - timedelta(milliseconds=rows * STEP))
    partitions.make_ahead(connection, now)
    zero = int(now.timestamp() * 1000) - rows * STEP
    fixed = {"zero": zero, "step": STEP, "session": SESSION, "live": LIVE, "users": max(1, rows // USER)}
    data = msgspec.json.encode(DATA).decode()
    for first in range(0, rows, CHUNK):
        last = min(first + CHUNK, rows) - 1
        connection.execute(FILL_EVENTS, {**fixed, "data": data, "first": first, "last": last})
    connection.execute(FILL_SESSIONS)
    numbers = (row[0] for row in connection.execute("SELECT DISTINCT user_id FROM analytics_event").fetchall())
    connection.execute(
        "INSERT INTO analytics_useranalyticsprofile (user_id) SELECT unnest(%s::bigint[])", [list(numbers)]
    )
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")


def compare(sides: list[Side], turns: int, batches: int) -> None:
    """Let them take turns, and print what came out."""
    for side in sides:
        side.turn(batches)  # to warm up
        side.costs.clear()
        side.logs.clear()
        with psycopg.connect(side.postgres.dsn, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
    for _ in range(turns):
        for side in sides:
            side.turn(batches)
    print(f"\n{'rows':>12}{'us CPU an event':>17}{'bytes of WAL':>14}{'each turn':>24}")
    for side in sides:
        each = " ".join(f"{cost:.1f}" for cost in side.costs)
        print(f"{side.rows:>12,}{statistics.mean(side.costs):>17.1f}{statistics.mean(side.logs):>14.0f}    {each}")
    first, *others = (statistics.mean(side.costs) for side in sides)
    print("ratio: " + ", ".join(f"{other / first:.2f}" for other in others))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 2_000_000], help="the sizes to compare")
    parser.add_argument("--turns", type=int, default=5, help="of each")
    parser.add_argument("--batches", type=int, default=60, help=f"of {BATCH} events, in a turn")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of Postgres")
    arguments = parser.parse_args()
    settings = dict(text.split("=", 1) for text in arguments.set)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name, contextlib.ExitStack() as stack:
        Path(name).chmod(0o755)  # Postgres does not run as root
        sides = [stack.enter_context(grown(rows, Path(name), settings)) for rows in arguments.rows]
        compare(sides, arguments.turns, arguments.batches)


if __name__ == "__main__":
    main()
