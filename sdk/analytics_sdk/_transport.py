"""The one narrow seam to the outside: a batch goes in, an outcome comes back.

httpx is imported on first use, in the thread that sends: it would cost every host 0.1 s at import. Of httpx it is
the transport that is used and not the client: the client logs a line for each request under the host's eyes, and
it is what the host's instrumentation wraps.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

from ._retry import retry_after_seconds

if TYPE_CHECKING:
    import httpx

_GZIP_FROM: Final = 1024  # bytes; smaller bodies grow
_GZIP_LEVEL: Final = 1  # 344 kB become 21 kB in 0.6 ms; level 6 takes three times as long for 4 kB less
_LARGEST_ANSWER: Final = 16 * 1024 * 1024  # bytes

_importing: Final = threading.RLock()


def _after_fork() -> None:
    """A fork in C may tell of itself only afterwards (uWSGI's py-call-osafterfork): then nobody has acquired it."""
    with contextlib.suppress(RuntimeError):
        _importing.release()


# A child forked in the midst of an import could never do that import itself: a fork waits until it is done. It
# waits for nothing else, and never for its own thread.
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_after_fork)

Fate = Literal["stored", "again", "misconfigured", "refused", "doubtful"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch.

    Attributes:
        fate: "stored" is final. "again" and "misconfigured" (wrong key, wrong address) are worth another try,
            the latter a rare one. "refused": this very batch will never be taken as it is. "doubtful": refused by
            somebody who may mean this batch, or all of them.
        accepted: How many records the collector has stored now; None if it is not told, and then all the others.
        duplicates: How many it had before.
        rejected: The collector's verdicts on records that it set aside.
        retry_after: Seconds that the collector asks us to wait, or 0.
        may_be_stored: Whether it is not known that the batch is not stored, as the answer is missing.
        reason: For the log.
    """

    fate: Fate
    accepted: int | None = None
    duplicates: int = 0
    rejected: tuple[Mapping[str, Any], ...] = ()
    retry_after: float = 0.0
    may_be_stored: bool = False
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
        self._headers = {**_headers(write_key), "Content-Type": "application/json"}
        self._connect_timeout = connect_timeout
        self._given = http
        self._http: httpx.BaseTransport | None = None
        self.reset()

    def send(self, body: bytes, timeout: float) -> Outcome:
        """Send a batch."""
        http = self._open()
        import httpx

        content, encoding = _packed(body)
        limits = httpx.Timeout(timeout, connect=min(timeout, self._connect_timeout)).as_dict()
        try:
            headers = {**self._headers, **encoding}
            request = httpx.Request("POST", self._url, headers=headers, content=content, extensions={"timeout": limits})
            with _unseen():
                status, answered, answer = _exchange(http, request, time.monotonic() + timeout)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as error:
            was_sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.InvalidURL)
            return Outcome(fate="again", may_be_stored=was_sent, reason=f"{type(error).__name__}: {error}")
        return judge(status, answered, answer, datetime.now(UTC))

    def reset(self) -> None:
        """Forget the connections.

        When uWSGI runs exit handlers, OpenSSL has run its own, and httpx wants a context of it even without TLS: so
        there it is made while it can be. With TLS nothing can be sent that late.
        """
        self._http = None
        if "uwsgi" in sys.modules and self._url.startswith("http:"):
            self._open()

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()
        self._http = None

    def _open(self) -> httpx.BaseTransport:
        if self._http is None:
            self._http = self._given or new_http_transport(self._url)
        return self._http


def _exchange(
    http: httpx.BaseTransport, request: httpx.Request, deadline: float
) -> tuple[int, Mapping[str, str], bytes]:
    """Send a request and read the answer, which may come in drops, but not for longer than until the deadline."""
    import httpx

    answer = http.handle_request(request)
    try:
        content = b""
        assert isinstance(answer.stream, httpx.SyncByteStream)
        for part in answer.stream:
            content += part
            if len(content) > _LARGEST_ANSWER or time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer does not come to an end", request=request)
        return answer.status_code, answer.headers, content
    finally:
        answer.close()


def new_http_transport(url: str) -> httpx.HTTPTransport:
    """Import httpx and make its transport for an address, by the proxy that the environment names.

    Args:
        url: Where the collector is.
    """
    with _importing:
        _import_httpx()
        import httpx

        # Without TLS there is nothing to verify, and loading the certificates costs 20 ms.
        return httpx.HTTPTransport(verify=url.startswith("https:"), proxy=proxy_for(url))


def _import_httpx() -> None:
    """All that httpx needs for its first request; the caller holds the lock of `_importing`."""
    import encodings.idna  # noqa: F401  # looking up the address of a host imports it

    import httpx  # noqa: F401


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address (http_proxy, https_proxy, all_proxy, no_proxy)."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


@contextlib.contextmanager
def _unseen() -> Iterator[None]:
    """Hide a request from OpenTelemetry, if the host has it: our traffic is not the host's."""
    context = sys.modules.get("opentelemetry.context")
    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    if context is None or key is None:
        yield
        return
    token = context.attach(context.set_value(key, True))
    try:
        yield
    finally:
        context.detach(token)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "User-Agent": "analytics-sdk-python", "Accept": "application/json"}


def new_http_client(key: str, http: httpx.BaseTransport | None, **options: Any) -> httpx.Client:
    """Import httpx and make a client of it.

    Args:
        key: Goes into the Authorization header.
        http: A transport of httpx, or None for the network.
        options: Further ones of `httpx.Client`.
    """
    with _importing:
        _import_httpx()
        import httpx

        return httpx.Client(headers=_headers(key), transport=http, **options)


def judge(status: int, headers: Mapping[str, str], content: bytes, now: datetime) -> Outcome:
    """Turn an HTTP answer into an outcome; the one table of statuses.

    Only the collector's own 200 counts as stored, and its own 400 as refused. Another 4xx may come from a firewall
    that dislikes the words of one event, or mean that the address is wrong: that is doubtful.
    """
    if status == 200:
        return _stored(content)
    problem = _problem(content)
    reason = f"HTTP {status} {problem}".rstrip()
    if status == 413 or (status == 400 and problem.code == "malformed"):
        return Outcome(fate="refused", reason=reason)
    if status in (408, 425, 429) or status >= 500:
        wait = retry_after_seconds(headers.get("retry-after"), now)
        is_unknown = status in (408, 500, 502, 504) and not problem.code  # a gateway that heard nothing
        return Outcome(fate="again", retry_after=wait, may_be_stored=is_unknown, reason=reason)
    is_doubtful = 400 <= status < 500 and status not in (401, 407)
    return Outcome(fate="doubtful" if is_doubtful else "misconfigured", reason=reason)


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
    if len(body) < _GZIP_FROM:
        return body, {}
    squeezer = zlib.compressobj(_GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)
    return squeezer.compress(body) + squeezer.flush(), {"Content-Encoding": "gzip"}
