"""Who may come in: a request's key is compared with the registered ones.

The keys are read into memory and read again every few seconds, so a request costs no query, a revoked key
closes within `key_refresh_seconds`, and a new one opens at once.
"""

from __future__ import annotations

import hmac
import threading
import time
from typing import Final

from . import keys, logs
from .db import Database
from .exceptions import UnauthorizedError, UnavailableError
from .keys import Key, KeyKind

_SHORTEST_REFRESH: Final = 0.2  # seconds; wrong keys must not become queries


class Doorkeeper:
    """Knows the valid keys.

    Args:
        database: Where the keys are.
        refresh: Longest age of the list, in seconds.
    """

    def __init__(self, database: Database, *, refresh: float = 5.0) -> None:
        self._database = database
        self._refresh = refresh
        self._reading = threading.Lock()
        self._keys: tuple[Key, ...] = ()
        self._read_at = float("-inf")

    def admit(self, authorization: str | None, kind: KeyKind, *, may_ask: bool = True) -> Key:
        """Find the key that an `Authorization` header holds.

        Args:
            authorization: The header, `Bearer <key>` (RFC 6750).
            kind: What the request wants to do; an admin key may do everything.
            may_ask: False goes by the keys that are known, however old that is, as nobody shall wait for Postgres.

        Raises:
            UnauthorizedError: There is no key, or none that opens this door.
            UnavailableError: The keys have never been read and Postgres is away.
        """
        sha256 = keys.digest(_bearer(authorization))
        key = self._find(sha256, self._refresh if may_ask else float("inf"))
        if key is None and may_ask:
            key = self._find(sha256, _SHORTEST_REFRESH)
        if key is None:
            raise UnauthorizedError(
                "The key is wrong or revoked", "`analytics-collector keys list` shows the valid ones"
            )
        if key.kind not in (kind, "admin"):
            raise UnauthorizedError(f"This is a {key.kind} key", f"this address wants a {kind} key")
        logs.note(key=key.name)
        return key

    def _find(self, sha256: bytes, oldest: float) -> Key | None:
        # Every key is compared, and each in constant time: how long it takes tells nothing.
        found = [key for key in self._current(oldest) if hmac.compare_digest(key.sha256, sha256)]
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
