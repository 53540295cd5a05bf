"""Automatic page views for any WSGI application (PEP 3333).

    app.wsgi_app = analytics_sdk.wsgi.AnalyticsMiddleware(app.wsgi_app)

Put it inside of what serves static files, so that they never reach it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from . import _default, _ids, _page_view
from ._client import Client
from ._event import EventType, UserId
from ._page_view import DEFAULT_EXCLUDE, Request
from ._scope import Scope, entered

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("analytics_sdk")

_MARK: Final = "analytics_sdk.visit"


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
        self._exclude = tuple(exclude)
        self.identify = identify
        self.trusted_proxies = trusted_proxies
        self.cookie_name = cookie_name
        self.session_timeout = session_timeout
        self.capture_query = capture_query

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        visit = self._begin(environ)
        if visit is None:
            return self._app(environ, start_response)
        try:
            with entered(visit.scope):
                iterable = self._app(environ, visit.observe(start_response))
        except BaseException:
            visit.fail()
            visit.finish()
            raise
        if _is_file(iterable, environ):
            visit.finish()
            return iterable
        return _Response(iterable, visit)

    def _begin(self, environ: WSGIEnvironment) -> _Visit | None:
        """Look at a request; None if it is to be left alone, or is looked at by another middleware already."""
        try:
            request = _request(environ)
            if _MARK in environ or _page_view.is_excluded(request.path, self._exclude):
                return None
            visit = _Visit(self, self._client or _default.default_client(), request, environ)
        except Exception:
            logger.exception("A request could not be looked at; it is served all the same.")
            return None
        environ[_MARK] = visit
        return visit


class _Visit:
    """One request on its way through the application."""

    def __init__(
        self, options: AnalyticsMiddleware, client: Client, request: Request, environ: WSGIEnvironment
    ) -> None:
        self._options = options
        self._client = client
        self._request = request
        self._environ = environ
        self._started_at = datetime.now(UTC)
        self._started = time.perf_counter()
        known = _page_view.session_from_cookie(request.header("cookie"), options.cookie_name)
        self._is_new = known is None
        self._has_cookie = known is not None
        self._status: int | None = None
        self._shows_page = False
        self._finished = False
        self.scope = Scope(
            known or _ids.session_id(time.time_ns()),
            self._identify(),
            _page_view.client_address(request, options.trusted_proxies),
        )

    def observe(self, start_response: StartResponse) -> StartResponse:
        """A `start_response` that takes note of status and headers, and adds the cookie."""

        def observing(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, self._note(status, headers), *exc_info)

        return observing

    def fail(self) -> None:
        """The application raised, and the server will answer for it."""
        self._status = 500
        self._shows_page = True

    def finish(self) -> None:
        """The answer is complete: record the page view; a second call does nothing."""
        if self._finished:
            return
        self._finished = True
        try:
            self._record()
        except Exception:
            logger.exception("A page view could not be recorded.")

    def _note(self, status: str, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        try:
            self._status = int(status[:3])
            content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
            self._shows_page = _page_view.is_page(self._status, content_type)
            return [*headers, *self._cookie(headers)]
        except Exception:
            logger.exception("A response could not be looked at; it is passed on as it is.")
            return headers

    def _cookie(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The session cookie; a new one only for visitors, not for every script that comes by."""
        if self._is_new and not self._is_page_view and not self.scope.tracked:
            return []
        if not _page_view.may_carry_cookie(value for name, value in headers if name.lower() == "cache-control"):
            return []
        self._has_cookie = True
        cookie = _page_view.session_cookie(
            self._options.cookie_name,
            self.scope.session_id,
            self._options.session_timeout,
            secure=_page_view.is_secure(self._request, self._options.trusted_proxies),
        )
        return [("Set-Cookie", cookie)]

    @property
    def _is_page_view(self) -> bool:
        return self._shows_page and _page_view.wants_page(self._request)

    def _record(self) -> None:
        is_page_view = self._is_page_view
        # A visitor whom no cookie can tell apart would be a new session with every page.
        in_session = self._has_cookie or self.scope.tracked
        if self._is_new and in_session and (is_page_view or self.scope.tracked):
            self._client.start_session(
                session_id=self.scope.session_id,
                started_at=self._started_at,
                user_id=self.scope.user_id,
                user_agent=self._request.header("user-agent"),
                referrer=_page_view.referrer(self._request, capture_query=self._options.capture_query),
            )
        if is_page_view:
            self._track_page_view(self.scope.session_id if in_session else None)

    def _track_page_view(self, session_id: str | None) -> None:
        duration = time.perf_counter() - self._started
        self._client.track(
            EventType.PAGE_VIEW,
            _page_view.page_view_data(
                self._request, self._status or 500, duration, capture_query=self._options.capture_query
            ),
            session_id=session_id,
            user_id=self.scope.user_id if self.scope.user_id is not None else self._identify(),
            ip_address=self.scope.ip_address,
            created_at=self._started_at,
        )

    def _identify(self) -> UserId | None:
        if self._options.identify is None:
            return None
        try:
            return self._options.identify(self._environ)
        except Exception:
            logger.exception("identify() raised; the request goes on without a user.")
            return None


class _Response:
    """The application's iterable; the application goes on running inside the scope while it is read.

    A class and not a generator: a server that closes it before the first item must reach the application's own
    `close()` all the same.
    """

    def __init__(self, iterable: Iterable[bytes], visit: _Visit) -> None:
        self._iterable = iterable
        self._iterator: Iterator[bytes] | None = None
        self._visit = visit

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with entered(self._visit.scope):
            if self._iterator is None:
                self._iterator = iter(self._iterable)
            try:
                return next(self._iterator)
            except StopIteration:
                raise
            except BaseException:
                self._visit.fail()
                raise

    def close(self) -> None:
        """Close the application's iterable, and record."""
        try:
            with entered(self._visit.scope):
                close = getattr(self._iterable, "close", None)
                if close is not None:
                    close()
        finally:
            self._visit.finish()


def _request(environ: WSGIEnvironment) -> Request:
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return Request(
        method=environ["REQUEST_METHOD"],
        path=path.encode("latin-1").decode("utf-8", "replace"),  # PEP 3333: bytes in the guise of latin-1
        query=environ.get("QUERY_STRING", ""),
        header=lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""),
        remote_address=environ.get("REMOTE_ADDR", ""),
        is_https=environ.get("wsgi.url_scheme") == "https",
    )


def _is_file(iterable: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Whether the server made it, to send a file its own way: it must be given back as it is."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(iterable, wrapper)
