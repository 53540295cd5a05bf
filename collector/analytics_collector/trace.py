"""What every request leaves behind: an id, a line in the log, its figures, and headers for browsers."""

from __future__ import annotations

import functools
import logging
import re
import secrets
import time
from typing import Final

import flask

from . import logs, metrics
from .collector import Collector

logger = logging.getLogger("analytics_collector.requests")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_BEGAN: Final = "analytics_collector.began"  # in the request's environ
_UNKNOWN: Final = "other"
_POOL_EVERY: Final = 1.0  # seconds between two looks at the pool
_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),  # what is answered here is personal, or old in a second
)


def attach(app: flask.Flask) -> None:
    """Follow every request of an application."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    environ = flask.request.environ
    request_id = _request_id(environ.get("HTTP_X_REQUEST_ID"))
    logs.begin(request_id)
    environ[_BEGAN] = (time.perf_counter(), request_id)


def _end(response: flask.Response) -> flask.Response:
    environ = flask.request.environ
    if _BEGAN not in environ:  # another part of the application answered before us
        _begin()
    began, request_id = environ[_BEGAN]
    seconds = time.perf_counter() - began
    _add_headers(response, request_id)
    _count(response.status_code, seconds)
    _log(response.status_code, seconds)
    return response


def _add_headers(response: flask.Response, request_id: str) -> None:
    """Add what is not there yet: a view may know better."""
    present = {name.lower() for name, _ in response.headers}
    for name, value in _HEADERS:
        if name.lower() not in present:
            response.headers.add(name, value)
    response.headers.add("X-Request-ID", request_id)


def _request_id(given: str | None) -> str:
    """The sender's own, if it can go into a log and a header as it is."""
    return given if given is not None and _REQUEST_ID.match(given) else secrets.token_hex(8)


def _count(status: int, seconds: float) -> None:
    rule = flask.request.url_rule
    method, path = (_UNKNOWN, _UNKNOWN) if rule is None else (flask.request.method, _route(rule.rule))
    metrics.note_request(method, path, status, seconds)
    _watch_pool()


@functools.cache
def _route(rule: str) -> str:
    """As it is written in the description of the API."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def _watch_pool() -> None:
    """Keep the state of this worker's pool, for whichever worker Prometheus asks."""
    collector = Collector.current()
    now = time.monotonic()
    if now - collector.pool_seen_at > _POOL_EVERY:
        collector.pool_seen_at = now
        metrics.note_pool(collector.database.stats())


def _log(status: int, seconds: float) -> None:
    noted = logs.end()
    if logger.isEnabledFor(logging.INFO):
        request = {"method": flask.request.method, "path": flask.request.path, "status": status}
        fields = {**noted, **request, "seconds": round(seconds, 6)}
        logger.info("%s %s %s", flask.request.method, flask.request.path, status, extra={"fields": fields})
