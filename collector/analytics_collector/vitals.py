"""What the collector watches of its database: cheap enough to be asked for every second."""

from __future__ import annotations

import attrs

from . import migrate, symptom
from .db import Connection
from .exceptions import UnavailableError
from .sql import load


@attrs.frozen
class Vitals:
    """The database at a moment.

    Attributes:
        pending: Names of the migrations that it lacks; with any, the rest is not known.
        partitions: Partitions of `analytics_event`, without the DEFAULT one.
        default_rows: About how many rows the DEFAULT one has.
        oldest_job_seconds: Since when a job runs that has not finished; 0 if there is none.
    """

    pending: tuple[str, ...]
    partitions: int = 0
    default_rows: float = 0.0
    oldest_job_seconds: float = 0.0


def look(connection: Connection) -> Vitals:
    """Look at the database.

    Args:
        connection: An autocommitting one, with a limit on how long a statement takes.

    Raises:
        UnavailableError: It only reads.
        MigrationError: Its tables are of another major, or a migration has changed.
    """
    if connection.execute(load("vitals.reads_only")).fetchone() == (True,):
        raise UnavailableError(symptom.READ_ONLY.message, symptom.READ_ONLY.advice)
    pending = tuple(migration.name for migration in migrate.pending(connection))
    if pending:
        return Vitals(pending)
    partitions, default_rows = connection.execute(load("vitals.partitions")).fetchone() or (0, 0.0)
    return Vitals(pending, partitions, default_rows, oldest_job_seconds(connection))


def oldest_job_seconds(connection: Connection) -> float:
    """Since when, in seconds, the oldest job runs that has not finished; 0 if there is none, or no table of them."""
    if connection.execute(load("vitals.has_jobs")).fetchone() != (True,):
        return 0.0
    (seconds,) = connection.execute(load("vitals.oldest_job")).fetchone() or (0.0,)
    return float(seconds)
