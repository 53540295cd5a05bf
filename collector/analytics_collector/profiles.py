"""Proves that every profile equals what the rows say, and makes it so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from psycopg import sql as composed
from psycopg.pq import TransactionStatus

from .db import Connection
from .sql import load

Progress = Callable[[int, int], None]

_COLUMNS: Final = ("user_ids", "total_sessions", "total_events", "first_seen", "last_seen")
_OF_NO_ROWS: Final = (0, 0, None, None)


def _untold(_done: int, _total: int) -> None:
    """Nobody watches."""


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


def verify(connection: Connection, progress: Progress = _untold) -> list[WrongProfile]:
    """Compare every profile with the rows, in one snapshot: writing may go on meanwhile.

    Args:
        connection: Best not inside a transaction, whose snapshot may be older than housekeeping's last move of rows.
        progress: Told, after each part of the tables, how many blocks of how many have been counted.
    """
    outermost = connection.info.transaction_status == TransactionStatus.IDLE
    with connection.transaction():
        if outermost:
            connection.execute(load("profiles.isolate"))
        connection.execute(load("profiles.hold"))
        return _compare(connection, progress)


def rebuild(connection: Connection) -> int:
    """Make every profile what the rows say; writers wait until it is done.

    Returns:
        How many profiles were wrong.
    """
    with connection.transaction():
        connection.execute(load("profiles.lock"))
        wrong = _compare(connection, _untold)
        if wrong:
            rows = [(profile.user_id, *(profile.counted or _OF_NO_ROWS)) for profile in wrong]
            columns = map(list, zip(*rows, strict=True))
            connection.execute(load("profiles.rebuild"), dict(zip(_COLUMNS, columns, strict=True)))
    return len(wrong)


def _compare(connection: Connection, progress: Progress) -> list[WrongProfile]:
    connection.execute(load("profiles.tally"))
    _tally_parts(connection, progress)
    connection.execute(load("profiles.tally_sessions"))
    found = connection.execute(load("profiles.compare")).fetchall()
    connection.execute(load("profiles.forget_tally"))
    return [WrongProfile(row[0], _present(row[1:5]), _present(row[5:9])) for row in found]


def _tally_parts(connection: Connection, progress: Progress) -> None:
    parts = connection.execute(load("profiles.parts")).fetchall()
    done, total = 0, sum(blocks for _, blocks in parts)
    for part, blocks in parts:
        statement = composed.SQL(load("profiles.tally_events")).format(part=composed.SQL(part))
        connection.execute(statement)
        done += blocks
        progress(done, total)


def _present(columns: tuple[object, ...]) -> tuple[object, ...] | None:
    return None if columns[0] is None else columns
