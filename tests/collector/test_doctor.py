"""`analytics-collector doctor`: what it finds in a real Postgres and before a real collector, and what to do."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import make_conninfo

from analytics_collector import diagnosis, doctor, keys, partitions, roles
from analytics_collector.cli import main
from analytics_collector.config import Settings
from analytics_collector.diagnosis import Role, Server, Table
from analytics_collector.door_diagnosis import Answer, judge_exposure
from analytics_collector.finding import Finding, cleaned, report
from analytics_collector.keys import Key
from tests.collector.batches import body, event, post
from tests.collector.operating import ask
from tests.programs import ROOT, Collector, free_port, run_collector

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def own(own_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to it."""
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        yield connection


def examined(dsn: str, url: str = "", **settings: Any) -> dict[str, Finding]:
    """The findings by what was looked at."""
    return {finding.check: finding for finding in doctor.examine(Settings(database_url=dsn, **settings), url)}


def run(dsn: str, *arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["doctor", *arguments], env={"ANALYTICS_DATABASE_URL": dsn})


# The command


def test_a_good_database_is_told_so(own_dsn: str) -> None:
    """On a database as it should be nothing fails, and the exit code is 0."""
    ended = run(own_dsn)
    assert ended.exit_code == 0, ended.output
    assert "ok    migrations    all applied" in ended.output
    findings = examined(own_dsn)
    checks = "database version writable durability autovacuum memory session connections clock migrations role"
    assert list(findings) == [*checks.split(), "partitions", "default rows", "dead rows", "indexes", "keys", "disk"]
    odd = {check: finding.status for check, finding in findings.items() if finding.status != "ok"}
    assert odd in ({"role": "warn"}, {"role": "warn", "disk": "warn"})  # a superuser; and a full disk is nobody's fault


def test_a_bad_database_is_exit_code_1(new_database: Callable[[], str]) -> None:
    """On a database without our tables the doctor names the command to run, and its exit code is 1; as JSON, too."""
    dsn = new_database()
    ended, as_json = run(dsn), run(dsn, "--json")
    assert (ended.exit_code, as_json.exit_code) == (1, 1)
    assert "run `analytics-collector migrate`" in ended.output
    told = json.loads(as_json.output)
    assert told["ok"] is False
    assert {"status", "check", "what", "advice"} == set(told["findings"][0])
    assert [finding["check"] for finding in told["findings"] if finding["status"] == "fail"] == ["migrations"]


def test_a_database_that_is_away_is_one_finding() -> None:
    """Where no Postgres answers, that is what is told, and no password."""
    ended = run(f"postgresql://ada:secret@127.0.0.1:{free_port()}/x")
    assert ended.exit_code == 1
    assert ended.output.startswith("fail  database  ")
    assert "secret" not in ended.output


def test_looking_changes_nothing(own_dsn: str, own: psycopg.Connection) -> None:
    """The doctor stores no row and leaves no connection behind."""
    counts = "SELECT relname, n_tup_ins, n_tup_upd FROM pg_stat_user_tables ORDER BY relname"
    before = own.execute(counts).fetchall()
    examined(own_dsn)
    assert own.execute(counts).fetchall() == before
    here = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    deadline = datetime.now(UTC) + timedelta(seconds=5)
    while own.execute(here).fetchone() != (0,):
        assert datetime.now(UTC) < deadline


# What it finds in a real database


def test_a_newer_database_is_told(own_dsn: str, own: psycopg.Connection) -> None:
    """Newer tables are an upgrade to finish; those of a newer major are no case for migrate but for an upgrade."""
    own.execute("INSERT INTO analytics_migration (name, checksum) VALUES ('0999_future', '')")
    found = examined(own_dsn)["migrations"]
    assert (found.status, "0999_future" in found.what, "restart" in found.advice) == ("warn", True, True)
    own.execute("INSERT INTO analytics_migration (name, checksum) VALUES ('9999_future', '')")
    found = examined(own_dsn)["migrations"]
    assert (found.status, "9999_future" in found.what, "newer" in found.advice) == ("fail", True, True)


def test_missing_partitions_are_named(own_dsn: str, own: psycopg.Connection) -> None:
    """A month to come without a partition is named: a warning in time, a failure when it is next month's."""
    last, next_one = (f"analytics_event_{partitions.month_after(datetime.now(UTC), n):%Y_%m}" for n in (3, 1))
    own.execute(f"DROP TABLE {last}")
    found = examined(own_dsn)["partitions"]
    assert (found.status, found.what) == ("warn", f"missing: {last}")
    own.execute(f"DROP TABLE {next_one}")
    found = examined(own_dsn)["partitions"]
    assert (found.status, found.what) == ("fail", f"missing: {next_one}, {last}")


def test_rows_in_the_default_partition_are_told(own_dsn: str, own: psycopg.Connection) -> None:
    """Old rows there are as they should be; rows of a month to come keep its partition from being made."""
    insert = "INSERT INTO analytics_event (session_id, event_type, created_at) VALUES ('', 'x', %s)"
    own.execute(insert, ["1999-01-31"])
    assert examined(own_dsn)["default rows"].status == "ok"
    own.execute(insert, ["2999-01-31"])
    found = examined(own_dsn)["default rows"]
    assert (found.status, "2999-01" in found.what, "1999" in found.what) == ("warn", True, False)


def test_dead_rows_are_told(own_dsn: str, own: psycopg.Connection) -> None:
    """A table that is mostly dead rows is named, with when it was vacuumed."""
    own.execute("ALTER TABLE analytics_useranalyticsprofile SET (autovacuum_enabled = off)")
    own.execute("INSERT INTO analytics_useranalyticsprofile (user_id) SELECT generate_series(1, 12000)")
    own.execute("UPDATE analytics_useranalyticsprofile SET total_events = 1")
    own.execute("SELECT pg_stat_force_next_flush()")
    own.execute("SELECT 1")
    found = examined(own_dsn)["dead rows"]
    assert found.what == "analytics_useranalyticsprofile has 12,000 dead rows beside 12,000, vacuumed never"
    assert (found.status, found.advice.startswith("VACUUM")) == ("warn", True)


def test_an_invalid_index_is_told(own_dsn: str, own: psycopg.Connection) -> None:
    """An index that was broken off while it was made is named: Postgres keeps it up to date and never uses it."""
    own.execute("INSERT INTO analytics_session (session_id, user_agent) VALUES ('a', 'x'), ('b', 'x')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        own.execute("CREATE UNIQUE INDEX CONCURRENTLY broken_off ON analytics_session (user_agent)")
    found = examined(own_dsn)["indexes"]
    assert (found.status, found.what) == ("fail", "not valid: broken_off")


def test_a_door_without_a_key_is_told(own_dsn: str, own: psycopg.Connection) -> None:
    """Without a valid key for writing no event can come in; the command to make one is told."""
    assert examined(own_dsn)["keys"].what == "1 write, 1 read, 0 admin; 0 revoked"
    keys.revoke(own, "web")
    found = examined(own_dsn)["keys"]
    assert (found.status, "keys create --kind write" in found.advice) == ("fail", True)


@pytest.mark.parametrize(
    ("setting", "check", "status"),
    [
        ("synchronous_commit = off", "durability", "warn"),
        ("default_transaction_read_only = on", "writable", "fail"),
        ("statement_timeout = '5s'", "session", "warn"),
        ("timezone = 'Europe/Berlin'", "session", "ok"),
    ],
)
def test_settings_of_the_database_count(
    own_dsn: str, own: psycopg.Connection, setting: str, check: str, status: str
) -> None:
    """Settings are looked at as a session of this role in this database has them, wherever they were made."""
    name = own.info.dbname
    own.execute(f"ALTER DATABASE {name} SET {setting}")
    assert examined(own_dsn)[check].status == status


def test_more_workers_than_connections_are_told(own_dsn: str) -> None:
    """Workers that could not all connect fail; those that leave nothing to others are warned of."""
    assert examined(own_dsn, workers=2, connections=4)["connections"].status == "ok"
    assert examined(own_dsn, workers=16, connections=4)["connections"].status == "warn"
    assert examined(own_dsn, workers=32, connections=8)["connections"].status == "fail"


# Roles


@pytest.fixture
def grants(own_dsn: str, own: psycopg.Connection) -> Iterator[str]:
    """The DSN of the collector's role, made exactly as docs/operating.md says."""
    (block,) = re.findall(r"```sql\n(-- The collector's role.*?)```", (ROOT / "docs/operating.md").read_text(), re.S)
    name = own.info.dbname
    statements = block.replace("ON DATABASE analytics", f"ON DATABASE {name}").replace("collector", f"c_{name}")
    own.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    own.execute(statements)
    roles.grant(own, f"c_{name}")  # what `migrate --grant-to` does
    yield make_conninfo(own_dsn, user=f"c_{name}", password="...")
    own.execute(f"DROP OWNED BY c_{name}")
    own.execute(f"DROP ROLE c_{name}")


def test_the_documented_role_is_enough(grants: str) -> None:
    """With the privileges of docs/operating.md, and no other, the collector stores, refuses, reads and is ready."""
    found = examined(grants)
    assert found["role"].status == "ok", found["role"]
    assert "cannot make partitions" in found["role"].what
    with run_collector(grants, workers=1) as collector:
        records = [event("a", "s", "ada"), event("b", "s", 7), event("c", "s", 8, event_data={"a": "\0"})]
        sessions = [{"session_id": "s", "started_at": "2026-01-01T00:00:00Z"}]
        users = [{"user_id": "ada", "traits": {"plan": "pro"}, "updated_at": "2026-01-31T12:00:00Z"}]
        first = post(collector.url, body(events=records, sessions=sessions, users=users)).json
        assert (first["accepted"], [reject["code"] for reject in first["rejected"]]) == (4, ["nul_character"])
        assert post(collector.url, body(events=records)).json["duplicates"] == 2
        assert ask(collector.url, "/v1/profiles/ada").json["total_events"] == 1
        assert ask(collector.url, "/readyz").status == 200
        assert ask(collector.url, "/metrics").status == 200


def test_a_missing_privilege_is_named(own: psycopg.Connection, grants: str) -> None:
    """A privilege that was forgotten is named before the first event is refused."""
    role = psycopg.conninfo.conninfo_to_dict(grants)["user"]
    own.execute(f"REVOKE UPDATE ON analytics_session FROM {role}")
    found = examined(grants)["role"]
    assert (found.status, found.what) == ("fail", f"{role} lacks UPDATE on analytics_session")


def test_a_superuser_is_advised_against(own_dsn: str) -> None:
    """A superuser works, and is more than a collector should be."""
    found = examined(own_dsn)["role"]
    assert (found.status, "is a superuser" in found.what) == ("warn", True)


# The way to a collector


def test_the_way_to_a_collector_is_tried(own_dsn: str) -> None:
    """With --url keys, request ids and bodies of the full size are sent the way that senders go; nothing is stored."""
    with run_collector(own_dsn, workers=1) as collector:
        found = examined(own_dsn, collector.url)
    door = {check: found[check].status for check in ("collector", "readiness", "keys arrive", "request ids")}
    assert door == {"collector": "ok", "readiness": "ok", "keys arrive": "ok", "request ids": "ok"}
    assert found["large bodies"].status in ("ok", "skip")  # without a proxy the collector may cut it short


class Proxy(http.server.BaseHTTPRequestHandler):
    """Passes requests on as a proxy does that nobody has configured: small bodies, and no Authorization."""

    target = ""

    def do_GET(self) -> None:
        """Pass a request on."""
        length = int(self.headers.get("Content-Length", 0))
        content = self.rfile.read(length) if length else None
        if length > 2**20:
            self._answer(413, b"<html>413 Request Entity Too Large</html>")
            return
        request = urllib.request.Request(f"{self.target}{self.path}", content, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                self._answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            with error:
                self._answer(error.code, error.read())

    do_POST = do_GET  # noqa: N815  # the library's name

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def proxy(collector: Collector) -> Iterator[str]:
    """Such a proxy before a collector; yields its address."""
    handler = type("Configured", (Proxy,), {"target": collector.url})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_proxy_that_is_in_the_way_is_told(own_dsn: str) -> None:
    """A proxy that drops keys or refuses batches is found by trying, and the setting to change is named."""
    with run_collector(own_dsn, workers=1) as collector, proxy(collector) as url:
        found = examined(own_dsn, url)
    assert (found["keys arrive"].status, found["large bodies"].status) == ("fail", "fail")
    assert "client_max_body_size 8388608;" in found["large bodies"].advice


def test_no_collector_is_told(own_dsn: str) -> None:
    """Where nobody listens, and where another server does, that is what is told."""
    nobody = examined(own_dsn, f"http://127.0.0.1:{free_port()}")["collector"]
    assert (nobody.status, "ConnectionRefusedError" in nobody.what) == ("fail", True)
    assert examined(own_dsn, "no address at all")["collector"].status == "fail"


@pytest.mark.parametrize(
    ("url", "status", "found"),
    [
        ("http://127.0.0.1:8000", 200, []),
        ("https://events.example.org", 401, []),
        ("http://events.example.org", 401, ["encryption"]),
        ("https://events.example.org", 200, ["figures"]),
    ],
)
def test_what_strangers_could_see_is_told(url: str, status: int, found: list[str]) -> None:
    """Keys in plain text and figures for everybody are warned of, unless nobody but this machine can see them."""
    assert [finding.check for finding in judge_exposure(url, Answer(status))] == found


# What cannot be made in a test: judged from facts

SERVER = Server(
    180_000,
    {
        "server_version": "18.0",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "autovacuum": "on",
        "track_counts": "on",
        "server_encoding": "UTF8",
        "shared_buffers": "16384",
        "max_connections": "100",
        "superuser_reserved_connections": "3",
        "statement_timeout": "0",
        "TimeZone": "UTC",
    },
    is_standby=False,
    connections=3,
)


def server(**settings: str) -> Server:
    """A good one but for some settings."""
    return attrs.evolve(SERVER, settings={**SERVER.settings, **settings})


@pytest.mark.parametrize(
    ("judge", "facts", "status"),
    [
        (diagnosis.judge_version, SERVER, "ok"),
        (diagnosis.judge_version, attrs.evolve(SERVER, version=150_000), "ok"),
        (diagnosis.judge_version, attrs.evolve(SERVER, version=149_999), "fail"),
        (diagnosis.judge_writable, SERVER, "ok"),
        (diagnosis.judge_writable, attrs.evolve(SERVER, is_standby=True), "fail"),
        (diagnosis.judge_writable, server(server_encoding="SQL_ASCII"), "fail"),
        (diagnosis.judge_durability, SERVER, "ok"),
        (diagnosis.judge_durability, server(fsync="off"), "fail"),
        (diagnosis.judge_durability, server(full_page_writes="off"), "fail"),
        (diagnosis.judge_vacuum, SERVER, "ok"),
        (diagnosis.judge_vacuum, server(autovacuum="off"), "warn"),
        (diagnosis.judge_vacuum, server(track_counts="off"), "warn"),
        (diagnosis.judge_memory, SERVER, "ok"),
        (diagnosis.judge_memory, server(shared_buffers="16383"), "warn"),
        (diagnosis.judge_clock, 4.9, "ok"),
        (diagnosis.judge_clock, -4.9, "ok"),
        (diagnosis.judge_clock, 5.1, "warn"),
        (diagnosis.judge_clock, -599.0, "warn"),
        (diagnosis.judge_clock, 601.0, "fail"),
        (diagnosis.judge_clock, -601.0, "fail"),
        (diagnosis.judge_role, Role("c", False, True, []), "ok"),
        (diagnosis.judge_keys, [Key("a", "admin", b"", NOW, None)], "warn"),
        (diagnosis.judge_keys, [Key("a", "write", b"", NOW, None)], "ok"),
    ],
)
def test_a_judgement(judge: Callable[[Any], Finding], facts: object, status: str) -> None:
    """Each fact has its judgement, and whatever is not as it should be has an advice."""
    found = judge(facts)
    assert found.status == status
    assert found.advice or status == "ok"


@pytest.mark.parametrize(("free", "status"), [(50, "ok"), (10, "ok"), (9, "warn"), (2, "warn"), (1, "fail")])
def test_a_full_disk_is_told(free: int, status: str) -> None:
    """A disk of 100 GiB warns below 10 of them free and fails below 2."""
    assert diagnosis.judge_disk("/var/lib/postgresql", free * 2**30, 100 * 2**30).status == status


def test_many_old_rows_in_the_default_partition_are_told() -> None:
    """A million rows of old months are worth partitions of their own."""
    assert diagnosis.judge_default_rows({"1999-01": 999_999}, "2026-01").status == "ok"
    assert diagnosis.judge_default_rows({"1999-01": 1_000_000}, "2026-01").status == "warn"


def test_dead_rows_below_the_limits_are_fine() -> None:
    """Few dead rows, or few in comparison, are what autovacuum is for."""
    few, many_of_more = Table("a", 0, 9_999, None), Table("b", 10**6, 10**5, NOW)
    assert diagnosis.judge_bloat([few, many_of_more], NOW).status == "ok"
    assert "2 days ago" in diagnosis.judge_bloat([Table("b", 1, 10**5, NOW)], NOW + timedelta(days=2)).what


def test_a_finding_is_one_line_without_a_password() -> None:
    """Whatever a server said, a finding is one line of bounded length and shows no password."""
    shown = report([cleaned(Finding("fail", "database", "postgresql://ada:secret@host/x\n\x1b" + "y" * 999, "do"))])
    assert "secret" not in shown
    assert (len(shown.splitlines()), len(shown) < 400) == (3, True)
    assert shown.splitlines()[-1] == "0 ok, 1 fail"
