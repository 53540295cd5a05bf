"""Browsers at the door: which pages may use which keys, and the answers that make a browser let them (CORS)."""

from __future__ import annotations

from typing import Final

import flask

from .collector import Collector
from .exceptions import UnauthorizedError, UnavailableError

_MAX_AGE: Final = 600  # seconds that a browser remembers a preflight's answer


def install(app: flask.Flask) -> None:
    """Stand before and after every view of an application."""
    app.before_request(answer_preflight)
    app.before_request(check_origin)
    app.after_request(let_page_read)


def answer_preflight() -> flask.Response | None:
    """Tell a browser that a page may post: exactly to the pages of a browser key's list, without a key."""
    request = flask.request
    asked = request.headers.get("Access-Control-Request-Method")
    if request.method != "OPTIONS" or asked != "POST" or not _is_welcome(request.headers.get("Origin")):
        return None
    return flask.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "authorization, content-type, content-encoding",
            "Access-Control-Max-Age": str(_MAX_AGE),
        },
    )


def check_origin() -> None:
    """Refuse a browser key that is used from a page which is not on its list, or from no page.

    Whoever sends with a program of their own can say any origin: this keeps other sites' pages out, not attackers.

    Raises:
        UnauthorizedError: It is.
    """
    authorization = flask.request.headers.get("Authorization")
    if authorization is None or flask.request.method != "POST":  # a browser key opens nothing else
        return
    key = Collector.current().doorkeeper.find(authorization)
    origin = flask.request.headers.get("Origin")
    if key is not None and key.kind == "browser" and origin not in key.origins:
        raise UnauthorizedError(
            "This page may not use this key",
            f"its origin is {origin}; `analytics-collector keys set --origin` changes the list",
        )


def let_page_read(response: flask.Response) -> flask.Response:
    """Let the page that posted read the answer, errors included."""
    origin = flask.request.headers.get("Origin")
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
