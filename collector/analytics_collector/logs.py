"""What the collector writes to its log: one line for each thing, with the request it belongs to, and no secrets.

Most errors lose their messages on the way: those of Postgres quote rows, those of Python the values that did not fit.
What is left, the kinds and the places, leads to the line of code.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import psycopg

from .exceptions import ConfigError, EmbeddedPostgresError, KeyRegistryError, MigrationError

_request: ContextVar[dict[str, Any] | None] = ContextVar("analytics_collector_request", default=None)

_QUOTING_CLASSES: Final = ("22", "23", "54", "P0")
"""Classes of SQLSTATE whose messages quote values: data exceptions, constraints, limits, the app's own triggers."""

_SPEAKING: Final = (ConfigError, MigrationError, KeyRegistryError, EmbeddedPostgresError, ImportError, OSError)
"""Errors that speak of settings, files and addresses, and never of what was sent."""


def begin(request_id: str) -> None:
    """Say that what follows in this context belongs to a request."""
    _request.set({"request_id": request_id})


def note(**fields: Any) -> None:
    """Add to the line that the current request will leave; outside of a request nothing happens."""
    request = _request.get()
    if request is not None:
        request.update(fields)


def end() -> dict[str, Any]:
    """All that was noted of the request, which is over."""
    request = _request.get()
    _request.set(None)
    return request or {}


def request_id() -> str:
    """The id of the current request; empty outside of one."""
    request = _request.get()
    return str(request["request_id"]) if request is not None else ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, and what is known of the request."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {"request_id": request_id()} if request_id() else {}
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = list(_places(record.exc_info[1]))
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """The same for people; control characters are escaped, so one record is one line but for the places of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        words = [_time(record), record.levelname, *([f"[{request_id()}]"] if request_id() else [])]
        lines = [f"{' '.join(words)} {_on_one_line(record.getMessage())}"]
        if record.exc_info and record.exc_info[1] is not None:
            lines += [f"    {_on_one_line(place)}" for place in _places(record.exc_info[1])]
        return "\n".join(lines)


def formatter(log_format: str) -> logging.Formatter:
    """The formatter of a setting `log_format`."""
    return JsonFormatter() if log_format == "json" else TextFormatter()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _on_one_line(text: str) -> str:
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _places(error: BaseException) -> Iterator[str]:
    """What went wrong and where, the first cause first."""
    below = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if below is not None:
        yield from _places(below)
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"{frame.filename}:{frame.lineno} in {frame.name}"
    yield _kind(error)


def _kind(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, psycopg.Error) and error.sqlstate:
        quotes = error.sqlstate[:2] in _QUOTING_CLASSES
        return f"{name} {error.sqlstate}" + ("" if quotes else f": {error.diag.message_primary}")
    return f"{name}: {error}" if isinstance(error, _SPEAKING) else name
