"""All SQL of the collector: one file a statement, named after its caller (`writer.copy_events.sql`).

From a slow query in the database's log you find the caller with one grep, and the reverse. Identifiers that are
only known at run time stand in braces and are filled in by `psycopg.sql`.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import LiteralString


@functools.cache
def load(name: str) -> LiteralString:
    """Read a statement.

    The text is ours, shipped with the package, and no user's input ever becomes part of it: that is what
    `LiteralString` promises to the driver.
    """
    return (files(__name__) / f"{name}.sql").read_text(encoding="utf-8")
