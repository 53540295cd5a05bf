"""Clients and buffers that do not outlive their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics_sdk import Client, _default, _file_system, _segment, _spool
from analytics_sdk._buffer import Buffer
from analytics_sdk._spool import Spool
from analytics_sdk._window import Window
from analytics_sdk.testing import RecordingTransport
from tests.sdk import buffers
from tests.sdk.world import Clock, assert_balanced

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


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in the test's folder can be mapped, and are, whatever file system it is on."""
    monkeypatch.setattr(_file_system, "kind_of", lambda _: "ext4")
    with (tmp_path / "probe").open("w+b") as probe:
        window = Window(probe.fileno(), 0, 4096)
        try:
            window.look(1)
        except OSError:
            pytest.skip("this kernel is older than Linux 5.14, or the file system maps nothing")
        finally:
            window.close()
    (tmp_path / "probe").unlink()


@pytest.fixture(params=["written", "through a window"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How records get into a segment's file: all of them by system calls, or all of them through a window."""
    if request.param != "written":
        request.getfixturevalue("windows")
    monkeypatch.setattr(_segment, "_FEW", 1 << 20 if request.param == "written" else 0)
    return str(request.param)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the spool goes by."""
    clock = Clock()
    monkeypatch.setattr(_spool.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def spool_folder(tmp_path: Path) -> Path:
    """Where the spool is."""
    return tmp_path / "spool"


@pytest.fixture
def buffer(spool_folder: Path, way: str) -> Iterator[buffers.Make]:
    """Makes buffers; they are ended after the test."""
    made: list[Buffer] = []

    def make(
        mode: str = "memory", *, records: int = 1000, size: int = 10**6, most: int = 1 << 30, **rest: Any
    ) -> Buffer:
        spool = None if mode == "memory" else Spool(str(spool_folder), "http://collector.test", most)
        told = {"full_batch": 10, "notice": lambda _: None} | rest
        made.append(Buffer(records, size, spool=spool, is_write_ahead=mode == "always", **told))
        return made[-1]

    yield make
    for one in made:
        one.end()
        assert_balanced(one.stats())
