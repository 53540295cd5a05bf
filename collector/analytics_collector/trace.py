"""What every request leaves behind: an id, a line in the log, its figures, and headers for browsers."""

from __future__ import annotations

import functools
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from . import logs, metrics
from .collector import Collector

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("analytics_collector.requests")

Headers = list[tuple[str, str]]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_ROUTE: Final = "analytics_collector.route"  # in the request's environ
_UNKNOWN: Final = "other"
_POOL_EVERY: Final = 1.0  # seconds between two looks at the pool
_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),  # what is answered here is personal, or old in a second
)


def note_route(environ: WSGIEnvironment, rule: str) -> None:
    """Say what a request is counted as: a rule of a closed set, not the path that was asked for."""
    environ[_ROUTE] = _route(rule)


def path_of(environ: WSGIEnvironment) -> str:
    """The path as a person reads it, and Flask; WSGI's is bytes in the clothes of text."""
    path: str = environ.get("PATH_INFO", "")
    return path.encode("latin-1").decode(errors="replace")


class Trace:
    """A WSGI application that follows every request of another one.

    Args:
        app: The other.
        collector: Whose requests these are.
    """

    def __init__(self, app: WSGIApplication, collector: Collector) -> None:
        self._app = app
        self._database = collector.database
        self._pool_seen_at = float("-inf")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Have a request answered (PEP 3333)."""
        request_id, began = _request_id(environ.get("HTTP_X_REQUEST_ID")), time.perf_counter()
        logs.begin(request_id)

        def start(status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
            self._end(environ, int(status[:3]), began)
            return start_response(status, _with_ours(headers, request_id), exc_info)

        return self._app(environ, start)

    def _end(self, environ: WSGIEnvironment, status: int, began: float) -> None:
        seconds = time.perf_counter() - began
        method, route = environ["REQUEST_METHOD"].upper(), environ.get(_ROUTE)
        metrics.note_request(method if route else _UNKNOWN, route or _UNKNOWN, status, seconds)
        self._watch_pool(began)
        _log(environ, method, status, seconds)

    def _watch_pool(self, now: float) -> None:
        """Keep the state of this worker's pool, for whichever worker Prometheus asks."""
        if now - self._pool_seen_at > _POOL_EVERY:
            self._pool_seen_at = now
            metrics.note_pool(self._database.stats())


def _with_ours(headers: Headers, request_id: str) -> Headers:
    """Headers with those that are not there yet: a view may know better."""
    present = {name.lower() for name, _ in headers}
    missing = [pair for pair in _HEADERS if pair[0].lower() not in present]
    return [*headers, *missing, ("X-Request-ID", request_id)]


def _request_id(given: str | None) -> str:
    """The sender's own, if it can go into a log and a header as it is."""
    return given if given is not None and _REQUEST_ID.match(given) else secrets.token_hex(8)


@functools.cache
def _route(rule: str) -> str:
    """As it is written in the description of the API."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def _log(environ: WSGIEnvironment, method: str, status: int, seconds: float) -> None:
    noted = logs.end()
    if logger.isEnabledFor(logging.INFO):
        path = path_of(environ)
        fields = {**noted, "method": method, "path": path, "status": status, "seconds": round(seconds, 6)}
        logger.info("%s %s %s", method, path, status, extra={"fields": fields})
