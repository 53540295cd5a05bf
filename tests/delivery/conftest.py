"""What the delivery proofs share: a proxy in front of the collector, and trials with and without a spool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.delivery.proxy import Proxy, proxy_to
from tests.delivery.trial import Size, Trial
from tests.programs import Collector


@pytest.fixture
def proxy(collector: Collector) -> Iterator[Proxy]:
    """A proxy in front of the real collector, which lets everything pass at first."""
    with proxy_to(collector.url) as running:
        yield running


@pytest.fixture
def make_trial(tmp_path: Path, connection: psycopg.Connection, size: Size) -> Callable[..., Trial]:
    """Makes the trial of a test, which sends to the address given."""

    def make(url: str, *, spool: bool, **environ: str) -> Trial:
        return Trial(tmp_path, url, size, connection, tmp_path / "spool" if spool else None, environ)

    return make


@pytest.fixture(params=[True, False], ids=["spool", "memory"])
def spool(request: pytest.FixtureRequest) -> bool:
    """Whether the host has a spool."""
    return bool(request.param)
