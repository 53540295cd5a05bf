"""When to try again: pure decisions that get time and randomness passed in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

FIRST_PAUSE: Final = 0.5  # seconds
LONGEST_RETRY_AFTER: Final = 300.0  # seconds; a collector's slip must not silence an app for a day


def pause_before(attempt: int, retry_after: float, cap: float, uniform: Callable[[float, float], float]) -> float:
    """How long to pause before a try: exponential with full jitter, and never less than the collector asked.

    The shape is that of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).

    Args:
        attempt: How many tries have failed in a row, from 1.
        retry_after: Seconds the collector asked for, or 0.
        cap: Longest pause of our own, in seconds.
        uniform: `random.uniform`.

    Returns:
        Seconds.
    """
    return retry_after + uniform(0, min(cap, FIRST_PAUSE * 2.0 ** min(attempt - 1, 30)))


def retry_after_seconds(header: str | None, now: datetime) -> float:
    """Read a Retry-After header (RFC 9110, section 10.2.3): seconds or a date; 0 if there is none.

    Args:
        header: As it came, or None.
        now: To subtract from a date.
    """
    if header is None:
        return 0.0
    seconds = float(header) if header.strip().isdecimal() else _seconds_until(header, now)
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _seconds_until(header: str, now: datetime) -> float:
    from email.utils import parsedate_to_datetime  # 20 modules that a host without trouble never needs

    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
