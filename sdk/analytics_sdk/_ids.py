"""Ids of events and sessions. Both begin with the time, so that neighbours in time are neighbours on disk."""

from __future__ import annotations

import base64
import os
import random
import secrets
import uuid
from typing import Final

# A generator of our own: the host may call random.seed(), and equal ids would be one event.
_random: Final = random.Random()
os.register_at_fork(after_in_child=_random.seed)

_NAMESPACE: Final = uuid.UUID("a6ea7c4b-63d2-5f0e-9d0c-6c6d1d6b7a11")


def event_id(unix_ns: int) -> str:
    """Make a UUID version 7 (RFC 9562, section 5.7).

    Args:
        unix_ns: Nanoseconds since 1970.
    """
    time = (unix_ns // 1_000_000).to_bytes(6, "big").hex()
    rest = _random.getrandbits(72).to_bytes(9, "big").hex()  # of the variant field only the two fixed bits are set
    return f"{time[:8]}-{time[8:]}-7{rest[:3]}-8{rest[3:6]}-{rest[6:]}"


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
