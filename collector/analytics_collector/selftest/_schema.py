"""A schema of the trial's own in the user's database: made, looked at by nobody else, and dropped."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import sql as composed
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..db import Connection, connect
from ..exceptions import CollectorError
from ..sql import load

PREFIX: Final = "analytics_selftest_"


@contextlib.contextmanager
def own_schema(dsn: str) -> Iterator[str]:
    """A new schema for the length of the block; yields the DSN of connections that see this one and no other.

    Those of earlier trials that were killed are dropped as well. Whoever holds the lock on a schema is still at it.

    Raises:
        CollectorError: The role may not make a schema.
    """
    with contextlib.closing(connect(dsn, autocommit=True)) as holder:
        for leftover in _leftovers(holder):
            _drop(holder, leftover)
        name = f"{PREFIX}{secrets.token_hex(6)}"
        _make(holder, name)
        try:
            yield _seeing_only(dsn, name)
        finally:
            with contextlib.closing(connect(dsn, autocommit=True)) as fresh:  # Postgres may have been killed meanwhile
                _drop(fresh, name)


def _make(connection: Connection, name: str) -> None:
    try:
        with connection.transaction():
            connection.execute(composed.SQL(load("selftest.make_schema")).format(schema=composed.Identifier(name)))
            connection.execute(load("selftest.lock_schema"), {"name": name})
    except psycopg.errors.InsufficientPrivilege as error:
        role, database = connection.info.user, connection.info.dbname
        raise CollectorError(
            f"The role {role} may not make a schema in the database {database}, and the trial touches no other."
            f" GRANT CREATE ON DATABASE {database} TO {role}; or leave ANALYTICS_DATABASE_URL out, and the trial"
            " brings a Postgres of its own."
        ) from error


def _drop(connection: Connection, name: str) -> None:
    connection.execute(composed.SQL(load("selftest.drop_schema")).format(schema=composed.Identifier(name)))


def _leftovers(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute(load("selftest.leftovers"), {"prefix": PREFIX})]


def _seeing_only(dsn: str, name: str) -> str:
    options = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(dsn, options=f"{options} -csearch_path={name}".strip())
