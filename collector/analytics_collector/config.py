"""The collector's settings: one value, read from the environment.

Every attribute is one variable, `ANALYTICS_` and its name in capitals. docs/configuration.md lists them all,
and a test compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs

from .exceptions import ConfigError


def _positive(_: Any, attribute: attrs.Attribute[int], value: int) -> None:
    if value <= 0:
        raise ConfigError(f"{_variable(attribute.name)} must be above zero, not {value}")


def _number(default: int) -> Any:
    return attrs.field(default=default, validator=_positive)


def _not_negative(_: Any, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 0:
        raise ConfigError(f"{_variable(attribute.name)} must be zero or above, not {value}")


def _number_or_zero(default: int) -> Any:
    return attrs.field(default=default, validator=_not_negative)


@attrs.frozen(kw_only=True)
class Settings:
    """How this collector runs.

    Attributes:
        database_url: A libpq URI or keyword string of any Postgres from 15 up.
        bind: Address and port that gunicorn listens on.
        workers: Processes of gunicorn.
        threads: Requests that one worker serves at a time; those that write share a transaction.
        connections: Connections that one worker keeps to Postgres, at most.
        max_body_bytes: Largest body of a request, in bytes, as sent and once inflated.
        key_refresh_seconds: Longest time, in seconds, that a revoked key still opens the door.
        database_patience_seconds: How long one request waits for Postgres, in seconds, before it is answered 503.
        housekeeping_seconds: How often a process looks whether another one does the housekeeping, in seconds; with 0
            none does it.
        session_idle_seconds: How long nothing happens in a session before it is ended, in seconds.
        retention_days: How long events and sessions are kept, in days, rounded up to whole months; 0 is for ever.
        reject_retention_days: How long refused records are kept, in days.
    """

    database_url: str = ""
    bind: str = "127.0.0.1:8000"
    workers: int = _number(2)
    threads: int = _number(16)
    connections: int = _number(4)
    max_body_bytes: int = _number(8 * 1024 * 1024)
    key_refresh_seconds: int = _number(5)
    database_patience_seconds: int = _number(5)
    housekeeping_seconds: int = _number_or_zero(20)
    session_idle_seconds: int = _number(1800)
    retention_days: int = _number_or_zero(0)
    reject_retention_days: int = _number(30)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings.

        Raises:
            ConfigError: A variable is missing or is no number above zero.
        """
        given = {field.name: environ.get(_variable(field.name)) for field in attrs.fields(cls)}
        return cls(**{name: _from_text(name, text) for name, text in given.items() if text})

    def require_database(self) -> Settings:
        """The same settings, once it is sure that they name a database.

        Raises:
            ConfigError: They name none.
        """
        if not self.database_url:
            raise ConfigError(
                "No database given. Set ANALYTICS_DATABASE_URL=postgresql://user:password@host/name, or run"
                " `analytics-collector dev`, which brings its own Postgres."
            )
        return self


def _variable(name: str) -> str:
    return f"ANALYTICS_{name.upper()}"


def _from_text(name: str, text: str) -> Any:
    if isinstance(getattr(attrs.fields(Settings), name).default, str):
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{_variable(name)} is a whole number above zero, not {text!r}") from None
