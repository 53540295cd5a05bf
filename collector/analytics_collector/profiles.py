"""Proves that every profile equals what the rows say, and makes it so."""

from __future__ import annotations

import attrs

from .db import Connection
from .sql import load


@attrs.frozen
class WrongProfile:
    """A profile that differs from the rows.

    Attributes:
        stored: total_sessions, total_events, first_seen and last_seen as the profile has them, or None.
        counted: The same as the rows have them.
    """

    user_id: int
    stored: tuple[object, ...] | None
    counted: tuple[object, ...] | None


def verify(connection: Connection) -> list[WrongProfile]:
    """Compare every profile with the rows, in one snapshot: writing may go on meanwhile."""
    return [
        WrongProfile(row[0], _present(row[1:5]), _present(row[5:9]))
        for row in connection.execute(load("profiles.verify"))
    ]


def rebuild(connection: Connection) -> int:
    """Make every profile what the rows say; writers wait until it is done.

    Returns:
        How many profiles were wrong.
    """
    with connection.transaction():
        connection.execute(load("profiles.lock"))
        wrong = verify(connection)
        if wrong:
            connection.execute(load("profiles.rebuild"), {"user_ids": [profile.user_id for profile in wrong]})
    return len(wrong)


def _present(columns: tuple[object, ...]) -> tuple[object, ...] | None:
    return None if columns[0] is None else columns
