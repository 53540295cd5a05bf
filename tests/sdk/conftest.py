"""Clients that do not outlive their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analytics_sdk import Client, _default
from analytics_sdk.testing import RecordingTransport

Make = Callable[..., Client]


@pytest.fixture
def make() -> Iterator[Callable[..., Client]]:
    """Makes clients; they are closed after the test, whatever still waits in them."""
    made: list[Client] = []

    def make_one(*args: Any, **options: Any) -> Client:
        made.append(Client(*args, **options))
        return made[-1]

    yield make_one
    for client in made:
        client.close(timeout=0)


@pytest.fixture
def transport() -> RecordingTransport:
    """Keeps what is sent."""
    return RecordingTransport()


@pytest.fixture
def client(make: Callable[..., Client], transport: RecordingTransport) -> Client:
    """A client that sends into `transport`, and only when it is flushed."""
    return make(transport=transport, flush_interval=60)


@pytest.fixture
def no_default_client() -> Iterator[None]:
    """A process in which `init()` has not been called yet."""
    before = _default.client.__dict__.pop("_engine", None)
    yield
    made = _default.client.__dict__.pop("_engine", None)
    if made is not None:
        made.leave(_default.client, timeout=0)
    if before is not None:
        _default.client.use(before)
