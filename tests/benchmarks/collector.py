"""What an event costs the collector, beside COPY, an empty view and Django: `python tests/benchmarks/collector.py`.

CPU of web processes and Postgres together, in one run, each contestant in turn; what counts is the ratio. The floor of
batches is COPY of the same rows into the same table; that of single events a Flask view behind the same gunicorn that
only parses the body. Beside them a Django app does the same with the models that it has, and profiles are looked up.
docs/benchmarks.md has the figures of one machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import attrs
import msgspec
import psycopg

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from analytics_collector.event_rows import EventRow, copied, key_of  # noqa: E402
from analytics_collector.protocols import native  # noqa: E402
from analytics_collector.sql import load  # noqa: E402
from tests.benchmarks.common import page  # noqa: E402
from tests.benchmarks.serving import databases, disk, machine, servers  # noqa: E402
from tests.benchmarks.serving.databases import HISTORIES  # noqa: E402
from tests.benchmarks.serving.event import new_event  # noqa: E402
from tests.benchmarks.serving.figures import (  # noqa: E402
    BATCH,
    CROWD,
    DJANGO,
    DJANGO_DEFAULT,
    OURS,
    VIEW,
    Figures,
    profiles_table,
    promises_table,
    storing_table,
)
from tests.benchmarks.serving.load import Load, under  # noqa: E402
from tests.benchmarks.serving.servers import Servers  # noqa: E402
from tests.benchmarks.serving.turn import Turn, median, take_turns  # noqa: E402
from tests.benchmarks.serving.usage import used  # noqa: E402

WRITING = Load(visitors=2, events=100, pause=0.1, seconds=3600)


def measure(bin_dir: Path | None, seconds: float, rounds: int) -> Figures:
    """All contests on one Postgres.

    Args:
        bin_dir: The folder of its programs.
        seconds: Of each turn.
        rounds: Turns of each contestant in each contest.
    """
    with databases.running(bin_dir) as on, servers.running(on) as at:
        crowd = store(at, Load(visitors=CROWD, events=1, seconds=seconds), "/create", rounds)
        single, batch = Load(events=1, seconds=seconds), Load(visitors=8, events=BATCH, seconds=seconds)
        alone, commit = store_beside(lambda: commit_floor(on.ours), at, single, "/create", rounds)
        batches, copy = store_beside(lambda: copy_floor(on.ours), at, batch, "/bulk_create", rounds)
        room = disk.per_event(on.ours)
        disk.pack(on.ours)
        packed = disk.per_event(on.ours)
        on.give_histories()
        updates = {events: update(at, user_id, seconds, rounds) for user_id, events in HISTORIES.items()}
        lookups = look_up(at, seconds, rounds)
        return Figures(on.version, copy, commit, room, packed, crowd, alone, batches, updates, lookups)


def store(at: Servers, load: Load, django: str, rounds: int) -> dict[str, Turn]:
    """Let everybody store the same; Django at a path of its own."""
    loads = {VIEW: (at.view, load), OURS: (at.collector, load)}
    theirs = attrs.evolve(load, paths=(django,))
    return take_turns({**loads, DJANGO: (at.django, theirs), DJANGO_DEFAULT: (at.django_default, theirs)}, rounds)


def store_beside(
    floor: Callable[[], float], at: Servers, load: Load, django: str, rounds: int
) -> tuple[dict[str, Turn], float]:
    """The same in turn with a floor: what it was a minute ago says little, as disks and neighbours have their moods."""
    turns, floors = [], []
    for _ in range(rounds):
        turns.append(store(at, load, django, 1))
        floors.append(floor())
    return {name: median([turn[name] for turn in turns]) for name in turns[0]}, statistics.median(floors)


def update(at: Servers, user_id: int, seconds: float, rounds: int) -> dict[str, Turn]:
    """Keep one user's profile up to date."""
    load = Load(events=1, user_id=user_id, seconds=seconds)
    theirs = attrs.evolve(load, paths=("/update_stats",))
    return take_turns({OURS: (at.collector, load), DJANGO: (at.django, theirs)}, rounds)


def look_up(at: Servers, seconds: float, rounds: int) -> dict[str, Turn]:
    """Ask for an empty view and for both profiles, one after the other, again and again."""
    paths = ("/healthz", *(f"/v1/profiles/{user_id}" for user_id in HISTORIES))
    contestants = {OURS: (at.collector, Load(paths=paths, seconds=2 * seconds))}
    rest = take_turns(contestants, rounds)[OURS]
    with under(at.collector.port, WRITING):
        return {"at rest": rest, "while writing": take_turns(contestants, rounds)[OURS]}


def copy_floor(dsn: str, copies: int = 100) -> float:
    """CPU microseconds of an event that goes from JSON by COPY into the table, no more than that, both processes."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        backend = connection.info.backend_pid
        bodies = [msgspec.json.encode({"events": [new_event() for _ in range(BATCH)]}) for _ in range(copies)]
        began = used(backend) + time.process_time()
        for body in bodies:
            copy_body(connection, body)
        return (used(backend) + time.process_time() - began) / copies / BATCH * 1e6


def copy_body(connection: psycopg.Connection, body: bytes) -> None:
    """Read a body, and COPY its events."""
    records = [item.record for item in native.parse(body, datetime.now(UTC)).items]
    rows = [EventRow(key_of(record), int(record.user_id or 0), record, None) for record in records]  # type: ignore[arg-type]
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(load("writer.copy_events")) as copy:
        copy.write(copied(rows))


def commit_floor(dsn: str, commits: int = 300) -> float:
    """Milliseconds of a commit of one small row, the median of some, as far apart as requests are."""
    took = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE floor (moment timestamptz)")
        for _ in range(commits):
            time.sleep(0.001)
            began = time.perf_counter()
            connection.execute("INSERT INTO floor VALUES (now())")
            took.append((time.perf_counter() - began) * 1000)
        connection.execute("DROP TABLE floor")
    return statistics.median(took)


def main() -> None:
    """Print the tables, and write them into a page if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant in each contest")
    parser.add_argument("--before", type=Path, help="the folder of another Postgres's programs, to measure on first")
    parser.add_argument("--page", type=Path, help="write the tables into this page, too")
    arguments = parser.parse_args()
    busy, _, _ = os.getloadavg()
    found = []
    for bin_dir in (arguments.before, None) if arguments.before else (None,):
        found.append(measure(bin_dir, arguments.seconds, arguments.rounds))
        print(f"{storing_table(found[-1])}\n{profiles_table(found[-1])}", flush=True)
    print(promises_table(found))
    if arguments.page:
        tables = [promises_table(found), *(table(one) for one in found for table in (storing_table, profiles_table))]
        page.write(
            arguments.page,
            "collector",
            "\n".join(map(str, (machine.described([one.postgres for one in found], busy), *tables))),
        )


if __name__ == "__main__":
    main()
