"""Our own protocol, `POST /v1/events` (docs/wire-format.md): one record is one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from .. import batch
from ..batch import KINDS, Batch
from ..exceptions import MalformedError, TooLargeError
from .splitter import split


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw] = []
    sessions: list[msgspec.Raw] = []
    users: list[msgspec.Raw] = []
    sent_at: Any = None


MAX_RECORDS: Final = 10_000  # in one request; a few bytes each can be a million verdicts

_envelope = msgspec.json.Decoder(_Envelope)


def parse(body: bytes, now: datetime) -> Batch:
    """Read a request body.

    Args:
        body: The JSON text, already inflated.
        now: When it arrived.

    Raises:
        MalformedError: It is no JSON object of the arrays `events`, `sessions` and `users`.
        TooLargeError: They have too many records.
    """
    arrays = _arrays(body)
    count = sum(len(records) for records in arrays.values())
    if count > MAX_RECORDS:
        raise TooLargeError("The body has too many records", f"{count}; send at most {MAX_RECORDS} at a time")
    return batch.read({kind: arrays.get(f"{kind}s", ()) for kind in KINDS}, now)


def _arrays(body: bytes) -> Mapping[str, Sequence[bytes]]:
    try:
        body.decode()
        arrays = _envelope_of(body)
    except UnicodeDecodeError as error:
        raise MalformedError("The body is not UTF-8", str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        return _cut_apart(body, str(error))
    if any(body.count(b'"%bs"' % kind.encode()) > 1 for kind in KINDS) and split(body) is None:
        raise MalformedError("The body has an array twice", "JSON would let the second take the place of the first")
    return arrays


def _envelope_of(text: bytes) -> Mapping[str, Sequence[bytes]]:
    try:
        envelope = _envelope.decode(text)
    except msgspec.ValidationError as error:
        raise MalformedError("The body has the wrong shape", f"{error}; see docs/wire-format.md") from None
    return {"sessions": envelope.sessions, "users": envelope.users, "events": envelope.events}


def _cut_apart(body: bytes, fault: str) -> Mapping[str, Sequence[bytes]]:
    """Save the good records of a body that one bad record keeps from being JSON."""
    pieces = split(body)
    try:
        if pieces is not None and _envelope_of(pieces.frame).keys() >= pieces.arrays.keys():
            return pieces.arrays
    except (msgspec.DecodeError, RecursionError):
        pass  # it is more than a record that is no JSON
    raise MalformedError("The body is not JSON", fault)
