"""Reads profiles, sessions and events from the collector."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import msgspec

from ._event import utc_moment
from ._transport import new_http_client
from .exceptions import AnswerError, ConfigError, UnreachableError

if TYPE_CHECKING:
    import httpx

_PAGE: Final = 500  # rows in one request

_T = TypeVar("_T")
_P = TypeVar("_P", bound="_Page")


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one user; exact at the moment of reading.

    Attributes:
        user_id: The id that the app uses.
        first_seen: The first event's time; None for a user with sessions but without events.
        last_seen: The last event's time.
        traits: What `identify()` told.
    """

    user_id: int | str
    total_sessions: int
    total_events: int
    first_seen: datetime | None
    last_seen: datetime | None
    traits: dict[str, Any]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session.

    Attributes:
        user_id: Its owner, the first user seen in it; None while it is anonymous.
        ended_at: None while it is active.
        duration: Seconds from start to end; None while it is active.
    """

    session_id: str
    user_id: int | str | None
    started_at: datetime
    ended_at: datetime | None
    duration: float | None
    last_event_at: datetime | None
    user_agent: str
    referrer: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Attributes:
        session_id: Empty if it was tracked outside of any session.
        received_at: When the collector stored it; None if that was within a minute of `created_at`, as nearly always.
    """

    event_id: str
    event_type: str
    session_id: str
    user_id: int | str | None
    event_data: dict[str, Any]
    created_at: datetime
    received_at: datetime | None
    ip_address: str | None


class _Profiles(msgspec.Struct):
    profiles: list[Profile]


class _Page(msgspec.Struct, kw_only=True):
    next_cursor: str | None


class _Sessions(_Page):
    sessions: list[Session]


class _Events(_Page):
    events: list[Event]


class Reader:
    """Looks things up, with a key of kind "read". Safe to share between threads.

    Args:
        url: Where the collector is; ANALYTICS_URL if left out.
        read_key: ANALYTICS_READ_KEY if left out.
        timeout: Seconds that each step of a request may take.
        http: A transport of httpx, for instance `httpx.WSGITransport(app=...)`, for tests.

    Raises:
        ConfigError: Address or key is missing.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        read_key: str | None = None,
        timeout: float = 10.0,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = (url or os.environ.get("ANALYTICS_URL", "")).rstrip("/")
        self._read_key = read_key or os.environ.get("ANALYTICS_READ_KEY", "")
        if not self._url or not self._read_key:
            raise ConfigError("A reader needs url and read_key, or ANALYTICS_URL and ANALYTICS_READ_KEY.")
        self._timeout = timeout
        self._http = http
        self._client: httpx.Client | None = None
        self._pid = 0

    def profile(self, user_id: int | str) -> Profile | None:
        """The profile of a user; None for one who has never been seen.

        Raises:
            ReaderError: The collector does not answer, or with an error.
        """
        # In a query every id can be asked for; in a path "." and ".." cannot.
        return next(iter(self.profiles(user_id)), None)

    def profiles(self, *user_ids: int | str) -> list[Profile]:
        """The profiles of up to 100 users, in this order, without those who have never been seen.

        Raises:
            ReaderError: The collector does not answer, or with an error.
        """
        return self._get(_Profiles, "/v1/profiles", {"user_id": [str(user_id) for user_id in user_ids]}).profiles

    def sessions(
        self,
        *,
        user_id: int | str | None = None,
        active: bool | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Session]:
        """Sessions from the newest to the oldest, read page by page while you iterate.

        Args:
            user_id: Only those of this owner.
            active: Only those that have not ended (True) or have (False).
            since: Only those that started then or later.
            until: Only those that started before then.

        Raises:
            ReaderError: The collector does not answer, or with an error.
        """
        filters = _parameters(user_id=user_id, active=active, since=since, until=until)
        for page in self._pages(_Sessions, "/v1/sessions", filters):
            yield from page.sessions

    def events(
        self,
        *,
        user_id: int | str | None = None,
        session_id: str | None = None,
        event_type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Event]:
        """Events from the newest to the oldest, read page by page while you iterate.

        Args:
            user_id: Only those of this user.
            session_id: Only those of this session.
            event_type: Only those of this type.
            since: Only those that happened then or later.
            until: Only those that happened before then.

        Raises:
            ReaderError: The collector does not answer, or with an error.
        """
        filters = _parameters(user_id=user_id, session_id=session_id, event_type=event_type, since=since, until=until)
        for page in self._pages(_Events, "/v1/events", filters):
            yield from page.events

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pages(self, shape: type[_P], path: str, filters: Mapping[str, str]) -> Iterator[_P]:
        parameters = {**filters, "limit": str(_PAGE)}
        while True:
            page = self._get(shape, path, parameters)
            yield page
            if page.next_cursor is None:
                return
            parameters["cursor"] = page.next_cursor

    def _get(self, shape: type[_T], path: str, parameters: Mapping[str, Any] | None = None) -> _T:
        client = self._open()
        import httpx

        try:
            answer = client.get(self._url + path, params=parameters)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise UnreachableError(f"{self._url} does not answer: {type(error).__name__}: {error}") from error
        if answer.status_code != 200:
            raise _answer_error(answer.status_code, answer.content)
        return _decoded(shape, answer.content)

    def _open(self) -> httpx.Client:
        if self._client is None or self._pid != os.getpid():  # a forked child's answers must not be the parent's
            self._pid = os.getpid()
            self._client = new_http_client(self._read_key, self._http, timeout=self._timeout)
        return self._client


def _parameters(**given: Any) -> dict[str, str]:
    return {name: _text(value) for name, value in given.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return utc_moment(value).isoformat()
    return str(value)


def _decoded(shape: type[_T], content: bytes) -> _T:
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AnswerError(200, "malformed", "this is no answer of the collector", str(error)) from error


def _answer_error(status: int, content: bytes) -> AnswerError:
    try:
        problem = msgspec.json.decode(content, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = {}
    return AnswerError(
        status, problem.get("code", ""), problem.get("message", "no answer of the collector"), problem.get("detail", "")
    )
