"""Rows of `analytics_event` as Postgres takes them: JSON of a few, the binary format of COPY for many.

The latter is made here at a microsecond a row, and read as quickly there; it is documented at COPY, "Binary Format",
and the values are what their types' receive functions take.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final

import msgspec

from .records import EventRecord

Key = tuple[bytes, int]
"""The primary key: the 16 bytes of event_id, and created_at in microseconds since 2000."""

_AT_ONCE: Final = timedelta(minutes=1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_JSONB_VERSION: Final = b"\x01"

_pack_key = Struct("!hi16siq").pack  # 8 columns; event_id and created_at, each behind its length
_pack_number = Struct("!iq").pack
_pack_length = Struct("!i").pack


class EventRow(msgspec.Struct, gc=False):
    """One row, with the number of the user whose it is, and what `received_at` says of it."""

    key: Key
    user_id: int | None
    record: EventRecord
    received_at: datetime | None


def key_of(record: EventRecord) -> Key:
    """The primary key of an event."""
    return bytes.fromhex(record.event_id.replace("-", "")), microseconds(record.created_at)


def received_at(record: EventRecord, now: datetime) -> datetime | None:
    """When an event is received; None within a minute of when it was created, which tells nothing and takes no room."""
    return now if abs(now - record.created_at) > _AT_ONCE else None


def microseconds(moment: datetime) -> int:
    """A moment as Postgres keeps it: microseconds since 2000."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


class _JsonRow(msgspec.Struct, gc=False, omit_defaults=True):
    event_id: str
    created_at: datetime
    user_id: int | None
    session_id: str
    event_type: str
    event_data: msgspec.Raw
    ip_address: str | None
    received_at: datetime | None = None


def as_json(rows: Iterable[EventRow]) -> str:
    """Rows as `writer.write` takes them."""
    return msgspec.json.encode([_json_row(row) for row in rows]).decode()


def _json_row(row: EventRow) -> _JsonRow:
    record = row.record
    return _JsonRow(
        record.event_id,
        record.created_at,
        row.user_id,
        record.session_id or "",
        record.event_type,
        record.event_data,
        record.ip_address,
        row.received_at,
    )


def copied(rows: Iterable[EventRow]) -> bytes:
    """Rows as `writer.copy_events` takes them."""
    return b"".join([_HEADER, *map(_row, rows), _TRAILER])


def _row(row: EventRow) -> bytes:
    record = row.record
    event_id, created_at = row.key
    session_id, event_type = (record.session_id or "").encode(), record.event_type.encode()
    data = bytes(record.event_data)
    return b"%b%b%b%b%b%b%b%b%b%b%b" % (
        _pack_key(8, 16, event_id, 8, created_at),
        _NULL if row.user_id is None else _pack_number(8, row.user_id),
        _pack_length(len(session_id)),
        session_id,
        _pack_length(len(event_type)),
        event_type,
        _pack_length(len(data) + 1),
        _JSONB_VERSION,
        data,
        _NULL if record.ip_address is None else _inet(record.ip_address),
        _NULL if row.received_at is None else _pack_number(8, microseconds(row.received_at)),
    )


@functools.lru_cache(maxsize=4096)
def _inet(text: str) -> bytes:
    """An address behind its length: family (2 is IPv4, 3 is IPv6), bits, no network, and its bytes."""
    address = ipaddress.ip_address(text)
    size = len(address.packed)
    return _pack_length(4 + size) + bytes((2 if size == 4 else 3, size * 8, 0, size)) + address.packed
