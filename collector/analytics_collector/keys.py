"""The keys that open the collector's doors: made, listed and revoked. Only their sha256 is stored."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import attrs
import psycopg

from .db import Connection
from .exceptions import KeyRegistryError
from .sql import load

KeyKind = Literal["write", "browser", "read", "admin"]
KINDS: Final[tuple[KeyKind, ...]] = ("write", "browser", "read", "admin")
_ORIGIN: Final = re.compile(r"https?://[a-z0-9._-]+(:[0-9]+)?|https?://\[[0-9a-f:]+\](:[0-9]+)?")


@attrs.frozen
class Key:
    """One row of `analytics_key`.

    Attributes:
        sha256: The digest of the key; the key itself is shown once, when it is made.
        revoked_at: None as long as the key opens the door.
        rate: Most records a second, or None.
        daily: Most records a day, in UTC, or None.
        origins: The web pages that may use it, if it is a browser key.
        former_sha256: The digest of the key that was replaced by this one.
        former_until: Until when that one opens the door as well.
    """

    name: str
    kind: KeyKind
    sha256: bytes
    created_at: datetime
    revoked_at: datetime | None
    rate: int | None = None
    daily: int | None = None
    origins: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    former_sha256: bytes | None = None
    former_until: datetime | None = None

    def digests(self, now: datetime) -> list[bytes]:
        """What opens the door at this time: two during a rotation."""
        is_rotating = self.former_sha256 is not None and self.former_until is not None and now < self.former_until
        return [self.sha256, self.former_sha256] if is_rotating and self.former_sha256 else [self.sha256]


def digest(key: str) -> bytes:
    """What is stored of a key. Keys are long and random, so no slow hash is needed."""
    return hashlib.sha256(key.encode()).digest()


def new(kind: KeyKind) -> str:
    """Make up a key: 192 random bits, and a word that tells what it opens."""
    return f"{kind}_{secrets.token_urlsafe(24)}"


def create(
    connection: Connection,
    name: str,
    kind: KeyKind,
    *,
    rate: int | None = None,
    daily: int | None = None,
    origins: Sequence[str] = (),
) -> str:
    """Make a key and return it; this is the only time that it is seen.

    Args:
        connection: Inside a transaction, or autocommitting.
        name: How people call it, for instance "web" or "dashboard".
        kind: What it opens: writing, writing from web pages (browser), reading, or all (admin).
        rate: Most records a second, or None.
        daily: Most records a day, in UTC, or None.
        origins: The web pages that may use it: exactly those that a browser key needs.

    Raises:
        KeyRegistryError: The name is empty or taken, or the origins are wrong.
    """
    if not name:
        raise KeyRegistryError("A key needs a name.")
    _check_origins(kind, origins)
    key = new(kind)
    columns = {"name": name, "kind": kind, "sha256": digest(key), "rate": rate, "daily": daily}
    try:
        connection.execute(load("keys.create"), {**columns, "origins": list(origins)})
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


def limit(
    connection: Connection,
    name: str,
    *,
    rate: int | None = None,
    daily: int | None = None,
    origins: Sequence[str] | None = None,
) -> None:
    """Change what a key may do; running collectors notice within seconds.

    Args:
        connection: Inside a transaction, or autocommitting.
        name: Of a valid key.
        rate: Most records a second; 0 is no limit, None leaves it as it is.
        daily: Most records a day, in UTC; the same.
        origins: The web pages that may use it; None leaves them as they are.

    Raises:
        KeyRegistryError: No key of this name is valid, or the origins are wrong.
    """
    found = connection.execute(load("keys.kind"), {"name": name}).fetchone()
    if found is None:
        raise _not_valid(name)
    if origins is not None:
        _check_origins(found[0], origins)
    columns = {"name": name, "rate": rate, "daily": daily, "origins": None if origins is None else list(origins)}
    connection.execute(load("keys.limit"), columns)


def rotate(connection: Connection, name: str, overlap: float) -> str:
    """Make a new key under a name that there is, and return it; this is the only time that it is seen.

    Args:
        connection: Inside a transaction, or autocommitting.
        name: Of a valid key; kind, limits and counts stay.
        overlap: Seconds in which the key of before opens the door as well. One before that is shut at once.

    Raises:
        KeyRegistryError: No key of this name is valid.
    """
    found = connection.execute(load("keys.kind"), {"name": name}).fetchone()
    if found is None:
        raise _not_valid(name)
    key = new(found[0])
    connection.execute(load("keys.rotate"), {"name": name, "sha256": digest(key), "overlap": overlap})
    return key


def revoke(connection: Connection, name: str) -> None:
    """Close the door to a key, for good.

    Raises:
        KeyRegistryError: No key of this name is valid.
    """
    if connection.execute(load("keys.revoke"), {"name": name}).rowcount == 0:
        raise _not_valid(name)


def _not_valid(name: str) -> KeyRegistryError:
    return KeyRegistryError(f"No valid key is named {name!r}; see `analytics-collector keys list`.")


def _check_origins(kind: KeyKind, origins: Sequence[str]) -> None:
    wrong = [origin for origin in origins if not _ORIGIN.fullmatch(origin)]
    if wrong:
        raise KeyRegistryError(f"{wrong[0]!r} is no origin; write it like https://shop.example, without a path.")
    if kind == "browser" and not origins:
        raise KeyRegistryError("A browser key needs the origins of the pages that may use it: --origin https://...")
    if kind != "browser" and origins:
        raise KeyRegistryError(f"A {kind} key is for programs, which have no origin; make a browser key.")
