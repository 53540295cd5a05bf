"""Who may come in: a request's key is compared with the registered ones.

The keys are read into memory and read again every few seconds, so a request costs no query, a revoked key
closes within `key_refresh_seconds`, and a new one opens at once.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from . import keys, logs
from .db import Database
from .exceptions import UnauthorizedError, UnavailableError
from .keys import Key, KeyKind
from .meter import Meter

_SHORTEST_REFRESH: Final = 0.2  # seconds; wrong keys must not become queries
_OPENED_BY: Final[Mapping[KeyKind, tuple[KeyKind, ...]]] = {"write": ("write", "browser", "admin")}


class Doorkeeper:
    """Knows the valid keys.

    Args:
        database: Where the keys are.
        refresh: Longest age of the list, in seconds.
        meter: Knows how much each key has sent.
    """

    def __init__(self, database: Database, *, refresh: float = 5.0, meter: Meter | None = None) -> None:
        self._database = database
        self._meter = meter or Meter(database)
        self._refresh = refresh
        self._reading = threading.Lock()
        self._keys: tuple[Key, ...] = ()
        self._read_at = float("-inf")

    def admit(
        self, authorization: str | None, kind: KeyKind, *, origin: str | None = None, may_ask: bool = True
    ) -> Key:
        """Find the key that an `Authorization` header holds.

        Args:
            authorization: The header, `Bearer <key>` (RFC 6750).
            kind: What the request wants to do; an admin key may do everything.
            origin: The web page that sends it, as the browser says. Whoever sends with a program of their own can say
                any: that keeps other sites' pages out, not attackers.
            may_ask: False goes by the keys that are known, however old that is, as nobody shall wait for Postgres.

        Raises:
            UnauthorizedError: There is no key, or none that opens this door, or a browser key that is used from a page
                which is not on its list, or from no page.
            TooManyRequestsError: The key has sent more than it may; nobody needs to read the body.
            UnavailableError: The keys have never been read and Postgres is away.
        """
        key = self._find(_bearer(authorization), may_ask=may_ask)
        if key is None:
            raise UnauthorizedError(
                "The key is wrong or revoked", "`analytics-collector keys list` shows the valid ones"
            )
        if key.kind not in _OPENED_BY.get(kind, (kind, "admin")):
            raise UnauthorizedError(f"This is a {key.kind} key", f"this address wants a {kind} key")
        if key.kind == "browser" and origin not in key.origins:
            raise UnauthorizedError(
                "This page may not use this key",
                f"its origin is {origin}; `analytics-collector keys set --origin` changes the list",
            )
        now = datetime.now(UTC)
        self._meter.check(key, now)
        if kind == "read":
            self._meter.charge(key, 1, now)
        logs.note(key=key.name)
        return key

    def origins(self) -> set[str]:
        """The web pages that may use some browser key.

        Raises:
            UnavailableError: The keys have never been read and Postgres is away.
        """
        return {origin for key in self._current(self._refresh) for origin in key.origins if key.kind == "browser"}

    def _find(self, text: str, *, may_ask: bool = True) -> Key | None:
        sha256 = keys.digest(text)
        if not may_ask:
            return self._find_digest(sha256, float("inf"))
        return self._find_digest(sha256, self._refresh) or self._find_digest(sha256, _SHORTEST_REFRESH)

    def _find_digest(self, sha256: bytes, oldest: float) -> Key | None:
        # Every key is compared, and each in constant time: how long it takes tells nothing.
        now = datetime.now(UTC)
        digests = [(digest, key) for key in self._current(oldest) for digest in key.digests(now)]
        found = [key for digest, key in digests if hmac.compare_digest(digest, sha256)]
        return found[0] if found else None

    def _current(self, oldest: float) -> tuple[Key, ...]:
        """The valid keys; those who come while they are read again go by the old list."""
        if not self._was_read:
            self._read()  # without the lock: nobody's wait for Postgres adds to another's
        elif self._age > oldest and self._reading.acquire(blocking=False):
            try:
                self._read()
            finally:
                self._reading.release()
        return self._keys

    @property
    def _age(self) -> float:
        return time.monotonic() - self._read_at

    def _read(self) -> None:
        """Read the keys. If Postgres is away the old list stands: whoever wants to store something will hear of it."""
        try:
            found = self._database.run(keys.listing)
        except UnavailableError:
            if not self._was_read:
                raise
        else:
            self._keys = tuple(key for key in found if key.revoked_at is None)
        self._read_at = time.monotonic()

    @property
    def _was_read(self) -> bool:
        return self._read_at > float("-inf")


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise UnauthorizedError("No key was sent", "send the header `Authorization: Bearer <key>`")
    return key.strip()
