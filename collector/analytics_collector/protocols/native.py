"""Our own protocol, `POST /v1/events` (docs/wire-format.md): one record is one row."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from .. import batch
from ..batch import KINDS, Arrays, Batch, Item
from ..exceptions import MalformedError, RecordError
from ..records import (
    EventRecord,
    SessionRecord,
    UserRecord,
    checked_event,
    checked_session,
    checked_user,
)
from .splitter import split, too_many


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw] = []
    sessions: list[msgspec.Raw] = []
    users: list[msgspec.Raw] = []
    sent_at: Any = None


class _Records(msgspec.Struct, forbid_unknown_fields=True):
    """An envelope with records that are all of the right shape."""

    events: list[EventRecord] = []
    sessions: list[SessionRecord] = []
    users: list[UserRecord] = []
    sent_at: msgspec.Raw = msgspec.Raw(b"null")  # whatever it is, it is not taken apart


PATH: Final = "/v1/events"
MAX_RECORDS: Final = 10_000  # in one request; a few bytes each can be a million verdicts

AT_ONCE: Final = contextlib.nullcontext()  # nobody is waited for

_envelope = msgspec.json.Decoder(_Envelope)
_records = msgspec.json.Decoder(_Records)


def is_path(path: str) -> bool:
    """Whether a request's path is ours, as Flask would see it: slashes before a path are one."""
    return path.lstrip("/") == PATH[1:]


def parse(body: bytes, now: datetime, apart: contextlib.AbstractContextManager[object] = AT_ONCE) -> Batch:
    """Read a request body: all at once if all of it is good, else record by record.

    Args:
        body: The JSON text, already inflated.
        now: When it arrived.
        apart: Entered for the latter, which can take forty times the size of the body in memory.

    Raises:
        MalformedError: It is no JSON object of the arrays `events`, `sessions` and `users`.
        TooLargeError: They have too many records.
    """
    batch = _parse_at_once(body, now)
    if batch is not None:
        return batch
    with apart:
        return _parse_apart(body, now)


def _parse_at_once(body: bytes, now: datetime) -> Batch | None:
    try:
        body.decode()
        read = _records.decode(body)
        count = len(read.events) + len(read.sessions) + len(read.users)
        if count > MAX_RECORDS or b"\\u0000" in body or _may_have_array_twice(body):
            return None
        items = (
            *(Item("session", index, checked_session(record, now)) for index, record in enumerate(read.sessions)),
            *(Item("user", index, checked_user(record, now)) for index, record in enumerate(read.users)),
            *(Item("event", index, checked_event(record, now)) for index, record in enumerate(read.events)),
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RecordError):
        return None
    return Batch(items, (), len(body), _Arrays(body))


class _Arrays:
    """The records of a body as they arrived, once somebody asks.

    `functools.cache` would do, but to make one for each body takes longer than to check an event.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._arrays: Arrays | None = None

    def __call__(self) -> Arrays:
        """Cut the body, the first time."""
        if self._arrays is None:
            self._arrays = _arrays(self._body)
        return self._arrays


def _parse_apart(body: bytes, now: datetime) -> Batch:
    arrays = _arrays(body)
    if sum(map(len, arrays.values())) > MAX_RECORDS:
        raise too_many(MAX_RECORDS)
    return batch.read(arrays, now, len(body))


_ESCAPED_LETTER: Final = re.compile(rb"\\u00[67]")


def _may_have_array_twice(body: bytes) -> bool:
    """Whether two arrays may have the same name; a text in a record that reads like one of them counts, too."""
    is_named_twice = any(body.count(b'"%bs"' % kind.encode()) > 1 for kind in KINDS)
    return is_named_twice or _ESCAPED_LETTER.search(body) is not None


def _has_array_twice(body: bytes) -> bool:
    pieces = split(body, MAX_RECORDS)
    if pieces is None:
        return True
    try:
        names = [name for name, _ in json.loads(pieces.frame, object_pairs_hook=list)]
    except RecursionError:
        return True
    return len(set(names)) < len(names)


def _arrays(body: bytes) -> Arrays:
    try:
        body.decode()
        arrays = _envelope_of(body)
    except UnicodeDecodeError as error:
        arrays = _cut_apart(body, "The body is not UTF-8", str(error))
    except (msgspec.DecodeError, RecursionError) as error:
        arrays = _cut_apart(body, "The body is not JSON", str(error))
    else:
        if _may_have_array_twice(body) and _has_array_twice(body):
            raise MalformedError("The body has an array twice", "JSON would let the second take the place of the first")
    return {kind: arrays.get(f"{kind}s", ()) for kind in KINDS}


def _envelope_of(text: bytes) -> Mapping[str, Sequence[bytes]]:
    try:
        envelope = _envelope.decode(text)
    except msgspec.ValidationError as error:
        raise MalformedError("The body has the wrong shape", f"{error}; see docs/wire-format.md") from None
    return {"sessions": envelope.sessions, "users": envelope.users, "events": envelope.events}


def _cut_apart(body: bytes, fault: str, detail: str) -> Mapping[str, Sequence[bytes]]:
    """Save the good records of a body that one bad record keeps from being JSON in UTF-8."""
    pieces = split(body, MAX_RECORDS)
    try:
        if pieces is not None and {*_envelope_of(pieces.frame), "sent_at"} >= pieces.arrays.keys():
            return pieces.arrays
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # it is more than a record that is no JSON
    raise MalformedError(fault, detail)
