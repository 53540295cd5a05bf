"""Asks Postgres how it is, so that whoever wants to know waits a bounded time, whatever state Postgres is in.

A stopped server accepts connections and answers nothing, and no timeout of a driver ends that. So the question is put
in a thread and on a connection of its own; the others wait for its answer as long as they want to.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from typing import Final, Generic, TypeVar

import psycopg

from . import symptom
from .db import Connection, connect
from .exceptions import UnavailableError
from .sql import load

_T = TypeVar("_T")

_TCP_TIMEOUT: Final = 3000  # milliseconds: a network that swallows everything must not keep the thread for long
_TIMEOUTS: Final = {"lock_timeout": "1s", "statement_timeout": "2s"}


class Probe(Generic[_T]):
    """One question to Postgres, put once for all who ask at about the same time.

    Args:
        conninfo: A libpq URI or keyword string.
        question: Asks on a connection.
        patience: How long one waits for the answer, in seconds.
        keep: How long an answer is given again, in seconds.
    """

    def __init__(
        self, conninfo: str, question: Callable[[Connection], _T], *, patience: float = 0.7, keep: float = 1.0
    ) -> None:
        self._conninfo = conninfo
        self._question = question
        self._patience = patience
        self._keep = keep
        self._asking = threading.Lock()
        self._answer: Future[_T] | None = None
        self._asked_at = 0.0
        self._connection: Connection | None = None
        self._pid = 0

    def ask(self) -> _T:
        """The answer of now, or of a moment ago.

        Raises:
            UnavailableError: Postgres is away, or does not answer in time.
            CollectorError: What the question itself raises.
        """
        with self._asking:
            if self._is_stale():
                self._put()
            answer, deadline = self._answer, self._asked_at + self._patience
        assert answer is not None
        try:
            return answer.result(max(0.0, deadline - time.monotonic()))
        except TooLate:
            message = f"The database has not answered within {self._patience} s"
            raise UnavailableError(message, "is it stopped, overloaded, or cut off?") from None

    def _is_stale(self) -> bool:
        if self._answer is None or self._pid != os.getpid():
            return True
        return self._answer.done() and time.monotonic() - self._asked_at > self._keep

    def _put(self) -> None:
        if self._pid != os.getpid():
            self._pid, self._connection = os.getpid(), None
        self._asked_at = time.monotonic()
        self._answer = Future()
        # A daemon, as a stopped Postgres would keep the process from ending.
        threading.Thread(target=self._find_out, args=(self._answer,), daemon=True, name="analytics-probe").start()

    def _find_out(self, answer: Future[_T]) -> None:
        try:
            answer.set_result(self._asked())
        except Exception as error:  # noqa: BLE001  # whatever it is, somebody waits for it
            self._disconnect()  # what is not well may be this session's only, as when its server became a standby
            answer.set_exception(_named(error))

    def _asked(self) -> _T:
        """Ask; once more on a new connection, if the old one has died meanwhile: that says nothing of Postgres."""
        is_old = self._connection is not None
        try:
            return self._question(self._connected())
        except psycopg.OperationalError:
            if not is_old or not (self._connection is None or self._connection.closed):
                raise
            self._disconnect()
            return self._question(self._connected())

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._conninfo, autocommit=True, tcp_user_timeout=_TCP_TIMEOUT)
            weakref.finalize(self, self._connection.close).atexit = False
            # Not as an option of the connection: the conninfo may have some of its own, such as a search_path.
            self._connection.execute(load("db.session"), _TIMEOUTS)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _named(error: Exception) -> Exception:
    """What Postgres or the driver says, in words for everybody; what the question itself says, as it is."""
    cause = error.__cause__ if isinstance(error, UnavailableError) else error
    if not isinstance(cause, psycopg.Error):
        return error
    found = symptom.of(cause)
    return UnavailableError(found.message, found.advice)
