"""One event that nobody can store, in a batch of 500: its 499 neighbours are stored, and it is accounted for."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

import analytics_sdk
from analytics_sdk import Client
from tests.conftest import WRITE_KEY
from tests.delivery.proxy import Mode, Proxy, limiting, refusing
from tests.programs import Collector

BATCH = 500
WORD = "union select"  # what a firewall that looks for attacks dislikes
ROOMY = 20_000  # bytes on the wire that are let pass at once, of 24,000 that the batch has


class Opaque:
    """Has no form in JSON."""


class Nasty:
    """Raises wherever it is asked anything."""

    def __repr__(self) -> str:
        raise LookupError("no repr")

    __str__ = __repr__


def cycle() -> dict[str, Any]:
    """A mapping that holds itself."""
    made: dict[str, Any] = {}
    made["itself"] = made
    return made


def nested(levels: int) -> Any:
    """Lists in lists."""
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


POISONS: dict[str, Callable[[], Any]] = {
    "NaN": lambda: float("nan"),
    "infinite": lambda: float("-inf"),
    "no JSON form": Opaque,
    "repr raises": Nasty,
    "5 MB": lambda: "x" * 5_000_000,
    "5 MB in parts": lambda: ["x" * 1000] * 5000,
    "tuple keys": lambda: {(1, 2): 3},
    "cycle": cycle,
    "200 levels": lambda: nested(200),
    "100,000 levels": lambda: nested(100_000),
    "lone surrogate": lambda: "\ud800",
    "NUL": lambda: "a\0b",
    "huge number": lambda: 10**5000,
}


@contextlib.contextmanager
def client_of(url: str, folder: Path | None, **options: Any) -> Iterator[Client]:
    """A client that sends nothing before it is flushed, and then as much as it can at once."""
    client = Client(
        url, write_key=WRITE_KEY, spool=folder, flush_interval=60, max_batch_events=BATCH, retry_cap=0.1, **options
    )
    with contextlib.closing(client):
        yield client


def track_around(client: Client, **poison: Any) -> set[str]:
    """Track 499 good events and a poisonous one in their midst; returns the ids of the good ones."""
    good = [client.track("good", {"number": number}) for number in range(BATCH // 2)]
    client.track("poison", **poison)
    good += [client.track("good", {"number": number}) for number in range(BATCH // 2, BATCH - 1)]
    return {event_id for event_id in good if event_id}


def stored(connection: psycopg.Connection, event_type: str) -> set[str]:
    """The ids of an event type in Postgres; each is there once."""
    rows = connection.execute("SELECT event_id::text FROM analytics_event WHERE event_type = %s", [event_type])
    ids = [event_id for (event_id,) in rows]
    assert len(ids) == len(set(ids))
    return set(ids)


def assert_neighbours_stored(client: Client, connection: psycopg.Connection, good: set[str]) -> analytics_sdk.Stats:
    """All good events are in Postgres, and all 500 are in the account."""
    assert len(good) == BATCH - 1
    assert stored(connection, "good") == good
    stats = client.stats()
    assert stats.delivered + stats.rejected + sum(stats.dropped.values()) + sum(stats.refused.values()) == BATCH
    assert stats.accepted + sum(stats.refused.values()) == BATCH
    assert (stats.pending, stats.spooled, stats.duplicate) == (0, 0, 0)
    return stats


@pytest.mark.parametrize("name", POISONS)
def test_a_value_that_cannot_be_stored(
    collector: Collector, connection: psycopg.Connection, tmp_path: Path, name: str, *, spool: bool
) -> None:
    """A value without a form in JSON or in Postgres becomes a marker, or costs its own event and no other."""
    with client_of(collector.url, tmp_path / "spool" if spool else None) as client:
        good = track_around(client, event_data={"value": POISONS[name](), "beside": 1})
        client.flush(30)
        stats = assert_neighbours_stored(client, connection, good)
    rows = connection.execute("SELECT event_data->'beside' FROM analytics_event WHERE event_type = 'poison'").fetchall()
    assert len(rows) == 1 - sum(stats.refused.values())
    assert stats.altered == len(rows)
    assert all(row == (1,) for row in rows)


def test_a_clock_that_is_a_day_ahead(
    collector: Collector, connection: psycopg.Connection, tmp_path: Path, *, spool: bool
) -> None:
    """An event of tomorrow is set aside by the collector, which is counted and told."""
    told: list[tuple[str, str]] = []
    options = {"on_reject": lambda event, reason: told.append((event["event_type"], reason))}
    with client_of(collector.url, tmp_path / "spool" if spool else None, **options) as client:
        good = track_around(client, created_at=datetime.now(UTC) + timedelta(days=1))
        client.flush(30)
        stats = assert_neighbours_stored(client, connection, good)
    assert (stats.rejected, stats.dropped, stats.refused) == (1, {}, {})
    assert connection.execute("SELECT code FROM analytics_reject").fetchall() == [("clock_ahead",)]
    assert [event_type for event_type, _ in told] == ["poison"]
    assert told[0][1].startswith("clock_ahead")


REFUSALS: dict[str, tuple[Mode, str]] = {
    "403 for a word": (refusing(WORD.encode()), WORD),
    "413 for a large event": (limiting(ROOMY), random.Random(1).randbytes(ROOMY).hex()),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_an_event_that_a_proxy_refuses(
    proxy: Proxy, connection: psycopg.Connection, tmp_path: Path, name: str, *, spool: bool
) -> None:
    """An event that a proxy will never let pass is found among its neighbours, and set aside alone."""
    mode, text = REFUSALS[name]
    proxy.become(mode)
    told: list[tuple[str, int]] = []
    options = {"on_drop": lambda reason, count: told.append((reason, count))}
    with client_of(proxy.url, tmp_path / "spool" if spool else None, **options) as client:
        good = track_around(client, event_data={"text": text})
        client.flush(30)
        stats = assert_neighbours_stored(client, connection, good)
    assert (stats.rejected, stats.dropped, stats.refused) == (0, {"refused": 1}, {})
    assert told == [("refused", 1)]
    assert stored(connection, "poison") == set()


def test_a_proxy_that_limits_bodies(
    proxy: Proxy, connection: psycopg.Connection, tmp_path: Path, *, spool: bool
) -> None:
    """Batches are halved until they fit, and nothing is dropped."""
    proxy.become(limiting(2_000))
    with client_of(proxy.url, tmp_path / "spool" if spool else None) as client:
        good = track_around(client)
        client.flush(30)
        stats = assert_neighbours_stored(client, connection, good)
    assert (stats.rejected, stats.dropped, stats.refused) == (0, {}, {})
    assert len(stored(connection, "poison")) == 1
    assert proxy.requests > BATCH // 100
