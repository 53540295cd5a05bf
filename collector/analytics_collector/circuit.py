"""Whether Postgres is worth a try: while it is away one caller at a time finds out, and nobody else waits for it.

So an outage does not keep all threads busy with waiting, and what waits for the one that finds out adds to nobody's
wait. Pure: the time is passed in.
"""

from __future__ import annotations

import threading
from typing import Final

_REST: Final = 0.1  # of the patience: what else the same request wants of Postgres shall not wait again


class Circuit:
    """Open while Postgres does not answer.

    Args:
        patience: Seconds that one try takes at most.

    Attributes:
        is_open: Whether Postgres did not answer when it was last tried.
    """

    def __init__(self, patience: float) -> None:
        self._rest = _REST * patience
        self._lock = threading.Lock()
        self.is_open = False
        self._is_tried = False
        self._rests_until = 0.0

    def may_try(self, now: float) -> bool:
        """Whether to ask Postgres; whoever may says afterwards how it went."""
        if not self.is_open:
            return True
        with self._lock:
            if self._is_tried or now < self._rests_until:
                return not self.is_open
            self._is_tried = True
            return True

    def tried(self, now: float, *, in_vain: bool) -> None:
        """Say how a try went: in vain is without any answer, a refusal is one."""
        if in_vain or self.is_open:
            with self._lock:
                self.is_open, self._is_tried, self._rests_until = in_vain, False, now + self._rest
