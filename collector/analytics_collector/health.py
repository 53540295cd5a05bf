"""Is this process alive, and can it do its work?"""

from __future__ import annotations

import flask

from . import migrate
from .collector import Collector
from .exceptions import MigrationError, UnavailableError

blueprint = flask.Blueprint("health", __name__)


@blueprint.get("/healthz")
def get_health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def get_readiness() -> dict[str, str]:
    """The database answers and its tables are those of this version."""
    try:
        pending = Collector.current().database.run(migrate.pending)
    except MigrationError as error:
        raise UnavailableError("The tables are those of another version", str(error), code="unmigrated") from None
    if pending:
        raise UnavailableError(
            f"Migrations are pending: {', '.join(migration.name for migration in pending)}",
            "run `analytics-collector migrate`",
            code="unmigrated",
        )
    return {"status": "ok"}
