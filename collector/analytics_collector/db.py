"""The door to Postgres: a pool of connections for each process, and what to do when one fails.

Foreign errors are told apart here and nowhere else: `fault_of` is the one table.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, TypeVar

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from .exceptions import UnavailableError
from .sql import load

Connection = psycopg.Connection[TupleRow]
Fault = Literal["again", "away", "unmigrated", "refused", "bug"]

logger = logging.getLogger("analytics_collector")

_T = TypeVar("_T")
_ATTEMPTS: Final = 5
_LONGEST_STATEMENT: Final = 30  # seconds; a list without a filter must not hold a connection for ever

_FAULTS: Final[dict[str, Fault]] = {
    "08": "again",  # connection exception
    "40": "again",  # serialization failure, deadlock
    "57014": "away",  # it took longer than a statement may
    "57": "again",  # operator intervention: shutdown, crash of another backend
    "55": "again",  # lock not available
    "53": "away",  # disk full, too many connections, out of memory
    "25": "away",  # a standby: read only
    "58": "away",  # the machine under Postgres: input/output errors
    "22": "refused",  # the data does not fit its column
    "23": "refused",  # a foreign key or a check says no
    "54": "refused",  # too deep, too wide, too large
}


def fault_of(error: psycopg.Error) -> Fault:
    """What an error of the driver means for the work at hand."""
    if isinstance(error, PoolTimeout):
        return "away"
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return "unmigrated"
    if error.sqlstate is None:  # the driver's own: a lost connection, or a value it cannot send
        return "again" if isinstance(error, psycopg.OperationalError) else "refused"
    return _FAULTS.get(error.sqlstate) or _FAULTS.get(error.sqlstate[:2], "bug")


class Database:
    """Runs functions inside transactions or, if they only read, without one, on connections of this process.

    The pool opens on first use in each process, so an application that is loaded before gunicorn forks shares
    no connection with its workers.

    Args:
        conninfo: A libpq URI or keyword string.
        connections: Most connections at a time, per process.
        patience: How long one call waits for Postgres, in seconds.
    """

    def __init__(self, conninfo: str, *, connections: int = 4, patience: float = 5.0) -> None:
        self._conninfo = conninfo
        self._connections = connections
        self._patience = patience
        self._opening = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None
        self._pid = 0

    def run(self, work: Callable[[Connection], _T]) -> _T:
        """Call `work` in a transaction and commit; again from the start if the connection or a lock was lost.

        Whatever `work` does must be the same when done twice: a COMMIT whose answer was lost may have happened.

        Raises:
            UnavailableError: Postgres is away, or was not there again within the patience.
            psycopg.Error: It refused the data.
        """
        return self._patiently(partial(self._commit, work))

    def read(self, work: Callable[[Connection], _T]) -> _T:
        """Call `work`, which changes nothing, as `run` does, but each of its statements sees what is there by then.

        BEGIN and COMMIT are round trips that take as long as looking up a row does.

        Raises:
            UnavailableError: As `run`.
            psycopg.Error: As `run`.
        """
        return self._patiently(work)

    def _patiently(self, work: Callable[[Connection], _T]) -> _T:
        deadline = time.monotonic() + self._patience
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._once(work, max(0.1, deadline - time.monotonic()))
            except psycopg.Error as error:
                fault = fault_of(error)
                if fault in ("refused", "bug"):
                    raise
                pause = random.uniform(0, 0.05 * 2**attempt)
                if fault != "again" or attempt == _ATTEMPTS or time.monotonic() + pause > deadline:
                    logger.warning("A request could not be served, as Postgres says: %s", _first_line(error))
                    raise _unavailable(fault) from error
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def stats(self) -> dict[str, int]:
        """What the pool of this process says of itself; empty before its first use."""
        return self._pool.get_stats() if self._pool is not None and self._pid == os.getpid() else {}

    def close(self) -> None:
        """Close the connections of this process."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.close()
        self._pool = None

    def _once(self, work: Callable[[Connection], _T], patience: float) -> _T:
        with self._open_pool().connection(timeout=patience) as connection:
            return work(connection)

    @staticmethod
    def _commit(work: Callable[[Connection], _T], connection: Connection) -> _T:
        with connection.transaction():
            return work(connection)

    def _open_pool(self) -> ConnectionPool[Connection]:
        with self._opening:
            if self._pool is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._pool = ConnectionPool(
                    self._conninfo,
                    kwargs={"connect_timeout": 3, "application_name": "analytics-collector", "autocommit": True},
                    configure=self._configure,
                    min_size=1,
                    max_size=self._connections,
                    # The pauses between its attempts double until this; then the next request makes it try at once.
                    reconnect_timeout=self._patience,
                    open=True,
                )
            return self._pool

    def _configure(self, connection: Connection) -> None:
        connection.execute("SET TIME ZONE 'UTC'")
        timeouts = {"lock_timeout": f"{self._patience * 1000:.0f}ms", "statement_timeout": f"{_LONGEST_STATEMENT}s"}
        connection.execute(load("db.timeouts"), timeouts)


def connect(conninfo: str, **options: Any) -> Connection:
    """One plain connection, for commands.

    Raises:
        UnavailableError: Postgres does not answer.
    """
    try:
        return psycopg.connect(conninfo, connect_timeout=5, application_name="analytics-collector", **options)
    except psycopg.OperationalError as error:
        raise UnavailableError("The database is away", _first_line(error)) from error


def _unavailable(fault: Fault) -> UnavailableError:
    """What a sender is told; the words of Postgres name hosts and users, and are for the log."""
    if fault == "unmigrated":
        return UnavailableError(
            "The database has no analytics tables yet", "run `analytics-collector migrate`", code="unmigrated"
        )
    return UnavailableError("The database is away", "send the same request again")


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]
