"""The event that the benchmarks of the collector send: a page view with about 200 bytes of data."""

from __future__ import annotations

import functools
import random
import time
from datetime import UTC, datetime
from typing import Any, Final

from analytics_sdk import _ids

USERS: Final = 200
DATA: Final = {
    "path": "/products/merino-sweater",
    "referrer": "https://www.example.org/search",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "duration": 0.012,
    "status": 200,
}


def new_event(user_id: int | None = None) -> dict[str, Any]:
    """One event of this user, or of one of 200; each has a session."""
    who = random.randint(1, USERS) if user_id is None else user_id
    return {
        "event_id": _ids.event_id(time.time_ns()),
        "event_type": "page_view",
        "created_at": datetime.now(UTC),
        "session_id": session_of(who),
        "user_id": who,
        "event_data": DATA,
    }


@functools.cache
def session_of(user_id: int) -> str:
    """The id of this process's session of a user."""
    return _ids.session_id(time.time_ns())
