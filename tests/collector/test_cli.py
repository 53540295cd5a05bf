"""The command `analytics-collector`: each of its commands, as somebody types it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import psycopg
import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from analytics_collector.cli import main
from tests.conftest import WRITE_KEY
from tests.programs import running, wait_until

COMMAND = [sys.executable, "-m", "analytics_collector"]


# dev


@attrs.frozen
class Dev:
    """A `dev` that is ready, and what it printed."""

    process: subprocess.Popen[str]
    url: str
    write_key: str
    read_key: str
    dsn: str

    def post(self, **records: list[dict[str, Any]]) -> dict[str, Any]:
        """Send records with the key that it printed."""
        return self._ask("/v1/events", self.write_key, json.dumps(records).encode())

    def get(self, path: str) -> dict[str, Any]:
        """Read with the key that it printed."""
        return self._ask(path, self.read_key, None)

    def _ask(self, path: str, key: str, body: bytes | None) -> dict[str, Any]:
        """Send a request with a key, and read the answer."""
        request = urllib.request.Request(f"{self.url}{path}", body, {"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
            return answer


@contextlib.contextmanager
def dev(data: Path, **environ: str) -> Iterator[Dev]:
    """Run `dev --json` on a folder until the end of the block."""
    command = [*COMMAND, "dev", "--json", "--port", "0", "--data", str(data)]
    with running(command, environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Dev(process, **json.loads(process.stdout.readline()))


def event(user_id: int | str) -> dict[str, Any]:
    """A new event of a user."""
    ids = {"event_id": str(uuid.uuid4()), "session_id": f"session of {user_id}"}
    return {"event_type": "click", "created_at": "2026-01-31T12:00:00Z", "user_id": user_id, **ids}


def living() -> dict[int, int]:
    """All processes that are no zombies, each with its parent."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    found = (line.split() for line in listed.splitlines())
    return {int(pid): int(parent) for pid, parent, state in found if not state.startswith("Z")}


def descendants(pid: int) -> set[int]:
    """The processes that this one started, and those that they did."""
    parents = living()
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def test_dev_is_a_whole_collector(folder: Path) -> None:
    """One command, one line of JSON, and events go in, profiles come out; started again, the rows are still there."""
    with dev(folder / "whole") as first:
        assert first.post(events=[event(42), event("ada")]) == {"accepted": 2, "duplicates": 0, "rejected": []}
        assert first.get("/v1/profiles/42")["total_events"] == 1
        with psycopg.connect(first.dsn) as connection:
            assert connection.execute("SELECT count(*) FROM analytics_event").fetchall() == [(2,)]
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(20) == 0
        assert first.process.stdout is not None
        assert first.process.stdout.read() == ""
    keys = {"ANALYTICS_WRITE_KEY": "a write key of mine", "ANALYTICS_READ_KEY": "a read key of mine"}
    with dev(folder / "whole", **keys) as again:
        assert [again.write_key, again.read_key] == list(keys.values())
        assert again.post(events=[event("ada")])["accepted"] == 1
        assert again.get("/v1/profiles/ada")["total_events"] == 2


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 0),
        pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_dev_leaves_nothing_running(folder: Path, number: signal.Signals, code: int) -> None:
    """However it ends, by Ctrl-C, SIGTERM or kill -9, gunicorn and Postgres end with it."""
    with dev(folder / f"ended by {number.name}") as collector:
        assert collector.post(events=[event(1)])["accepted"] == 1
        started = descendants(collector.process.pid)
        assert len(started) >= 4  # gunicorn and a worker, Postgres and a backend
        collector.process.send_signal(number)
        assert collector.process.wait(20) == code
    wait_until(lambda: not started & living().keys(), within=20, what="the end of gunicorn and Postgres")


def test_dev_on_a_port_in_use_says_so(folder: Path) -> None:
    """A port that is taken is one sentence with the way out, before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("dev", "--port", str(port), "--data", str(folder / "never"))
    assert ended.returncode == 1
    assert f"Port {port} cannot be used (Address already in use); choose another with --port." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (folder / "never").exists()


def test_dev_uses_a_given_postgres(dsn: str, folder: Path) -> None:
    """With ANALYTICS_DATABASE_URL set, dev starts no Postgres of its own and leaves that one alone at the end."""
    with dev(folder / "unused", ANALYTICS_DATABASE_URL=dsn) as collector:
        assert collector.dsn == dsn
        assert collector.post(events=[event(1)])["accepted"] == 1
    assert not (folder / "unused").exists()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM analytics_event").fetchall() == [(1,)]
        connection.execute("DELETE FROM analytics_key WHERE name LIKE 'dev-%'")


def test_dev_refuses_a_key_that_could_be_guessed(dsn: str, folder: Path) -> None:
    """A key of one's own that is too short is one sentence, and nothing is left running."""
    environ = {"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_WRITE_KEY": "secret"}
    ended = run("dev", "--port", "0", "--data", str(folder / "unused"), **environ)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        1,
        "Error: The write key given has 6 characters; it needs at least 16.",
    )


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_dev_refuses_what_is_no_port(port: str) -> None:
    """A port that cannot be one is told from the usage, not from a traceback."""
    ended = invoke("dev", "--port", port)
    assert (ended.exit_code, "Invalid value for '--port'" in ended.output) == (2, True)


# The other commands


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(
        [*COMMAND, *arguments], env={**os.environ, **environ}, capture_output=True, text=True, timeout=60, check=False
    )


def invoke(*arguments: str, dsn: str | None = None) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments, env={"ANALYTICS_DATABASE_URL": dsn}, prog_name="analytics-collector")


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["migrate"],
        ["verify"],
        ["rebuild"],
        ["housekeeping"],
        ["housekeeping", "--list"],
        ["keys", "list"],
        ["keys", "create", "--kind", "read", "x"],
    ],
)
def test_a_command_without_a_database_says_what_to_do(arguments: list[str]) -> None:
    """Without ANALYTICS_DATABASE_URL every command says so in one sentence, with both ways out."""
    ended = invoke(*arguments)
    assert ended.exit_code == 1
    assert ended.output == (
        "Error: No database given. Set ANALYTICS_DATABASE_URL=postgresql://user:password@host/name, or run"
        " `analytics-collector dev`, which brings its own Postgres.\n"
    )


@pytest.mark.parametrize("arguments", [["migrate"], ["verify"], ["rebuild"], ["housekeeping"], ["keys", "list"]])
def test_a_command_without_postgres_says_so(arguments: list[str]) -> None:
    """If Postgres does not answer, every command says so in one sentence that shows no password."""
    ended = invoke(*arguments, dsn="postgresql://ada:secret@127.0.0.1:1/x")
    assert (ended.exit_code, len(ended.output.splitlines())) == (1, 1)
    assert ended.output.startswith("Error: The database is away: ")
    assert "secret" not in ended.output


@pytest.mark.parametrize(
    "arguments",
    [["verify"], ["rebuild"], ["housekeeping"], ["keys", "list"], ["keys", "create", "--kind", "read", "x"]],
)
def test_a_command_before_migrate_says_so(new_database: Callable[[], str], arguments: list[str]) -> None:
    """On a database without our tables every command names the one to run first."""
    ended = invoke(*arguments, dsn=new_database())
    assert ended.exit_code == 1
    assert ended.output == "Error: The database lacks our tables: run `analytics-collector migrate` first.\n"


def test_migrate_can_be_run_again(new_database: Callable[[], str]) -> None:
    """Migrating says what it applied, and once there is nothing left to do, just that."""
    dsn = new_database()
    first, second = invoke("migrate", dsn=dsn), invoke("migrate", dsn=dsn)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.output.startswith("Applied 0001_tables\n")
    assert second.output == "The tables are up to date.\n"


def test_keys_are_made_listed_and_revoked(new_database: Callable[[], str]) -> None:
    """A key is printed once and alone, so that a script can take it; the list shows its state, never the key."""
    dsn = new_database()
    invoke("migrate", dsn=dsn)
    key = invoke("keys", "create", "--kind", "write", "web", dsn=dsn).output.strip()
    assert key.startswith("write_")
    made = json.loads(invoke("keys", "create", "--kind", "admin", "--json", "ops", dsn=dsn).output)
    assert (made["name"], made["kind"], made["key"][:6]) == ("ops", "admin", "admin_")
    assert invoke("keys", "revoke", "web", dsn=dsn).output == "web is revoked.\n"
    listed = invoke("keys", "list", dsn=dsn).output
    assert [line.split()[:2] for line in listed.splitlines()] == [["web", "write"], ["ops", "admin"]]
    assert ("revoked" in listed.splitlines()[0], "valid" in listed.splitlines()[1]) == (True, True)
    as_json = invoke("keys", "list", "--json", dsn=dsn).output
    assert [(row["name"], row["revoked_at"] is None) for row in json.loads(as_json)] == [("web", False), ("ops", True)]
    assert not any(secret in text for secret in (key, made["key"]) for text in (listed, as_json))


def test_a_mistake_about_keys_is_one_sentence(new_database: Callable[[], str]) -> None:
    """A name that is taken, or not there, is one sentence and exit code 1."""
    dsn = new_database()
    invoke("migrate", dsn=dsn)
    invoke("keys", "create", "--kind", "write", "web", dsn=dsn)
    taken = invoke("keys", "create", "--kind", "read", "web", dsn=dsn)
    missing = invoke("keys", "revoke", "app", dsn=dsn)
    assert (taken.exit_code, missing.exit_code) == (1, 1)
    assert taken.output.startswith("Error: There is a key named 'web' already")
    assert missing.output.startswith("Error: No valid key is named 'app'")


def test_verify_finds_and_rebuild_mends(client: FlaskClient, connection: psycopg.Connection, dsn: str) -> None:
    """A profile that is not what the rows say makes verify end with 1 and say which; rebuild makes it exact again."""
    headers = {"Authorization": f"Bearer {WRITE_KEY}"}
    client.post("/v1/events", json={"events": [event(1), event(2), event(3)]}, headers=headers)
    right = connection.execute("SELECT * FROM analytics_useranalyticsprofile ORDER BY user_id").fetchall()
    exact = run("verify", ANALYTICS_DATABASE_URL=dsn)
    assert (exact.returncode, exact.stdout) == (0, "Every profile is exact.\n")
    connection.execute("UPDATE analytics_useranalyticsprofile SET total_events = 7 WHERE user_id = 1")
    connection.execute("UPDATE analytics_useranalyticsprofile SET last_seen = now() WHERE user_id = 2")
    found = run("verify", ANALYTICS_DATABASE_URL=dsn)
    assert found.returncode == 1
    assert [line.split(":")[0] for line in found.stdout.splitlines()[:2]] == ["user 1", "user 2"]
    assert found.stdout.splitlines()[2:] == ["2 profiles differ; `rebuild` mends them."]
    as_json = invoke("verify", "--json", dsn=dsn)
    assert (as_json.exit_code, [row["user_id"] for row in json.loads(as_json.output)["wrong"]]) == (1, [1, 2])
    assert invoke("rebuild", dsn=dsn).output == "2 profiles were mended.\n"
    assert invoke("verify", dsn=dsn).exit_code == 0
    mended = connection.execute("SELECT * FROM analytics_useranalyticsprofile ORDER BY user_id").fetchall()
    assert mended == right


def test_verify_shows_how_far_it_is(dsn: str) -> None:
    """On a terminal there is a bar that ends at 100%, on stderr; the result alone is on stdout."""
    ours, theirs = pty.openpty()
    try:
        environ = {**os.environ, "ANALYTICS_DATABASE_URL": dsn, "TERM": "xterm"}
        command = [*COMMAND, "verify"]
        ended = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True)
        assert ended.stdout == b"Every profile is exact.\n"
        assert b"100%" in os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)


def commands(group: click.Group, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands, each with the words that one types."""
    yield words, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)
        else:
            yield (*words, name), command


@pytest.mark.parametrize(("words", "command"), list(commands(main)))
def test_every_command_explains_itself(words: tuple[str, ...], command: click.Command) -> None:
    """`--help` of every command says what it does, and what each of its options is."""
    shown = invoke(*words, "--help")
    assert shown.exit_code == 0
    first_line = (command.help or "missing").strip().splitlines()[0]
    assert first_line in " ".join(shown.output.split())
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []
