"""Automatic page views for any WSGI application (PEP 3333).

    app.wsgi_app = analytics_sdk.wsgi.AnalyticsMiddleware(app.wsgi_app)

Put it inside of what serves static files, so that they never reach it.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from . import _default, _page_view
from ._client import Client
from ._event import UserId
from ._page_view import DEFAULT_EXCLUDE, Request
from ._visit import Options, Visit
from .exceptions import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("analytics_sdk")

_MARK: Final = "analytics_sdk.is_visited"


class AnalyticsMiddleware:
    """Records page views, keeps a session cookie, and lets `track()` inside a request inherit both.

    Its own errors never reach the application. Responses stream as they did, and what the server's
    `wsgi.file_wrapper` made is passed on untouched.

    Args:
        app: The application.
        client: The client to track with; the default one if left out.
        identify: Called with the environ, tells the id of the user who is logged in, or None.
        exclude: Paths that are left alone, as shell patterns.
        trusted_proxies: How many proxies of yours stand in front; 0 believes no X-Forwarded header.
        cookie_name: The session cookie's name.
        session_timeout: Seconds without a request after which a visitor's next one begins a new session.
        capture_query: True records query strings; otherwise only their `utm_...` parts are.

    Raises:
        ConfigError: An option makes no sense.
    """

    def __init__(
        self,
        app: WSGIApplication,
        client: Client | None = None,
        *,
        identify: Callable[[WSGIEnvironment], UserId | None] | None = None,
        exclude: Iterable[str] = DEFAULT_EXCLUDE,
        trusted_proxies: int = 0,
        cookie_name: str = "analytics_session",
        session_timeout: int = 30 * 60,
        capture_query: bool = False,
    ) -> None:
        self._app = app
        self._client = client
        self._options = Options(
            identify=identify,
            exclude=_patterns(exclude),
            trusted_proxies=trusted_proxies,
            cookie_name=cookie_name,
            session_timeout=session_timeout,
            capture_query=capture_query,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        visit = self._begin(environ)
        if visit is None:
            return self._app(environ, start_response)
        try:
            iterable = visit.run(self._app, environ, visit.observe(start_response))
        except BaseException:
            visit.fail()
            visit.finish()
            raise
        if _is_file(iterable, environ):
            visit.finish()
            return iterable
        return (_SizedResponse if hasattr(iterable, "__len__") else _Response)(iterable, visit)

    def _begin(self, environ: WSGIEnvironment) -> Visit | None:
        """Look at a request; None if it is to be left alone, or is looked at by another middleware already."""
        try:
            request = _request(environ)
            client = self._client or _default.client
            if not client.enabled or _MARK in environ or self._options.exclude.match(request.path):
                return None
            visit = Visit(self._options, client, request, environ)
        except Exception:
            logger.exception("A request could not be looked at; it is served all the same.")
            return None
        environ[_MARK] = True  # and not the visit, which holds the environ: a cycle would be garbage that piles up
        return visit


def _patterns(value: Iterable[str]) -> re.Pattern[str]:
    if isinstance(value, str):  # its characters would be the patterns, and a "*" among them excludes everything
        raise ConfigError(f"exclude is a list of patterns, not {value!r}")
    return _page_view.any_of(value)


class _Response:
    """The application's iterable; the application goes on running inside the visit while it is read.

    A class and not a generator: a server that closes it before the first item must reach the application's own
    `close()` all the same.
    """

    def __init__(self, iterable: Iterable[bytes], visit: Visit) -> None:
        self._iterable = iterable
        self._iterator: Iterator[bytes] | None = None
        self._visit = visit

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return self._visit.run(self._advance)
        except StopIteration:
            raise
        except BaseException:
            self._visit.fail()
            raise

    def close(self) -> None:
        """Close the application's iterable, and record."""
        try:
            close = getattr(self._iterable, "close", None)
            if close is not None:
                self._visit.run(close)
        finally:
            self._visit.finish()

    def _advance(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._iterable)
        return next(self._iterator)


class _SizedResponse(_Response):
    """One whose length is known: of a list of one item, servers make a Content-Length."""

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]


def _request(environ: WSGIEnvironment) -> Request:
    return Request(
        method=environ["REQUEST_METHOD"],
        path=_text(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")),
        query=_text(environ.get("QUERY_STRING", "")),
        header=lambda name: environ.get(_variable(name), ""),
        remote_address=environ.get("REMOTE_ADDR", ""),
        is_https=environ.get("wsgi.url_scheme") == "https",
    )


def _text(value: str) -> str:
    """PEP 3333 has bytes in the guise of latin-1."""
    return value if value.isascii() else value.encode("latin-1").decode("utf-8", "replace")


@functools.cache  # the names are ours, and few
def _variable(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


def _is_file(iterable: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Whether the server made it, to send a file its own way: it must be given back as it is.

    What the server calls so is a class, or (uWSGI) a function that gives the file itself back.
    """
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(iterable, wrapper)
    return wrapper is not None and hasattr(iterable, "read")
