"""Has what waits sent, from a thread of its own; from the thread of whoever asks, where there can be none.

One batch is under way at a time, so what happened first is stored first. Whoever sends holds the sending lock, and
every wait has an end.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from . import _process
from ._buffer import Buffer
from ._config import Config
from ._hooks import Hooks
from ._sender import Sender
from ._transport import Transport

logger = logging.getLogger("analytics_sdk")

_REST: Final = 60.0  # seconds without a record, after which the thread looks whether anybody still needs it
_ADOPT_INTERVAL: Final = 10.0  # seconds between two looks for segments of processes that have ended

_Word = Literal["first", "full", "now", "stop"]


class _Waiter:
    """Somebody who waits until so many records are settled."""

    def __init__(self, goal: int, *, with_adopted: bool) -> None:
        self.goal = goal
        self.with_adopted = with_adopted
        self.reached = threading.Event()


class Worker:
    """Takes records from the buffer and sends them until their fate is known.

    Args:
        config: How often, how many, how long.
        buffer: Where the records are.
        transport: What sends.
        hooks: What is told of losses.
        retire: Called when nothing has waited for a while; returns True if the thread may end.
    """

    def __init__(
        self, config: Config, buffer: Buffer, transport: Transport, hooks: Hooks, retire: Callable[[], bool]
    ) -> None:
        self._config = config
        self._buffer = buffer
        self._transport = transport
        self._sender = Sender(config, buffer, transport, hooks)
        self._retire = retire
        self.reset()

    def reset(self) -> None:
        """Begin anew, with new locks and no thread: what a forked child inherits is the parent's.

        The tools of the thread are made with the thread: gevent may patch them between here and there, and a lock
        of before would stop the whole process where one of after lets others run.
        """
        self._sender.reset()
        self._guard = threading.RLock()
        self._thread: threading.Thread | None = None
        self._words: queue.SimpleQueue[_Word] | None = None
        self._sending: threading.Lock | None = None
        self._waiters: deque[_Waiter] = deque()
        self._adopt_at = self._sync_at = 0.0
        self._is_starting = self._is_stopping = False

    # Told by others

    def notice(self, waiting: int) -> None:
        """Look after records that wait; called with their number at the first, and at each full batch."""
        self._start()
        self._tell("full" if waiting >= self._config.max_batch_events else "first")

    def drain(self, goal: int, deadline: float, *, with_adopted: bool = False, is_last: bool = False) -> None:
        """Return when so many records are settled, or at the deadline.

        The thread sends and the caller waits, as the caller can give up at any moment; a request cannot.

        Args:
            goal: Records of this process, settled since the beginning.
            deadline: On the clock of `time.monotonic()`, in seconds.
            with_adopted: Whether to wait for the records of processes that have ended, too.
            is_last: Whether there is no later, so that one try is made even if Retry-After asks us to wait.
        """
        waiter = _Waiter(goal, with_adopted=with_adopted)
        if is_last:
            self._sender.not_before = 0.0
        if with_adopted:
            self._adopt_at = 0.0
        waiters = self._waiters
        waiters.append(waiter)  # before it looks for the thread, which tells all waiters when it ends
        if self._thread is None or self._thread is threading.current_thread():
            self._drain_here(waiter, deadline)
        elif not self._has_reached(waiter):
            self._tell("now")
            waiter.reached.wait(max(0.0, deadline - time.monotonic()))
        waiters.remove(waiter)

    def stop(self) -> None:
        """Let the thread end after the request that is under way."""
        self._is_stopping = True
        if self._thread is None:
            self._transport.close()
        self._tell("stop")

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def _tell(self, word: _Word) -> None:
        if self._words is not None:
            self._words.put(word)

    # The thread

    def _start(self) -> None:
        """Start the thread, once; in an interpreter that is shutting down there is none, and `close()` sends."""
        with self._guard:
            if self._thread is not None or self._is_starting or self._is_stopping or _process.lacks_threads():
                return
            self._is_starting = True  # a signal handler that tracks right now finds it begun
            self._make_tools()
            self._thread = threading.Thread(target=self._run, name="analytics_sdk", daemon=True)
            try:
                self._thread.start()
                _process.prepare_for_sigterm()
            except RuntimeError:
                self._thread = None
            self._is_starting = False

    def _make_tools(self) -> None:
        self._words = queue.SimpleQueue()  # its put() is reentrant: a signal handler may track
        self._sending = threading.Lock()

    def _run(self) -> None:
        try:
            while not self._is_stopping and self._turn():
                pass
        finally:
            self._thread = None
            for waiter in list(self._waiters):
                waiter.reached.set()
            if self._is_stopping:
                self._transport.close()

    def _turn(self) -> bool:
        """Wait for a word and do what it asks for; False if nobody needs the thread any more."""
        try:
            if self._wait_for_work():
                self._send_all()
            elif self._retire():
                return False
        except Exception:  # a bug of ours; the records are still there, and so must the thread be
            logger.exception("The worker stumbled; it goes on.")
            time.sleep(1.0)
        return True

    def _wait_for_work(self) -> bool:
        """Wait until there is something to send and it has had its time to gather company."""
        word = self._next_word(self._rest())
        if word == "first":
            gathered = time.monotonic() + self._config.flush_interval
            while word == "first" and (left := gathered - time.monotonic()) > 0:
                word = self._next_word(left) or "full"
        self._tend_spool()
        return word is not None or self._buffer.has_adopted

    def _rest(self) -> float:
        if self._config.spool_fsync and self._config.spool:
            return self._config.spool_fsync
        return _ADOPT_INTERVAL if self._config.spool else _REST

    def _next_word(self, timeout: float) -> _Word | None:
        assert self._words is not None
        try:
            return self._words.get(timeout=timeout)
        except queue.Empty:
            return None

    def _tend_spool(self) -> bool:
        """What the spool needs now and then; tells whether there is a segment to be sent that was not there before."""
        if not self._config.spool:
            return False
        had_adopted = self._buffer.has_adopted
        now = time.monotonic()
        self._buffer.tend()
        if now >= self._adopt_at:
            self._adopt_at = 0.0 if self._buffer.adopt() else now + _ADOPT_INTERVAL
        if self._config.spool_fsync and now >= self._sync_at:
            self._sync_at = now + self._config.spool_fsync
            self._buffer.sync()
        return self._buffer.has_adopted and not had_adopted

    def _send_all(self) -> None:
        assert self._sending is not None
        while not self._is_stopping:
            with self._sending:
                pause = self._sender.send_one(self._config.read_timeout)
            has_more = self._tend_spool()  # behind a segment that was damaged all through, which gave nothing to send
            self._tell_waiters()
            if pause is None and not has_more:
                return
            self._pause(pause or 0.0)

    def _pause(self, seconds: float) -> None:
        """Wait; full batches do not cut it short, a flush does unless the collector has asked for the pause."""
        until = time.monotonic() + seconds
        while not self._is_stopping and (left := until - time.monotonic()) > 0:
            if self._next_word(left) == "now" and time.monotonic() >= self._sender.not_before:
                return

    def _tell_waiters(self) -> None:
        for waiter in list(self._waiters):
            if self._has_reached(waiter):
                waiter.reached.set()

    def _has_reached(self, waiter: _Waiter) -> bool:
        may_adopt_more = bool(self._config.spool) and self._adopt_at == 0.0
        if self._buffer.is_ended:  # what is in hand was given away: it is another's to send
            return True
        _, settled = self._buffer.progress
        return settled >= waiter.goal and not (waiter.with_adopted and may_adopt_more)

    # Where there is no thread

    def _drain_here(self, waiter: _Waiter, deadline: float) -> None:
        """As the thread does, in the thread of the caller."""
        if self._sending is None:
            self._make_tools()
        assert self._sending is not None
        self._tend_spool()
        while not self._has_reached(waiter):
            _sleep_until(min(self._sender.not_before, deadline))
            left = deadline - time.monotonic()
            if left <= 0 or not self._sending.acquire(timeout=left):
                return
            try:
                pause = self._sender.send_one(min(self._config.read_timeout, max(0.1, deadline - time.monotonic())))
            finally:
                self._sending.release()
            has_more = self._tend_spool()
            if pause is None and not has_more:
                return
            _sleep_until(min(time.monotonic() + (pause or 0.0), deadline))


def _sleep_until(moment: float) -> None:
    if (left := moment - time.monotonic()) > 0:
        time.sleep(left)
