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


def _one_of(*words: str) -> Any:
    def check(_: Any, attribute: attrs.Attribute[str], value: str) -> None:
        if value not in words:
            raise ConfigError(f"{_variable(attribute.name)} is {' or '.join(words)}, not {value!r}")

    return attrs.field(default=words[0], validator=check)


@attrs.frozen(kw_only=True)
class Settings:
    """How this collector runs.

    Attributes:
        database_url: A libpq URI or keyword string of any Postgres from 15 up.
        bind: Address and port that gunicorn listens on.
        workers: Processes of gunicorn.
        threads: Requests that one worker serves at a time, and connections it keeps to Postgres.
        max_body_bytes: Largest body of a request, in bytes, as sent and once inflated.
        key_refresh_seconds: Longest time, in seconds, that a revoked key still opens the door.
        database_patience_seconds: How long one request waits for Postgres, in seconds, before it is answered 503.
        log_format: "text" has warnings for people; "json" has a line of JSON for each request and warning.
        metrics_open: Whether `/metrics` is shown without a key.
    """

    database_url: str = ""
    bind: str = "127.0.0.1:8000"
    workers: int = _number(2)
    threads: int = _number(4)
    max_body_bytes: int = _number(8 * 1024 * 1024)
    key_refresh_seconds: int = _number(5)
    database_patience_seconds: int = _number(5)
    log_format: str = _one_of("text", "json")
    metrics_open: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings.

        Raises:
            ConfigError: A variable is not what it can be.
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
    default = getattr(attrs.fields(Settings), name).default
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        return _truth(name, text)
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{_variable(name)} is a whole number above zero, not {text!r}") from None


def _truth(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"{_variable(name)} is true or false, not {text!r}")
    return text.lower() == "true"
