"""Writes items into Postgres: an event alone in one statement, a few in one call, many that are all new by COPY.

Sessions come first: their row locks are what makes claims exact, and they tell whose the anonymous events are. Then the
events, and profiles last, by what was really new. sql/migrations/0004_write.sql has it for any number of records, and
sql/writer.add_event.sql for an event alone.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any, Final

import msgspec
from psycopg.types.numeric import Int8

from .batch import Item, Reject, SessionRow, fold_sessions, number_of
from .db import Connection
from .deltas import Deltas
from .event_rows import EventRow, Key, as_json, copied, key_of, microseconds, received_at
from .records import EventRecord, Record, UserRecord
from .sql import load

FEW: Final = 100
"""So many items at most go into one call; COPY costs less an event and more to begin."""

Owners = Mapping[str, int | None]


def write(connection: Connection, items: Sequence[Item], numbers: Mapping[str, int], now: datetime) -> set[Key]:
    """Store items; events that are there already change nothing.

    Args:
        connection: Inside a transaction, if any of them is a user record; without, all others are stored in one.
        items: Records of any kind, in the order in which they came.
        numbers: The number of every external user id that they name.
        now: When they are stored.

    Returns:
        The keys of the events that were there before.
    """
    before = _add_event(connection, items[0].record, numbers, now) if len(items) == 1 else None
    return _write_any(connection, items, numbers, now) if before is None else before


def _write_any(connection: Connection, items: Sequence[Item], numbers: Mapping[str, int], now: datetime) -> set[Key]:
    sessions = fold_sessions(items, numbers)
    rows = _once_each(_event_rows(items, numbers, now))
    found: Iterable[tuple[uuid.UUID, datetime]] = ()
    if sessions or rows:
        found = connection.execute(load("writer.write"), {"sessions": _json(sessions), "events": as_json(rows)})
    _merge_traits(connection, items, numbers)
    return {_key(*row) for row in found}


def _add_event(connection: Connection, record: Record, numbers: Mapping[str, int], now: datetime) -> set[Key] | None:
    """Store the record the quick way, if it is the event of a session that just goes on; else None."""
    if not (isinstance(record, EventRecord) and record.session_id):
        return None
    user_id = number_of(record.user_id, numbers)
    parameters = {
        "event_id": record.event_id,
        "created_at": record.created_at,
        "user_id": user_id if user_id is None else Int8(user_id),  # or each size of number would be another statement
        "session_id": record.session_id,
        "event_type": record.event_type,
        "event_data": bytes(record.event_data).decode(),
        "ip_address": record.ip_address,
        "received_at": received_at(record, now),
    }
    row = connection.execute(load("writer.add_event"), parameters).fetchone()
    if row is None:
        return None
    return set() if row[0] else {key_of(record)}


def copy(connection: Connection, items: Sequence[Item], numbers: Mapping[str, int], now: datetime) -> None:
    """Store items whose events are all new.

    Args:
        connection: Inside a transaction.
        items: As in `write`.
        numbers: As in `write`.
        now: As in `write`.

    Raises:
        psycopg.errors.UniqueViolation: An event is there already, or twice among them.
    """
    deltas = Deltas()
    owners = _touch_sessions(connection, fold_sessions(items, numbers), deltas)
    rows = _event_rows(items, numbers, now)
    moments: dict[int, list[datetime]] = defaultdict(list)
    for row in rows:
        if row.user_id is None and row.record.session_id:
            row.user_id = owners[row.record.session_id]
        if row.user_id is not None:
            moments[row.user_id].append(row.record.created_at)
    for user_id, times in moments.items():
        deltas.add(user_id, 0, len(times), min(times), max(times))
    with connection.cursor() as cursor, cursor.copy(load("writer.copy_events")) as stream:
        stream.write(copied(rows))
    connection.execute(load("writer.grow_profiles"), {"deltas": _json(deltas.rows())})
    _merge_traits(connection, items, numbers)


def _touch_sessions(connection: Connection, rows: Sequence[SessionRow], deltas: Deltas) -> Owners:
    """Make, lock and claim the sessions; tells whose each of them is now."""
    owners: dict[str, int | None] = {}
    for session_id, user_id, *counts in connection.execute(load("writer.touch_sessions"), {"sessions": _json(rows)}):
        owners[session_id] = user_id
        if user_id is not None:
            deltas.add(user_id, *counts)
    return owners


def _event_rows(items: Iterable[Item], numbers: Mapping[str, int], now: datetime) -> list[EventRow]:
    """The events in key order, in which every writer comes to them."""
    records = [item.record for item in items if isinstance(item.record, EventRecord)]
    rows = [
        EventRow(key_of(record), number_of(record.user_id, numbers), record, received_at(record, now))
        for record in records
    ]
    rows.sort(key=attrgetter("key"))
    return rows


def _once_each(rows: Sequence[EventRow]) -> list[EventRow]:
    """Of rows with the same key only the first."""
    return [row for before, row in zip([None, *rows], rows, strict=False) if before is None or before.key != row.key]


def _key(event_id: uuid.UUID, created_at: datetime) -> Key:
    return event_id.bytes, microseconds(created_at)


def _merge_traits(connection: Connection, items: Iterable[Item], numbers: Mapping[str, int]) -> None:
    users = [item.record for item in items if isinstance(item.record, UserRecord)]
    for user in sorted(users, key=lambda user: (number_of(user.user_id, numbers), user.updated_at)):
        parameters = {
            "id": number_of(user.user_id, numbers),
            "traits": bytes(user.traits).decode(),
            "updated_at": user.updated_at,
        }
        connection.execute(load("users.merge_traits"), parameters)


def write_rejects(connection: Connection, rejects: Iterable[tuple[str, Reject]]) -> None:
    """Keep refused records, exactly as they arrived; in key order, as two writers may refuse the same ones.

    Args:
        connection: Inside a transaction.
        rejects: Each behind the name of the key that it came with.
    """
    rows = sorted((_reject_row(key_name, reject) for key_name, reject in rejects), key=itemgetter("reject_id"))
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(load("writer.insert_rejects"), rows)


def _reject_row(key_name: str, reject: Reject) -> dict[str, Any]:
    digest = hashlib.sha256(reject.kind.encode() + b"\0" + reject.raw).digest()
    return {
        "reject_id": uuid.UUID(bytes=digest[:16]),
        "kind": reject.kind,
        "code": reject.code,
        "message": reject.message,
        "record": reject.raw,
        "key_name": key_name,
    }


def _json(rows: Sequence[msgspec.Struct]) -> str:
    return msgspec.json.encode(rows).decode()
