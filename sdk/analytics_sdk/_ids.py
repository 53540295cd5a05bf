"""Ids of events and sessions. Both begin with the time, so that neighbours in time are neighbours on disk."""

from __future__ import annotations

import base64
import functools
import random
import secrets
import uuid
from operator import itemgetter
from typing import Final

# A generator of our own: the host may call random.seed(), and equal ids would be one event.
_random: Final = random.Random()

_cut: Final = itemgetter(slice(0, 3), slice(3, 6), slice(6, 18))  # one call, where three slices are three

_NAMESPACE: Final = uuid.UUID("a6ea7c4b-63d2-5f0e-9d0c-6c6d1d6b7a11")


def reseed() -> None:
    """In a forked child: go another way than the parent, and than its other children."""
    _random.seed()


def event_id(unix_ns: int) -> str:
    """Make a UUID version 7 (RFC 9562, section 5.7).

    Args:
        unix_ns: Nanoseconds since 1970.
    """
    # Of the variant's digit only the two fixed bits are set: 72 random bits are enough, and a digit is one cut.
    rand_a, rand_b, rand_c = _cut(_random.getrandbits(72).to_bytes(9, "big").hex())
    return f"{_beginning(unix_ns // 1_000_000)}-7{rand_a}-8{rand_b}-{rand_c}"


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
    time = (unix_ns // 1_000_000).to_bytes(6, "big")
    return base64.b32hexencode(time + secrets.token_bytes(9)).decode().lower()
