"""The parts of one collector, put together: settings, database, doorkeeper, committer, probe."""

from __future__ import annotations

from typing import Final, cast

import flask

from . import vitals
from .auth import Doorkeeper
from .committer import Committer
from .config import Settings
from .db import Database
from .partitions import PartitionKeeper
from .probe import Probe

_EXTENSION: Final = "analytics_collector"


class Collector:
    """What the views of one application share. Nothing here connects before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(
            settings.database_url,
            connections=settings.threads,
            patience=settings.database_patience_seconds,
        )
        self.doorkeeper = Doorkeeper(self.database, refresh=settings.key_refresh_seconds)
        self.committer = Committer(self.database)
        self.partitions = PartitionKeeper(self.database)
        self.probe = Probe(settings.database_url, vitals.look)
        self.pool_seen_at = float("-inf")  # seconds of the monotonic clock

    def attach(self, app: flask.Flask) -> None:
        """Make this the collector of an application."""
        app.extensions[_EXTENSION] = self

    @classmethod
    def current(cls) -> Collector:
        """The collector of the application that handles the request."""
        return cast("Collector", flask.current_app.extensions[_EXTENSION])
