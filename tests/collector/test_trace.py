"""What a request leaves behind: its id, its line in the log, headers; and what it never leaves: keys and contents."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from analytics_collector import logs
from tests.collector.batches import body, event
from tests.collector.operating import READ, Reply, ask, logging_collector, workers_of
from tests.conftest import ADMIN_KEY, READ_KEY, WRITE_KEY
from tests.programs import free_port, wait_until

WRITE = {"Authorization": f"Bearer {WRITE_KEY}"}
SECRET = "the-contents-of-an-event"

SECURITY = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


# Request ids


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 64, "01941f29-7c00-7aaa-8aaa-aaaaaaaaaaaa"])
def test_a_request_keeps_its_id(client: FlaskClient, given: str) -> None:
    """An id that a proxy or an app has given comes back, so that its log and ours can be laid side by side."""
    assert client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a;b", "ä", '"', "a\u2028b"])
def test_a_request_without_a_good_id_gets_one(client: FlaskClient, given: str | None) -> None:
    """What is too long or could break a log is replaced, by another id each time."""
    headers = {} if given is None else {"X-Request-ID": given}
    made = [client.get("/healthz", headers=headers).headers["X-Request-ID"] for _ in range(2)]
    assert given not in made
    assert made[0] != made[1]
    assert all(len(found) == 16 and found.isalnum() for found in made)


# Headers


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/healthz", {}, 200),
        ("GET", "/v1/events", READ, 200),
        ("GET", "/metrics", READ, 200),
        ("POST", "/v1/events", WRITE, 400),
        ("GET", "/v1/events", {}, 401),
        ("GET", "/nowhere", {}, 404),
        ("DELETE", "/v1/events", {}, 405),
    ],
)
def test_every_answer_is_safe_in_a_browser(
    client: FlaskClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Whatever is answered, no browser guesses its type, runs it, frames it, or keeps it."""
    response = client.open(path, method=method, headers=headers)
    assert response.status_code == status
    assert {name: response.headers[name] for name in SECURITY} == SECURITY


# The log


def lines(log: Path) -> list[dict[str, Any]]:
    """What a log in JSON says."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def line_of(log: Path, reply: Reply) -> dict[str, Any]:
    """The line of a request."""
    (found,) = [line for line in lines(log) if line.get("request_id") == reply.headers["x-request-id"]]
    return found


def test_a_request_is_a_line_of_json(dsn: str, tmp_path: Path) -> None:
    """Every line is JSON, gunicorn's too; a request's has id, method, path, status, seconds and whose key it was."""
    log = tmp_path / "log"
    with logging_collector(dsn, log, workers=1, ANALYTICS_LOG_FORMAT="json") as collector:
        listed = ask(collector.url, "/v1/events?user_id=7", {**READ, "X-Request-ID": "mine"})
        lost = ask(collector.url, "/v1/profiles/nobody")
        strange = ask(collector.url, "/healthz", {"Authorization": f"Bearer {WRITE_KEY}"})
        assert "gunicorn/" not in listed.headers.get("server", "")
    line = line_of(log, listed)
    assert 0 < line.pop("seconds") < 10
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "message": "GET /v1/events 200",
        "request_id": "mine",
        "key": "tests-read",
        "method": "GET",
        "path": "/v1/events",
        "status": 200,
    }
    assert (line_of(log, lost)["status"], line_of(log, lost)["path"]) == (404, "/v1/profiles/nobody")
    assert "key" not in line_of(log, strange)
    assert any(line["message"].startswith("Starting gunicorn") for line in lines(log))
    assert all({"time", "level", "message"} <= line.keys() for line in lines(log))


def test_every_voice_has_the_same_format(tmp_path: Path) -> None:
    """What the driver says of a Postgres that is away is a line of JSON too, and shows no password."""
    log = tmp_path / "log"
    nowhere = f"postgresql://ada:secret@127.0.0.1:{free_port()}/x"
    environ = {"ANALYTICS_LOG_FORMAT": "json", "ANALYTICS_DATABASE_PATIENCE_SECONDS": "1"}
    with logging_collector(nowhere, log, workers=1, ready=False, **environ) as collector:
        lost = ask(collector.url, "/v1/events")
    assert lost.status == 503
    told = [line["message"] for line in lines(log) if line.get("request_id") == lost.headers["x-request-id"]]
    assert told[0].startswith("The database is away: Postgres says: connection failed: ")
    assert told[1] == "GET /v1/events 503"
    assert "secret" not in log.read_text()


def test_a_mistake_in_the_settings_is_told(tmp_path: Path) -> None:
    """Words that speak of settings are kept: who starts gunicorn by hand without a database reads what to set."""
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "python:analytics_collector.gunicorn_config",
        "--bind",
        "127.0.0.1:0",
    ]
    ended = subprocess.run(
        [*command, "analytics_collector.app:create_app()"], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode != 0
    assert "ConfigError: No database given. Set ANALYTICS_DATABASE_URL" in ended.stderr


def test_a_log_for_people_has_warnings_only(dsn: str, tmp_path: Path) -> None:
    """As text the log tells what went wrong and not who came: a proxy has that already."""
    log = tmp_path / "log"
    with logging_collector(dsn, log, "--log-level", "warning", workers=1) as collector:
        assert ask(collector.url, "/v1/events").status == 200
    assert log.read_text() == ""


def test_keys_and_contents_are_in_no_log(dsn: str, tmp_path: Path) -> None:
    """Whatever is sent, and whatever goes wrong with it, neither a key nor anything of an event is in the log."""
    log = tmp_path / "log"
    torn = body(events=[event(SECRET, SECRET, SECRET, event_data={SECRET: SECRET})])[:-3]
    refused = event("refused", SECRET, event_type=SECRET * 9)
    for log_format in ("json", "text"):
        with logging_collector(dsn, log, "--log-level", "debug", ANALYTICS_LOG_FORMAT=log_format) as collector:
            for content in (torn, body(events=[refused, event("e", SECRET, 1, event_data={"a": SECRET})])):
                ask(collector.url, "/v1/events", WRITE, method="POST", content=content)
            ask(collector.url, f"/v1/events?session_id={SECRET}&limit={SECRET}")
            ask(collector.url, "/v1/events", {"Authorization": f"Bearer {SECRET}"})
            break_sessions(dsn)
            broken = ask(collector.url, "/v1/events", WRITE, method="POST", content=body(events=[event("b", SECRET)]))
            mend_sessions(dsn)
            assert broken.status == 500
            assert SECRET not in broken.text
            assert "Traceback" not in broken.text
    told = log.read_text()
    assert "Unexpected error" in told
    assert "psycopg.errors.RaiseException P0001" in told
    assert "in commit" in told
    assert [secret for secret in (SECRET, WRITE_KEY, READ_KEY, ADMIN_KEY, "Traceback") if secret in told] == []


def break_sessions(dsn: str) -> None:
    """Make the tables such that the writer meets an error that nobody foresaw, which quotes what was sent."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION quote_session() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION '%', NEW.session_id USING"
            " DETAIL = NEW.session_id, HINT = NEW.session_id; END $$"
        )
        connection.execute(
            "CREATE TRIGGER quote BEFORE INSERT ON analytics_session FOR EACH ROW EXECUTE FUNCTION quote_session()"
        )


def mend_sessions(dsn: str) -> None:
    """Undo it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP FUNCTION quote_session CASCADE")


def test_a_reload_keeps_the_format(dsn: str, tmp_path: Path) -> None:
    """After SIGHUP every line is still JSON, and still there once."""
    log = tmp_path / "log"
    with logging_collector(dsn, log, workers=1, ANALYTICS_LOG_FORMAT="json") as collector:
        first = workers_of(collector.process.pid)
        collector.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not first & workers_of(collector.process.pid), within=20, what="the reload")
        assert line_of(log, ask(collector.url, "/healthz"))["status"] == 200


# The formats themselves


def record(message: str, error: BaseException | None = None) -> logging.LogRecord:
    """What a logger makes of a message."""
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("x", logging.WARNING, __file__, 1, message, None, info)


def test_no_message_makes_a_line_of_its_own() -> None:
    """A newline in what a stranger sent cannot pretend to be another line of the log."""
    for log_format in ("text", "json"):
        assert "\n" not in logs.formatter(log_format).format(record("one\ntwo\x1b[2J"))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_error_is_its_kind_and_its_place(log_format: str) -> None:
    """Of an error, and of what caused it, the log has kind and place, and not the words, which may quote an event."""
    try:
        try:
            int(SECRET)
        except ValueError as cause:
            raise KeyError(SECRET) from cause
    except KeyError as error:
        told = logs.formatter(log_format).format(record("Unexpected error", error))
    assert "builtins.ValueError" in told
    assert "builtins.KeyError" in told
    assert "in test_an_error_is_its_kind_and_its_place" in told
    assert SECRET not in told
