"""Writes items into Postgres, inside the transaction it is given.

COPY into temporary tables, then two statements: sessions first, because their row locks are what makes claims
exact, then events, claims and profiles in one.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from .batch import Item, Reject, SessionRow, fold_sessions, number_of
from .db import Connection
from .records import EventRecord, UserRecord
from .sql import load


def write(connection: Connection, items: Sequence[Item], numbers: Mapping[str, int]) -> int:
    """Store items; those that are there already change nothing.

    Args:
        connection: Inside a transaction.
        items: Records of any kind.
        numbers: The number of every external user id that they name.

    Returns:
        How many of the events were really new.
    """
    rows = fold_sessions(items, numbers)
    events = [item.record for item in items if isinstance(item.record, EventRecord)]
    users = [item.record for item in items if isinstance(item.record, UserRecord)]
    accepted = 0
    if rows or events:
        _copy_sessions(connection, rows)
        _copy_events(connection, events, numbers)
        connection.execute(load("writer.upsert_sessions"))
        accepted = _scalar(connection, "writer.insert_events")
    for user in sorted(users, key=lambda user: (number_of(user.user_id, numbers), user.updated_at)):
        _merge_traits(connection, user, numbers)
    return accepted


def write_rejects(connection: Connection, rejects: Iterable[Reject], key_name: str) -> None:
    """Keep refused records, exactly as they arrived; in key order, as two writers may refuse the same ones."""
    rows = sorted((_reject_row(reject, key_name) for reject in rejects), key=itemgetter("reject_id"))
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(load("writer.insert_rejects"), rows)


def _copy_sessions(connection: Connection, rows: Iterable[SessionRow]) -> None:
    with connection.cursor() as cursor, cursor.copy(load("writer.copy_sessions")) as copy:
        for row in rows:
            copy.write_row(
                (
                    row.session_id,
                    row.user_id,
                    row.started_at,
                    row.ended_at,
                    row.last_event_at,
                    row.user_agent,
                    row.referrer,
                )
            )


def _copy_events(connection: Connection, events: Iterable[EventRecord], numbers: Mapping[str, int]) -> None:
    with connection.cursor() as cursor, cursor.copy(load("writer.copy_events")) as copy:
        for event in events:
            copy.write_row(
                (
                    event.event_id,
                    number_of(event.user_id, numbers),
                    event.session_id or "",
                    event.event_type,
                    bytes(event.event_data).decode(),
                    event.created_at,
                    event.ip_address,
                )
            )


def _merge_traits(connection: Connection, user: UserRecord, numbers: Mapping[str, int]) -> None:
    parameters = {
        "id": number_of(user.user_id, numbers),
        "traits": bytes(user.traits).decode(),
        "updated_at": user.updated_at,
    }
    connection.execute(load("users.merge_traits"), parameters)


def _reject_row(reject: Reject, key_name: str) -> dict[str, Any]:
    digest = hashlib.sha256(reject.kind.encode() + b"\0" + reject.raw).digest()
    return {
        "reject_id": uuid.UUID(bytes=digest[:16]),
        "kind": reject.kind,
        "code": reject.code,
        "message": reject.message,
        "record": reject.raw,
        "key_name": key_name,
    }


def _scalar(connection: Connection, name: str) -> int:
    row = connection.execute(load(name)).fetchone()
    assert row is not None  # an aggregate without GROUP BY is one row
    return int(row[0])
