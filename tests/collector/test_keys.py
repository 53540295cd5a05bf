"""Keys: made, listed, revoked; and how soon a running collector knows."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from analytics_collector import keys, migrate
from analytics_collector.cli import main
from analytics_collector.exceptions import KeyRegistryError
from tests.programs import run_collector, wait_until

EVENT = (
    b'{"events":[{"event_id":"0190a0b0-0000-7000-8000-000000000000","event_type":"click","user_id":1,'
    b'"created_at":"2026-01-31T12:00:00Z"}]}'
)


@pytest.fixture
def registry(migrated_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection that sees no keys but the test's own, and leaves nothing behind."""
    with psycopg.connect(migrated_dsn) as connection, connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM analytics_key")
        yield connection


@pytest.mark.parametrize("kind", keys.KINDS)
def test_only_the_sha256_of_a_key_is_stored(registry: psycopg.Connection, kind: keys.KeyKind) -> None:
    """A new key says what it opens, is long, and is nowhere in the database but as its digest."""
    origins = ["https://shop.example"] if kind == "browser" else []
    key = keys.create(registry, "web", kind, origins=origins)
    assert key.startswith(f"{kind}_")
    assert len(key) >= len(kind) + 32
    [row] = registry.execute("SELECT name, kind, sha256, k::text FROM analytics_key k").fetchall()
    assert row[:3] == ("web", kind, hashlib.sha256(key.encode()).digest())
    assert key not in row[3]


def test_two_keys_are_never_the_same(registry: psycopg.Connection) -> None:
    """Every key is drawn anew."""
    made = {keys.create(registry, f"key {number}", "write") for number in range(20)}
    assert len(made) == 20


def test_the_list_shows_every_key_and_its_state(registry: psycopg.Connection) -> None:
    """The list has valid and revoked keys, the oldest first."""
    keys.create(registry, "first", "write")
    keys.create(registry, "second", "read")
    keys.revoke(registry, "first")
    found = keys.listing(registry)
    assert [(key.name, key.kind, key.revoked_at is None) for key in found] == [
        ("first", "write", False),
        ("second", "read", True),
    ]


def test_a_name_is_taken_once(registry: psycopg.Connection) -> None:
    """A name that is empty or taken, by a valid or a revoked key, is refused in words."""
    keys.create(registry, "web", "write")
    keys.revoke(registry, "web")
    with pytest.raises(KeyRegistryError, match="There is a key named 'web' already"):
        keys.create(registry, "web", "write")
    with pytest.raises(KeyRegistryError, match="needs a name"):
        keys.create(registry, "", "write")


def test_only_a_valid_key_can_be_revoked(registry: psycopg.Connection) -> None:
    """Revoking what is not there, or is revoked, is refused in words."""
    keys.create(registry, "web", "write")
    keys.revoke(registry, "web")
    for name in ("web", "dashboard"):
        with pytest.raises(KeyRegistryError, match=f"No valid key is named '{name}'"):
            keys.revoke(registry, name)


def test_a_key_registered_again_replaces_the_one_before(registry: psycopg.Connection) -> None:
    """Registering a name again, even a revoked one, makes the new key the only valid one."""
    keys.register(registry, "dev", "write", "the first key of dev")
    keys.revoke(registry, "dev")
    keys.register(registry, "dev", "write", "the second key of dev")
    [key] = keys.listing(registry)
    assert (key.sha256, key.revoked_at) == (keys.digest("the second key of dev"), None)


def test_a_key_that_could_be_guessed_is_refused(registry: psycopg.Connection) -> None:
    """A key of the user's own needs 16 characters, and the refusal does not repeat it."""
    with pytest.raises(KeyRegistryError, match="it needs at least 16") as refusal:
        keys.register(registry, "dev", "write", "too-short-a-key")
    assert "too-short-a-key" not in str(refusal.value)


def test_a_running_collector_learns_of_keys(new_database: Callable[[], str], folder: Path) -> None:
    """In every worker of a running collector a new key opens at once, and a revoked one is shut within the limit.

    And whatever happens, no key, right or wrong, is ever written to a log or an answer.
    """
    logs = folder / "keys.log"
    options = f"--error-logfile {logs} --access-logfile {logs} --capture-output --log-level debug"
    refresh = 1  # second
    settings = {"ANALYTICS_KEY_REFRESH_SECONDS": str(refresh), "GUNICORN_CMD_ARGS": options}
    answers: list[str] = []

    def statuses(key: str) -> set[int]:
        asked = [ask(running.url, key) for _ in range(20)]
        answers.extend(body for _, body in asked)
        return {status for status, _ in asked}

    with psycopg.connect(new_database(), autocommit=True) as registry:
        migrate.apply(registry)
        with run_collector(registry.info.dsn, workers=2, **settings) as running:
            assert statuses("write_a_key_that_nobody_made") == {401}
            key = keys.create(registry, "web", "write")
            wait_until(lambda: statuses(key) == {200}, within=2, what="the new key opening every worker")
            reader = keys.create(registry, "dashboard", "read")
            wait_until(lambda: any("This is a read key" in body for _, body in [ask(running.url, reader)]), within=1)
            registry.execute("ALTER TABLE analytics_useranalyticsprofile ALTER first_seen TYPE bytea USING NULL")
            assert ask(running.url, key, EVENT)[0] == 500
            keys.revoke(registry, "web")
            revoked_at = time.monotonic()
            wait_until(lambda: time.monotonic() >= revoked_at + refresh, within=refresh + 1)
            assert statuses(key) == {401}
    written = logs.read_text() + "".join(answers)
    assert ("POST /v1/events" in written, "Unexpected error" in written) == (True, True)
    for secret in (key, reader, "write_a_key_that_nobody_made"):
        assert secret not in written


def test_limits_are_set_and_taken_away(registry: psycopg.Connection) -> None:
    """What is not given stays as it is, 0 is no limit, and a key that is not valid is told."""
    keys.create(registry, "web", "write", rate=1000, daily=5_000_000)
    keys.limit(registry, "web", rate=2000)
    keys.limit(registry, "web", daily=0)
    [key] = keys.listing(registry)
    assert (key.rate, key.daily) == (2000, None)
    with pytest.raises(KeyRegistryError, match="No valid key is named 'app'"):
        keys.limit(registry, "app", rate=1)


def test_a_rotated_key_has_two_forms_for_a_while(registry: psycopg.Connection) -> None:
    """Name, kind and limits stay; the key of before opens until the end of the overlap, the one before that no more."""
    made = [keys.create(registry, "web", "write", rate=5), *(keys.rotate(registry, "web", 3600) for _ in range(2))]
    [key] = keys.listing(registry)
    assert (key.name, key.kind, key.rate) == ("web", "write", 5)
    now = key.created_at
    assert key.digests(now) == [keys.digest(made[2]), keys.digest(made[1])]
    assert key.digests(now + timedelta(seconds=3601)) == [keys.digest(made[2])]
    with pytest.raises(KeyRegistryError, match="No valid key is named 'app'"):
        keys.rotate(registry, "app", 0)


def test_revoking_shuts_both_forms_of_a_key(registry: psycopg.Connection) -> None:
    """A key that is revoked in the middle of a rotation opens nothing, and neither does the one before."""
    keys.create(registry, "web", "write")
    keys.rotate(registry, "web", 3600)
    keys.revoke(registry, "web")
    [key] = keys.listing(registry)
    assert (key.revoked_at is not None, key.former_sha256) == (True, None)


def test_a_rotation_needs_no_restart(new_database: Callable[[], str]) -> None:
    """In every worker both keys open during the overlap; once it is over, or after revoking, the old one is shut."""
    with psycopg.connect(new_database(), autocommit=True) as registry:
        migrate.apply(registry)
        old = keys.create(registry, "web", "write")
        with run_collector(registry.info.dsn, workers=4, ANALYTICS_KEY_REFRESH_SECONDS="1") as running:

            def statuses(*asked: str) -> list[int]:
                return [ask(running.url, key)[0] for key in asked for _ in range(12)]

            assert set(statuses(old)) == {200}
            new = keys.rotate(registry, "web", 3600)
            wait_until(lambda: set(statuses(new)) == {200}, within=5, what="the new key opening every worker")
            assert set(statuses(old, new)) == {200}
            registry.execute("UPDATE analytics_key SET former_until = now()")
            wait_until(lambda: set(statuses(old)) == {401}, within=5, what="the end of the old key in every worker")
            assert set(statuses(new)) == {200}
            keys.revoke(registry, "web")
            wait_until(lambda: set(statuses(new)) == {401}, within=5, what="the end of the new key in every worker")


def test_keys_as_somebody_types_them(new_database: Callable[[], str]) -> None:
    """The commands make a key with limits, change them, rotate it, and list it all."""
    with psycopg.connect(new_database(), autocommit=True) as registry:
        migrate.apply(registry)
        environ = {"ANALYTICS_DATABASE_URL": registry.info.dsn}

        def say(*words: str) -> str:
            said = CliRunner().invoke(main, ["keys", *words], env=environ)
            return said.output if said.exit_code == 0 else f"{said.exit_code}: {said.output}"

        key = say("create", "--kind", "browser", "--rate", "1000", "--daily", "9", "--origin", "https://a.b", "page")
        assert key.startswith("browser_")
        assert say("set", "page", "--rate", "5", "--daily", "0") == "page is changed.\n"
        assert say("set", "page").startswith("2: ")
        assert json.loads(say("rotate", "page", "--json"))["key"] != key.strip()
        [listed] = json.loads(say("list", "--json"))
        assert (listed["rate"], listed["daily"], listed["origins"]) == (5, None, ["https://a.b"])
        assert "valid  5 records/s  https://a.b  the key of before until " in say("list")
        assert say("create", "--kind", "browser", "other").startswith("1: Error: A browser key needs the origins")


def ask(url: str, key: str, body: bytes = b"{}") -> tuple[int, str]:
    """Send a batch over a connection of its own; the status and the answer."""
    request = urllib.request.Request(f"{url}/v1/events", body, {"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.dumps(json.load(response))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
