"""How many connections each worker has, in memory that all of them share.

They all listen on one socket, and who is quickest gets what comes: of thirty clients that keep their connections, one
worker may have all. Who knows that others have fewer can give them a moment to take the next one.
"""

from __future__ import annotations

import mmap
from struct import Struct
from typing import Final

_SLOT: Final = Struct("=dq")  # when it was told, in seconds of the monotonic clock, and how many
_SLOTS: Final = 256  # workers of one master; more of them share slots, and are a little less even
_STALE: Final = 2.5  # seconds; gunicorn's loop turns once a second at least


class Peers:
    """What the workers tell each other; made before they are forked."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOT.size * _SLOTS)

    def tell(self, worker: int, connections: int, now: float) -> None:
        """Say how many connections a worker has.

        Args:
            worker: Its number.
            connections: How many.
            now: Seconds of the monotonic clock.
        """
        _SLOT.pack_into(self._memory, worker % _SLOTS * _SLOT.size, now, connections)

    def have_fewer(self, connections: int, now: float) -> bool:
        """Whether some worker that lives has fewer than this, by more than one."""
        return any(told > now - _STALE and others < connections - 1 for told, others in _SLOT.iter_unpack(self._memory))
