"""The default client, which the functions of the package act on."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from ._client import Client
from ._transport import Transport
from .exceptions import ConfigError

_P = ParamSpec("_P")
_R = TypeVar("_R")

logger = logging.getLogger("analytics_sdk")

_lock = threading.Lock()
_client: Client | None = None


def init(
    url: str | None = None, *, write_key: str | None = None, transport: Transport | None = None, **options: Any
) -> Client:
    """Make the default client; everything is as for `Client`. Called again, it replaces and closes the one before.

    Raises:
        ConfigError: A setting is missing or makes no sense.
    """
    global _client  # this module is the one place of it
    made = Client(url, write_key=write_key, transport=transport, **options)
    with _lock:
        before, _client = _client, made
    if before is not None:
        before.close()
    return made


def default_client() -> Client:
    """The default client; made from the environment if `init()` was not called, and idle if that has no address."""
    return _client or _from_environment()


def _from_environment() -> Client:
    global _client
    with _lock:
        if _client is None:
            try:
                _client = Client()
            except ConfigError as error:
                logger.warning("Nothing is tracked, as analytics_sdk.init() was not called: %s", error)
                _client = Client("http://127.0.0.1", write_key="none", enabled=False)
        return _client


def _on_default(method: Callable[Concatenate[Client, _P], _R]) -> Callable[_P, _R]:
    """Turn a method of clients into a function that acts on the default one."""

    @functools.wraps(method)
    def function(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return method(_client or _from_environment(), *args, **kwargs)

    signature = inspect.signature(method)
    parameters = list(signature.parameters.values())[1:]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


def _after_fork() -> None:
    """Another thread of the parent may have held the lock; in the child nobody would ever release it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)

track = _on_default(Client.track)
identify = _on_default(Client.identify)
session = _on_default(Client.session)
start_session = _on_default(Client.start_session)
end_session = _on_default(Client.end_session)
flush = _on_default(Client.flush)
close = _on_default(Client.close)
stats = _on_default(Client.stats)
