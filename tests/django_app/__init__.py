"""A Django application that was there before the collector: its models, and what it takes to run them."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from psycopg.conninfo import conninfo_to_dict

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "tests.django_app.apps.Analytics"],
    LOGGING_CONFIG=None,
    TIME_ZONE="UTC",
)
django.setup()


def connect(dsn: str, **options: object) -> None:
    """Point Django to a database.

    Args:
        dsn: Of a Postgres behind a Unix socket.
        options: Further ones of Django's own, such as CONN_MAX_AGE.
    """
    parameters = conninfo_to_dict(dsn)
    connections.settings["default"].update(
        HOST=parameters["host"],  # the folder of the Unix socket
        PORT=parameters["port"],
        USER=parameters["user"],
        NAME=parameters["dbname"],
        **options,
    )


def migrate(dsn: str) -> None:
    """Point Django to an empty database, and have it make its own tables there, `auth_user` among them."""
    connect(dsn)
    call_command("migrate", verbosity=0)
    connections.close_all()
