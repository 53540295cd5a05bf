"""Child processes that end with us and see nothing of our environment."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._account import Account

_PR_SET_PDEATHSIG = 1

# Nothing is inherited: PGPORT or PGDATA would redirect the server, LC_ALL=xx_XX would keep it from starting,
# and the caller's secrets are none of its business. The same locale and time zone everywhere.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def die_with_parent(signum: int) -> Callable[[], None]:
    """Return a `preexec_fn` that makes the kernel send the child a signal when its parent ends.

    Linux only; elsewhere the function does nothing. "Parent" means the thread that starts the child: start it
    from one that lasts. subprocess calls a `preexec_fn` after the change of user, which would undo it.
    """
    arrange: Callable[[], None] = _do_nothing
    if sys.platform == "linux":
        # Loaded here and not in the child: between fork and exec little is safe.
        prctl = ctypes.CDLL(None).prctl
        arrange = functools.partial(_ask_for_signal, prctl, signum, os.getpid())
    return arrange


def _ask_for_signal(prctl: Callable[..., int], signum: int, parent: int) -> None:
    prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    # The parent may have ended before the call; then no signal would ever come.
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def _do_nothing() -> None:
    """Leave the child as it is: this system has no such signal."""


def launch(
    command: Sequence[str], account: Account, *, log: int, signum: int, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a child that gets `signum` when this process ends.

    Args:
        command: The program and its arguments.
        account: The user to run as.
        log: The file descriptor for what it prints.
        signum: The signal that ends it.
        environment: Variables beside the fixed ones.
    """

    def make() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Our folder may be closed to the child's user.
            cwd="/",
            env={**ENVIRONMENT, **environment},
            # Ctrl-C reaches the whole group: the database has to outlive those who still write to it.
            start_new_session=True,
            preexec_fn=die_with_parent(signum),
            **account.options,
        )

    if threading.current_thread() is threading.main_thread():
        return make()
    return _from_lasting_thread(make)


def _from_lasting_thread(make: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start the child from a thread that ends after it: the kernel counts the thread as the parent."""
    started: Future[subprocess.Popen[bytes]] = Future()

    def keep() -> None:
        try:
            process = make()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            started.set_exception(error)
        else:
            started.set_result(process)
            process.wait()

    threading.Thread(target=keep, name="analytics-postgres-keeper", daemon=True).start()
    return started.result()
