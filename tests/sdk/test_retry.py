"""When to try again: pauses grow, are never shorter than asked, and never longer than configured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk._retry import FIRST_PAUSE, LONGEST_RETRY_AFTER, pause_before, retry_after_seconds

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def longest(_: float, high: float) -> float:
    """The most that jitter can come to."""
    return high


def shortest(low: float, _: float) -> float:
    """The least."""
    return low


def test_pauses_double_up_to_the_cap() -> None:
    """The longest possible pause doubles with each failure, up to the cap."""
    pauses = [pause_before(attempt, 0, 30, longest) for attempt in range(1, 9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert pauses[0] == FIRST_PAUSE


@given(st.integers(1, 10**9), st.floats(0, 300), st.floats(0.001, 1000), st.floats(0, 1))
def test_a_pause_is_between_what_was_asked_and_the_cap(attempt: int, asked: float, cap: float, luck: float) -> None:
    """Whatever the number of failures, a pause is at least what the collector asked, and at most the cap more."""
    pause = pause_before(attempt, asked, cap, lambda low, high: low + luck * (high - low))
    assert asked <= pause <= asked + cap


def test_jitter_is_full() -> None:
    """Clients that failed together do not come back together: a pause can be as short as nothing."""
    assert pause_before(10, 0, 30, shortest) == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("100000", LONGEST_RETRY_AFTER),
        ("-7", 0),
        ("1.5", 0),
        ("soon", 0),
        ("", 0),
        ("²", 0),
        ("9" * 5000, LONGEST_RETRY_AFTER),
        (format_datetime(NOW + timedelta(seconds=20), usegmt=True), 20),
        ("Sat, 31 Jan 2026 12:00:20 -0000", 20),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("Sat, 99 Jan 2026 12:00:20 GMT", 0),
    ],
)
def test_retry_after(header: str | None, seconds: float) -> None:
    """Seconds and dates are understood; what is neither, or is in the past, asks for nothing."""
    assert retry_after_seconds(header, NOW) == seconds


@given(st.text())
def test_garbage_in_retry_after_is_no_trouble(header: str) -> None:
    """Any text at all is some number of seconds."""
    assert 0 <= retry_after_seconds(header, NOW) <= LONGEST_RETRY_AFTER
