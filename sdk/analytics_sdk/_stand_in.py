"""Engines that stand in for the real ones while a test records: no thread, no disk, no network."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from . import _default, _engine, _process
from ._client import Client
from ._config import Config, make_config
from ._encoder import Encoder
from ._engine import Engine
from ._ledger import Report
from ._redaction import Redaction
from ._transport import Outcome, Transport

_PATIENCE: Final = 1.0  # seconds; nothing here takes any, but for a signal handler that tracks in its midst


class StandIn(Engine):
    """An engine that keeps what it accepts, and whose transport is none of the network's.

    Args:
        config: The client's; what reaches out of the process is switched off, and everything is tracked.
        transport: What is told of all records sooner or later, as the account counts them.
        records: Where records are put, in the order of their acceptance.

    Attributes:
        given: The client's settings as they are.
    """

    def __init__(self, config: Config, transport: Transport, records: list[bytes]) -> None:
        super().__init__(_tame(config), transport)
        self.given = config
        self._records = records
        self.put = self._put

    def _put(self, record: bytes) -> None:
        self.buffer.put(record)
        self._records.append(record)

    def _notice(self, waiting: int) -> None:
        """Start no thread: whoever fills a batch sends it."""
        if waiting >= self.config.max_batch_events:
            self.empty()

    def empty(self) -> None:
        """Send all that waits, whatever was accepted meanwhile."""
        self.worker.drain(sys.maxsize, time.monotonic() + _PATIENCE)

    def stored(self, value: Any) -> Any:
        """What is stored of a value."""
        encoder = Encoder(convert=self.config.encoder, redaction=Redaction(()), max_bytes=self.config.max_event_bytes)
        line = encoder.event("", "any", datetime.now(UTC), None, None, None, {"value": value})
        return msgspec.json.decode(line)["event_data"]["value"]


def _tame(config: Config) -> Config:
    return msgspec.structs.replace(config, enabled=True, sample_rate=1.0, spool="", handle_sigterm=False)


class StandIns:
    """The stand-ins of one recording: one for each set of settings.

    Args:
        transport: For all of them.

    Attributes:
        records: What all of them have accepted, in order.
        engines: All of them.
    """

    def __init__(self, transport: Transport) -> None:
        self.records: list[bytes] = []
        self._transport = transport
        self.engines: list[StandIn] = []

    def engine(self, config: Config) -> StandIn:
        """The stand-in for an engine with these settings; another one if that was closed."""
        for engine in self.engines:
            if engine.given == config and not engine.buffer.is_closed:
                return engine
        self.engines.append(StandIn(config, self._transport, self.records))
        return self.engines[-1]

    def close(self) -> None:
        """Let them go."""
        for engine in self.engines:
            engine.empty()
            engine.close(0.0)


@contextlib.contextmanager
def standing_in(stand_ins: StandIns) -> Iterator[None]:
    """Have all clients use stand-ins for a block; afterwards each has the engine that it had.

    A client that was made in the block goes over to what stands in around it, or else tracks nothing until the
    next such block: it must not begin to send when the test is over.
    """
    before = {client: client._engine for client in _clients()}  # noqa: SLF001  # our own class
    had_default = _default.client.engine_so_far is not None
    try:
        with _engine.standing_in(stand_ins.engine):
            for client in before:
                _give(client, stand_ins.engine(_config_of(client)))
            yield
    finally:
        made = _clients() - before.keys()
        for client, engine in before.items():
            client._engine = engine  # noqa: SLF001
        if not had_default:
            made.discard(_default.client)
            vars(_default.client).pop("_engine", None)
        for client in made:
            _put_aside(client)
        stand_ins.close()


def _clients() -> set[Client]:
    """All clients whose engine is not closed."""
    return {client for engine in _process.engines() for client in engine.clients}


def _give(client: Client, engine: Engine) -> None:
    client._engine = engine  # noqa: SLF001  # our own class
    engine.clients.add(client)


_put_aside_with: Final[weakref.WeakKeyDictionary[Client, Config]] = weakref.WeakKeyDictionary()


def _put_aside(client: Client) -> None:
    """Have a client track nothing for now; what it was set up with is kept in mind."""
    config = _config_of(client)
    if _engine.has_stand_ins():
        client._engine = _engine.engine_for(client, config, None)  # noqa: SLF001  # our own class
    else:
        _put_aside_with[client] = config
        _give(client, _idle())


def _config_of(client: Client) -> Config:
    """What a client was set up with."""
    engine = client._engine  # noqa: SLF001  # our own class
    if isinstance(engine, _Idle):
        return _put_aside_with[client]
    return engine.given if isinstance(engine, StandIn) else engine.config


class _Nowhere:
    """The transport of an engine that accepts nothing."""

    def send(self, body: bytes, timeout: float) -> Outcome:  # noqa: ARG002
        """There is nothing to send."""
        return Outcome(fate="stored")

    def reset(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


class _Idle(Engine):
    """The engine of all clients that are put aside: it accepts nothing, and is there for the next of them."""

    def __init__(self) -> None:
        super().__init__(make_config({"enabled": False}, {}, needs_collector=False), _Nowhere())

    def leave(self, client: object, timeout: float) -> Report:
        """Let a client go, and no more than that."""
        self.clients.discard(client)
        return self.flush(timeout)


_idle: Final = functools.cache(_Idle)
