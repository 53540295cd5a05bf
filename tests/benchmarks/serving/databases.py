"""One Postgres with two databases: the collector's, and that of a Django app which does the same by itself."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import psycopg
from psycopg.conninfo import make_conninfo

from analytics_collector import embedded, keys, migrate, partitions
from tests import django_app
from tests.benchmarks.serving.event import DATA, USERS
from tests.benchmarks.serving.load import READ_KEY, WRITE_KEY

HISTORIES: Final = {1_001: 1_000, 1_002: 1_000_000}  # users and how many events each has
_HERE: Final = Path(__file__).parent


@attrs.frozen
class Databases:
    """What runs.

    Attributes:
        version: Of Postgres, such as "18.6".
        postmaster: Its process id.
        ours: The DSN of the collector's database.
        django: That of the app's.
    """

    version: str
    postmaster: int
    ours: str
    django: str

    def give_histories(self) -> None:
        """Let two users have been there, one of them for long: in both databases alike, vacuumed and analyzed."""
        for dsn in (self.ours, self.django):
            with psycopg.connect(dsn, autocommit=True) as connection:
                for user_id, events in HISTORIES.items():
                    values = {"user_id": user_id, "events": events, "event_data": json.dumps(DATA)}
                    for statement in (_HERE / "history.sql").read_text().split(";\n")[:-1]:
                        connection.execute(statement.encode(), values)
                connection.execute("VACUUM ANALYZE")


@contextlib.contextmanager
def running(bin_dir: Path | None = None) -> Iterator[Databases]:
    """A Postgres with its defaults, tables made and keys known, until the end of the block.

    Args:
        bin_dir: The folder of its programs; by default that of `embedded.find_binaries()`.
    """
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)  # Postgres does not run as root
        with embedded.start(Path(folder) / "postgres", bin_dir=bin_dir) as server:
            django = make_conninfo(server.dsn, dbname="django")
            _make_ours(server.dsn)
            _make_django(server.dsn, django)
            yield Databases(server.version, postmaster_of(server.dsn), server.dsn, django)


def postmaster_of(dsn: str) -> int:
    """The process id of a Postgres on this machine."""
    with psycopg.connect(dsn) as connection:
        (directory,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    return int((Path(directory) / "postmaster.pid").read_text().splitlines()[0])


def _make_ours(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate.apply(connection)
        partitions.make_ahead(connection, datetime.now(UTC))
        keys.register(connection, "benchmark-write", "write", WRITE_KEY)
        keys.register(connection, "benchmark-read", "read", READ_KEY)


def _make_django(admin: str, dsn: str) -> None:
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE DATABASE django")
    django_app.migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute((_HERE / "django_tables.sql").read_bytes())
        connection.execute(
            "INSERT INTO auth_user SELECT number, '', NULL, false, 'user ' || number, '', '', '', false, true, now()"
            " FROM generate_series(1, %s) AS number",
            [max(USERS, *HISTORIES)],
        )
