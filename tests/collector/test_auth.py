"""The doorkeeper's memory: keys are known while Postgres is away."""

import contextlib
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from analytics_collector import keys
from analytics_collector.auth import Doorkeeper
from analytics_collector.db import Database
from analytics_collector.exceptions import UnauthorizedError, UnavailableError
from tests.programs import wait_until

REFRESH = 0.2  # seconds


@pytest.fixture
def doorkeeper(registry: psycopg.Connection) -> Iterator[Doorkeeper]:
    """A doorkeeper that reads the keys again five times a second, and waits a second for Postgres."""
    with contextlib.closing(Database(registry.info.dsn, patience=1.0)) as database:
        yield Doorkeeper(database, refresh=REFRESH)


def test_known_keys_open_while_the_registry_is_away(doorkeeper: Doorkeeper, registry: psycopg.Connection) -> None:
    """A key that was known opens, and a wrong one does not, as long as the keys cannot be read again."""
    key = keys.create(registry, "web", "write")
    assert doorkeeper.admit(f"Bearer {key}", "write").name == "web"
    registry.execute("ALTER TABLE analytics_key RENAME TO elsewhere")
    opened_until = time.monotonic() + 3 * REFRESH
    wait_until(
        lambda: doorkeeper.admit(f"Bearer {key}", "write").name == "web" and time.monotonic() > opened_until,
        what="the key opening all the time",
    )
    with pytest.raises(UnauthorizedError):
        doorkeeper.admit("Bearer write_a_key_that_nobody_made", "write")


def test_nobody_queues_for_the_registry(doorkeeper: Doorkeeper, registry: psycopg.Connection) -> None:
    """While one request waits for the keys to be read again, all others go by the old list at once."""
    key = keys.create(registry, "web", "write")
    doorkeeper.admit(f"Bearer {key}", "write")
    with registry.transaction():
        registry.execute("LOCK TABLE analytics_key IN ACCESS EXCLUSIVE MODE")
        read_at = time.monotonic()
        wait_until(lambda: time.monotonic() > read_at + REFRESH)
        waits: list[float] = []
        threads = [threading.Thread(target=_time_of, args=(doorkeeper, key, waits)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(waits) == 8
    assert sum(wait > 0.5 for wait in waits) <= 1


def test_without_any_list_the_answer_is_to_come_again(doorkeeper: Doorkeeper, registry: psycopg.Connection) -> None:
    """A collector that could never read the keys asks to be asked again, and calls no key wrong."""
    registry.execute("DROP TABLE analytics_key")
    with pytest.raises(UnavailableError):
        doorkeeper.admit("Bearer write_a_key_that_may_be_right", "write")


def _time_of(doorkeeper: Doorkeeper, key: str, waits: list[float]) -> None:
    started = time.monotonic()
    doorkeeper.admit(f"Bearer {key}", "write")
    waits.append(time.monotonic() - started)
