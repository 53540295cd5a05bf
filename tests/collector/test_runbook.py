"""docs/operating.md is true: what it tells to type works, and what it names is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from analytics_collector import embedded, keys, migrate, profiles
from tests.collector.batches import body, event, post
from tests.collector.operating import READ, ask, logging_collector
from tests.conftest import WRITE_KEY
from tests.programs import ROOT, run_collector, running

PAGE = (ROOT / "docs/operating.md").read_text()


def blocks(language: str, beneath: str) -> list[str]:
    """The blocks of code below a heading."""
    section = PAGE.split(f"\n## {beneath}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)


def test_every_figure_that_is_mentioned_is_there(dsn: str, tmp_path: Path) -> None:
    """Alerts and texts ask for figures that the collector has: a misspelt one would never fire."""
    with logging_collector(dsn, tmp_path / "log", workers=1) as collector:
        ask(collector.url, "/v1/events")
        shown = ask(collector.url, "/metrics").text
    (alerts,) = blocks("yaml", "Alerts")
    mentioned = set(re.findall(r"\banalytics_\w+", alerts)) - {"analytics_reject"}
    assert len(mentioned) >= 8
    assert [name for name in mentioned if not re.search(rf"^(# TYPE )?{name}\b", shown, re.M)] == []


def test_the_line_in_the_page_is_one_of_the_log(dsn: str, tmp_path: Path) -> None:
    """The example of a line has the names of a real one, in its order; records come from the committer."""
    log = tmp_path / "log"
    with logging_collector(dsn, log, workers=1, ANALYTICS_LOG_FORMAT="json") as collector:
        ask(collector.url, "/v1/events", {**READ, "X-Request-ID": "this-one"})
    (line,) = [json.loads(line) for line in log.read_text().splitlines() if "this-one" in line]
    (example,) = blocks("json", "The log")
    assert [name for name in json.loads(example) if name != "records"] == list(line)


def test_a_restored_backup_is_whole(new_database: Callable[[], str], tmp_path: Path) -> None:
    """The commands of the page, as they stand, bring events, profiles and keys into an empty database."""
    source, target = new_database(), new_database()
    with psycopg.connect(source, autocommit=True) as connection:
        migrate.apply(connection)
        keys.register(connection, "web", "write", WRITE_KEY)
    events = [event(number, f"s{number}", number % 3) for number in range(30)]
    with run_collector(source, workers=1) as collector:
        assert post(collector.url, body(events=events)).json["accepted"] == 30
    dump, restore = blocks("sh", "Backup and restore")
    shell(dump, source, tmp_path)
    told = shell(restore, target, tmp_path)
    assert "Every profile is exact." in told
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT count(*) FROM analytics_event").fetchone() == (30,)
        assert profiles.verify(connection) == []
    with run_collector(target, workers=1) as collector:
        assert post(collector.url, body(events=[*events, event("new")])).json["accepted"] == 1


def shell(commands: str, dsn: str, folder: Path) -> str:
    """Type commands, with the development Postgres's programs and this collector's; each one must succeed."""
    collector = folder / "analytics-collector"
    collector.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m analytics_collector "$@"\n')
    collector.chmod(0o755)
    path = f"{folder}:{embedded.find_binaries()}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "ANALYTICS_DATABASE_URL": dsn}
    ended = subprocess.run(
        ["sh", "-ec", commands], env=environ, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended
    return ended.stdout


# What systemd does: the socket is descriptor 3, and variables say so to this process and no other.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-m", "analytics_collector", "serve"])
"""


def test_a_restart_behind_systemds_socket_refuses_nobody(dsn: str, tmp_path: Path) -> None:
    """With the socket unit a batch that comes while no collector runs waits for the next one, and is stored."""
    environ = {"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_WORKERS": "1"}
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as sender:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno())]
        for number in range(2):
            waiting = sender.submit(post, url, body(events=[event(number)]))
            with (
                (tmp_path / "log").open("ab") as log,
                running(command, environ, pass_fds=[listener.fileno()], stderr=log),
            ):
                assert waiting.result(20).status == 200
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM analytics_event").fetchone() == (2,)


def test_every_check_of_the_doctor_is_in_the_page(dsn: str) -> None:
    """The page's example and its table have every check that the doctor makes."""
    ended = subprocess.run(
        [sys.executable, "-m", "analytics_collector", "doctor", "--json"],
        env={**os.environ, "ANALYTICS_DATABASE_URL": dsn},
        capture_output=True,
        text=True,
        check=False,
    )
    checks = {finding["check"] for finding in json.loads(ended.stdout)["findings"]}
    (example,) = blocks("console", "The doctor")
    shown = {
        re.split(r"\s{2,}", line)[1] for line in example.splitlines()[1:] if re.match(r"(ok|warn|fail|skip) ", line)
    }
    assert checks - shown == set()
    table = " ".join(re.findall(r"^\| ([^|]*) \|", PAGE, re.M))
    assert [check for check in shown if check not in table] == []
