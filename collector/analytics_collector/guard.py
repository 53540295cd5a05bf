"""Browsers at the door: the answers that make them let a page post (CORS). Which key a page may use, `auth` knows."""

from __future__ import annotations

from typing import Final

import flask

from .collector import Collector
from .exceptions import UnavailableError

_MAX_AGE: Final = 600  # seconds that a browser remembers a preflight's answer


def install(app: flask.Flask) -> None:
    """Stand before and after every view of an application."""
    app.before_request(answer_preflight)
    app.after_request(let_page_read)


def answer_preflight() -> flask.Response | None:
    """Tell a browser that a page may post: exactly to the pages of a browser key's list, without a key."""
    if flask.request.method != "OPTIONS":
        return None
    headers = flask.request.headers
    if headers.get("Access-Control-Request-Method") != "POST" or not _is_welcome(headers.get("Origin")):
        return None
    return flask.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "authorization, content-type, content-encoding",
            "Access-Control-Max-Age": str(_MAX_AGE),
        },
    )


def let_page_read(response: flask.Response) -> flask.Response:
    """Let the page that posted read the answer, errors included."""
    origin = flask.request.environ.get("HTTP_ORIGIN")
    if origin is not None and flask.request.method in ("POST", "OPTIONS"):
        response.headers.add("Vary", "Origin")
        if _is_welcome(origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "Retry-After"
    return response


def _is_welcome(origin: str | None) -> bool:
    try:
        return origin is not None and origin in Collector.current().doorkeeper.origins()
    except UnavailableError:  # nothing is known of any key yet
        return False
