"""`/metrics`: the figures of all workers together, whoever of them is asked and whoever has ended meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from analytics_collector import metrics
from analytics_collector.app import create_app
from analytics_collector.config import Settings
from analytics_collector.exceptions import ConfigError
from analytics_collector.records import REASONS
from tests.collector.batches import body, event
from tests.collector.operating import READ, Reply, ask, logging_collector, samples, workers_of
from tests.conftest import ADMIN_KEY, READ_KEY, WRITE_KEY
from tests.programs import ROOT, Collector, free_port, wait_until

WRITE = {"Authorization": f"Bearer {WRITE_KEY}"}


@pytest.fixture
def own(own_dsn: str) -> Iterator[FlaskClient]:
    """A collector over it."""
    app = create_app(Settings(database_url=own_dsn))
    with closing(app.extensions["analytics_collector"].database):
        yield app.test_client()


def shown(client: FlaskClient) -> str:
    """What a collector in this process shows."""
    response = client.get("/metrics", headers=READ)
    assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return response.text


# Who may see them


@pytest.mark.parametrize(
    ("key", "status"), [(READ_KEY, 200), (ADMIN_KEY, 200), (WRITE_KEY, 401), ("wrong", 401), ("", 401)]
)
def test_figures_need_a_key_for_reading(client: FlaskClient, key: str, status: int) -> None:
    """A read or an admin key opens the figures; a write key, which is in every app, and none do not."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    assert client.get("/metrics", headers=headers).status_code == status


def test_figures_can_be_opened(dsn: str) -> None:
    """With ANALYTICS_METRICS_OPEN=true no key is needed, for whoever has a network of their own."""
    settings = Settings.from_env({"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_METRICS_OPEN": "true"})
    app = create_app(settings)
    with closing(app.extensions["analytics_collector"].database):
        assert app.test_client().get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [("METRICS_OPEN", "yes", "is true or false, not 'yes'"), ("LOG_FORMAT", "xml", "must be text or json, not 'xml'")],
)
def test_a_setting_that_makes_no_sense_is_told(name: str, text: str, told: str) -> None:
    """A word that a setting does not know is an error that names the words it does."""
    with pytest.raises(ConfigError, match=f"ANALYTICS_{name} {told}"):
        Settings.from_env({f"ANALYTICS_{name}": text})


# What they are


def test_what_is_noted_is_shown(client: FlaskClient) -> None:
    """What the committer notes of a verdict and of a transaction is what Prometheus reads."""
    names = ("analytics_events_accepted_total", "analytics_events_duplicate_total", "analytics_commit_records_sum")
    before = shown(client)
    metrics.note_verdict(5, 2, ["clock_ahead", "unknown_user", "clock_ahead"])
    metrics.note_commit(0.02, 10)
    after = shown(client)
    assert [samples(after, name)[()] - samples(before, name)[()] for name in names] == [5, 2, 10]
    rejected = "analytics_records_rejected_total"
    grown = {code: samples(after, rejected)[(code,)] - samples(before, rejected)[(code,)] for code in REASONS}
    assert {code: count for code, count in grown.items() if count} == {"clock_ahead": 2, "unknown_user": 1}
    buckets = samples(after, "analytics_commit_seconds_bucket")
    earlier = samples(before, "analytics_commit_seconds_bucket")
    assert (buckets[("0.01",)] - earlier[("0.01",)], buckets[("0.025",)] - earlier[("0.025",)]) == (0, 1)


def test_every_reason_is_there_from_the_start(client: FlaskClient) -> None:
    """Each reason of a rejection is a figure before the first one, so that its rate has a beginning."""
    assert {code for (code,) in samples(shown(client), "analytics_records_rejected_total")} == set(REASONS)


def test_a_scanner_makes_no_new_figures(client: FlaskClient) -> None:
    """Paths, methods and ids that nobody foresaw are one figure: strangers cannot fill Prometheus's memory."""
    for path in ("/wp-login.php", "/v1/profiles/77", "/v1/profiles/ada", "/.env"):
        client.get(path, headers=READ)
    client.open("/healthz", method="BREW")
    labels = samples(shown(client), "analytics_requests_total")
    paths = {path for _, path, _ in labels}
    assert "/v1/profiles/{user_id}" in paths
    assert ("other", "other", "404") in labels
    assert ("other", "other", "405") in labels
    assert not any("77" in path or "ada" in path or "wp-" in path for path in paths)


def test_the_database_is_in_the_figures(own: FlaskClient, own_dsn: str) -> None:
    """Partitions, rows in the DEFAULT one and the oldest unfinished job are those of the database."""
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS analytics_job"
            " (name text, started_at timestamptz, finished_at timestamptz, outcome text)"
        )
        connection.execute("INSERT INTO analytics_job (name, started_at) VALUES ('erase', now() - interval '90 s')")
        connection.execute("INSERT INTO analytics_job VALUES ('old', now() - interval '9 h', now(), 'done')")
        connection.execute(
            "INSERT INTO analytics_event (session_id, event_type, created_at)"
            " SELECT '', 'x', '1999-01-01' FROM generate_series(1, 30)"
        )
        connection.execute("ANALYZE analytics_event_default")
    text = shown(own)
    assert samples(text, "analytics_ready") == {(): 1}
    assert samples(text, "analytics_partitions") == {(): 4}
    assert samples(text, "analytics_default_partition_rows") == {(): 30}
    assert 90 <= samples(text, "analytics_oldest_unfinished_job_seconds")[()] < 120


def test_without_jobs_none_is_old(own: FlaskClient, own_dsn: str) -> None:
    """Where there is no table of jobs, or none that runs, the oldest one is of no age."""
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS analytics_job")
    assert samples(shown(own), "analytics_oldest_unfinished_job_seconds") == {(): 0}


def test_the_pool_is_in_the_figures(own: FlaskClient) -> None:
    """Connections that are open, those that wait for work, and the most that there may be."""
    own.get("/v1/events", headers=READ)
    text = shown(own)
    assert samples(text, "analytics_pool_connections")[()] >= 1
    assert samples(text, "analytics_pool_connections_most") == {(): 4}
    assert samples(text, "analytics_pool_requests_waiting") == {(): 0}


def test_figures_are_shown_while_the_database_is_away() -> None:
    """When Postgres is away somebody wants to see figures: they come, with ready at 0 and without the database's."""
    nowhere = f"postgresql://127.0.0.1:{free_port()}/x"
    app = create_app(Settings(database_url=nowhere, database_patience_seconds=1, metrics_open=True))
    with closing(app.extensions["analytics_collector"].database):
        text = app.test_client().get("/metrics").text
    assert samples(text, "analytics_ready") == {(): 0}
    assert samples(text, "analytics_partitions") == {}
    assert samples(text, "analytics_events_accepted_total") != {}


def test_every_figure_is_documented(client: FlaskClient) -> None:
    """docs/operating.md has a row for every figure, and no row for one that is not there."""
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(shown(client))
        if not family.name.endswith("_created")
    }
    rows = re.findall(r"^\| `(analytics_\w+)", (ROOT / "docs/operating.md").read_text(), re.M)
    assert sorted(rows) == sorted(families)


# Across the workers


def counted(collector: Collector) -> float:
    """How many lists of events all workers say they have answered."""
    text = ask(collector.url, "/metrics").text
    return samples(text, "analytics_requests_total").get(("GET", "/v1/events", "200"), 0)


def ask_often(collector: Collector, count: int) -> None:
    """Ask for a list so often, each time on a new connection."""
    with ThreadPoolExecutor(4) as threads:
        replies: list[Reply] = list(threads.map(lambda _: ask(collector.url, "/v1/events?limit=1"), range(count)))
    assert {reply.status for reply in replies} == {200}


def counts_below(folder: Path) -> list[Path]:
    """The folders in which workers count."""
    return list(folder.glob("analytics-metrics-*"))


PLACED = "metrics.note_verdict(" in "".join(path.read_text() for path in Path(metrics.__file__).parent.glob("*.py"))


@pytest.mark.skipif(not PLACED, reason="nobody notes verdicts yet")
def test_what_is_stored_is_counted(dsn: str, tmp_path: Path) -> None:
    """Events that four workers have stored, had before, or set aside are figures, and a number in the log."""
    log = tmp_path / "log"
    refused = event("refused", event_data={"a": "\0"})
    with logging_collector(dsn, log, workers=4, ANALYTICS_LOG_FORMAT="json") as collector:
        contents = [body(events=[event(number // 2), refused]) for number in range(40)]
        with ThreadPoolExecutor(4) as threads:
            send = partial(ask, collector.url, "/v1/events", WRITE, method="POST")
            assert {reply.status for reply in threads.map(lambda content: send(content=content), contents)} == {200}
        text = ask(collector.url, "/metrics").text
    assert samples(text, "analytics_events_accepted_total") == {(): 20}
    assert samples(text, "analytics_events_duplicate_total") == {(): 20}
    assert samples(text, "analytics_records_rejected_total")[("nul_character",)] == 40
    assert 1 <= samples(text, "analytics_commit_seconds_count")[()] <= 80
    assert samples(text, "analytics_commit_records_sum")[()] >= 40
    posts = [line for line in map(json.loads, log.read_text().splitlines()) if line.get("method") == "POST"]
    assert [(line["records"], line["key"]) for line in posts] == [(2, "tests-write")] * 40


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["as it is", "preloaded"])
def test_workers_come_and_go_and_nothing_is_forgotten(dsn: str, tmp_path: Path, options: list[str]) -> None:
    """Whichever worker is asked, the figures are of all; a reload and kill -9 lose none; at the end no file is left."""
    log = tmp_path / "log"
    with logging_collector(dsn, log, *options, workers=2, TMPDIR=str(tmp_path)) as collector:
        ask_often(collector, 40)
        assert [counted(collector) for _ in range(6)] == [40] * 6
        first = workers_of(collector.process.pid)
        collector.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not first & workers_of(collector.process.pid), within=20, what="the reload")
        ask_often(collector, 20)
        assert counted(collector) == 60
        victim = min(workers_of(collector.process.pid))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(workers_of(collector.process.pid) - {victim}) == 2, what="another worker")
        ask_often(collector, 20)
        assert counted(collector) == 80
        (folder,) = counts_below(tmp_path)
        assert folder.stat().st_mode & 0o777 == 0o700
        # Two workers, two more during the reload, and the master if it has loaded the application.
        assert len(list(folder.glob("*.slot"))) <= 5
    assert counts_below(tmp_path) == []


def test_the_dead_are_not_in_the_pool(tmp_path: Path) -> None:
    """What a worker counted stays when it has died; the connections that it had are no longer added."""
    program = """
import os
from analytics_collector import metrics
def work():
    metrics.note_commit(0.1, 7)
    metrics.note_pool({"pool_size": 3})
for _ in range(3):
    if not (child := os.fork()):
        work()
        os._exit(0)
    os.waitpid(child, 0)
work()
print(metrics.render([]).decode())
"""
    environ = {**os.environ, metrics.DIRECTORY: str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert samples(ended.stdout, "analytics_commit_records_sum") == {(): 28}
    assert samples(ended.stdout, "analytics_pool_connections") == {(): 3}
    assert len(list(tmp_path.glob("histogram_*.db"))) == 2  # of the parent, and of one child after the other


def test_a_configuration_that_is_only_checked_leaves_nothing(tmp_path: Path) -> None:
    """`gunicorn --check-config` makes a folder to count in as every start does, and removes it."""
    command = [sys.executable, "-m", "gunicorn", "--check-config", "-c", "python:analytics_collector.gunicorn_config"]
    environ = {**os.environ, "TMPDIR": str(tmp_path), "ANALYTICS_DATABASE_URL": "postgresql://"}
    subprocess.run([*command, "analytics_collector.app:create_app()"], env=environ, check=True, timeout=30)
    assert counts_below(tmp_path) == []


def test_figures_of_another_program_are_not_ours(dsn: str, tmp_path: Path) -> None:
    """A folder that another program counts in, inherited by its variable, is neither read nor written."""
    with tempfile.TemporaryDirectory() as foreign:
        environ = {metrics.DIRECTORY: foreign, "TMPDIR": str(tmp_path)}
        with logging_collector(dsn, tmp_path / "log", workers=1, **environ) as collector:
            ask(collector.url, "/v1/events", WRITE, method="POST", content=body(events=[event("e")]))
            assert ask(collector.url, "/metrics").status == 200
            assert list(Path(foreign).iterdir()) == []
