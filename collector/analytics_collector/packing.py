"""Packs the indexes of the months that are over: a third of their room is gaps.

Events come in nearly any order, so a full page of an index is split in the middle, and most halves are never filled
again. Once a month is over, its indexes are made anew without gaps, one after the other, while reading and writing goes
on: `REINDEX CONCURRENTLY` takes no lock that a writer waits for, but as much room again until it is done. An event
that comes later finds its place all the same. A comment on the index says that it has been packed.

If it dies in the middle, the half-made index is removed by the next run. Not for Citus, whose indexes are elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from psycopg import sql as composed

from .db import Connection
from .partitions import attached, partition_name
from .sql import load

_LATE: Final = timedelta(days=7)  # what was spooled while there was no network has come by then


def pack(connection: Connection, now: datetime) -> str:
    """Pack the indexes that have not been packed, of all months that ended a week before `now`.

    Args:
        connection: A plain one of the tables' owner, autocommitting.
        now: From when the week is counted back.

    Returns:
        One sentence on what was done.

    Raises:
        psycopg.errors.LockNotAvailable: A transaction that began before went on for a minute; no index is the worse.
    """
    if connection.execute(load("overflow.is_citus")).fetchone() == (True,):
        return "on Citus indexes stay as they are"
    over = [name for name in attached(connection) if name < partition_name(now - _LATE)]
    with _patience(connection):
        for (name,) in connection.execute(load("packing.leftovers"), {"partitions": over}).fetchall():
            connection.execute(_about(name, "packing.remove"))
        names = [name for (name,) in connection.execute(load("packing.unpacked"), {"partitions": over})]
        for name in names:
            for statement in ("packing.fill", "packing.rebuild", "packing.note"):
                connection.execute(_about(name, statement))
    return f"packed {', '.join(names) or 'none'}"


@contextlib.contextmanager
def _patience(connection: Connection) -> Iterator[None]:
    """No lock is waited for longer than a minute. For the session, as a rebuild is no part of a transaction."""
    connection.execute(load("packing.patience"))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(load("packing.end_patience"))


def _about(name: str, statement: str) -> composed.Composed:
    return composed.SQL(load(statement)).format(index=composed.Identifier(name))
