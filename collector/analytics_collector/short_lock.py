"""Manners towards writers: a lock that stops them is asked for patiently and held briefly, and long work takes rests.

Whoever waits for such a lock makes everybody behind it wait as well. So each try waits 50 ms at most, and the next
one comes after a pause in which all others go on.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import psycopg

from .db import Connection
from .sql import load

_TRIES: Final = 100
_LONGEST_PAUSE: Final = 1.0  # seconds

_T = TypeVar("_T")


def hold(connection: Connection, work: Callable[[], _T], prepare: Callable[[], object] = lambda: None) -> _T:
    """Do `work` in a transaction in which no lock is waited for longer than 50 ms; again if that was not enough.

    Args:
        connection: Autocommitting, or inside a transaction of which this becomes a part.
        work: Takes its locks and is done within some tens of milliseconds.
        prepare: What makes `work` short; done outside of the transaction, before each try.

    Raises:
        psycopg.errors.LockNotAvailable: Somebody held on to the table through all tries, more than a minute.
    """
    for number in range(1, _TRIES):
        prepare()
        try:
            return _once(connection, work)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            time.sleep(random.uniform(0.5, 1) * min(_LONGEST_PAUSE, 0.05 * 1.5 ** min(number, 16)))
    prepare()
    return _once(connection, work)


@contextlib.contextmanager
def gently() -> Iterator[None]:
    """Rest after a step of long work for as long as it took: half of the disk and the processors is for others."""
    began = time.monotonic()
    yield
    time.sleep(time.monotonic() - began)


def _once(connection: Connection, work: Callable[[], _T]) -> _T:
    with connection.transaction():
        connection.execute(load("short_lock.timeout"))
        return work()
