"""The parts of one collector, put together: settings, database, doorkeeper, committer, probe."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

import flask

from . import address, browser, metrics, vitals
from .auth import Doorkeeper
from .batch import Batch
from .committer import Committer
from .config import Settings
from .db import Database
from .gate import Gate
from .housekeeping import Housekeeper
from .keys import Key
from .meter import Meter
from .probe import Probe

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_EXTENSION: Final = "analytics_collector"


class Collector:
    """What the views of one application share. Nothing here connects before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(
            settings.database_url,
            connections=settings.connections,
            patience=settings.database_patience_seconds,
        )
        self.meter = Meter(self.database, workers=settings.workers)
        self.doorkeeper = Doorkeeper(self.database, refresh=settings.key_refresh_seconds, meter=self.meter)
        self.trusted_proxies = address.networks(settings.trusted_proxies)
        self.gate = Gate.of(settings, metrics.note_flagged)
        self.committer = Committer(self.database, patience=settings.database_patience_seconds)
        self.housekeeper = Housekeeper(settings)
        self.probe = Probe(settings.database_url, vitals.look)

    def attach(self, app: flask.Flask) -> None:
        """Make this the collector of an application."""
        app.extensions[_EXTENSION] = self

    def receive(self, batch: Batch, key: Key, now: datetime, environ: WSGIEnvironment) -> Batch:
        """What of a batch may be stored: counted against its key's limits, and judged by its kind and by the plan.

        Args:
            batch: Judged records of a request.
            key: Whose they are.
            now: When they arrived.
            environ: The request.
        """
        self.meter.charge(key, len(batch.items) + len(batch.rejects), now)
        if key.kind == "browser":
            batch = browser.restrict(batch, self._visitor(environ), now)
        return self.gate.screen(batch, now)

    def _visitor(self, environ: WSGIEnvironment) -> str | None:
        """The address that a request came from, seen through the proxies that are trusted."""
        forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
        return address.of_visitor(environ.get("REMOTE_ADDR"), forwarded_for, self.trusted_proxies)

    @classmethod
    def current(cls) -> Collector:
        """The collector of the application that handles the request."""
        return cast("Collector", flask.current_app.extensions[_EXTENSION])
