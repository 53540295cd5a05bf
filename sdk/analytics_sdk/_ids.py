"""Ids of events and sessions. Both begin with the time, so that neighbours in time are neighbours on disk."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Iterator
from itertools import repeat
from operator import add
from typing import Final

_NAMESPACE: Final = uuid.UUID("a6ea7c4b-63d2-5f0e-9d0c-6c6d1d6b7a11")
_CHARACTERS: Final = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"  # in the order of their bytes
_COUNTED: Final = [f"-7{count:02x}" for count in range(256)]  # the version, and a counter of 8 bits


def _new_block() -> Iterator[str]:
    """Make what gives the ends of the next 256 ids: a counter, then 64 bits from the operating system.

    All of it is C, so that a call is one step that neither a thread nor a signal handler can come between. The
    host's `random.seed()` has no say in it: equal ids would be one event.
    """
    digits = os.urandom(8).hex()
    return map(add, _COUNTED, repeat(f"{digits[0]}-8{digits[1:4]}-{digits[4:]}"))


_ends = _new_block()


def reseed() -> None:
    """In a forked child: go another way than the parent, and than its other children."""
    global _ends
    _ends = _new_block()


def event_id(unix_ns: int) -> str:
    """Make a UUID version 7 with a counter behind the time (RFC 9562, sections 5.7 and 6.2, method 1).

    Args:
        unix_ns: Nanoseconds since 1970.
    """
    for end in _ends:
        return _beginning(unix_ns // 1_000_000) + end
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
    """Make a session id: 17 characters, 36 bits of time in sixteenths of a second and 66 bits that nobody can guess.

    It is part of every event, on the wire and twice on the disk, so it is no longer than that. As bytes it sorts by
    time; every character may stand in a cookie, a URL and the name of a file.

    Args:
        unix_ns: Nanoseconds since 1970.
    """
    number = unix_ns * 16 // 1_000_000_000 << 66 | int.from_bytes(os.urandom(9)) >> 6
    return "".join(_CHARACTERS[number >> shift & 63] for shift in range(96, -1, -6))
