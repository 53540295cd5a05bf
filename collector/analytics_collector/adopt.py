"""Takes over the tables of an app that had them before us: its rows move into ours, in one transaction.

The old tables are kept as they are in the schema `analytics_before`, for their owner to drop.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from . import migrate, partitions, profiles
from .db import Connection
from .exceptions import MigrationError
from .sql import load


def adopt(connection: Connection, say: Callable[[str], None], now: datetime | None = None) -> None:
    """Replace the app's plain tables by ours, with all their rows; names, ids and values stay what they were.

    Args:
        connection: A plain one of the tables' owner, autocommitting.
        say: Told what is going on, as copying a large table takes its time.
        now: For the partitions.

    Raises:
        MigrationError: There is nothing to take over, or it cannot be.
    """
    with connection.transaction():
        connection.execute(load("migrate.lock"))
        if connection.execute(load("adopt.is_wanted")).fetchone() != (True,):
            raise MigrationError(
                "There is nothing to take over: no analytics_event of an app's own. Leave out --adopt."
            )
        connection.execute(load("adopt.set_aside"))
        migrate.apply(connection, now)
        for (month,) in connection.execute(load("adopt.months")).fetchall():
            partitions.make_ahead(connection, month.replace(tzinfo=UTC), months=0)
        for what in ("sessions", "events"):
            say(f"Copying {what} ...")
            copied = connection.execute(load(f"adopt.copy_{what}")).rowcount
            say(f"{copied} {what} copied")
        connection.execute(load("adopt.go_on_counting"))
        say(f"{profiles.rebuild(connection)} profiles made")
