"""User ids that are no small integers get a number, once and for ever."""

from __future__ import annotations

from collections.abc import Iterable

from .db import Connection
from .records import UserId
from .sql import load


def number(connection: Connection, user_ids: Iterable[UserId]) -> dict[str, int]:
    """The numbers of all user ids that are strings; those not seen before are given one now.

    Args:
        connection: Inside the transaction that will use them.
        user_ids: In the form they are stored in (`records.stored_user_id`).
    """
    external_ids = sorted(user_id for user_id in user_ids if isinstance(user_id, str))
    found = find(connection, external_ids)
    missing = [external_id for external_id in external_ids if external_id not in found]
    if missing:
        connection.execute(load("users.make"), {"external_ids": missing})
        found = find(connection, external_ids)
    return found


def find(connection: Connection, external_ids: list[str]) -> dict[str, int]:
    """The numbers of those external ids that have one."""
    if not external_ids:
        return {}
    return dict(connection.execute(load("users.find"), {"external_ids": external_ids}).fetchall())


def strangers(connection: Connection, user_ids: Iterable[UserId]) -> set[UserId]:
    """Those of these users whom the app's user table does not have; nobody, if there is no such table."""
    if connection.execute(load("users.has_user_table")).fetchone() != (True,):
        return set()
    named = set(user_ids)
    numbers = [user_id for user_id in named if isinstance(user_id, int)]
    unknown = {row[0] for row in connection.execute(load("users.unknown"), {"ids": numbers})}
    # A number of ours is never one of the app's.
    return unknown | {user_id for user_id in named if isinstance(user_id, str)}
