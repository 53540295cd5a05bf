"""`POST /v1/events`: the door through which everything comes in."""

from __future__ import annotations

import threading
import zlib
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final

import flask
import msgspec
from werkzeug.wsgi import get_input_stream

from . import metrics
from .batch import Reject
from .collector import Collector
from .committer import Verdict
from .exceptions import MalformedError, TooLargeError, UnavailableError
from .intake import GZIP_MAGIC, SMALL
from .protocols import native

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

blueprint = flask.Blueprint("ingest", __name__)

_STEP: Final = 64 * 1024  # bytes read at a time
_MOST_IGNORED: Final = 64 * 1024 * 1024  # bytes of a body too large

_PATIENCE: Final = 5.0  # seconds that a body waits for its turn


class _Turn:
    """Entered by one large body at a time that is read record by record, so that memory has a bound.

    Raises:
        UnavailableError: The others take too long.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Wait for it."""
        if not self._lock.acquire(timeout=_PATIENCE):
            raise UnavailableError("Too many large bodies with bad records", "send the same request again")

    def __exit__(self, *_: object) -> None:
        """Let the next one have it."""
        self._lock.release()


_turn: Final = _Turn()


class Ingest:
    """Stores what is posted.

    Args:
        collector: Where.
    """

    rule = native.PATH

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Whether a request posts something."""
        method: str = environ["REQUEST_METHOD"]
        return method.upper() == "POST" and native.is_path(environ.get("PATH_INFO", ""))

    def answer(self, environ: WSGIEnvironment) -> bytes:
        """Store a batch; the answer comes after COMMIT, and has a verdict on every record."""
        return msgspec.json.encode(_answer(self._store(environ)))

    def _store(self, environ: WSGIEnvironment) -> Verdict:
        collector = self._collector
        origin = environ.get("HTTP_ORIGIN")
        key = collector.doorkeeper.admit(environ.get("HTTP_AUTHORIZATION"), "write", origin=origin)
        limit = collector.settings.max_body_bytes
        body = inflate(receive(_body_of(environ), limit), limit)
        now = datetime.now(UTC)
        apart = _turn if len(body) > SMALL else native.AT_ONCE
        batch = collector.receive(native.parse(body, now, apart), key, now, environ)
        verdict = collector.committer.commit(batch, key.name)
        metrics.note_verdict(verdict.accepted, verdict.duplicates, [reject.code for reject in verdict.rejected])
        return verdict


@blueprint.post(Ingest.rule)
def post_events() -> flask.Response:
    """The same for whoever comes the long way."""
    answer = Ingest(Collector.current()).answer(flask.request.environ)
    return flask.Response(answer, mimetype="application/json")


def _body_of(environ: WSGIEnvironment) -> IO[bytes]:
    """What there is to read; a server says so if it ends where the body does, as gunicorn's do."""
    stream: IO[bytes] = environ["wsgi.input"]
    return stream if environ.get("wsgi.input_terminated") else get_input_stream(environ)


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
