"""The host of the delivery proofs: it tracks events and comes to one of many ends.

Run as `python -m tests.delivery.host ENDING COUNT`; the SDK's options come from the environment.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from tests.delivery import diary
from tests.delivery.diary import account, account_of_a_child, analytics_sdk

THREADS = 8


def track(count: int, **event_data: Any) -> None:
    """Track so many events, and say what the account is in the midst of everything."""
    diary.track(count, **event_data)
    account("tracked")


def wait_for_the_parent() -> None:
    """Say that all is tracked, and wait for a signal, or until the test closes our standard input.

    Python sees a signal that comes just before a wait only when the wait is over, so this one has an end.
    """
    os.write(1, b"READY\n")
    while not select.select([0], [], [], 0.5)[0] or os.read(0, 1):
        pass


def end_normally(count: int) -> None:
    """Come to the last line."""
    track(count)


def end_by_sys_exit(count: int) -> None:
    """Ask for an exit code of one's own."""
    track(count)
    sys.exit(3)


def end_by_exception(count: int) -> None:
    """Have a bug."""
    track(count)
    raise LookupError("the host has a bug")


def end_by_os_exit(count: int) -> None:
    """Skip all exit handlers."""
    track(count)
    os._exit(5)


def wait(count: int) -> None:
    """Track, then live on until a signal ends it or until it is told to end normally."""
    track(count)
    wait_for_the_parent()


def wait_after_threads(count: int) -> None:
    """As `wait`, but several threads have tracked at once."""
    threads = [threading.Thread(target=track, args=(count // THREADS,)) for _ in range(THREADS - 1)]
    for thread in threads:
        thread.start()
    track(count - count // THREADS * len(threads))
    for thread in threads:
        thread.join()
    wait_for_the_parent()


def wait_with_a_handler(count: int) -> None:
    """As `wait`, in a host that has a handler of SIGTERM of its own, which ends it as many servers do."""

    def leave(signum: int, frame: FrameType | None) -> None:
        sys.exit(7)

    signal.signal(signal.SIGTERM, leave)
    wait(count)


def wait_ignoring(count: int) -> None:
    """As `wait`, in a host that ignores SIGTERM and ends normally later."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait(count)


def flush_when_told(count: int) -> None:
    """As `wait`, and then flush with much time before the end."""
    wait(count)
    analytics_sdk.flush(timeout=60)


def fork_and(child_end: Callable[[], Any], count: int) -> None:
    """Track, fork, track in the child, which ends in its way; track in the parent, which ends normally."""
    track(count // 3)
    child = os.fork()
    if child == 0:
        track(count // 3, who="child")
        child_end()
        sys.exit()
    track(count - 2 * (count // 3))
    os.waitpid(child, 0)


def fork_and_wait_in_the_child(count: int) -> None:
    """Track, fork, and wait to be killed; the child lives on, with whatever it has inherited open."""
    track(count)
    if os.fork() == 0:
        os.read(0, 1)
        os._exit(0)
    wait_for_the_parent()


def multiprocess(method: str, count: int) -> None:
    """Track in the parent and in three children of `multiprocessing`."""
    context = multiprocessing.get_context(method)
    track(count // 4)
    children = [context.Process(target=track_in_a_child, args=(count // 4,)) for _ in range(3)]
    for child in children:
        child.start()
    track(count - count // 4 * 4)
    for child in children:
        child.join()


def track_in_a_child(count: int) -> None:
    """What a child of `multiprocessing` does."""
    account_of_a_child()
    track(count)


def track_until_killed(count: int) -> None:
    """Track, a little at a time, until kill -9 comes in the midst of it."""
    os.write(1, b"READY\n")
    while True:
        diary.track(count)
        time.sleep(0.001)  # as a host that has other things to do


def adopt(seconds: int) -> None:
    """Track nothing; deliver what the dead have left in the spool, within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        analytics_sdk.flush(timeout=1)
        stats = analytics_sdk.stats()
        if stats.pending == stats.spooled == 0:
            return
    sys.exit("the spool is not empty")


ENDINGS: dict[str, Callable[[int], None]] = {
    "normal": end_normally,
    "sys.exit": end_by_sys_exit,
    "exception": end_by_exception,
    "os._exit": end_by_os_exit,
    "wait": wait,
    "wait after threads": wait_after_threads,
    "wait with a handler": wait_with_a_handler,
    "wait ignoring": wait_ignoring,
    "flush when told": flush_when_told,
    "fork and exit": partial(fork_and, sys.exit),
    "fork and os._exit": partial(fork_and, partial(os._exit, 0)),
    "fork and wait in the child": fork_and_wait_in_the_child,
    "multiprocessing fork": partial(multiprocess, "fork"),
    "multiprocessing spawn": partial(multiprocess, "spawn"),
    "track until killed": track_until_killed,
    "adopt": adopt,
}

if __name__ == "__main__":
    ENDINGS[sys.argv[1]](int(sys.argv[2]))
