"""The monthly partitions of `analytics_event`: made ahead of time; the DEFAULT partition catches the rest."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg import sql as composed

from . import short_lock
from .db import Connection
from .sql import load

MONTHS_AHEAD: Final = 3

logger = logging.getLogger("analytics_collector")


def make_ahead(connection: Connection, now: datetime, months: int = MONTHS_AHEAD) -> list[str]:
    """Make the partitions of this month and of those to come; writers wait for some milliseconds at each of them.

    A month of which the DEFAULT partition has rows already is left to it, until `overflow.empty` moves them.

    Returns:
        The names of the new partitions.
    """
    firsts = [month_after(now, ahead) for ahead in range(months + 1)]
    return [partition_name(first) for first in firsts if _make_if_missing(connection, first)]


def attached(connection: Connection) -> list[str]:
    """The names of all months' partitions, oldest first."""
    return [name for (name,) in connection.execute(load("partitions.attached"))]


def partition_name(month: datetime) -> str:
    """The name of the partition of the month that this moment is in."""
    return f"analytics_event_{month.astimezone(UTC):%Y_%m}"


def month_after(now: datetime, months: int) -> datetime:
    """The first moment, in UTC, of the month that is so many months after that of `now`."""
    now = now.astimezone(UTC)
    count = now.year * 12 + now.month - 1 + months
    return datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)


def _make_if_missing(connection: Connection, first: datetime) -> bool:
    name = partition_name(first)
    if _is_attached(connection, name):
        return False
    try:
        return short_lock.hold(connection, lambda: _make(connection, name, first))
    except psycopg.errors.CheckViolation:  # the DEFAULT partition has rows of this month
        logger.warning("Rows of %s are in the DEFAULT partition; housekeeping moves them", name)
    except psycopg.errors.DuplicateTable:
        logger.warning("There is a table %s already that is no partition; it is left alone", name)
    return False


def _make(connection: Connection, name: str, first: datetime) -> bool:
    connection.execute(load("partitions.lock"))
    if _is_attached(connection, name):  # another maker was faster
        return False
    connection.execute(load("short_lock.timeout"))
    for statement in ("partitions.make", "partitions.attach"):
        filled = composed.SQL(load(statement)).format(
            partition=composed.Identifier(name),
            first=composed.Literal(first),
            last=composed.Literal(month_after(first, 1)),
        )
        connection.execute(filled)
    return True


def _is_attached(connection: Connection, name: str) -> bool:
    return connection.execute(load("partitions.is_attached"), {"name": name}).fetchone() == (True,)
