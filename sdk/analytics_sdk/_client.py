"""The client: the methods that applications call."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from . import _event, _ids
from ._config import make_config
from ._engine import Engine, engine_for, has_stand_ins
from ._event import UserId
from ._hooks import is_sampled
from ._ledger import Report, Stats
from ._process import here, notice_fork
from ._scope import Scope, current, entered
from .exceptions import EventError

if TYPE_CHECKING:
    from ._transport import Transport

now: Final = functools.partial(datetime.now, UTC)


class Client:
    """Tracks events and sees to it that the collector gets each of them exactly once.

    Nothing starts and nothing connects before the first event. Safe to use from any number of threads, and after
    a fork. Clients with the same settings share one engine, so that making one is cheap.

    Args:
        url: Where the collector is; ANALYTICS_URL if left out.
        write_key: A key of kind "write"; ANALYTICS_WRITE_KEY if left out.
        transport: What sends, in the place of HTTP; `analytics_sdk.testing` has one for tests.
        options: The attributes of `Config`, each also a variable ANALYTICS_<NAME>.

    Raises:
        ConfigError: A setting is missing or makes no sense.
    """

    _engine: Engine

    def __init__(
        self,
        url: str | None = None,
        *,
        write_key: str | None = None,
        transport: Transport | None = None,
        **options: Any,
    ) -> None:
        given = {"url": url, "write_key": write_key, **options}
        config = make_config(given, needs_collector=transport is None and not has_stand_ins())
        self._engine = engine_for(self, config, transport)

    @property
    def enabled(self) -> bool:
        """Whether anything is tracked at all."""
        return self._engine.config.enabled

    def track(
        self,
        event_type: str,
        event_data: Mapping[str, Any] | None = None,
        *,
        user_id: UserId | None = None,
        session_id: str | None = None,
        created_at: datetime | None = None,
        ip_address: str | None = None,
        event_id: str | None = None,
    ) -> str | None:
        """Record that something happened; never raises because of data or network, never waits for either.

        What is not given is inherited from the request or the `with session()` block that is going on.

        Args:
            event_type: One of `EventType` or any other name of 1 to 50 characters.
            event_data: What else is known; encoded here and now, so later changes to it change nothing.
            user_id: Your own id of the user.
            session_id: At most 64 characters.
            created_at: When it happened, if not now; a naive datetime is taken as UTC.
            ip_address: IPv4 or IPv6.
            event_id: An id of your own, which makes the event one even if it is tracked twice; give `created_at` too.

        Returns:
            The event's id, a UUID; None if the event was not accepted (see `Stats.refused`).

        Raises:
            EventError: The event was not accepted; only with `strict=True`.
        """
        engine = self._engine
        try:
            if not here[0]:
                notice_fork()
            scope = current.get() if session_id is None else engine.scope_of(session_id)
            if scope is not None:
                scope.tracked = True
                session_id = scope.session_id
                user_id = scope.user_id if user_id is None else user_id
                ip_address = scope.ip_address if ip_address is None else ip_address
            event_id = _ids.event_id(time.time_ns()) if event_id is None else _ids.named_event_id(str(event_id))
            moment = now() if created_at is None else _event.utc_moment(created_at)
            line = engine.encoder.event(event_id, event_type, moment, session_id, user_id, ip_address, event_data)
            if not engine.is_plain:
                key = session_id or (event_id if user_id is None else str(user_id))
                return self._accept_screened(engine, key, line)
            engine.put(line)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is not the host's to handle
            self._refuse(error)
            return None
        return event_id

    def identify(
        self, user_id: UserId, traits: Mapping[str, Any] | None = None, *, session_id: str | None = None
    ) -> None:
        """Say who is here: the session belongs to this user from now on, and so do its events without a user.

        A session has one owner, the first; another user's later events carry their own user id.

        Args:
            user_id: Your own id of the user.
            traits: What is known of the user; merged key by key with what is there.
            session_id: The session that goes on here, if left out.

        Raises:
            EventError: Only with `strict=True`.
        """
        engine = self._engine
        try:
            if not here[0]:
                notice_fork()
            scope = current.get() if session_id is None else engine.scope_of(session_id)
            if scope is not None:
                session_id = scope.session_id
                scope.user_id = _event.checked_user_id(user_id)
                scope.tracked = True
            if session_id is not None:
                self._accept(engine, session_id, engine.encoder.session(session_id, user_id=user_id))
            if traits:
                line = engine.encoder.user(user_id, traits, now())
                self._accept(engine, session_id or str(user_id), line)
        except Exception as error:  # noqa: BLE001
            self._refuse(error)

    @contextlib.contextmanager
    def session(
        self,
        *,
        user_id: UserId | None = None,
        user_agent: str | None = None,
        referrer: str | None = None,
        ip_address: str | None = None,
        session_id: str | None = None,
    ) -> Iterator[str]:
        """A session for a block of code: events inside it inherit its id, user and address.

        It starts and ends with the block. A session that is going on elsewhere is joined by its `session_id`,
        and then the block does not end it.

        Yields:
            The session's id.
        """
        started = self.start_session(
            user_id=user_id, user_agent=user_agent, referrer=referrer, ip_address=ip_address, session_id=session_id
        )
        try:
            with entered(self._engine.started.get(started) or Scope(started, user_id, ip_address)):
                yield started
        finally:
            if session_id is None:
                self.end_session(started)

    def start_session(
        self,
        *,
        user_id: UserId | None = None,
        user_agent: str | None = None,
        referrer: str | None = None,
        ip_address: str | None = None,
        session_id: str | None = None,
        started_at: datetime | None = None,
    ) -> str:
        """Start a session and return its id, for code that cannot use a `with session()` block.

        A `session_id` that cannot be used is counted as refused, and the session gets one of our own.
        Events tracked with this `session_id` in this process inherit its user and address, until it ends.

        Raises:
            EventError: Only with `strict=True`.
        """
        engine = self._engine
        started = _ids.session_id(time.time_ns())
        try:
            user_id = None if user_id is None else _event.checked_user_id(user_id)
        except Exception as error:  # noqa: BLE001  # of no use to the session, nor to any event that would inherit it
            self._refuse(error)
            user_id = None
        try:
            if not here[0]:
                notice_fork()
            if session_id is not None:
                started = _event.checked_session_id(session_id)
            line = engine.encoder.session(
                started,
                user_id=user_id,
                started_at=now() if started_at is None else _event.utc_moment(started_at),
                user_agent=user_agent,
                referrer=referrer,
            )
            engine.started.add(Scope(started, user_id, ip_address))
            self._accept(engine, started, line)
        except Exception as error:  # noqa: BLE001
            self._refuse(error)
        return started

    def end_session(self, session_id: str) -> None:
        """End a session; an event of it that happens later ends it later.

        Raises:
            EventError: Only with `strict=True`.
        """
        engine = self._engine
        try:
            if not here[0]:
                notice_fork()
            engine.started.forget(session_id)
            self._accept(engine, session_id, engine.encoder.session(session_id, ended_at=now()))
        except Exception as error:  # noqa: BLE001
            self._refuse(error)

    def flush(self, timeout: float = 5.0) -> Report:
        """Send what waits, and return when all that was accepted before has arrived.

        With a spool, what processes that have ended left in it is sent, too.

        Args:
            timeout: Seconds after which it returns all the same; what is left is sent in the background.
        """
        return self._engine.flush(timeout)

    async def aflush(self, timeout: float = 5.0) -> Report:
        """As `flush()`, for coroutines: the event loop goes on meanwhile.

        Args:
            timeout: Seconds after which it returns all the same.
        """
        import asyncio  # not needed by a host without it

        return await asyncio.to_thread(self.flush, timeout)

    def close(self, timeout: float = 2.0) -> Report:
        """Accept nothing any more, send what waits, and let go of thread and connections.

        Called at the end of the process with `exit_timeout`, unless you did before. Another client with the same
        settings goes on as before.

        Args:
            timeout: Seconds after which it returns all the same; what is left stays in the spool, or is counted and
                reported.
        """
        engine = self._engine
        self._engine = engine.without_put()
        return engine.leave(self, timeout)

    def stats(self) -> Stats:
        """The account of all records so far, in this process; clients with the same settings have one account."""
        return self._engine.stats()

    def _accept(self, engine: Engine, key: str, line: bytes) -> None:
        """Accept what is said of a session or a user, if the session is one that is tracked."""
        if engine.config.enabled and is_sampled(key, engine.config.sample_rate):
            engine.put(line)

    def _accept_screened(self, engine: Engine, key: str, line: bytes) -> str | None:
        """Accept an event that is in the sample and that `before_send` lets pass."""
        if not engine.config.enabled:
            return None
        if not is_sampled(key, engine.config.sample_rate):
            engine.buffer.refuse("sampled_out")
            return None
        event = engine.hooks.screened(_event.as_stored(line))
        if event is None:
            engine.buffer.refuse("before_send")
            return None
        engine.put(engine.encoder.event_again(event))
        return str(event["event_id"])

    def _refuse(self, error: Exception) -> None:
        engine = self._engine
        if not engine.config.enabled:
            return
        reason = error.reason if isinstance(error, EventError) else "invalid"
        engine.buffer.refuse(reason)
        engine.hooks.refused(reason)
        if engine.config.strict:
            raise error if isinstance(error, EventError) else EventError(reason, repr(error)) from error
