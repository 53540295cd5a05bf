"""The keys that open the collector's doors: made, listed and revoked. Only their sha256 is stored."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Final, Literal

import attrs
import psycopg

from .db import Connection
from .exceptions import KeyRegistryError
from .sql import load

KeyKind = Literal["write", "read", "admin"]
KINDS: Final[tuple[KeyKind, ...]] = ("write", "read", "admin")


@attrs.frozen
class Key:
    """One row of `analytics_key`.

    Attributes:
        sha256: The digest of the key; the key itself is shown once, when it is made.
        revoked_at: None as long as the key opens the door.
    """

    name: str
    kind: KeyKind
    sha256: bytes
    created_at: datetime
    revoked_at: datetime | None


def digest(key: str) -> bytes:
    """What is stored of a key. Keys are long and random, so no slow hash is needed."""
    return hashlib.sha256(key.encode()).digest()


def new(kind: KeyKind) -> str:
    """Make up a key: 192 random bits, and a word that tells what it opens."""
    return f"{kind}_{secrets.token_urlsafe(24)}"


def create(connection: Connection, name: str, kind: KeyKind) -> str:
    """Make a key and return it; this is the only time that it is seen.

    Args:
        connection: Inside a transaction, or autocommitting.
        name: How people call it, for instance "web" or "dashboard".
        kind: What it opens: writing, reading, or both (admin).

    Raises:
        KeyRegistryError: The name is empty or taken.
    """
    if not name:
        raise KeyRegistryError("A key needs a name.")
    key = new(kind)
    try:
        connection.execute(load("keys.create"), {"name": name, "kind": kind, "sha256": digest(key)})
    except psycopg.errors.UniqueViolation:
        raise KeyRegistryError(f"There is a key named {name!r} already; see `analytics-collector keys list`.") from None
    return key


def register(connection: Connection, name: str, kind: KeyKind, key: str) -> None:
    """Make sure that exactly this key opens the door under this name.

    Raises:
        KeyRegistryError: The key is so short that it could be guessed.
    """
    if len(key) < 16:
        raise KeyRegistryError(f"The {kind} key given has {len(key)} characters; it needs at least 16.")
    connection.execute(load("keys.register"), {"name": name, "kind": kind, "sha256": digest(key)})


def listing(connection: Connection) -> list[Key]:
    """All keys, also revoked ones, oldest first."""
    return [Key(*row) for row in connection.execute(load("keys.list"))]


def revoke(connection: Connection, name: str) -> None:
    """Close the door to a key, for good.

    Raises:
        KeyRegistryError: No key of this name is valid.
    """
    if connection.execute(load("keys.revoke"), {"name": name}).rowcount == 0:
        raise KeyRegistryError(f"No valid key is named {name!r}; see `analytics-collector keys list`.")
