"""What the process does to engines: it forks, it ends, it is told to end, it has no threads.

Everything here acts on the engines that are not closed. They are held strongly: a client that goes out of scope has
accepted events all the same. Those that are closed are told of forks only, as long as somebody has them.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import mmap
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final, Protocol

from . import _ids

logger = logging.getLogger("analytics_sdk")

_MADV_WIPEONFORK: Final = 18  # madvise(2), Linux 4.14


class Engine(Protocol):
    """What is told of forks and of the end."""

    clients: Any

    def begin_anew(self, *, is_heir: bool = False) -> None:
        """In a forked child: what the parent has in hand is the parent's to send.

        Args:
            is_heir: Whether the parent never sends anything, and this child does it in its place.
        """
        ...

    def finish(self, began: float) -> None:
        """Send what waits and give away the rest, within its budget from when the end began.

        Args:
            began: On the clock of `time.monotonic()`, in seconds.
        """
        ...


_engines: set[Engine] = set()
_closed: weakref.WeakSet[Engine] = weakref.WeakSet()


def watch(engine: Engine) -> None:
    """Tell an engine of forks and of the end, from now on."""
    _engines.add(engine)
    _end_with_children()


def note_closed(engine: Engine) -> None:
    """Tell an engine of forks only: a child's account of it is the child's own, too."""
    _closed.add(engine)
    _engines.discard(engine)


def engines() -> set[Engine]:
    """Those that are told."""
    return set(_engines)


# Forks


class _PidMark:
    """As the byte of `_new_mark`, where the kernel has no such thing: a system call each time."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _: int) -> bool:
        return self._pid == os.getpid()

    def __setitem__(self, _: int, __: int) -> None:
        self._pid = os.getpid()


def _new_mark() -> Any:
    """A byte that is 1 here and that the kernel makes 0 in every child: to look at it costs 0.02 us, getpid 0.2.

    Python tells of its own forks. Those of a server written in C, as uWSGI's, show by this alone.
    """
    try:
        mark = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        mark.madvise(_MADV_WIPEONFORK)
    except (OSError, ValueError):
        return _PidMark()
    mark[0] = 1
    return mark


here: Final = _new_mark()
_noticing = threading.Lock()


def notice_fork() -> None:
    """Begin anew in a child that Python has not told of, which `here[0]` shows by being 0."""
    if here[0]:
        return
    with _noticing:
        if not here[0]:
            _begin_anew()


def _after_fork() -> None:
    """Locks are replaced and never acquired: whoever held them at the fork is not here to release them."""
    global _noticing, _ending
    _noticing, _ending = threading.Lock(), threading.RLock()
    _begin_anew()
    _end_with_children()


def _begin_anew() -> None:
    _ids.reseed()
    _terminator.begin_anew()
    is_heir = _is_heir()
    for engine in [*_engines, *_closed]:
        engine.begin_anew(is_heir=is_heir)
    here[0] = 1


def _is_heir() -> bool:
    """Whether this is the first worker of uWSGI: what is tracked while its master loads the application is its own."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 1 and uwsgi.masterpid() == os.getppid()


# The end


def at_exit() -> None:
    """Send what is left and give away the rest, all engines within the budget of each.

    Whoever comes second, of the main thread at its end and a SIGTERM's, waits until the first is done: it would
    end the process in the midst of it.
    """
    began = time.monotonic()
    with _ending:
        for engine in list(_engines):
            with contextlib.suppress(Exception):  # whatever it is, the others must have their turn
                engine.finish(began)


_ending = threading.RLock()
_hooked: Final[set[str]] = set()


def _end_with_children() -> None:
    """A child of `multiprocessing`, or of Celery's billiard, ends without atexit; its own finalizers are run."""
    for package in ("multiprocessing", "billiard"):
        _end_with_children_of(package)


def _end_with_children_of(package: str) -> None:
    """A forked child forgets finalizers that it inherits just before it runs the hooks of `register_after_fork`."""
    util = _util_of(package)
    if util is None or package in _hooked:
        return
    _hooked.add(package)
    util.register_after_fork(at_exit, lambda at_exit: util.Finalize(None, at_exit, exitpriority=0))
    process = sys.modules.get(f"{package}.process")
    parent = getattr(process, "parent_process", lambda: None) if process else lambda: None
    if parent() is not None:
        util.Finalize(None, at_exit, exitpriority=0)


def _util_of(package: str) -> Any:
    """Its module with the finalizers. That of billiard may be imported no sooner than in a child, too late for us."""
    if package == "billiard" and package in sys.modules:
        importlib.import_module("billiard.util")
    return sys.modules.get(f"{package}.util")


# Told to end


class _Terminator:
    """Makes SIGTERM drain, for hosts that wish it.

    The handler itself only passes the word on: it may have interrupted anything, with any lock held. A thread that
    waits for the word drains, and then has the process end as it would have without us.
    """

    def __init__(self) -> None:
        self._previous: Any = None
        self._is_installed = False
        self._thread: threading.Thread | None = None

    def install(self) -> None:
        """Take over SIGTERM, once, and keep in mind who had it."""
        if self._is_installed:
            return
        try:
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        except ValueError:
            logger.warning("handle_sigterm=True has no effect: only the main thread may set signal handlers.")
            return
        self._is_installed = True

    def begin_anew(self) -> None:
        """In a forked child: the handler is inherited, its thread is not."""
        self._thread = None

    def wait_for_it(self) -> None:
        """Have a thread wait for the word, once there is anything to drain."""
        if not self._is_installed or self._thread is not None:
            return
        import queue

        self._word: Any = queue.SimpleQueue()  # its put() is reentrant, and so may be called by a handler
        self._thread = threading.Thread(target=self._drain, name="analytics_sdk_sigterm", daemon=True)
        self._thread.start()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if callable(self._previous):
            self._previous(number, frame)
        elif self._previous is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if self._thread is None:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                self._word.put(None)

    def _drain(self) -> None:
        self._word.get()
        try:
            at_exit()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


_terminator: Final = _Terminator()
handle_sigterm: Final = _terminator.install
prepare_for_sigterm: Final = _terminator.wait_for_it


# Threads


def lacks_threads() -> bool:
    """Whether a thread of ours would do no good: in uWSGI without threads, which is said once, and in its master.

    The master forks in C, without the GIL: if a thread had that, or were in an import, the worker would hang. And
    it ends without exit handlers; what it accepts is for its first worker to send.
    """
    global _has_complained
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return False
    if has_uwsgi_threads(uwsgi.opt):
        return bool(uwsgi.masterpid() == os.getpid())
    if not _has_complained:
        _has_complained = True
        logger.error(
            "uWSGI runs without threads, so events are only sent by flush() and at the end of the process. "
            "Set enable-threads = true in its configuration."
        )
    return True


_has_complained = False


def has_uwsgi_threads(options: Mapping[str, Any]) -> bool:
    """Whether uWSGI lets threads run, by `uwsgi.opt`; a number of `threads` implies it.

    Args:
        options: Names to values; uWSGI has bytes, or True for a flag without a value.
    """
    value = options.get("enable-threads", b"")
    text = value.decode() if isinstance(value, bytes) else str(value)
    return "threads" in options or text.strip().lower() in ("true", "1", "yes", "on")


os.register_at_fork(after_in_child=_after_fork)
atexit.register(at_exit)
