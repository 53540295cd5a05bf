"""The default client, which the functions of the package act on.

There is one such client for the life of the process, and the functions are its methods, so that they cost nothing
more. What `init()` replaces is its engine.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from ._client import Client
from ._config import make_config
from ._engine import Engine, engine_for, has_stand_ins
from .exceptions import ConfigError

if TYPE_CHECKING:
    from ._transport import Transport

logger = logging.getLogger("analytics_sdk")

_lock = threading.RLock()


class _DefaultClient(Client):
    """A client that gets its engine from `init()`, or from the environment when it is first needed."""

    def __init__(self) -> None:
        pass

    def __getattr__(self, name: str) -> Engine:
        """Make the engine: nobody has called `init()` yet."""
        if name != "_engine":
            raise AttributeError(name)
        with _lock:
            return self.__dict__.get("_engine") or self.use(_engine_from_environment(self))

    def use(self, engine: Engine) -> Engine:
        """Use an engine from now on."""
        self._engine = engine
        return engine

    @property
    def engine_so_far(self) -> Engine | None:
        """The engine, if there is one yet."""
        return self.__dict__.get("_engine")


client: Final = _DefaultClient()


def init(
    url: str | None = None, *, write_key: str | None = None, transport: Transport | None = None, **options: Any
) -> Client:
    """Set up the default client; everything is as for `Client`. Called again, it sets it up anew.

    What was accepted before is sent first.

    Raises:
        ConfigError: A setting is missing or makes no sense; then everything is as it was.
    """
    is_alone = transport is None and not has_stand_ins()
    config = make_config({"url": url, "write_key": write_key, **options}, needs_collector=is_alone)
    with _lock:
        before = client.engine_so_far
        engine = client.use(engine_for(client, config, transport))
    if before is not None and before is not engine:
        before.leave(client, timeout=2.0)
    return client


def _engine_from_environment(user: Client) -> Engine:
    """The engine that the environment describes; if it does not, one that accepts nothing."""
    try:
        return engine_for(user, make_config({}, needs_collector=not has_stand_ins()), None)
    except ConfigError as error:
        logger.warning(
            "Nothing is tracked, as analytics_sdk.init() was not called and the environment does not do: %s", error
        )
        idle = make_config({"url": "http://127.0.0.1", "write_key": "none", "enabled": False}, {})
        return engine_for(user, idle, None)


def _after_fork() -> None:
    """Another thread of the parent may have held the lock; in the child nobody would ever release it."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)

track = client.track
identify = client.identify
session = client.session
start_session = client.start_session
end_session = client.end_session
flush = client.flush
aflush = client.aflush
close = client.close
stats = client.stats
