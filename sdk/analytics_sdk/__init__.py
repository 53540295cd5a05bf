"""Product analytics for Python apps: what `track()` accepted is in your Postgres exactly once.

    import analytics_sdk

    analytics_sdk.init("http://127.0.0.1:8000", write_key="...")
    analytics_sdk.track("purchase", {"amount": Decimal("9.99")}, user_id=42)

The functions act on one default client; `Client` makes further ones. Nothing starts and nothing connects before
the first event.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from ._client import Client
from ._default import aflush, close, end_session, flush, identify, init, session, start_session, stats, track
from ._event import EventType
from ._ledger import Report, Stats
from .exceptions import AnalyticsError, ConfigError, EventError

if TYPE_CHECKING:
    from . import testing as testing
    from . import wsgi as wsgi
    from .reader import Reader as Reader

__all__ = [
    "AnalyticsError",
    "Client",
    "ConfigError",
    "EventError",
    "EventType",
    "Reader",
    "Report",
    "Stats",
    "aflush",
    "close",
    "end_session",
    "flush",
    "identify",
    "init",
    "session",
    "start_session",
    "stats",
    "track",
]

logging.getLogger("analytics_sdk").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import what not every process needs when it is first used."""
    if name in ("testing", "wsgi"):
        return importlib.import_module(f"{__name__}.{name}")
    if name == "Reader":
        return importlib.import_module(f"{__name__}.reader").Reader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
