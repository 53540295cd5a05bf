"""Housekeeping: the jobs that keep the tables in order, and the one process of all that does them.

Every worker process of every machine has a `Housekeeper`: a thread that now and then tries to get an advisory lock.
Whoever has it does the jobs that are due, for as long as its connection lives; then another one gets it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import attrs
import psycopg

from . import idle_sessions, overflow, packing, partitions, retention
from .config import Settings
from .db import Connection, connect, fault_of
from .exceptions import CollectorError, HousekeepingError
from .sql import load

logger = logging.getLogger("analytics_collector")

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_FIRST_RETRY: Final = 30  # seconds after a first failure; doubles with each further one
_LONGEST_TICK: Final = 5.0  # seconds between two looks at what is due
_KEEPALIVES: Final = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}  # seconds, seconds, tries
_PATIENCE: Final = 60.0  # seconds that somebody who runs a job by hand waits for another runner


@attrs.frozen
class Job:
    """Something that is to be done again and again.

    Attributes:
        name: As the command knows it.
        description: What it does, for people.
        period: Seconds between its end and its next start.
        work: Does it, on a plain autocommitting connection; returns one sentence on what was done.
    """

    name: str
    description: str
    period: int
    work: Callable[[Connection, datetime, Settings], str]


def _end_idle_sessions(connection: Connection, now: datetime, settings: Settings) -> str:
    return idle_sessions.end(connection, now, settings.session_idle_seconds)


def _empty_default(connection: Connection, now: datetime, _: Settings) -> str:
    return overflow.empty(connection, now)


def _make_partitions(connection: Connection, now: datetime, _: Settings) -> str:
    return f"made {', '.join(partitions.make_ahead(connection, now)) or 'none'}"


def _drop_old_partitions(connection: Connection, now: datetime, settings: Settings) -> str:
    return retention.drop_old_partitions(connection, now, settings.retention_days)


def _trim_rejects(connection: Connection, now: datetime, settings: Settings) -> str:
    return retention.trim_rejects(connection, now, settings.reject_retention_days)


def _pack_indexes(connection: Connection, now: datetime, _: Settings) -> str:
    return packing.pack(connection, now)


def _trim_quotas(connection: Connection, now: datetime, _: Settings) -> str:
    return retention.trim_quotas(connection, now)


JOBS: Final = (
    Job("end_idle_sessions", "End sessions in which nothing happens any more", _MINUTE, _end_idle_sessions),
    Job("empty_default", "Move rows out of the DEFAULT partition", _HOUR, _empty_default),
    Job("make_partitions", "Make the coming months' partitions", _HOUR, _make_partitions),
    Job("drop_old_partitions", "Drop months that are older than retention", 6 * _HOUR, _drop_old_partitions),
    Job("trim_rejects", "Forget old rejects", _HOUR, _trim_rejects),
    Job("pack_indexes", "Pack the indexes of months that are over", 6 * _HOUR, _pack_indexes),
    Job("trim_quotas", "Forget what keys sent on days gone by", 6 * _HOUR, _trim_quotas),
)
"""All jobs, in the order in which those that are due are run."""


@attrs.frozen
class LastRun:
    """When a job last ran, and how it ended.

    Attributes:
        finished_at: None while it runs, and if its process died.
        outcome: One sentence.
        failures: In a row; 0 if it last succeeded.
        rested: Seconds since it finished.
    """

    started_at: datetime
    finished_at: datetime | None
    outcome: str
    failures: int
    rested: float | None


@attrs.frozen
class Run:
    """What came of running a job.

    Attributes:
        outcome: One sentence on what was done, or why not.
        seconds: How long it took.
    """

    name: str
    outcome: str
    failed: bool
    seconds: float


def last_runs(connection: Connection) -> dict[str, LastRun]:
    """The last run of every job that ever ran, by name."""
    return {name: LastRun(*columns) for name, *columns in connection.execute(load("housekeeping.last_runs"))}


def is_due(job: Job, last: LastRun | None) -> bool:
    """Whether a job should run now: it never did, it died, it has rested long enough or failed and may try again."""
    if last is None or last.rested is None:
        return True
    if last.failures:
        return last.rested >= min(job.period, float(_FIRST_RETRY << min(last.failures - 1, 16)))
    return last.rested >= job.period


def run(connection: Connection, job: Job, settings: Settings, now: datetime | None = None) -> Run | None:
    """Run a job, unless somebody else is at it, and put down how it went.

    Args:
        connection: A plain one of the tables' owner, autocommitting.
        job: One of `JOBS`.
        settings: How long rows are kept.
        now: For tests; all jobs count from here.

    Returns:
        None if somebody else is at it.

    Raises:
        psycopg.OperationalError: The connection is lost.
    """
    name = {"name": job.name}
    if connection.execute(load("housekeeping.lock_job"), name).fetchone() != (True,):
        return None
    try:
        connection.execute(load("housekeeping.start"), name)
        began = time.monotonic()
        outcome, error = _outcome(connection, job, settings, now or datetime.now(UTC))
        _put_down(connection, job, outcome, error)
        return Run(job.name, outcome, error is not None, time.monotonic() - began)
    finally:
        if not connection.closed:
            connection.execute(load("housekeeping.unlock_job"), name)


def run_by_hand(connection: Connection, job: Job, settings: Settings) -> Run:
    """Run a job now, due or not; if the housekeeper is at it, after that.

    Raises:
        HousekeepingError: The housekeeper was still at it after a minute.
    """
    deadline = time.monotonic() + _PATIENCE
    while (done := run(connection, job, settings)) is None:
        if time.monotonic() > deadline:
            raise HousekeepingError(f"A collector is running {job.name} at this moment; see `housekeeping --list`")
        time.sleep(0.2)
    return done


def _outcome(connection: Connection, job: Job, settings: Settings, now: datetime) -> tuple[str, Exception | None]:
    """What the job says it did; or that it failed, and by which error."""
    try:
        return job.work(connection, now, settings), None
    except psycopg.Error as error:
        if connection.closed:
            raise
        return f"failed: {_first_line(error)}", error
    except CollectorError as error:
        return f"failed: {error}", error
    except Exception as error:  # noqa: BLE001  # a job's bug is no reason for the others not to run
        return f"failed: {error!r}", error


def _put_down(connection: Connection, job: Job, outcome: str, error: Exception | None) -> None:
    parameters = {"name": job.name, "outcome": outcome, "failed": error is not None}
    row = connection.execute(load("housekeeping.finish"), parameters).fetchone()
    if error is not None and row == (1,):  # once per incident
        is_bug = not isinstance(error, psycopg.Error | CollectorError)
        logger.warning(
            "The job %s %s. It is tried again, less and less often.",
            job.name,
            outcome,
            exc_info=error if is_bug else None,
        )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


class Housekeeper:
    """Sees to it that the jobs are done, by exactly one process of all.

    Its thread begins with the first request of a process, and so never before gunicorn has forked. It is a daemon and
    keeps nobody from ending: what it was at is rolled back, and begun again by whoever gets the lock next.

    Args:
        settings: How often it looks, and what the jobs need to know.
        jobs: For tests.
    """

    def __init__(self, settings: Settings, jobs: tuple[Job, ...] = JOBS) -> None:
        self._settings = settings
        self._jobs = jobs
        self._stopping = threading.Event()
        self._threads: dict[int, threading.Thread] = {}
        self._in_trouble = False

    def start(self) -> None:
        """Begin in this process, if that has not happened yet."""
        pid = os.getpid()
        if pid in self._threads or not self._settings.housekeeping_seconds:
            return
        thread = threading.Thread(target=self._live, name="analytics-housekeeping", daemon=True)
        if self._threads.setdefault(pid, thread) is thread:  # of two first requests at once, one starts it
            atexit.register(self._stopping.set)
            thread.start()

    def stop(self) -> None:
        """End the thread of this process, after the job that it is at."""
        self._stopping.set()
        if thread := self._threads.get(os.getpid()):
            thread.join()

    def _live(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except (psycopg.Error, CollectorError) as error:
                self._complain(error)
            except Exception:
                logger.exception("Housekeeping has a bug")
            self._stopping.wait(self._settings.housekeeping_seconds * random.uniform(0.5, 1))

    def _look(self) -> None:
        """Become the one housekeeper if there is none, and stay it until something is wrong."""
        with contextlib.closing(connect(self._settings.database_url, autocommit=True, **_KEEPALIVES)) as connection:
            is_it, *_ = connection.execute(load("housekeeping.become")).fetchone() or (False,)
            while is_it and not self._stopping.is_set():
                self._do_what_is_due(connection)
                self._in_trouble = False
                self._stopping.wait(min(_LONGEST_TICK, self._settings.housekeeping_seconds))

    def _do_what_is_due(self, connection: Connection) -> None:
        last: Mapping[str, LastRun] = last_runs(connection)
        for job in self._jobs:
            if is_due(job, last.get(job.name)) and not self._stopping.is_set():
                run(connection, job, self._settings)

    def _complain(self, error: psycopg.Error | CollectorError) -> None:
        if not self._in_trouble:  # once per incident
            self._in_trouble = True
            logger.warning("Housekeeping has to wait: %s", _reason(error))


def _reason(error: psycopg.Error | CollectorError) -> str:
    if isinstance(error, psycopg.Error) and fault_of(error) == "unmigrated":
        return "the tables are those of another version; run `analytics-collector migrate`"
    return _first_line(error)
