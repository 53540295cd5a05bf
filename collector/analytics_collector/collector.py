"""The parts of one collector, put together: settings, database, doorkeeper, committer, probe."""

from __future__ import annotations

from datetime import datetime
from typing import Final, cast

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
        self.pool_seen_at = float("-inf")  # seconds of the monotonic clock

    def attach(self, app: flask.Flask) -> None:
        """Make this the collector of an application."""
        app.extensions[_EXTENSION] = self

    def receive(self, batch: Batch, key: Key, now: datetime) -> Batch:
        """What of a batch may be stored: counted against its key's limits, and judged by its kind and by the plan.

        Args:
            batch: Judged records of the request in hand.
            key: Whose they are.
            now: When they arrived.
        """
        self.meter.charge(key, len(batch.items) + len(batch.rejects), now)
        if key.kind == "browser":
            batch = browser.restrict(batch, self.visitor(), now)
        return self.gate.screen(batch, now)

    def visitor(self) -> str | None:
        """The address that the request in hand came from, seen through the proxies that are trusted."""
        forwarded_for = ",".join(flask.request.headers.getlist("X-Forwarded-For"))
        return address.of_visitor(flask.request.remote_addr, forwarded_for, self.trusted_proxies)

    @classmethod
    def current(cls) -> Collector:
        """The collector of the application that handles the request."""
        return cast("Collector", flask.current_app.extensions[_EXTENSION])
