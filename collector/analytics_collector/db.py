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

from . import symptom
from .circuit import Circuit
from .exceptions import UnavailableError
from .incident import Incident
from .sql import load
from .symptom import Symptom
from .watch import Watch

Connection = psycopg.Connection[TupleRow]
Fault = Literal["again", "away", "unmigrated", "refused", "bug"]

logger = logging.getLogger("analytics_collector")

_T = TypeVar("_T")
_ATTEMPTS: Final = 5
_LONGEST_STATEMENT: Final = 30  # seconds; a list without a filter must not hold a connection for ever
_FRESH: Final = 5.0  # seconds for which the last trouble counts as that of now

_UNMIGRATED: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedObject,  # a type
)
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
_TROUBLE: Final = ("25006", "53100", "53200", "53300", "58030")  # what another request would meet as well


def fault_of(error: psycopg.Error) -> Fault:
    """What an error of the driver means for the work at hand."""
    if isinstance(error, PoolTimeout | psycopg.errors.ConnectionTimeout):  # all of the patience was spent
        return "away"
    if isinstance(error, _UNMIGRATED) or _lacks_function(error):
        return "unmigrated"
    if error.sqlstate is None:  # the driver's own: a lost connection, or a value it cannot send
        return "again" if isinstance(error, psycopg.OperationalError) else "refused"
    return _FAULTS.get(error.sqlstate) or _FAULTS.get(error.sqlstate[:2], "bug")


def _lacks_function(error: psycopg.Error) -> bool:
    """Whether it is one of ours; Postgres says the same of an operator, as where a column has another type."""
    words = error.diag.message_primary or ""  # in whatever language; without the statement, which names our tables
    return isinstance(error, psycopg.errors.UndefinedFunction) and "analytics_" in words


class Database:
    """Runs functions on connections of this process: inside a transaction, or each statement in one of its own.

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
        self._watch: Watch | None = None
        self._pid = 0
        self._circuit = Circuit(patience)
        self._incident = Incident()
        self._no_connection: psycopg.Error | None = None  # why the last attempt to connect failed
        self._trouble: tuple[float, Symptom] | None = None

    def run(self, work: Callable[[Connection], _T]) -> _T:
        """Call `work` in a transaction and commit; again from the start if the connection or a lock was lost.

        Whatever `work` does must be the same when done twice: a COMMIT whose answer was lost may have happened.

        Raises:
            UnavailableError: Postgres is away, or was not there again within the patience.
            psycopg.Error: It refused the data.
        """
        return self._patiently(partial(_commit, work))

    def autocommit(self, work: Callable[[Connection], _T]) -> _T:
        """Call `work` as `run` does, but each of its statements is a transaction of its own.

        BEGIN and COMMIT are round trips that take as long as looking up a row does.

        Raises:
            UnavailableError: As `run`.
            psycopg.Error: As `run`.
        """
        return self._patiently(work)

    def _patiently(self, work: Callable[[Connection], _T]) -> _T:
        began = time.monotonic()
        if not self._circuit.may_try(began):
            raise _unavailable("away")
        in_vain = False
        try:
            done = self._persist(work, began + self._patience)
        except UnavailableError as error:
            in_vain = self._note_failure(error.__cause__)
            raise
        finally:
            self._circuit.tried(time.monotonic(), in_vain=in_vain)
        if self._incident.is_on and (past := self._incident.succeeded(time.monotonic())):
            logger.warning(
                "Postgres is well again: in %.0f s it could not serve %s requests", past.seconds, past.failures
            )
        return done

    def _persist(self, work: Callable[[Connection], _T], deadline: float) -> _T:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._once(work, max(0.1, deadline - time.monotonic()))
            except psycopg.Error as error:
                fault = fault_of(error)
                if fault in ("refused", "bug"):
                    raise
                pause = random.uniform(0, 0.05 * 2**attempt)
                if fault != "again" or attempt == _ATTEMPTS or time.monotonic() + pause > deadline:
                    raise _unavailable(fault) from error
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    @property
    def is_away(self) -> bool:
        """Whether Postgres did not answer when it was last asked."""
        return self._circuit.is_open

    def trouble(self) -> Symptom | None:
        """Why Postgres could not do what requests wanted a moment ago; None if it could, or nobody wanted anything."""
        found = self._trouble
        return found[1] if found is not None and time.monotonic() - found[0] < _FRESH else None

    def _note_failure(self, error: BaseException | None) -> bool:
        """Say what is wrong, once an incident; tells whether Postgres did not answer at all."""
        assert isinstance(error, psycopg.Error)
        cause = self._no_connection or error if isinstance(error, PoolTimeout) else error
        found, now = symptom.of(cause), time.monotonic()
        in_vain = cause.sqlstate is None and not isinstance(cause, PoolTimeout)  # which says that all were in use
        if in_vain or cause.sqlstate in _TROUBLE:
            self._trouble = (now, found)
        if self._incident.failed(found.message, now):
            logger.warning(
                "%s: Postgres says: %s. Requests are answered 503 until that is over.",
                found.message,
                _first_line(cause),
            )
        return in_vain

    def stats(self) -> dict[str, int]:
        """What the pool of this process says of itself; empty before its first use."""
        return self._pool.get_stats() if self._pool is not None and self._pid == os.getpid() else {}

    def close(self) -> None:
        """Close the connections of this process."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.close()
        self._pool = None

    def _once(self, work: Callable[[Connection], _T], patience: float) -> _T:
        pool, watch = self._open_pool()
        connection = pool.getconn(patience)
        try:
            return self._watched(watch, connection, work)
        finally:
            pool.putconn(connection)  # which rolls back what was not committed

    def _watched(self, watch: Watch, connection: Connection, work: Callable[[Connection], _T]) -> _T:
        try:
            with watch.over(connection):
                return work(connection)
        except psycopg.errors.ConnectionTimeout as error:
            self._no_connection = error
            raise
        except psycopg.errors.ReadOnlySqlTransaction:
            connection.close()  # as this session will stay so, when a new one may be on another server by now
            raise

    def _open_pool(self) -> tuple[ConnectionPool[Connection], Watch]:
        with self._opening:
            if self._pool is None or self._watch is None or self._pid != os.getpid():
                self._pid = os.getpid()
                # Beyond what a statement may take: that limit is Postgres's to keep, as long as it can.
                longest = _LONGEST_STATEMENT + self._patience
                self._watch = Watch(self._conninfo, patience=self._patience, longest=longest)
                self._pool = self._make_pool()
            return self._pool, self._watch

    def _make_pool(self) -> ConnectionPool[Connection]:
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns of each attempt; we do, once an incident
        options = {
            "connect_timeout": 3,
            "tcp_user_timeout": round(self._patience * 1000),
            "application_name": "analytics-collector",
            "autocommit": True,
        }
        return ConnectionPool(
            self._conninfo,
            connection_class=self._noting_connections(),
            kwargs=options,
            configure=self._configure,
            min_size=1,
            max_size=self._connections,
            # The pauses between its attempts double until this; then the next request makes it try at once.
            reconnect_timeout=self._patience,
            open=True,
        )

    def _noting_connections(self) -> type[Connection]:
        """Connections that leave a note why there are none: the pool only says that it has none."""

        class Noting(psycopg.Connection[TupleRow]):
            @classmethod
            def connect(cls, *args: Any, **options: Any) -> Any:
                try:
                    made = super().connect(*args, **options)
                except psycopg.Error as error:
                    self._no_connection = error
                    raise
                self._no_connection = None
                return made

        return Noting

    def _configure(self, connection: Connection) -> None:
        timeouts = {"lock_timeout": f"{self._patience * 1000:.0f}ms", "statement_timeout": f"{_LONGEST_STATEMENT}s"}

        def configure(connection: Connection) -> None:
            connection.execute("SET TIME ZONE 'UTC'")
            connection.execute(load("db.session"), timeouts)

        assert self._watch is not None
        self._watched(self._watch, connection, configure)


def _commit(work: Callable[[Connection], _T], connection: Connection) -> _T:
    with connection.transaction():
        return work(connection)


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
