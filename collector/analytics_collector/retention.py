"""Forgets what is older than it shall be kept: whole months of events, the sessions in them, rejects, and counts.

A profile counts the rows that are there, at every moment, before and after. So a month is not dropped with users' rows
in it: those go first, in small transactions that correct the profiles as well; then the partition, with the rows of
nobody. What writers add until the partition is locked, a few rows at most, goes under the lock. A user of whom nothing
is left has no profile.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import sql as composed

from . import short_lock
from .db import Connection
from .exceptions import HousekeepingError
from .partitions import attached, month_after, partition_name
from .sql import load

_EVENTS_AT_A_TIME: Final = 300  # each may be of another user, whose profile is locked meanwhile
_EVENTS_UNDER_LOCK: Final = 20  # writers wait for them
_SESSIONS_AT_A_TIME: Final = 500
_REJECTS_AT_A_TIME: Final = 1000
_DAYS_OF_QUOTAS: Final = timedelta(days=7)  # only today's counts; the others show for a week who sent how much
_TRIES: Final = 20
_NOBODY_IS_BEFORE: Final = -(2**63)


def drop_old_partitions(connection: Connection, now: datetime, days: int) -> str:
    """Forget the months that are wholly past retention, and the sessions that ended before.

    Args:
        connection: A plain one of the tables' owner, autocommitting.
        now: From when retention is counted back.
        days: How long rows are kept; 0 is for ever.

    Returns:
        One sentence on what was done.

    Raises:
        HousekeepingError: Somebody keeps writing to a month that is to be dropped.
    """
    if days == 0:
        return "everything is kept"
    before = month_after(now - timedelta(days=days), 0)
    old = [name for name in attached(connection) if name < partition_name(before)]
    for name in old:
        _drop(connection, name, before)
    strays = _forget_events(connection, "analytics_event_default", before) + _forget_strangers(connection, before)
    sessions = _forget_sessions(connection, before)
    return f"dropped {', '.join(old) or 'no partition'}, {strays} rows of DEFAULT and {sessions} sessions"


def trim_rejects(connection: Connection, now: datetime, days: int) -> str:
    """Forget the rejects that came more than so many days before `now`; returns one sentence on what was done."""
    parameters = {"before": now - timedelta(days=days), "most": _REJECTS_AT_A_TIME}
    return f"forgot {_until_none(connection, 'retention.trim_rejects', parameters)} rejects"


def trim_quotas(connection: Connection, now: datetime) -> str:
    """Forget how much each key has sent on days gone by; returns one sentence on what was done."""
    parameters = {"before": now.astimezone(UTC).date() - _DAYS_OF_QUOTAS}
    return f"forgot {connection.execute(load('retention.trim_quotas'), parameters).rowcount} counts"


def _drop(connection: Connection, name: str, before: datetime) -> None:
    def forget() -> object:
        return _forget_events(connection, name, before)

    def drop() -> bool:
        return _drop_with_the_last_rows(connection, name, before)

    for number in range(_TRIES):
        time.sleep(0.1 * number)  # a writer may be about to commit
        forget()
        # Looked for outside the lock first: that is where the index gets rid of its dead entries.
        is_held = _has_users(connection, name) and not forget()
        if not is_held and short_lock.hold(connection, drop, prepare=forget):
            return
    raise HousekeepingError(f"Rows of users keep coming into {name}, which is to be dropped")


def _drop_with_the_last_rows(connection: Connection, name: str, before: datetime) -> bool:
    connection.execute(_about(name, "retention.lock"))  # so no writer has come as far as its profiles
    _forget_some(connection, _about(name, "retention.forget_events"), _NOBODY_IS_BEFORE, before, _EVENTS_UNDER_LOCK)
    if _has_users(connection, name):
        return False
    connection.execute(_about(name, "retention.drop"))
    return True


def _has_users(connection: Connection, name: str) -> bool:
    return connection.execute(_about(name, "retention.has_users")).fetchone() == (True,)


def _forget_events(connection: Connection, name: str, before: datetime) -> int:
    """Forget the users' rows before some time in one partition, user by user; returns how many there were."""
    statement = _about(name, "retention.forget_events")
    user_id, forgotten = _NOBODY_IS_BEFORE, 0
    while True:
        with short_lock.gently(), connection.transaction():
            rows, users = _forget_some(connection, statement, user_id, before, _EVENTS_AT_A_TIME)
        if not users:
            return forgotten
        user_id, forgotten = max(users), forgotten + rows


def _forget_some(
    connection: Connection, statement: composed.Composed, user_id: int, before: datetime, most: int
) -> tuple[int, list[int]]:
    """Forget so many rows at most, of users from this one on; returns how many there were, and whose."""
    parameters = {"user_id": user_id, "before": before, "most": most}
    rows, users = connection.execute(statement, parameters).fetchone() or (0, [])
    if users:
        # Another statement, so that its snapshot is from after the profiles were locked.
        connection.execute(load("retention.see_again"), {"user_ids": users, "before": before})
        connection.execute(load("retention.forget_profiles"), {"user_ids": users})
    return rows, users


def _forget_strangers(connection: Connection, before: datetime) -> int:
    return _until_none(connection, "retention.forget_strangers", {"before": before, "most": _EVENTS_AT_A_TIME})


def _forget_sessions(connection: Connection, before: datetime) -> int:
    """Go through all sessions once, in windows of their key; returns how many were forgotten."""
    after, forgotten = "", 0
    while until := _next_session(connection, after):
        with short_lock.gently(), connection.transaction():
            window = {"after": after, "until": until, "before": before}
            row = connection.execute(load("retention.forget_sessions"), window).fetchone()
            assert row is not None  # it counts
            connection.execute(load("retention.forget_profiles"), {"user_ids": row[1]})
        after, forgotten = until, forgotten + row[0]
    return forgotten


def _next_session(connection: Connection, after: str) -> str | None:
    row = connection.execute(load("retention.next_session"), {"after": after, "most": _SESSIONS_AT_A_TIME}).fetchone()
    return row[0] if row else None


def _until_none(connection: Connection, statement: str, parameters: dict[str, Any]) -> int:
    total = 0
    while batch := connection.execute(load(statement), parameters).rowcount:
        total += batch
    return total


def _about(name: str, statement: str) -> composed.Composed:
    return composed.SQL(load(statement)).format(partition=composed.Identifier(name))
