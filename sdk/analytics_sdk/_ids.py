"""Ids of events and sessions. Both begin with the time, so that neighbours in time are neighbours on disk."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable
from typing import Final

_NAMESPACE: Final = uuid.UUID("a6ea7c4b-63d2-5f0e-9d0c-6c6d1d6b7a11")
_BLOCK: Final = 4096  # ids that share their random part, the most that 12 bits can count


def _new_block() -> Callable[[], str]:
    """Make what gives the ends of the next 4,096 ids: a counter, then 60 bits from the operating system.

    All of it is C, so that a call is one step that neither a thread nor a signal handler can come between. The
    host's `random.seed()` has no say in it: equal ids would be one event.
    """
    tail = os.urandom(8).hex()
    return map(f"-7%03x-8{tail[:3]}-{tail[3:15]}".__mod__, range(_BLOCK)).__next__


_next_end = _new_block()


def reseed() -> None:
    """In a forked child: go another way than the parent, and than its other children."""
    global _next_end
    _next_end = _new_block()


def event_id(unix_ns: int) -> str:
    """Make a UUID version 7 with a counter behind the time (RFC 9562, sections 5.7 and 6.2, method 1).

    Args:
        unix_ns: Nanoseconds since 1970.
    """
    try:
        return _beginning(unix_ns // 1_000_000) + _next_end()
    except StopIteration:
        reseed()
        return event_id(unix_ns)


@functools.lru_cache(maxsize=4)
def _beginning(unix_ms: int) -> str:
    digits = unix_ms.to_bytes(6, "big").hex()
    return f"{digits[:8]}-{digits[8:]}"


def named_event_id(name: str) -> str:
    """Turn an id of the app's own into a UUID: itself if it is one, else its UUID version 5."""
    try:
        return str(uuid.UUID(name))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, name))


def session_id(unix_ns: int) -> str:
    """Make a session id: 24 characters of base32hex, 48 bits of time and 72 random ones that nobody can guess.

    Args:
        unix_ns: Nanoseconds since 1970.
    """
    import base64  # not needed by a host without sessions

    time = (unix_ns // 1_000_000).to_bytes(6, "big")
    return base64.b32hexencode(time + os.urandom(9)).decode().lower()
