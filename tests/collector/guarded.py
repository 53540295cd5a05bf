"""The collector's application with the call that counts and judges what a key may say, behind gunicorn or in a test.

Stands in for one line in `ingest`: `batch = collector.receive(batch, key, now)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import flask

from analytics_collector import app as application
from analytics_collector.batch import Batch
from analytics_collector.collector import Collector
from analytics_collector.committer import Committer, Verdict
from analytics_collector.config import Settings
from tests import programs


class Receiving(Committer):
    """Commits what the collector lets a key say."""

    def commit(self, batch: Batch, key_name: str) -> Verdict:
        """Ask the collector first."""
        collector = Collector.current()
        key = collector.doorkeeper.find(flask.request.headers["Authorization"])
        assert key is not None
        return super().commit(collector.receive(batch, key, datetime.now(UTC)), key_name)


def create_app(settings: Settings | None = None) -> flask.Flask:
    """Make the application."""
    app = application.create_app(settings)
    collector: Collector = app.extensions["analytics_collector"]
    collector.committer = Receiving(collector.database)
    return app


@contextmanager
def run(dsn: str, *, workers: int = 2, **environ: str) -> Iterator[programs.Collector]:
    """A real collector behind gunicorn that does so."""
    settings: Mapping[str, str] = {"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_WORKERS": str(workers), **environ}
    configuration = ("--config", "python:analytics_collector.gunicorn_config")
    with programs.gunicorn("tests.collector.guarded:create_app()", settings, *configuration) as (url, process):
        yield programs.Collector(url, dsn, process)
