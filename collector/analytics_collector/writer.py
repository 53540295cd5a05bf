"""Writes items into Postgres, inside the transaction it is given.

Sessions first: their row locks are what makes claims exact, and they tell whose the anonymous events are. Then the
events, straight into the table, as nearly all of them are new: many by COPY, a few by INSERT, which takes fewer
messages. Profiles last, by what was really new.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any, Final

import msgspec

from .batch import Item, Reject, SessionRow, fold_sessions, number_of
from .db import Connection
from .deltas import Delta, Deltas
from .event_rows import EventRow, Key, as_json, copied, key_of, microseconds
from .records import EventRecord, UserRecord
from .sql import load

FEW: Final = 100
"""So many events at most are inserted; more are copied, which costs less an event and more to begin."""

Owners = Mapping[str, int | None]


def write(
    connection: Connection, items: Sequence[Item], numbers: Mapping[str, int], *, may_be_stored: bool
) -> set[Key] | None:
    """Store items; those that are there already change nothing.

    Args:
        connection: Inside a transaction.
        items: Records of any kind, in the order in which they came.
        numbers: The number of every external user id that they name.
        may_be_stored: False for the quick way, which fails if one of the events is there already.

    Returns:
        The keys of the events that were really new; None if all of them were.

    Raises:
        psycopg.errors.UniqueViolation: An event is there already, and `may_be_stored` is False.
    """
    deltas = Deltas()
    owners = _touch_sessions(connection, fold_sessions(items, numbers), deltas)
    named = _event_rows(items, numbers, owners)
    rows = _once_each(named)
    new = _store_events(connection, rows, may_be_stored=may_be_stored) if rows else None
    for row in rows:
        if row.user_id is not None and (new is None or row.key in new):
            deltas.add_event(row.user_id, row.record.created_at)
    _grow_profiles(connection, deltas.rows())
    _merge_traits(connection, items, numbers)
    return {row.key for row in rows} if new is None and len(rows) < len(named) else new


def _touch_sessions(connection: Connection, rows: Sequence[SessionRow], deltas: Deltas) -> Owners:
    """Make, lock and claim the sessions; tells whose each of them is now."""
    owners: dict[str, int | None] = {}
    if not rows:
        return owners
    for session_id, user_id, is_new in connection.execute(load("writer.upsert_sessions"), {"sessions": _json(rows)}):
        owners[session_id] = user_id
        if is_new and user_id is not None:
            deltas.add_session(user_id)
    claims = [row for row in rows if row.user_id is not None and owners[row.session_id] is None]
    for row in claims:
        assert row.user_id is not None
        owners[row.session_id] = row.user_id
        deltas.add_session(row.user_id)
    if claims:
        for adopted in connection.execute(load("writer.claim_sessions"), {"sessions": _json(claims)}):
            deltas.add_events(*adopted)
    return owners


def _event_rows(items: Iterable[Item], numbers: Mapping[str, int], owners: Owners) -> list[EventRow]:
    """The events in key order, in which every writer comes to them; one that names no user is its session's owner's."""
    rows = []
    for item in items:
        record = item.record
        if isinstance(record, EventRecord):
            user_id = number_of(record.user_id, numbers)
            if user_id is None and record.session_id:
                user_id = owners[record.session_id]
            rows.append(EventRow(key_of(record), user_id, record))
    rows.sort(key=attrgetter("key"))
    return rows


def _once_each(rows: Sequence[EventRow]) -> list[EventRow]:
    """Of rows with the same key only the first."""
    return [row for before, row in zip([None, *rows], rows, strict=False) if before is None or before.key != row.key]


def _store_events(connection: Connection, rows: Sequence[EventRow], *, may_be_stored: bool) -> set[Key] | None:
    if may_be_stored:
        found = connection.execute(load("writer.insert_missing_events"), {"events": as_json(rows)})
        return {_key(*row) for row in found}
    if len(rows) <= FEW:
        connection.execute(load("writer.insert_events"), {"events": as_json(rows)})
        return None
    with connection.cursor() as cursor, cursor.copy(load("writer.copy_events")) as copy:
        copy.write(copied(rows))
    return None


def _key(event_id: uuid.UUID, created_at: datetime) -> Key:
    return event_id.bytes, microseconds(created_at)


def _grow_profiles(connection: Connection, deltas: Sequence[Delta]) -> None:
    if deltas:
        connection.execute(load("writer.grow_profiles"), {"deltas": _json(deltas)})


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
