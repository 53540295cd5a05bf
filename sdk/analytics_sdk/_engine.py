"""The engine: what clients with the same settings share, from the first record in memory to the last one sent."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from . import _process
from ._buffer import Buffer
from ._config import Config
from ._encoder import Encoder
from ._hooks import Hooks
from ._ledger import Report, Stats, report_between
from ._redaction import Redaction
from ._scope import Scope, Started, current
from ._transport import HttpTransport, Transport
from ._worker import Worker
from .exceptions import EventError

logger = logging.getLogger("analytics_sdk")


class Engine:
    """Accepts records, and sees to it that the collector gets each of them exactly once.

    Args:
        config: The settings.
        transport: What sends.

    Attributes:
        put: Accepts an encoded record, or raises EventError.
        is_plain: Whether every event is accepted as it is: nothing is sampled, screened or switched off.
        clients: Those that use it.
        started: The sessions that were started here by name.
    """

    def __init__(self, config: Config, transport: Transport) -> None:
        self.config = config
        self.is_plain = config.enabled and config.sample_rate == 1 and config.before_send is None
        self.encoder = Encoder(
            convert=config.encoder, redaction=Redaction(config.redact), max_bytes=config.max_event_bytes
        )
        self.hooks = Hooks(config)
        self.transport = transport
        self.buffer = _new_buffer(config, self._notice, self.hooks.damaged)
        self.worker = Worker(config, self.buffer, transport, self.hooks, self._retire)
        self.put: Callable[[bytes], None] = self.buffer.put
        self.clients: weakref.WeakSet[Any] = weakref.WeakSet()
        self.started = Started()
        if config.handle_sigterm:
            _process.handle_sigterm()
        _process.watch(self)

    def _notice(self, waiting: int) -> None:
        self.worker.notice(waiting)

    def scope_of(self, session_id: str) -> Scope | None:
        """The scope of a session that is given by its id."""
        scope = current.get()
        return scope if scope is not None and scope.session_id == session_id else self.started.get(session_id)

    def stats(self) -> Stats:
        """The account of all records so far, in this process."""
        _process.notice_fork()
        return self.buffer.stats(self.encoder.altered)

    def flush(self, timeout: float) -> Report:
        """Send what waits, and return when all that was accepted before has arrived.

        Args:
            timeout: Seconds after which it returns all the same.
        """
        began, before = time.monotonic(), self.stats()
        accepted, _ = self.buffer.progress
        self.worker.drain(accepted, began + min(timeout, threading.TIMEOUT_MAX), with_adopted=True)
        return report_between(before, self.stats(), time.monotonic() - began)

    def leave(self, client: object, timeout: float) -> Report:
        """Let a client go: the last one closes the engine, another one has only sent what waits."""
        _process.notice_fork()
        with _lock:
            self.clients.discard(client)
            is_last = not self.clients
            if is_last:
                self.buffer.close()
        return self.close(timeout) if is_last else self.flush(timeout)

    def without_put(self) -> Engine:
        """This engine, for a client that has left it: with the same account, but nothing is accepted."""
        left = Engine.__new__(Engine)  # a copy, without the module for it, which nothing else of ours needs
        left.__dict__.update(self.__dict__)
        left.put = _refuse
        return left

    def close(self, timeout: float) -> Report:
        """Accept nothing any more, send what waits, give away the rest, and let go of thread and connections.

        Args:
            timeout: Seconds that the sending may take.
        """
        began, before = time.monotonic(), self.stats()
        self.buffer.close()
        accepted, settled = self.buffer.progress
        if settled < accepted and not self.buffer.is_ended:
            self.worker.drain(accepted, began + min(timeout, threading.TIMEOUT_MAX), is_last=True)
        lost = self.buffer.end()
        self.worker.stop()
        _process.note_closed(self)
        _forget(self)
        self._tell_of_loss(lost, timeout)
        return report_between(before, self.stats(), time.monotonic() - began)

    def _tell_of_loss(self, lost: Counter[str], timeout: float) -> None:
        if lost["exit"] or lost["unanswered"]:
            logger.warning("%s", _words_for(lost["exit"], lost["unanswered"], timeout))
        self.hooks.dropped("exit", lost["exit"])
        self.hooks.dropped("unanswered", lost["unanswered"])
        self.hooks.damaged(lost["damaged"])

    def finish(self, began: float) -> None:
        """Close at the end of the process, `exit_timeout` after it began at the latest."""
        if not self.buffer.is_ended:  # a close() may be under way, or have been cut short by Ctrl-C
            self.close(max(0.0, began + self.config.exit_timeout - time.monotonic()))

    def begin_anew(self, *, is_heir: bool = False) -> None:
        """In a forked child: what the parent has in hand is the parent's to send, unless this is its heir."""
        is_over = self.buffer.is_ended
        self.buffer.renew_lock()
        inherited = list(self._waiting()) if is_heir else []
        self.encoder.altered = 0
        self.buffer.reset()
        if is_over:
            self.buffer.end()
            return
        self.transport.reset()
        self.worker.reset()
        for record in inherited:
            self.put(record)

    def _waiting(self) -> Iterator[bytes]:
        while (batch := self.buffer.take(sys.maxsize, sys.maxsize)) is not None:
            yield from batch.records

    def _retire(self) -> bool:
        """Close an engine that no client uses any more."""
        with _lock:
            if self.clients or self.stats().pending:
                return False
            self.buffer.close()
        self.close(0.0)
        return True


def _refuse(_: bytes) -> None:
    raise EventError("closed", "the client is closed")


def _words_for(lost: int, unanswered: int, timeout: float) -> str:
    """One line about what the end of the process has cost."""
    parts = [f"{lost} records could not be sent within {timeout:.1f} seconds and are lost"] if lost else []
    if unanswered:
        parts.append(f"{unanswered} records were sent, and no answer came: whether they are stored is not known")
    return "; ".join(parts) + "."


def _new_buffer(config: Config, notice: Callable[[int], None], damaged: Callable[[int], None]) -> Buffer:
    spool = None
    if config.spool and config.enabled:
        from ._spool import Spool  # not needed by a host without one

        spool = Spool(config.spool, config.url, config.max_spool_bytes)
    return Buffer(
        config.max_buffer_events,
        config.max_buffer_bytes,
        config.max_batch_events,
        notice,
        spool,
        is_write_ahead=config.spool_mode == "always",
        damaged=damaged,
    )


_lock = threading.RLock()  # reentrant: a signal handler may make a client, too
_shared: Final[dict[Config, Engine]] = {}
_stand_ins: Final[list[Callable[[Config], Engine]]] = []  # the last one makes the engines, see `standing_in`


def engine_for(client: object, config: Config, transport: Transport | None) -> Engine:
    """The engine for a client: the one of other clients with the same settings, if it is not closed.

    A client with a transport of its own has an engine of its own.
    """
    with _lock:
        if transport is None and _stand_ins:
            return _joined(_stand_ins[-1](config), client)
        is_shared = transport is None and _is_hashable(config)
        engine = _shared.get(config) if is_shared else None
        if engine is None or engine.buffer.is_closed:
            _close_unused()
            engine = Engine(config, transport or _new_transport(config))
            if is_shared:
                _shared[config] = engine
        return _joined(engine, client)


def _close_unused() -> None:
    """Close engines that no client uses any more and that have no thread, which would do it."""
    for engine in _process.engines():
        if type(engine) is Engine and not (engine.clients or engine.worker.is_running or engine.stats().pending):
            engine.close(0.0)


def _joined(engine: Engine, client: object) -> Engine:
    engine.clients.add(client)
    return engine


def _is_hashable(config: Config) -> bool:
    """Whether it can be looked up; a callable of the host's may not be."""
    try:
        hash(config)
    except TypeError:
        return False
    return True


def _new_transport(config: Config) -> Transport:
    return HttpTransport(config.url, config.write_key, connect_timeout=config.connect_timeout)


def _forget(engine: Engine) -> None:
    with _lock:
        if _is_hashable(engine.config) and _shared.get(engine.config) is engine:
            del _shared[engine.config]


def _after_fork() -> None:
    """Another thread of the parent may have held the lock; in the child nobody would ever release it."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def standing_in(make: Callable[[Config], Engine]) -> Iterator[None]:
    """Have the engines of all clients that are made in a block, and have no transport of their own, made by this."""
    _stand_ins.append(make)
    try:
        yield
    finally:
        _stand_ins.remove(make)


def has_stand_ins() -> bool:
    """Whether this is inside such a block."""
    return bool(_stand_ins)
