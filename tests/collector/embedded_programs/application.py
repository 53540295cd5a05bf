"""A WSGI application that asks Postgres who it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer with the number of rows of a table, counted over a new connection."""
    with psycopg.connect(os.environ["TEST_DSN"]) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(row[0] if row else None).encode()]
