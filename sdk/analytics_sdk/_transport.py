"""The one narrow seam to the outside: a batch goes in, an outcome comes back.

httpx is imported on first use, in the thread that sends: it would cost every host 0.1 s at import.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import attrs
import msgspec

from ._retry import retry_after_seconds

if TYPE_CHECKING:
    import httpx

_GZIP_FROM: Final = 1024  # bytes; smaller bodies grow
_GZIP_LEVEL: Final = 1  # 344 kB become 21 kB in 0.6 ms; level 6 takes three times as long for 4 kB less

_importing: Final = threading.RLock()
# A child forked in the midst of an import could never do that import itself: a fork waits until it is done. It
# waits for nothing else, and never for its own thread.
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)

Fate = Literal["stored", "again", "misconfigured", "refused"]


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of a batch.

    Attributes:
        fate: "stored" is final. "again" and "misconfigured" (wrong key, wrong address) are worth another try,
            the latter a rare one. "refused": this very batch will never be taken as it is.
        rejected: The collector's verdicts on records that it set aside.
        retry_after: Seconds that the collector asks us to wait, or 0.
        reason: For the log.
    """

    fate: Fate
    accepted: int = 0
    duplicates: int = 0
    rejected: tuple[Mapping[str, Any], ...] = ()
    retry_after: float = 0.0
    reason: str = ""


class Transport(Protocol):
    """Sends batches. One thread at a time calls it."""

    def send(self, body: bytes, timeout: float) -> Outcome:
        """Send the body of `POST /v1/events` and say what became of it; never raises for the network's sake.

        Args:
            body: JSON (docs/wire-format.md).
            timeout: Seconds that each step of it may take.
        """
        ...

    def reset(self) -> None:
        """Forget the connections, without closing them: in a forked child they are the parent's."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class HttpTransport:
    """Sends over HTTP with gzip and keep-alive.

    Args:
        url: Where the collector is.
        write_key: Goes into the Authorization header and nowhere else.
        connect_timeout: Seconds.
        http: A transport of httpx, for instance `httpx.WSGITransport(app=...)` or `httpx.MockTransport(...)`.
    """

    def __init__(
        self, url: str, write_key: str, *, connect_timeout: float = 3.0, http: httpx.BaseTransport | None = None
    ) -> None:
        self._url = f"{url.rstrip('/')}/v1/events"
        self._write_key = write_key
        self._connect_timeout = connect_timeout
        self._http = http
        self._client: httpx.Client | None = None

    def send(self, body: bytes, timeout: float) -> Outcome:
        """Send a batch."""
        client = self._open()
        import httpx

        content, headers = _packed(body)
        limits = httpx.Timeout(timeout, connect=min(timeout, self._connect_timeout))
        try:
            answer = client.post(self._url, content=content, headers=headers, timeout=limits)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as error:
            return Outcome(fate="again", reason=f"{type(error).__name__}: {error}")
        return judge(answer.status_code, answer.headers, answer.content, datetime.now(UTC))

    def reset(self) -> None:
        """Forget the connections."""
        self._client = None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def _open(self) -> httpx.Client:
        if self._client is None:
            self._client = new_http_client(self._write_key, self._http)
        return self._client


def new_http_client(key: str, http: httpx.BaseTransport | None, **options: Any) -> httpx.Client:
    """Import httpx and all that its first request needs, and make a client.

    Args:
        key: Goes into the Authorization header.
        http: A transport of httpx, or None for the network.
        options: Further ones of `httpx.Client`.
    """
    with _importing:
        import encodings.idna  # noqa: F401  # looking up the address of a host imports it

        import httpx

        headers = {"Authorization": f"Bearer {key}", "User-Agent": "analytics-sdk-python"}
        return httpx.Client(headers=headers, transport=http, **options)


def judge(status: int, headers: Mapping[str, str], content: bytes, now: datetime) -> Outcome:
    """Turn an HTTP answer into an outcome; the one table of statuses.

    Only the collector's own 200 counts as stored, and its own 400 as refused: a proxy's page does not.
    """
    if status == 200:
        return _stored(content)
    problem = _problem(content)
    reason = f"HTTP {status} {problem}".rstrip()
    if status == 413 or (status == 400 and problem.code == "malformed"):
        return Outcome(fate="refused", reason=reason)
    if status in (408, 425, 429) or status >= 500:
        return Outcome(fate="again", retry_after=retry_after_seconds(headers.get("retry-after"), now), reason=reason)
    return Outcome(fate="misconfigured", reason=reason)


class _Answer(msgspec.Struct):
    accepted: int
    duplicates: int
    rejected: list[dict[str, Any]]


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.message} ({self.detail})" if self.code else ""


def _stored(content: bytes) -> Outcome:
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Outcome(fate="misconfigured", reason="HTTP 200 without the collector's answer: is the address right?")
    return Outcome(
        fate="stored",
        accepted=answer.accepted,
        duplicates=answer.duplicates,
        rejected=tuple(answer.rejected),
    )


def _problem(content: bytes) -> _Problem:
    """What the collector says is wrong; empty if it is not the collector who answers."""
    try:
        return msgspec.json.decode(content, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Problem()


def _packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    headers = {"Content-Type": "application/json"}
    if len(body) < _GZIP_FROM:
        return body, headers
    squeezer = zlib.compressobj(_GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)
    return squeezer.compress(body) + squeezer.flush(), {**headers, "Content-Encoding": "gzip"}
