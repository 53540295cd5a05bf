"""What the commands share: the database they work on, and how they print for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import click
import msgspec

from .config import Settings
from .db import Connection, connect

as_json: Final = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON, for programs.")


def connection() -> Connection:
    """A connection to the database in the settings, autocommitting."""
    return connect(Settings.from_env().require_database().database_url, autocommit=True)


def as_line(value: object) -> str:
    """A value as one line of JSON."""
    return msgspec.json.encode(value).decode()


def moment(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """Read a point in time as somebody types it, in ISO 8601; without a zone it is UTC.

    Raises:
        click.BadParameter: It is none.
    """
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; write it like 2026-01-31 or 2026-01-31T12:00:00Z") from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
