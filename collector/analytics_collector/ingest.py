"""`POST /v1/events`: the door through which everything comes in."""

from __future__ import annotations

import threading
import zlib
from datetime import UTC, datetime
from typing import IO, Any, Final

import flask
import msgspec

from . import metrics
from .batch import Reject
from .collector import Collector
from .committer import Verdict
from .exceptions import MalformedError, TooLargeError
from .intake import GZIP_MAGIC
from .protocols import native

blueprint = flask.Blueprint("ingest", __name__)

_STEP: Final = 64 * 1024  # bytes read at a time
_MOST_IGNORED: Final = 64 * 1024 * 1024  # bytes of a body too large

_one_at_a_time: Final = threading.Lock()  # bodies that are read record by record, so that memory has a bound


@blueprint.post("/v1/events")
def post_events() -> flask.Response:
    """Store a batch; the answer comes after COMMIT and has a verdict on every record."""
    collector = Collector.current()
    request = flask.request
    headers = request.headers
    key = collector.doorkeeper.admit(headers.get("Authorization"), "write", origin=headers.get("Origin"))
    limit = collector.settings.max_body_bytes
    body = inflate(receive(request.stream, limit), limit)
    now = datetime.now(UTC)
    batch = collector.receive(native.parse(body, now, _one_at_a_time), key, now)
    verdict = collector.committer.commit(batch, key.name)
    metrics.note_verdict(verdict.accepted, verdict.duplicates, [reject.code for reject in verdict.rejected])
    return flask.Response(msgspec.json.encode(_answer(verdict)), mimetype="application/json")


def receive(stream: IO[bytes], limit: int) -> bytes:
    """Read a body, whether its length was announced or it comes in chunks.

    Args:
        stream: Where it comes from.
        limit: Most bytes that it may have.

    Raises:
        TooLargeError: It has more. Some of the rest is read and forgotten: most clients hear no answer before they
            have sent it all.
        MalformedError: It ends in the middle.
    """
    parts: list[bytes] = []
    size = 0
    try:
        while size <= limit + _MOST_IGNORED and (part := stream.read(_STEP)):
            size += len(part)
            if size <= limit:
                parts.append(part)
    except Exception as error:  # noqa: BLE001  # each server has its own errors for what the sender broke
        raise MalformedError("The body is torn", str(error)) from None
    if size > limit:
        raise TooLargeError("The body is too large", f"send at most {limit} bytes at a time")
    return b"".join(parts)


def inflate(body: bytes, limit: int) -> bytes:
    """Undo gzip, if the bytes are gzip: headers lie, the magic number (RFC 1952) does not.

    Args:
        body: As it arrived.
        limit: Most bytes that may come out of it.

    Raises:
        TooLargeError: More would come out.
        MalformedError: It is torn.
    """
    if not body.startswith(GZIP_MAGIC):
        return body
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedError("The body is no valid gzip", str(error)) from None
    if len(plain) > limit:
        raise TooLargeError("The body is too large once inflated", f"send at most {limit} bytes at a time")
    if not inflater.eof or inflater.unused_data:
        raise MalformedError("The body is no valid gzip", "it is not exactly one whole member")
    return plain


def _answer(verdict: Verdict) -> dict[str, Any]:
    return {
        "accepted": verdict.accepted,
        "duplicates": verdict.duplicates,
        "rejected": [_rejected(reject) for reject in verdict.rejected],
    }


def _rejected(reject: Reject) -> dict[str, Any]:
    return {
        "event_id": reject.event_id,
        "record": reject.kind,
        "index": reject.index,
        "code": reject.code,
        "message": reject.message,
    }
