"""Who and where: what an event inherits when it is tracked inside a request or a `with session()` block.

A context variable, so threads and asyncio tasks each see their own.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

import msgspec

from ._event import UserId

_MOST_STARTED: Final = 10_000  # sessions


class Scope(msgspec.Struct):
    """The session that is going on here.

    Attributes:
        user_id: None as long as nobody is known; `identify()` sets it.
        tracked: Whether an event has inherited from it.
    """

    session_id: str
    user_id: UserId | None = None
    ip_address: str | None = None
    tracked: bool = False


class Started:
    """The sessions that were started here by name and have not ended, the latest of them."""

    def __init__(self) -> None:
        self._scopes: OrderedDict[str, Scope] = OrderedDict()

    def add(self, scope: Scope) -> None:
        """Remember a session, and forget the oldest if there are too many."""
        self._scopes[scope.session_id] = scope
        if len(self._scopes) > _MOST_STARTED:
            self._scopes.popitem(last=False)

    def get(self, session_id: str) -> Scope | None:
        """The scope of a session, if it is remembered."""
        return self._scopes.get(session_id)

    def forget(self, session_id: str) -> None:
        """Forget a session that has ended."""
        self._scopes.pop(session_id, None)


current: ContextVar[Scope | None] = ContextVar("analytics_sdk_scope", default=None)


@contextlib.contextmanager
def entered(scope: Scope) -> Iterator[Scope]:
    """Make a scope the current one for a block."""
    token = current.set(scope)
    try:
        yield scope
    finally:
        current.reset(token)
