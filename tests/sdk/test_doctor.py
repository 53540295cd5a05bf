"""`python -m analytics_sdk doctor`: every trouble is named, with what to do; nothing is stored, no key is shown."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from analytics_sdk import _diagnosis, _doctor, _settings_diagnosis, _spool_diagnosis
from analytics_sdk._diagnosis import Answer, Trouble
from analytics_sdk._finding import Finding, cleaned
from analytics_sdk._spool import Spool
from analytics_sdk._spool_diagnosis import SegmentCount, SpoolFacts
from tests.conftest import ADMIN_KEY, READ_KEY, WRITE_KEY
from tests.programs import ROOT, Collector, free_port
from tests.sdk.servers import hanging_server

STORED = {"accepted": 0, "duplicates": 0, "rejected": []}
OK = {"status": "ok"}


def examine(environ: Mapping[str, str] | None = None, **options: Any) -> dict[str, Finding]:
    """What the doctor finds, by what was looked at; of several findings on the same, the gravest."""
    rank = ["skip", "ok", "warn", "fail"]
    found = sorted(_doctor.examine(options, environ or {}), key=lambda finding: rank.index(finding.status))
    return {finding.check: finding for finding in found}


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "analytics_sdk", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def serving(answers: Mapping[str, tuple[int, Any]], *, ahead: float = 0, **headers: str) -> Iterator[str]:
    """A server that answers a path with a status and JSON, or text; its clock may be ahead by some seconds."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = answers.get(self.path.partition("?")[0], (404, "<h1>Not found</h1>"))
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + ahead)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def collector_that_says(**answers: tuple[int, Any]) -> dict[str, tuple[int, Any]]:
    """The answers of a collector, some of them others."""
    usual = {"healthz": (200, OK), "readyz": (200, OK), "events": (200, STORED), "profiles": (401, {"code": "no"})}
    paths = {"healthz": "/healthz", "readyz": "/readyz", "events": "/v1/events", "profiles": "/v1/profiles"}
    return {paths[name]: answer for name, answer in {**usual, **answers}.items()}


# A real collector


def test_all_is_well(collector: Collector, connection: psycopg.Connection, tmp_path: Path) -> None:
    """With a collector, a write key and a spool nothing fails, and nothing is stored or left behind."""
    done = run(
        "doctor",
        ANALYTICS_URL=collector.url,
        ANALYTICS_WRITE_KEY=WRITE_KEY,
        ANALYTICS_SPOOL=str(tmp_path / "a" / "spool"),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = dict(re.findall(r"^ok    ([\w ]+?)  +(.+)$", done.stdout, re.M))
    assert lines["collector"] == "this is an analytics collector"
    assert lines["database"] == "the collector is ready to store"
    assert lines["write key"] == "valid (tried with an empty batch: nothing was stored)"
    assert lines.keys() >= {"settings", "connection", "clock", "round trip", "spool room", "processes", "versions"}
    assert "fail" not in done.stdout
    assert WRITE_KEY not in done.stdout
    assert list(tmp_path.iterdir()) == []
    for table in ("event", "session", "useranalyticsprofile", "user", "reject"):
        assert connection.execute(f"SELECT count(*) FROM analytics_{table}").fetchone() == (0,)


@pytest.mark.parametrize(
    ("key", "status", "what", "advice"),
    [
        ("no-key-of-anybody", "fail", "The key is wrong or revoked", "keys create --kind write"),
        (READ_KEY, "fail", "this is a read key, which belongs into ANALYTICS_READ_KEY", "keys create --kind write"),
        (ADMIN_KEY, "warn", "it is an admin key", "keys create --kind write"),
    ],
    ids=["wrong", "read", "admin"],
)
def test_keys_that_are_no_write_keys(collector: Collector, key: str, status: str, what: str, advice: str) -> None:
    """A wrong key and a read key fail, an admin key is warned of, and the advice says how to make the right one."""
    found = examine(url=collector.url, write_key=key)["write key"]
    assert found.status == status
    assert what in found.what
    assert advice in found.advice


def test_a_failure_is_the_exit_code_and_can_be_read_by_machines(collector: Collector) -> None:
    """With a wrong key the command ends with 1, and --json prints one line that says so."""
    done = run("doctor", "--json", "--url", collector.url, "--write-key", "no-key-of-anybody")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (1, "", 1)
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert {finding["check"] for finding in told["findings"] if finding["status"] == "fail"} == {"write key"}
    assert all(finding.keys() == {"status", "check", "what", "advice"} for finding in told["findings"])
    assert "no-key-of-anybody" not in done.stdout


def test_without_a_key_the_rest_is_examined(collector: Collector) -> None:
    """A missing key does not keep the doctor from the collector."""
    found = examine({"ANALYTICS_URL": collector.url})
    assert found["settings"].what == "no write_key is given"
    assert (found["collector"].status, found["database"].status) == ("ok", "ok")
    assert found["write key"].status == "skip"


# Collectors that are none, or in trouble


def test_nobody_listens() -> None:
    """A refused connection is one failure, and what would come after it is not guessed at."""
    found = examine(url=f"http://127.0.0.1:{free_port()}", write_key="k")
    assert found["connection"].status == "fail"
    assert "Connection refused" in found["connection"].what
    assert "is the collector running?" in found["connection"].advice
    assert not found.keys() & {"collector", "write key", "clock"}


def test_a_host_that_does_not_exist() -> None:
    """A name that means nothing is one failure."""
    found = examine(url="http://collector.invalid:8000", write_key="k")
    assert found["host name"].status == "fail"
    assert "collector.invalid cannot be resolved" in found["host name"].what
    assert "connection" not in found


def test_a_server_that_hangs() -> None:
    """The doctor gives up after read_timeout, and says that it is a time-out."""
    with hanging_server() as url:
        began = time.monotonic()
        found = examine(url=url, write_key="k", read_timeout=0.3)
    assert time.monotonic() - began < 8
    assert found["connection"].status == "fail"
    assert "does the collector hang?" in found["connection"].advice


def test_https_to_a_server_without_tls() -> None:
    """Asked by https, a server of http is told apart from one that is not there."""
    with serving(collector_that_says()) as url:
        found = examine(url=url.replace("http:", "https:"), write_key="k")
    assert found["connection"].status == "fail"
    assert "is this an https port?" in found["connection"].advice


@pytest.mark.parametrize("goodbye", [b"", b"\x15\x03\x01\x00\x02\x02\x46"], ids=["closed", "TLS"])
def test_a_server_that_hangs_up(goodbye: bytes) -> None:
    """A connection that is cut, as a server of https does that is spoken to in plain text, is no refused one."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(goodbye)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        found = examine(url=f"http://127.0.0.1:{listener.getsockname()[1]}", write_key="k")["connection"]
        thread.join()
    assert found.status == "fail"
    assert "is this an https port?" in found.advice


@pytest.mark.parametrize(
    "answers",
    [{}, {"/v1/events": (200, "<h1>Welcome</h1>")}, {"/healthz": (200, OK)}, {"/v1/events": (403, "no")}],
    ids=["404", "a page for everything", "another service", "a firewall"],
)
def test_a_server_that_is_no_collector(answers: dict[str, tuple[int, Any]]) -> None:
    """A server that does not answer batches as ours does is recognised, whatever else it answers."""
    with serving(answers) as url:
        found = examine(url=url, write_key="k")
    assert (found["connection"].status, found["collector"].status) == ("ok", "fail")
    assert "this is no analytics collector: POST /v1/events is answered with HTTP" in found["collector"].what
    assert "write key" not in found


def test_a_redirect() -> None:
    """A redirect is named with its target: a batch does not follow it."""
    everywhere = dict.fromkeys(("/healthz", "/v1/events"), (301, ""))
    with serving(everywhere, Location="https://collector.example/") as url:
        found = examine(url=url, write_key="k")["collector"]
    assert (found.status, found.what) == ("fail", "redirects to https://collector.example/")


def test_a_proxy_that_passes_on_nothing_but_events() -> None:
    """Where /healthz and /readyz are hidden, the collector is recognised by how it answers a batch."""
    with serving({"/v1/events": (200, STORED)}) as url:
        found = examine(url=url, write_key="k")
    assert (found["collector"].status, found["write key"].status) == ("ok", "ok")
    assert found["database"].status == "skip"


def test_a_collector_that_cannot_store() -> None:
    """What /readyz says is passed on, with its advice."""
    problem = {"code": "unmigrated", "message": "Migrations are pending", "detail": "run `migrate`"}
    with serving(collector_that_says(readyz=(503, problem), events=(503, problem))) as url:
        found = examine(url=url, write_key="k")
    assert found["database"] == Finding(
        "fail", "database", "the collector cannot store now: Migrations are pending", "run `migrate`"
    )
    assert found["write key"].status == "warn"


def test_a_server_that_says_too_much() -> None:
    """Keys, control characters and long texts of an answer do not reach the terminal."""
    message = f"\x1b[31mno {WRITE_KEY}\n" + "x" * 1000
    with serving(collector_that_says(events=(401, {"code": "c", "message": message, "detail": ""}))) as url:
        found = examine(url=url, write_key=WRITE_KEY)["write key"]
    assert found.what.startswith("refused:  [31mno *** xxx")
    assert len(found.what) == 300


@pytest.mark.parametrize(
    ("ahead", "status", "what"),
    [(-3600, "fail", "60 minutes ahead of"), (3600, "warn", "60 minutes behind"), (0, "ok", "within 1 s")],
    ids=["an hour ahead", "an hour behind", "right"],
)
def test_clocks(ahead: float, status: str, what: str) -> None:
    """A clock an hour ahead of the collector's fails, as its events are set aside; one behind is warned of."""
    with serving(collector_that_says(), ahead=ahead) as url:
        found = examine(url=url, write_key="k")["clock"]
    assert found.status == status
    assert what in found.what


def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy that the events would take is named without its password, and blamed if it is not there."""
    monkeypatch.setenv("http_proxy", f"http://ann:secret@127.0.0.1:{free_port()}")
    found = examine(url="http://collector.example", write_key="k")
    assert re.fullmatch(r"requests go through http://\*\*\*@127\.0\.0\.1:\d+", found["proxy"].what)
    assert found["connection"].status == "fail"
    assert "host name" not in found  # which the proxy would look up


# Settings


def test_all_wrong_settings_are_told_at_once() -> None:
    """Each setting is judged by itself, a misspelt one is recognised, and what is usable is used."""
    environ = {
        "ANALYTICS_URL": "http://ann:secret@127.0.0.1",
        "ANALYTICS_WRITEKEY": "k",
        "ANALYTICS_FLUSH_INTERVAL": "soon",
        "ANALYTICS_EXIT_TIMEOUT": "3",
        "ANALYTICS_DATABASE_URL": "postgresql:///",
        "ANALYTICS_READ_KEY": "r",
    }
    told = [(finding.status, finding.what, finding.advice) for finding in _doctor.examine({}, environ)]
    assert ("ok", "exit_timeout=3.0", "") in told
    assert any(what.startswith("url is the collector's address") and "secret" not in what for _, what, _ in told)
    assert any(what.startswith("ANALYTICS_FLUSH_INTERVAL is a") for _, what, _ in told)
    assert ("warn", "ANALYTICS_WRITEKEY is no setting", "did you mean ANALYTICS_WRITE_KEY?") in told
    assert any(what == "no write_key is given" for _, what, _ in told)
    assert [status for status, _, _ in told].count("fail") == 3


def test_an_argument_wins_over_the_environment() -> None:
    """As for a client: a wrong variable is of no importance if the argument is there."""
    settings = _settings_diagnosis.judge_settings({"url": "http://127.0.0.1:1"}, {"ANALYTICS_URL": "nonsense"})
    assert settings.text("url") == "http://127.0.0.1:1"


def test_no_documented_variable_is_called_misspelt() -> None:
    """Variables of the SDK and of the collector are left alone."""
    documented = re.findall(r"`(ANALYTICS_\w+)`", (ROOT / "docs/configuration.md").read_text())
    assert [name for name in documented if _settings_diagnosis.suspect(name)] == []
    assert _settings_diagnosis.suspect("ANALYTICS_FLUSH_INTERVALL") == "ANALYTICS_FLUSH_INTERVAL"
    assert _settings_diagnosis.suspect("ANALYTIC_URL") == "ANALYTICS_URL"
    assert _settings_diagnosis.suspect("HOME") is None


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        ({"ANALYTICS_ENABLED": "0"}, "enabled is false: nothing is tracked"),
        ({"ANALYTICS_STRICT": "1"}, "strict is true: track() raises"),
        ({"ANALYTICS_WRITE_KEY": '"key"'}, "the write key is in quotes"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_to_think_about(environ: dict[str, str], what: str) -> None:
    """Settings that are valid and probably not meant are warned of."""
    assert what in [finding.what for finding in _doctor.examine({}, environ) if finding.status == "warn"]


# The spool


def killed_with_records(spool: Path, url: str, count: int) -> None:
    """Have a process track into a spool and be killed."""
    script = f"""
import os, analytics_sdk
analytics_sdk.init({url!r}, write_key="k", spool={str(spool)!r}, flush_interval=60)
for _ in range({count}):
    assert analytics_sdk.track("click")
os.kill(os.getpid(), {signal.SIGKILL:d})
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL


def test_records_of_processes_that_were_killed(tmp_path: Path) -> None:
    """What ended processes left in the spool is counted, apart by collector, and is still there afterwards."""
    url = f"http://127.0.0.1:{free_port()}"
    killed_with_records(tmp_path, url, 3)
    killed_with_records(tmp_path, "http://127.0.0.1:9", 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    facts = _doctor.look_at_spool(tmp_path, url)
    assert (facts.segments.waiting, facts.segments.foreign, facts.segments.living) == (3, 1, 0)
    assert facts.segments.used_bytes == sum(map(len, before.values()))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    found = [
        finding for finding in _doctor.examine({"url": url, "spool": str(tmp_path)}, {}) if finding.check == "spool"
    ]
    assert any(finding.what == "3 records of processes that have ended, not sent yet" for finding in found)
    assert any(finding.what == "1 record for a collector at another url" for finding in found)


def test_segments_of_living_processes(tmp_path: Path) -> None:
    """What a living process holds is nobody's to send, and not called waiting."""
    segment = Spool(str(tmp_path), "http://127.0.0.1:9", 2**30).create(0)
    assert segment is not None
    segment.append(b'{"event_id":"x"}')
    facts = _doctor.look_at_spool(tmp_path, "http://127.0.0.1:9")
    segment.remove()
    assert (facts.segments.living, facts.segments.waiting) == (1, 0)


@pytest.mark.parametrize("kind", ["below a file", "where nobody can write", "a file"])
def test_a_spool_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    """A directory that cannot be made or written is a failure with the system's own words."""
    (tmp_path / "file").touch()
    places = {"below a file": tmp_path / "file" / "spool", "where nobody can write": Path("/proc/spool")}
    found = examine(spool=str(places.get(kind, tmp_path / "file")))["spool"]
    assert found.status == "fail"
    assert "cannot be used: " in found.what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_spool_of_another_user(tmp_path: Path) -> None:
    """A directory without permission to write is a failure."""
    tmp_path.chmod(0o500)
    assert "Permission denied" in examine(spool=str(tmp_path))["spool"].what


def test_a_missing_spool_is_not_made(tmp_path: Path) -> None:
    """A directory that a client would make is tried out and gone again."""
    found = _doctor.look_at_spool(tmp_path / "a" / "b", "")
    assert (found.exists, found.error, found.keeps_locks) == (False, "", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("facts", "status", "words"),
    [
        ({"keeps_locks": False}, "fail", "keeps no locks"),
        ({"file_system": "tmpfs"}, "warn", "a reboot empties it"),
        ({"file_system": "nfs4"}, "warn", "locks of other machines may not hold"),
        ({"file_system": "overlay"}, "warn", "goes with the container"),
        ({"file_system": "ext4"}, "ok", ""),
        ({"free_bytes": 1000}, "fail", "1000 bytes left on the disk"),
        ({"free_bytes": 2**29}, "warn", "512.0 MiB left on the disk"),
        ({"segments": SegmentCount(used_bytes=2**30)}, "fail", "1.0 GiB used of max_spool_bytes=1.0 GiB"),
        ({"segments": SegmentCount(foreign=2)}, "warn", "2 records for a collector at another url"),
        ({"segments": SegmentCount(unreadable=1)}, "warn", "1 segment that this user cannot read"),
        ({"segments": SegmentCount(waiting=1000)}, "ok", "1,000 records of processes that have ended"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_a_spool_can_suffer_from(facts: dict[str, Any], status: str, words: str) -> None:
    """Each fact about a spool has its gravity and its words."""
    given = SpoolFacts(**{"directory": "/s", "free_bytes": 2**40, **facts})
    found = _spool_diagnosis.judge_spool(given, 2**30)
    assert words in " ".join(finding.what for finding in found)
    assert max((finding.status for finding in found), key=["ok", "warn", "fail"].index) == status


# Pure decisions


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (None, "ok"),
        ({}, "fail"),
        ({"enable-threads": True}, "ok"),
        ({"enable-threads": b"true"}, "ok"),
        ({"enable-threads": b"false"}, "fail"),
        ({"threads": b"4"}, "ok"),
    ],
    ids=["outside", "none", "flag", "true", "false", "number"],
)
def test_uwsgi(options: dict[str, Any] | None, status: str) -> None:
    """Inside uWSGI our thread only runs with enable-threads, or with a number of threads."""
    assert _diagnosis.judge_uwsgi(options).status == status


@pytest.mark.parametrize(
    ("trouble", "advice"),
    [
        (Trouble("certificate", "x"), "SSL_CERT_FILE"),
        (Trouble("timeout", "x"), "firewall"),
        (Trouble("proxy", "x"), "NO_PROXY"),
    ],
    ids=lambda value: value.kind if isinstance(value, Trouble) else "",
)
def test_each_trouble_has_its_advice(trouble: Trouble, advice: str) -> None:
    """What to do depends on what went wrong."""
    assert advice in _diagnosis.judge_connection("http://c", trouble).advice


@pytest.mark.parametrize(
    ("url", "addresses", "warned"),
    [
        ("http://c", ["8.8.8.8"], True),
        ("https://c", ["8.8.8.8"], False),
        ("http://c", ["10.0.0.1", "127.0.0.1", "::1", "fe80::1%eth0"], False),
    ],
    ids=["http", "https", "private"],
)
def test_plain_text_over_the_internet(url: str, addresses: list[str], warned: bool) -> None:
    """Keys and events that cross the internet unencrypted are warned of; on private networks they are not."""
    assert bool(_diagnosis.judge_encryption(url, addresses)) is warned


@pytest.mark.parametrize(
    ("date", "asked_at", "seconds", "ahead"),
    [(100, 100.9, 0.2, 0), (100, 103, 0.5, 2), (100, 95, 0.5, -4.5), (100, 98, 4, 0)],
    ids=["same", "ahead", "behind", "a slow answer tells nothing"],
)
def test_the_clock_is_told_by_what_is_certain(date: float, asked_at: float, seconds: float, ahead: float) -> None:
    """A Date header has whole seconds and was written at some time during the request: the least that fits counts."""
    assert _diagnosis.clock_ahead(date, asked_at, seconds) == pytest.approx(ahead)


def test_no_date_tells_nothing() -> None:
    """A server without a clock of its own is no failure."""
    assert _diagnosis.judge_clock(None).status == "skip"
    answer = Answer(status=200, headers={"date": "yesterday"}, content=b"", asked_at=0, seconds=0)
    assert _doctor._clock_ahead(answer) is None


@pytest.mark.parametrize(
    ("is_patched", "what"),
    [
        ({}, "neither gevent nor eventlet is installed"),
        ({"gevent": True, "eventlet": False}, "gevent has patched this process, eventlet is installed"),
    ],
    ids=["none", "both"],
)
def test_green_threads(is_patched: dict[str, bool], what: str) -> None:
    """Libraries that replace threads are named, with whether they have done so here."""
    assert _diagnosis.judge_green(is_patched).what == what


def test_short_keys_are_hidden_as_words() -> None:
    """A key of one letter does not make the report unreadable."""
    found = cleaned(Finding("fail", "x", "a bad key: a!", "a"), ["a"])
    assert (found.what, found.advice) == ("*** bad key: ***!", "***")
    assert cleaned(Finding("ok", "x", "bad"), ["a", ""]).what == "bad"


# The command


def test_help_reads_well() -> None:
    """--help names the command and what its lines mean; without a command there is a usage line and exit code 2."""
    assert "doctor" in run("--help").stdout
    told = run("doctor", "--help").stdout
    assert all(f"\n  {status}" in told for status in ("ok", "warn", "fail", "skip"))
    nothing = run()
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.startswith("usage: python -m analytics_sdk")


def test_the_documentation_shows_what_the_doctor_says(collector: Collector) -> None:
    """The example in docs/doctor.md has the same lines, but for what differs from machine to machine."""
    shown = re.search(
        r"```console\n\$ python -m analytics_sdk doctor\n(.*?)```", (ROOT / "docs/doctor.md").read_text(), re.S
    )
    assert shown is not None
    done = run("doctor", ANALYTICS_URL=collector.url, ANALYTICS_WRITE_KEY=WRITE_KEY)
    assert checks_of(shown[1]) == checks_of(done.stdout)


def checks_of(text: str) -> list[tuple[str, str]]:
    """Status and subject of each line."""
    return re.findall(r"^(ok|warn|fail|skip) +([\w ]+?)  ", text, re.M)
