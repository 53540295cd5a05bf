"""Ends transactions that a Postgres keeps waiting which does not answer at all.

A server that is stopped, or behind a network that swallows everything, is no error to a driver: it waits. Postgres's
own time limits are kept by the server, those of TCP know nothing of Unix sockets. So somebody here looks at the clock.

Slow is not silent. A transaction that has lasted for half the patience makes us ask whether the server answers a
question on another connection; only if it does not, is the transaction's connection shut at the end of the patience.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from types import TracebackType
from typing import Any, Final

import psycopg

from .sql import load

_LOOKS: Final = 20  # at the clock, within the patience


class Watch:
    """Looks after the transactions of one process.

    Args:
        conninfo: Where the server is asked.
        patience: Seconds that a transaction may wait for a server that does not answer.
        longest: Seconds that it may take in any case.
    """

    def __init__(self, conninfo: str, *, patience: float, longest: float) -> None:
        self._conninfo = conninfo
        self._patience = patience
        self._longest = longest
        self._lock = threading.Lock()
        self._watched: set[Watched] = set()
        self._busy = threading.Event()
        threading.Thread(target=self._look_again_and_again, daemon=True, name="analytics-watch").start()

    def over(self, connection: psycopg.Connection) -> Watched:
        """Watch what a connection does in a block: `with watch.over(connection):`."""
        return Watched(connection, self)

    def begin(self, watched: Watched) -> None:
        """Look after this one from here on."""
        with self._lock:
            self._watched.add(watched)
        self._busy.set()

    def end(self, watched: Watched) -> None:
        """Let it go; what was shut stays so, and nothing is shut from here on."""
        with self._lock:
            self._watched.discard(watched)

    def _look_again_and_again(self) -> None:
        question: _Question | None = None
        while True:
            self._busy.wait()
            time.sleep(self._patience / _LOOKS)
            question = self._look(question, time.monotonic())

    def _look(self, question: _Question | None, now: float) -> _Question | None:
        with self._lock:
            ages = {watched: now - watched.began for watched in self._watched}
            if not ages:
                self._busy.clear()
        if max(ages.values(), default=0.0) < self._patience / 2:
            return None
        if question is None or (now - question.asked_at > self._patience and not question.is_alive()):
            question = _Question(self._conninfo, now)
        is_silent = not question.was_answered and now - question.asked_at >= self._patience * 0.4
        for watched, age in ages.items():
            if age > self._longest or (is_silent and age >= self._patience * 0.95):
                self._shut(watched)
        return question

    def _shut(self, watched: Watched) -> None:
        with self._lock:  # so that it is not another transaction's by now
            if watched in self._watched:
                watched.shut()


class Watched:
    """A connection in use, for a `with` block.

    Raises:
        psycopg.errors.ConnectionTimeout: The server did not answer, and the connection was shut.
    """

    def __init__(self, connection: psycopg.Connection, watch: Watch) -> None:
        self._connection = connection
        self._watch = watch
        self._was_shut = False
        self.began = time.monotonic()

    def __enter__(self) -> None:
        """Be watched."""
        self._watch.begin(self)

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """No longer."""
        self._watch.end(self)
        if self._was_shut and isinstance(error, psycopg.Error):
            raise psycopg.errors.ConnectionTimeout("the server has not answered") from error

    def shut(self) -> None:
        """Wake the thread that waits: to it, the connection ends here."""
        self._was_shut = True
        with (
            contextlib.suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(self._connection.fileno())) as theirs,
        ):
            theirs.shutdown(socket.SHUT_RDWR)


class _Question(threading.Thread):
    """Does the server answer on another connection? A refusal of its own is an answer, too."""

    def __init__(self, conninfo: str, now: float) -> None:
        super().__init__(daemon=True, name="analytics-question")
        self._conninfo = conninfo
        self.asked_at = now
        self.was_answered = False
        self.start()

    def run(self) -> None:
        """Try."""
        options: dict[str, Any] = {
            "connect_timeout": 3,
            "tcp_user_timeout": 3000,
            "application_name": "analytics-collector",
        }
        try:
            with contextlib.closing(psycopg.connect(self._conninfo, autocommit=True, **options)) as connection:
                connection.execute(load("watch.question"))  # a pgbouncer lets us in by itself
        except psycopg.Error as error:
            self.was_answered = "FATAL" in str(error)
        else:
            self.was_answered = True
