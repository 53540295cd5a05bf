"""A batch: the records of one request, those that can be stored apart from those that cannot.

Also the pure half of writing one: what records say about each of their sessions, folded into one row a session.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

import attrs
import msgspec

from . import records
from .exceptions import RecordError
from .records import FIRST_OWN_USER_ID, EventRecord, Record, SessionRecord, UserId, UserRecord

Kind = Literal["event", "session", "user"]
KINDS: Final[tuple[Kind, ...]] = ("session", "user", "event")
Arrays = Mapping[Kind, Sequence[bytes]]
"""The records of a request as they arrived, by kind."""

_READERS: Final[Mapping[Kind, Callable[[bytes, datetime], Record]]] = {
    "event": records.event,
    "session": records.session,
    "user": records.user,
}


class Item(msgspec.Struct, frozen=True, gc=False):
    """A record that Postgres will take, with where it stood: its place in its array of the request, from 0."""

    kind: Kind
    index: int
    record: Record


@attrs.frozen
class Reject:
    """A record that is refused, kept as it arrived.

    Attributes:
        index: Its place in its array of the request, from 0.
        code: One of `records.REASONS`.
    """

    kind: Kind
    index: int
    raw: bytes
    code: str
    message: str
    event_id: str | None = None


@attrs.frozen
class Batch:
    """The records of one request, judged.

    Attributes:
        size: Bytes of the request.
        arrays: Gives its records as they arrived; called only if one of the items is refused after all.
    """

    items: tuple[Item, ...] = ()
    rejects: tuple[Reject, ...] = ()
    size: int = 0
    arrays: Callable[[], Arrays] = dict

    def refuse(self, item: Item, code: str, message: str) -> Reject:
        """Turn an item that the database would not take into a reject."""
        event_id = item.record.event_id if isinstance(item.record, EventRecord) else None
        raw = bytes(self.arrays()[item.kind][item.index])
        return Reject(item.kind, item.index, raw, code, message, event_id)


def read(arrays: Arrays, now: datetime, size: int = 0) -> Batch:
    """Judge every record alone, so that a bad one costs none of its neighbours."""
    items: list[Item] = []
    rejects: list[Reject] = []
    for kind, raws in arrays.items():
        reader = _READERS[kind]
        for index, raw in enumerate(map(bytes, raws)):
            try:
                items.append(Item(kind, index, reader(raw, now)))
            except RecordError as error:
                rejects.append(Reject(kind, index, raw, error.code, error.message, _event_id(kind, raw)))
    return Batch(tuple(items), tuple(rejects), size, lambda: arrays)


_EVENT_ID: Final = re.compile(rb'"event_id"\s*:\s*"([^"\\]{1,64})"')


def _event_id(kind: Kind, raw: bytes) -> str | None:
    """The id of an event that cannot be read as a whole."""
    found = _EVENT_ID.search(raw) if kind == "event" else None
    return found[1].decode(errors="replace") if found else None


def user_ids(items: Iterable[Item]) -> set[UserId]:
    """All users that these items name, each in the form it is stored in."""
    named = (item.record.user_id for item in items)
    return {records.stored_user_id(user_id) for user_id in named if user_id is not None}


class SessionRow(msgspec.Struct, gc=False):
    """What a group of records says about one session, ready for the upsert.

    Attributes:
        user_id: The first user seen in it: the one who owns it, unless it has an owner already.
    """

    session_id: str
    user_id: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_event_at: datetime | None = None
    user_agent: str = ""
    referrer: str = ""

    def add_session(self, record: SessionRecord, user_id: int | None) -> None:
        """Take in a session record; a session that has ended had started by then."""
        self.user_id = user_id if self.user_id is None else self.user_id
        self.started_at = _earlier(self.started_at, _earlier(record.started_at, record.ended_at))
        self.ended_at = _later(self.ended_at, record.ended_at)
        self.user_agent = self.user_agent or record.user_agent or ""
        self.referrer = self.referrer or record.referrer or ""

    def add_event(self, created_at: datetime, user_id: int | None) -> None:
        """Take in an event of this session; its user owns the session if nobody does yet."""
        self.user_id = user_id if self.user_id is None else self.user_id
        self.started_at = _earlier(self.started_at, created_at)
        self.last_event_at = _later(self.last_event_at, created_at)


def fold_sessions(items: Iterable[Item], numbers: Mapping[str, int]) -> list[SessionRow]:
    """Fold session records and events into one row a session, sorted by session id.

    Every writer locks sessions in this order, so no two can wait for each other.
    """
    rows: dict[str, SessionRow] = {}
    for item in items:
        record = item.record
        if isinstance(record, UserRecord) or not record.session_id:
            continue
        row = rows.get(record.session_id)
        if row is None:
            row = rows[record.session_id] = SessionRow(record.session_id)
        user_id = number_of(record.user_id, numbers)
        if isinstance(record, EventRecord):
            row.add_event(record.created_at, user_id)
        else:
            row.add_session(record, user_id)
    return [rows[session_id] for session_id in sorted(rows)]


def number_of(user_id: UserId | None, numbers: Mapping[str, int]) -> int | None:
    """The number that a user id is stored as."""
    if user_id is None or (type(user_id) is int and 0 <= user_id < FIRST_OWN_USER_ID):
        return user_id
    stored = records.stored_user_id(user_id)
    return stored if isinstance(stored, int) else numbers[stored]


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)
