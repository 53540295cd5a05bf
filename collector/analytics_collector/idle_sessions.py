"""Ends the sessions in which nothing has happened for a while."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from .db import Connection
from .sql import load

_AT_A_TIME: Final = 500  # sessions


def end(connection: Connection, now: datetime, idle_seconds: int) -> str:
    """Let idle sessions end with their last event; a later event lets them end later (`analytics_touch_sessions`).

    Args:
        connection: A plain one, autocommitting: each batch is a transaction.
        now: What the time of the last event is compared with.
        idle_seconds: How long nothing must have happened.

    Returns:
        One sentence on what was done.
    """
    parameters = {"before": now - timedelta(seconds=idle_seconds), "most": _AT_A_TIME}
    ended = 0
    while batch := connection.execute(load("idle_sessions.end"), parameters).rowcount:
        ended += batch
    return f"ended {ended} sessions"
