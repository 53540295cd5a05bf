"""A database and all ways into it: workers in this process, alone or together, or a collector behind gunicorn."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import attrs
import psycopg

from analytics_collector import keys, migrate
from analytics_collector.committer import Committer
from analytics_collector.db import Connection, Database
from analytics_collector.exceptions import UnavailableError
from tests.collector.batches import body, commit, post
from tests.collector.orders import Answer
from tests.collector.reference import Batch
from tests.conftest import WRITE_KEY

WRITERS = 8
NOW = datetime.now(UTC)
TABLES = ("event", "session", "useranalyticsprofile", "user", "reject", "job")
NO_EVIL = "ALTER TABLE analytics_event ADD CONSTRAINT no_evil CHECK (event_type <> 'evil')"
Post = Callable[[Batch], Answer]


@attrs.frozen
class World:
    """A database with tables that know this month and the next three, and all ways into it.

    Attributes:
        together: Posts to the one committer of this process, so that requests at once are one group.
        apart: As many workers, each with a connection of its own.
        app_users: Whom the app's user table has at the beginning; None if there is no such table.
    """

    connection: Connection
    database: Database
    together: Post
    apart: Sequence[Post]
    threads: ThreadPoolExecutor
    app_users: frozenset[int] | None = None

    def months(self) -> set[str]:
        """The months that have a partition."""
        names = self.connection.execute(
            "SELECT substr(relname, length('analytics_event_') + 1) FROM pg_inherits JOIN pg_class ON oid = inhrelid"
            " WHERE inhparent = 'analytics_event'::regclass AND relname <> 'analytics_event_default'"
        )
        return {name for (name,) in names}

    def begin_anew(self) -> None:
        """No rows, and the partitions that there were at first."""
        for table in TABLES:
            self.connection.execute(f"DELETE FROM analytics_{table}")
        for month in self.months() - set(months_from(NOW)):
            self.connection.execute(f"DROP TABLE analytics_event_{month}")
        if self.app_users is not None:
            self.connection.execute("DELETE FROM auth_user WHERE id <> ALL(%s)", [list(self.app_users)])


def post_here(committer: Committer, batch: Batch) -> Answer:
    """Post to a worker in this process; again if it was turned away."""
    while True:
        with contextlib.suppress(UnavailableError):
            verdict = commit(committer, **attrs.asdict(batch, recurse=False))
            codes = Counter(reject.code for reject in verdict.rejected)
            return Answer(verdict.accepted, verdict.duplicates, codes)


def post_to(url: str, batch: Batch) -> Answer:
    """Post to a collector; again if it was turned away."""
    while (answer := post(url, body(**attrs.asdict(batch, recurse=False)))).status == 503:
        pass
    assert answer.status == 200, answer
    codes = Counter(reject["code"] for reject in answer.json["rejected"])
    return Answer(answer.json["accepted"], answer.json["duplicates"], codes)


def months_from(now: datetime) -> list[str]:
    """This month and three more."""
    count = now.year * 12 + now.month - 1
    return [f"{month // 12:04}_{month % 12 + 1:02}" for month in range(count, count + 4)]


def month_of(moment: datetime) -> str:
    """The month that it is in."""
    return f"{moment.year:04}_{moment.month:02}"


@contextlib.contextmanager
def world(dsn: str, *, url: str = "", app_users: frozenset[int] | None = None) -> Iterator[World]:
    """Everything that is needed to use the tables of `make_tables`.

    Args:
        dsn: Where they are.
        url: A collector that uses them; without it the workers are in this process.
        app_users: As with `make_tables`.
    """
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        connection.execute("SET TIME ZONE 'UTC'")
        databases = [stack.enter_context(contextlib.closing(Database(dsn, patience=20))) for _ in range(WRITERS + 1)]
        here = [partial(post_here, Committer(database, patience=60)) for database in databases]
        there = partial(post_to, url)
        threads = stack.enter_context(ThreadPoolExecutor(WRITERS))
        ways = (there, [there] * WRITERS) if url else (here[-1], here[:-1])
        yield World(connection, databases[-1], *ways, threads, app_users)


def make_tables(dsn: str, app_users: frozenset[int] | None = None) -> str:
    """Make our tables, with a check that lets Postgres refuse what we would take.

    Args:
        dsn: An empty database; it is returned.
        app_users: Whom the app's user table is to have; None for no such table.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate.apply(connection, NOW)
        keys.register(connection, "tests", "write", WRITE_KEY)
        connection.execute(NO_EVIL)
        if app_users is not None:
            connection.execute("CREATE TABLE auth_user (id integer PRIMARY KEY)")
            migrate.use_user_table(connection, "auth_user")
            connection.execute("INSERT INTO auth_user SELECT unnest(%s::int[])", [sorted(app_users)])
    return dsn
