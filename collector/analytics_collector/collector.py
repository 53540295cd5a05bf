"""The parts of one collector, put together: settings, database, doorkeeper, committer."""

from __future__ import annotations

from typing import Final, cast

import flask

from .auth import Doorkeeper
from .committer import Committer
from .config import Settings
from .db import Database
from .housekeeping import Housekeeper

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
        self.doorkeeper = Doorkeeper(self.database, refresh=settings.key_refresh_seconds)
        self.committer = Committer(self.database, patience=settings.database_patience_seconds)
        self.housekeeper = Housekeeper(settings)

    def attach(self, app: flask.Flask) -> None:
        """Make this the collector of an application."""
        app.extensions[_EXTENSION] = self
        app.before_request(self.housekeeper.start)

    @classmethod
    def current(cls) -> Collector:
        """The collector of the application that handles the request."""
        return cast("Collector", flask.current_app.extensions[_EXTENSION])
