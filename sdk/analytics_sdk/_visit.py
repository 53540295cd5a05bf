"""One visit: a request on its way through an application, from its first look to its page view."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from . import _event, _ids, _page_view
from ._client import Client
from ._event import EventType, UserId
from ._page_view import Request
from ._scope import Scope, current
from .exceptions import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger("analytics_sdk")

_COOKIE_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 6265, a token

_R = TypeVar("_R")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a middleware was told; see there."""

    identify: Callable[[WSGIEnvironment], UserId | None] | None
    exclude: re.Pattern[str]
    trusted_proxies: int
    cookie_name: str
    session_timeout: int
    capture_query: bool

    def __post_init__(self) -> None:
        _check_at_least(0, "trusted_proxies", self.trusted_proxies)
        _check_at_least(1, "session_timeout", self.session_timeout)
        if not isinstance(self.cookie_name, str) or not _COOKIE_NAME.fullmatch(self.cookie_name):
            raise ConfigError(f"cookie_name is made of letters, digits and a few marks, not {self.cookie_name!r}")


def _check_at_least(least: int, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} is a whole number, {least} or more, not {value!r}")


class Visit:
    """One request on its way through the application."""

    def __init__(self, options: Options, client: Client, request: Request, environ: WSGIEnvironment) -> None:
        self._options = options
        self._client = client
        self._request = request
        self._environ = environ
        self._started_at = datetime.now(UTC)
        self._started = time.perf_counter()
        known = _page_view.session_from_cookie(request.header("cookie"), options.cookie_name)
        self._is_new = known is None
        self._has_cookie = known is not None
        self._wants_page = _page_view.wants_page(request)
        self._status: int | None = None
        self._shows_page = False
        self._finished = False
        self.scope = Scope(
            known or _ids.session_id(time.time_ns()),
            self._identify(),
            _page_view.client_address(request, options.trusted_proxies),
        )

    def run(self, function: Callable[..., _R], *arguments: Any) -> _R:
        """Call something of the application's, with this visit as what `track()` inherits from.

        The scope is left again after each step: a server may take the next one in another thread.
        """
        token = current.set(self.scope)
        try:
            return function(*arguments)
        finally:
            current.reset(token)

    def observe(self, start_response: StartResponse) -> StartResponse:
        """A `start_response` that takes note of status and headers, and adds the cookie."""

        def observing(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, self._note(status, headers), *exc_info)

        return observing

    def fail(self) -> None:
        """The application raised: whatever it had announced, what the person sees is an error page."""
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
            return [*headers, ("Set-Cookie", self._cookie())] if self._may_set_cookie(headers) else headers
        except Exception:
            logger.exception("A response could not be looked at; it is passed on as it is.")
            return headers

    def _may_set_cookie(self, headers: list[tuple[str, str]]) -> bool:
        """A new one is for visitors, not for every script that comes by; and none is for strangers."""
        if self._is_new and not self._is_page_view and not self.scope.tracked:
            return False
        return _page_view.may_carry_cookie(value for name, value in headers if name.lower() == "cache-control")

    def _cookie(self) -> str:
        self._has_cookie = True
        return _page_view.session_cookie(
            self._options.cookie_name,
            self.scope.session_id,
            self._options.session_timeout,
            secure=_page_view.is_secure(self._request, self._options.trusted_proxies),
        )

    @property
    def _is_page_view(self) -> bool:
        return self._shows_page and self._wants_page

    def _record(self) -> None:
        is_page_view = self._is_page_view
        if is_page_view and self.scope.user_id is None:
            self.scope.user_id = self._identify()  # what authenticates may stand further inside than we do
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
            user_id=self.scope.user_id,
            ip_address=self.scope.ip_address,
            created_at=self._started_at,
        )

    def _identify(self) -> UserId | None:
        """Who is logged in; checked here, as a useless id would cost every event that inherits it."""
        if self._options.identify is None:
            return None
        try:
            user_id = self._options.identify(self._environ)
            return None if user_id is None or user_id == "" else _event.checked_user_id(user_id)
        except Exception:
            logger.exception("identify() raised or gave no id; the request goes on without a user.")
            return None
