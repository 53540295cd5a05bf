"""Is this process alive, can it do its work, and what has it done?"""

from __future__ import annotations

from collections.abc import Iterator

import flask

from . import metrics
from .collector import Collector
from .exceptions import MigrationError, UnavailableError
from .metrics import Figure
from .vitals import Vitals

blueprint = flask.Blueprint("health", __name__)


@blueprint.get("/healthz")
def get_health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def get_readiness() -> dict[str, str]:
    """The database answers, can be written, and its tables have all that this version needs."""
    _look()
    return {"status": "ok"}


@blueprint.get("/metrics")
def get_metrics() -> flask.Response:
    """What all workers have counted, for Prometheus; while the database is away, too."""
    try:
        vitals: Vitals | None = _look()
    except UnavailableError:
        vitals = None
    collector = Collector.current()
    if not collector.settings.metrics_open:
        # The known keys do while Postgres is in trouble: that is when somebody wants to see the figures.
        authorization = flask.request.headers.get("Authorization")
        collector.doorkeeper.admit(authorization, "read", may_ask=vitals is not None)
    metrics.note_pool(collector.database.stats())
    return flask.Response(metrics.render(_figures(vitals)), content_type=metrics.CONTENT_TYPE)


def _look() -> Vitals:
    """The state of a database that can be worked with."""
    try:
        vitals = Collector.current().probe.ask()
    except MigrationError as error:
        raise UnavailableError("The tables are those of another version", str(error), code="unmigrated") from None
    if vitals.pending:
        raise UnavailableError(
            f"Migrations are pending: {', '.join(vitals.pending)}",
            "run `analytics-collector migrate`",
            code="unmigrated",
        )
    if found := Collector.current().database.trouble():
        raise UnavailableError(found.message, found.advice)
    return vitals


def _figures(vitals: Vitals | None) -> Iterator[Figure]:
    yield Figure("analytics_ready", "1 if /readyz says so, else 0.", float(vitals is not None))
    if vitals is None:
        return
    yield Figure("analytics_partitions", "Partitions of events, without the DEFAULT one.", vitals.partitions)
    yield Figure(
        "analytics_default_partition_rows",
        "About how many rows are in the DEFAULT partition, as the planner estimates.",
        vitals.default_rows,
    )
    yield Figure(
        "analytics_oldest_unfinished_job_seconds",
        "Since when the oldest job runs that has not finished; 0 if there is none.",
        vitals.oldest_job_seconds,
    )
