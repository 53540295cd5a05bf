"""The client: puts the parts together and has the methods that applications call."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from . import _event, _ids
from ._buffer import Buffer
from ._config import make_config
from ._event import UserId
from ._ledger import Report, Stats
from ._scope import Scope, Started, current, entered
from ._transport import HttpTransport, Transport
from ._worker import Worker
from .exceptions import EventError

logger = logging.getLogger("analytics_sdk")

now: Final = functools.partial(datetime.now, UTC)

# All that are not closed. Not weakly: a client that goes out of scope has accepted events all the same.
_clients: Final[set[Client]] = set()
_knows_multiprocessing = False


class Client:
    """Tracks events and sees to it that the collector gets each of them exactly once.

    Nothing starts and nothing connects before the first event. Safe to use from any number of threads, and after
    a fork.

    Args:
        url: Where the collector is; ANALYTICS_URL if left out.
        write_key: A key of kind "write"; ANALYTICS_WRITE_KEY if left out.
        transport: What sends, in the place of HTTP; `analytics_sdk.testing` has one for tests.
        options: The attributes of `Config`, each also a variable ANALYTICS_<NAME>.

    Raises:
        ConfigError: A setting is missing or makes no sense.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        write_key: str | None = None,
        transport: Transport | None = None,
        **options: Any,
    ) -> None:
        given = {"url": url, "write_key": write_key, **options}
        self._config = make_config(given, needs_collector=transport is None)
        self._buffer = Buffer(self._config.max_buffer_events, self._config.max_buffer_bytes)
        self._transport = transport or HttpTransport(
            self._config.url, self._config.write_key, connect_timeout=self._config.connect_timeout
        )
        self._worker = Worker(self._config, self._buffer, self._transport)
        self._started = Started()
        self._warned = False
        self._pid = os.getpid()
        _clients.add(self)
        _end_with_multiprocessing()

    @property
    def enabled(self) -> bool:
        """Whether anything is tracked at all."""
        return self._config.enabled

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
        try:
            if self._pid != os.getpid():
                self._notice_fork()
            scope = current.get() if session_id is None else self._scope_of(session_id)
            if scope is not None:
                scope.tracked = True
                session_id = scope.session_id
                user_id = scope.user_id if user_id is None else user_id
                ip_address = scope.ip_address if ip_address is None else ip_address
            event_id = _ids.event_id(time.time_ns()) if event_id is None else _ids.named_event_id(str(event_id))
            moment = now() if created_at is None else _event.utc_moment(created_at)
            line = _event.event_line(event_id, event_type, moment, session_id, user_id, ip_address, event_data)
            return event_id if self._accept(line) else None
        except Exception as error:  # noqa: BLE001  # whatever it is, it is not the host's to handle
            self._refuse(error)
            return None

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
        try:
            if self._pid != os.getpid():
                self._notice_fork()
            scope = current.get() if session_id is None else self._scope_of(session_id)
            if scope is not None:
                session_id = scope.session_id
                scope.user_id = _event.checked_user_id(user_id)
                scope.tracked = True
            if session_id is not None:
                self._accept(_event.session_line(session_id, user_id=user_id))
            if traits:
                self._accept(_event.user_line(user_id, traits, now()))
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
            with entered(self._started.get(started) or Scope(started, user_id, ip_address)):
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
        started = _ids.session_id(time.time_ns())
        try:
            user_id = None if user_id is None else _event.checked_user_id(user_id)
        except Exception as error:  # noqa: BLE001  # of no use to the session, nor to any event that would inherit it
            self._refuse(error)
            user_id = None
        try:
            if self._pid != os.getpid():
                self._notice_fork()
            if session_id is not None:
                started = _event.checked_session_id(session_id)
            line = _event.session_line(
                started,
                user_id=user_id,
                started_at=now() if started_at is None else _event.utc_moment(started_at),
                user_agent=user_agent,
                referrer=referrer,
            )
            self._started.add(Scope(started, user_id, ip_address))
            self._accept(line)
        except Exception as error:  # noqa: BLE001
            self._refuse(error)
        return started

    def end_session(self, session_id: str) -> None:
        """End a session; an event of it that happens later ends it later.

        Raises:
            EventError: Only with `strict=True`.
        """
        try:
            if self._pid != os.getpid():
                self._notice_fork()
            self._started.forget(session_id)
            self._accept(_event.session_line(session_id, ended_at=now()))
        except Exception as error:  # noqa: BLE001
            self._refuse(error)

    def flush(self, timeout: float = 5.0) -> Report:
        """Send what waits, here and now, and return when all that was accepted before has arrived.

        Args:
            timeout: Seconds after which it returns all the same; what is left is sent in the background.
        """
        started = time.monotonic()
        before = self._buffer.stats()
        self._worker.drain(before.accepted, started + min(timeout, threading.TIMEOUT_MAX))
        after = self._buffer.stats()
        return Report(
            delivered=after.delivered + after.duplicate - before.delivered - before.duplicate,
            rejected=after.rejected - before.rejected,
            pending=after.pending,
            elapsed=time.monotonic() - started,
        )

    def close(self, timeout: float = 2.0) -> Report:
        """Accept nothing any more, send what waits, and let go of thread and connections.

        Called at the end of the process with `exit_timeout`, unless you did before.

        Args:
            timeout: Seconds after which it returns all the same; what is left is counted and reported.
        """
        already = self._buffer.is_closed
        self._buffer.close()
        self._worker.stop()
        report = self.flush(timeout)
        if report.pending and not already:
            logger.warning("%d records could not be sent within %.1f seconds and are lost.", report.pending, timeout)
        if not report.pending:
            self._transport.close()
            _clients.discard(self)
        return report

    def stats(self) -> Stats:
        """The account of all records so far, in this process."""
        return self._buffer.stats()

    def _scope_of(self, session_id: str) -> Scope | None:
        """The scope of a session that is given by its id."""
        scope = current.get()
        return scope if scope is not None and scope.session_id == session_id else self._started.get(session_id)

    def _accept(self, record: bytes) -> bool:
        if not self._config.enabled:
            return False
        if len(record) > self._config.max_event_bytes:
            raise EventError("too_large", f"{len(record)} bytes are more than max_event_bytes")
        waiting = self._buffer.put(record)
        if waiting == 0 and self._buffer.is_closed:
            raise EventError("closed", "the client is closed")
        if waiting == 0:
            raise EventError("buffer_full", "the buffer is full")
        if waiting == 1 or waiting % self._config.max_batch_events == 0:
            self._worker.notice(waiting)
        return True

    def _refuse(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, EventError) else "invalid"
        if reason not in ("buffer_full", "closed"):  # which the buffer has booked itself
            self._buffer.refuse(reason)
        if self._config.strict:
            raise error if isinstance(error, EventError) else EventError(reason, repr(error)) from error
        if not self._warned:
            self._warned = True
            logger.warning("An event was not accepted (%s); stats() counts any further ones.", reason)

    def _notice_fork(self) -> None:
        """Python tells of its own forks (`_after_fork`); those of a server written in C show by the pid alone."""
        _ids.reseed()
        self._begin_anew()

    def _begin_anew(self) -> None:
        """In a forked child: what the parent has in hand is the parent's to send."""
        self._buffer.reset()
        self._transport.reset()
        self._worker.reset()
        self._pid = os.getpid()


def _after_fork() -> None:
    _ids.reseed()
    for client in list(_clients):
        client._begin_anew()  # noqa: SLF001  # our own class
    _end_with_multiprocessing()


def _end_with_multiprocessing() -> None:
    """A child of `multiprocessing` ends without atexit; its own finalizers are run.

    A forked child forgets those that it inherits just before it runs the hooks of `register_after_fork`.
    """
    global _knows_multiprocessing
    util = sys.modules.get("multiprocessing.util")
    if util is None or _knows_multiprocessing:
        return
    _knows_multiprocessing = True
    util.register_after_fork(_at_exit, lambda at_exit: util.Finalize(None, at_exit, exitpriority=0))
    if sys.modules["multiprocessing"].parent_process() is not None:
        util.Finalize(None, _at_exit, exitpriority=0)


def _at_exit() -> None:
    """Send what is left, in this thread: an interpreter that shuts down starts no new ones."""
    started = time.monotonic()
    for client in list(_clients):
        if client.stats().pending and not client._buffer.is_closed:  # noqa: SLF001  # our own class
            budget = client._config.exit_timeout  # noqa: SLF001  # our own class
            client.close(max(0.0, started + budget - time.monotonic()))


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
