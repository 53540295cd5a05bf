"""Empties the DEFAULT partition: its rows move to partitions of their months, while reading and writing goes on.

A month cannot have a partition as long as DEFAULT has rows of it, and its rows cannot go one by one, as they would be
nowhere in between. So they are copied, and then all at once the copies take their places:

1. Tables are made apart: one for each month, and one for the rest, which becomes the next DEFAULT partition.
2. A trigger notes the key of every row of DEFAULT that comes, changes or goes from now on.
3. All blocks that DEFAULT has are copied, a quarter of a megabyte in each transaction. Nobody waits for that.
4. Rows whose keys were noted are copied again, until few are left.
5. Under a lock: the last of them are copied, DEFAULT is detached, the copies are attached. No row is looked at: checks
   that were on the tables while they were empty say what they hold. It takes some tens of milliseconds.

Until that COMMIT all rows are where they were, for readers, claims and `ON CONFLICT` alike; after it all are in
their new places. Whatever uses the events holds a lock on them until its transaction ends, and step 5 waits for
those who have begun. Only a transaction with a snapshot older than step 5 (REPEATABLE READ) that turns to the events
for the first time after it would not see the moved rows; ours lock first (`profiles.verify`).

If it fails or dies in the middle, nothing has happened: the next run clears away what was made, and starts again.
Not for Citus, whose distributed tables take no triggers: there DEFAULT keeps its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import attrs
from psycopg import IsolationLevel
from psycopg import sql as composed

from . import short_lock
from .db import Connection
from .exceptions import HousekeepingError
from .partitions import MONTHS_AHEAD, month_after, partition_name
from .sql import load

_YEARS: Final = 10  # older rows come from broken clocks, unless they are many
_MANY: Final = 1000  # rows
_MONTHS_AT_A_TIME: Final = 12  # each makes the lock in step 5 about 1.5 ms longer
_BLOCKS_AT_A_TIME: Final = 32  # 256 KiB; small, so that no COMMIT has to wait for much of our WAL
_FEW: Final = 200  # rows that may be left for step 5
_ROUNDS: Final = 100


@attrs.frozen
class _Month:
    name: str
    first: datetime
    last: datetime

    def fill(self, statement: str) -> composed.Composed:
        return composed.SQL(load(statement)).format(
            partition=composed.Identifier(self.name),
            first=composed.Literal(self.first),
            last=composed.Literal(self.last),
        )


def empty(connection: Connection, now: datetime) -> str:
    """Move the rows of DEFAULT to partitions of their months; rows of odd times, if they are few, may stay.

    Args:
        connection: A plain one of the tables' owner, autocommitting.
        now: Ten years before and three months after it every month gets its partition.

    Returns:
        One sentence on what was done.

    Raises:
        HousekeepingError: DEFAULT changed too fast, or somebody truncated it in the middle.
    """
    if _one(connection, "overflow.is_citus")[0]:
        return "on Citus DEFAULT keeps its rows"
    moved: list[str] = []
    clear(connection)
    while months := _months(connection, now):
        try:
            _move(connection, months)
        finally:
            clear(connection)
        moved += [month.name for month in months]
    return f"moved rows to {', '.join(sorted(moved))}" if moved else "nothing to move"


def clear(connection: Connection) -> None:
    """Remove what a move has left behind, if there is anything."""
    if not _one(connection, "overflow.is_clear")[0]:
        short_lock.hold(connection, lambda: connection.execute(load("overflow.clear")))


def _months(connection: Connection, now: datetime) -> list[_Month]:
    window = {"oldest": month_after(now, -12 * _YEARS), "newest": month_after(now, MONTHS_AHEAD)}
    query = connection.execute(load("overflow.months"), {**window, "many": _MANY, "most": _MONTHS_AT_A_TIME})
    return [_Month(partition_name(month), month_after(month, 0), month_after(month, 1)) for (month,) in query]


def _move(connection: Connection, months: Sequence[_Month]) -> None:
    short_lock.hold(connection, lambda: _stage(connection, months))
    short_lock.hold(connection, lambda: connection.execute(load("overflow.watch")))
    file = _copy(connection)
    short_lock.hold(connection, lambda: _swap(connection, months, file), prepare=lambda: _catch_up(connection))


def _stage(connection: Connection, months: Sequence[_Month]) -> None:
    connection.execute(load("overflow.stage"))
    for (foreign_key,) in connection.execute(load("overflow.foreign_keys")).fetchall():
        statement = composed.SQL(load("overflow.stage_key"))
        connection.execute(statement.format(foreign_key=composed.SQL(foreign_key)))
    for month in months:
        connection.execute(month.fill("overflow.stage_month"))
    (in_no_month,) = _one(connection, "overflow.in_no_month")
    statement = composed.SQL(load("overflow.stage_rest"))
    connection.execute(statement.format(in_no_month=composed.SQL(in_no_month)))


def _copy(connection: Connection) -> int:
    """Copy the blocks that DEFAULT has; returns the number of its file."""
    file, blocks = _one(connection, "overflow.file")
    for block in range(0, blocks, _BLOCKS_AT_A_TIME):
        window = {"first": f"({block},0)", "last": f"({block + _BLOCKS_AT_A_TIME},0)"}
        with short_lock.gently():
            connection.execute(load("overflow.copy"), window)
    return int(file)


def _catch_up(connection: Connection) -> None:
    """Follow the changes until few are left.

    Raises:
        HousekeepingError: They come faster than they can be followed.
    """
    connection.isolation_level = IsolationLevel.REPEATABLE_READ  # the three statements see the same notes
    try:
        for _ in range(_ROUNDS):
            with connection.transaction():
                if _follow(connection) <= _FEW:
                    return
    finally:
        connection.isolation_level = None
    raise HousekeepingError("The DEFAULT partition changes faster than its rows can be moved")


def _follow(connection: Connection) -> int:
    connection.execute(load("overflow.by_key"))
    connection.execute(load("overflow.forget_changed"))
    connection.execute(load("overflow.copy_changed"))
    return connection.execute(load("overflow.forget_notes")).rowcount


def _swap(connection: Connection, months: Sequence[_Month], file: int) -> None:
    connection.execute(load("overflow.lock"))
    if _one(connection, "overflow.file")[0] != file:
        raise HousekeepingError("The DEFAULT partition was truncated or rewritten while its rows moved")
    _follow(connection)
    connection.execute(load("overflow.swap_default"))
    for month in months:
        connection.execute(month.fill("overflow.swap_month"))
    connection.execute(load("overflow.end_swap"))


def _one(connection: Connection, statement: str, parameters: dict[str, Any] | None = None) -> tuple[Any, ...]:
    row = connection.execute(load(statement), parameters).fetchone()
    assert row is not None  # each of these asks for exactly one row
    return row
