"""Runs the collector behind gunicorn on any Postgres."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from .config import Settings

GUNICORN = (
    "-m",
    "gunicorn",
    "--config",
    "python:analytics_collector.gunicorn_config",
    "analytics_collector.app:create_app()",
)
"""What Python is told, after which options may follow."""


def run() -> NoReturn:
    """Become gunicorn: signals reach it directly.

    Raises:
        ConfigError: No database is given, or a setting makes no sense.
    """
    Settings.from_env().require_database()
    os.execv(sys.executable, [sys.executable, *GUNICORN])  # noqa: S606  # our own interpreter, no shell
