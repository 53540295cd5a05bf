"""Something goes wrong again and again, and is told once. Pure: the time is passed in."""

from __future__ import annotations

import threading
from typing import Final

import attrs

_QUIET: Final = 60.0  # seconds without a failure after which it is over


@attrs.frozen
class Past:
    """An incident that is over.

    Attributes:
        seconds: From the first failure to the last.
        failures: How many there were.
    """

    seconds: float
    failures: int


class Incident:
    """What is wrong at present, if anything is.

    Attributes:
        is_on: Whether anything is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._since = self._last = 0.0
        self._failures = 0
        self.is_on = False

    def failed(self, what: str, now: float) -> bool:
        """Count a failure; tells whether it is news, which another kind of failure is as well."""
        with self._lock:
            if not self.is_on or now - self._last > _QUIET:
                self.is_on, self._since, self._failures = True, now, 0
                self._told.clear()
            self._last, self._failures = now, self._failures + 1
            is_news = what not in self._told
            self._told.add(what)
            return is_news

    def succeeded(self, now: float) -> Past | None:
        """Note a success; the incident, if it is over with this one."""
        with self._lock:
            if not self.is_on or now - self._last <= _QUIET:
                return None
            self.is_on = False
            return Past(self._last - self._since, self._failures)
