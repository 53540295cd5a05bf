"""The monthly partitions of `analytics_event`: made ahead of time; the DEFAULT partition catches the rest."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg import sql as composed

from .db import Connection, Database
from .exceptions import UnavailableError
from .sql import load

MONTHS_AHEAD: Final = 3

logger = logging.getLogger("analytics_collector")


class PartitionKeeper:
    """Makes the coming months' partitions, the first time it is asked in a month.

    A missing partition costs nobody an event, so failing is a warning and is tried again a minute later.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next_look: datetime | None = None

    def look_ahead(self, now: datetime) -> None:
        """Make what is missing, if this month has not been looked at yet."""
        if self._next_look is not None and now < self._next_look:
            return
        self._next_look = month_after(now, 1)
        try:
            self._database.run(lambda connection: make_ahead(connection, now))
        except (psycopg.Error, UnavailableError) as error:
            self._next_look = datetime.fromtimestamp(now.timestamp() + 60, UTC)
            logger.warning("The coming months' partitions could not be made, will try again: %s", error)


def make_ahead(connection: Connection, now: datetime, months: int = MONTHS_AHEAD) -> list[str]:
    """Make the partitions of this month and of those to come.

    A month of which the DEFAULT partition has rows already is left to it.

    Returns:
        The names of the new partitions.
    """
    made = []
    with connection.transaction():
        connection.execute(load("partitions.lock"))
        for ahead in range(months + 1):
            first, last = month_after(now, ahead), month_after(now, ahead + 1)
            name = f"analytics_event_{first:%Y_%m}"
            if connection.execute(load("partitions.exists"), {"name": name}).fetchone() == (False,):
                made += [name] * _make(connection, name, first, last)
    return made


def month_after(now: datetime, months: int) -> datetime:
    """The first moment, in UTC, of the month that is so many months after that of `now`."""
    now = now.astimezone(UTC)
    count = now.year * 12 + now.month - 1 + months
    return datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)


def _make(connection: Connection, name: str, first: datetime, last: datetime) -> bool:
    statement = composed.SQL(load("partitions.make")).format(
        partition=composed.Identifier(name), first=composed.Literal(first), last=composed.Literal(last)
    )
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.errors.CheckViolation:  # the DEFAULT partition has rows of this month
        logger.warning("Rows of %s are in the DEFAULT partition and stay there", name)
        return False
    return True
