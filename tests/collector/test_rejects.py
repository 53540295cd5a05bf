"""Refused records: counted, and tried again; whatever happens meanwhile, nothing is stored twice and nothing lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from analytics_collector import migrate, profiles, rejects, writer
from analytics_collector.batch import Kind, Reject
from analytics_collector.cli import main
from analytics_collector.committer import Committer
from analytics_collector.db import Database
from analytics_collector.rejects import Outcome, Replay, Selection
from tests.collector.batches import at, commit, event
from tests.programs import running, wait_until

FOREVER = sys.maxsize
ALL = Selection()


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    """The door to the clean database."""
    with closing(Database(dsn)) as opened:
        yield opened


@pytest.fixture
def committer(database: Database) -> Committer:
    """What stores records in this process."""
    return Committer(database)


def refuse(
    connection: psycopg.Connection, *records: dict[str, Any] | bytes, kind: Kind = "event", code: str = "unknown_user"
) -> None:
    """Put records among the rejects, as if they had been refused for a reason that holds no longer."""
    raws = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    writer.write_rejects(connection, [("web", Reject(kind, 0, raw, code, "as it was then")) for raw in raws])


def kept(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    """The rejects there are: code and record."""
    return connection.execute("SELECT code, record FROM analytics_reject ORDER BY code, record").fetchall()


def stored(connection: psycopg.Connection) -> int:
    """How many events there are."""
    return connection.execute("SELECT count(*) FROM analytics_event").fetchall()[0][0]


def replay(database: Database, selection: Selection = ALL, limit: int = FOREVER) -> Outcome:
    """Replay in this process."""
    _, until = rejects.count(database, selection)
    return sum(Replay(database, Committer(database)).run(selection, until, limit), Outcome())


def invoke(*arguments: str, dsn: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments, env={"ANALYTICS_DATABASE_URL": dsn}, prog_name="analytics-collector")


def replaying(dsn: str) -> Any:
    """A replay in a process of its own."""
    command = [sys.executable, "-m", "analytics_collector", "replay", "--json"]
    return running(command, {"ANALYTICS_DATABASE_URL": dsn}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a replay said at its end."""
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(said)


# What a replay does


def test_what_is_good_by_now_is_stored_and_no_reject_any_longer(
    database: Database, connection: psycopg.Connection
) -> None:
    """Events, sessions and users are stored as if they came now, byte for byte, and each profile is exact."""
    refuse(connection, *(event(name, "s", event_data={"n": name}) for name in range(3)))
    refuse(connection, {"session_id": "s", "user_id": 7, "started_at": at(-1)}, kind="session")
    refuse(connection, {"user_id": 7, "traits": {"plan": "pro"}, "updated_at": at(0)}, kind="user")
    assert replay(database) == Outcome(read=5, stored=5)
    assert (kept(connection), stored(connection), profiles.verify(connection)) == ([], 3, [])
    rows = connection.execute("SELECT DISTINCT user_id, session_id, created_at FROM analytics_event").fetchall()
    assert rows == [(7, "s", datetime.fromisoformat(at(0)))]
    assert connection.execute("SELECT traits FROM analytics_user").fetchall() == [({"plan": "pro"},)]


def test_what_is_still_bad_stays_with_its_present_reason(database: Database, connection: psycopg.Connection) -> None:
    """A record that is refused again keeps its bytes, key and time, and says what is wrong with it now."""
    bad = json.dumps(event("x", ip_address="nowhere")).encode()
    refuse(connection, bad, event("good"))
    before = connection.execute("SELECT received_at, key_name FROM analytics_reject WHERE record = %s", [bad])
    arrived = before.fetchall()
    assert replay(database) == Outcome(read=2, stored=1, refused={"invalid_field": 1})
    rows = connection.execute("SELECT code, message, record, received_at, key_name FROM analytics_reject").fetchall()
    assert rows == [("invalid_field", "ip_address 'nowhere' is no IPv4 or IPv6 address", bad, *arrived[0])]


def test_what_postgres_refuses_stays(database: Database, connection: psycopg.Connection) -> None:
    """What only Postgres can refuse is refused again, alone, and is there once."""
    tiny = b'{"event_id":"%s","event_type":"x","created_at":"2026-01-31T12:00:00Z","event_data":{"a":1e-99999}}'
    tiny %= str(uuid.uuid4()).encode()
    refuse(connection, event(1), tiny, event(2))
    assert replay(database) == Outcome(read=3, stored=2, refused={"database_refused": 1})
    assert (kept(connection), stored(connection)) == ([("database_refused", tiny)], 2)


def test_a_user_who_is_known_by_now(new_database: Callable[[], str]) -> None:
    """The usual case: an event came before its user; once the app's table has the user, a replay stores it."""
    with psycopg.connect(new_database(), autocommit=True) as connection:
        migrate.apply(connection)
        connection.execute("CREATE TABLE auth_user (id integer PRIMARY KEY)")
        migrate.use_user_table(connection, "auth_user")
        with closing(Database(connection.info.dsn)) as database:
            assert [reject.code for reject in commit(Committer(database), events=[event(1, user_id=5)]).rejected] == [
                "unknown_user"
            ]
            assert replay(database) == Outcome(read=1, refused={"unknown_user": 1})
            connection.execute("INSERT INTO auth_user VALUES (5)")
            assert replay(database) == Outcome(read=1, stored=1)
        assert (kept(connection), profiles.verify(connection)) == ([], [])


def test_time_heals_a_clock_that_was_ahead(
    committer: Committer, database: Database, connection: psycopg.Connection
) -> None:
    """A record ahead of its time is refused until that time has come, and then keeps the time it came with."""
    ahead = event("ahead", created_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert commit(committer, events=[ahead]).rejected[0].code == "clock_ahead"
    assert replay(database).refused == {"clock_ahead": 1}

    def an_hour_later(reject: rejects.Stored, now: datetime) -> Any:
        return rejects.judge(reject, now + timedelta(hours=1))

    later = Replay(database, committer, judge=an_hour_later)
    assert sum(later.run(Selection(), datetime.now(UTC), FOREVER), Outcome()) == Outcome(read=1, stored=1)
    [(created_at,)] = connection.execute("SELECT created_at FROM analytics_event").fetchall()
    assert created_at == datetime.fromisoformat(ahead["created_at"])


def test_the_first_user_in_a_session_owns_it_in_a_replay_too(
    database: Database, connection: psycopg.Connection
) -> None:
    """Rejects are replayed in the order in which they arrived, whatever their kind or id."""
    for user_id in (3, 1, 2):
        refuse(connection, event(f"of {user_id}", "s", user_id))
    assert replay(database).stored == 3
    assert connection.execute("SELECT user_id FROM analytics_session").fetchall() == [(3,)]


def test_pages_and_limit(database: Database, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the pages are, by number or by bytes, each reject is read once, and no more than the limit."""
    monkeypatch.setattr(rejects, "PAGE", 3)
    monkeypatch.setattr(rejects, "_MOST_BYTES", 300)
    refuse(connection, *(event(name) for name in range(10)), *(b"bad %d" % name for name in range(7)))
    first = replay(database, limit=4)
    assert first.read == 4
    left = 17 - first.stored
    assert replay(database) == Outcome(read=left, stored=left - 7, refused={"invalid_json": 7})
    assert (len(kept(connection)), stored(connection)) == (7, 10)


def test_a_selection(database: Database, connection: psycopg.Connection) -> None:
    """Codes and a time choose what is tried; the rest is not touched."""
    refuse(connection, event(1), code="unknown_user")
    refuse(connection, event(2), code="invalid_field")
    [(middle,)] = connection.execute("SELECT clock_timestamp()").fetchall()
    refuse(connection, event(3), code="unknown_user")
    assert replay(database, Selection(codes=("unknown_user",), since=middle)).stored == 1
    assert replay(database, Selection(codes=("too_deep", "invalid_field"))).stored == 1
    assert [code for code, _ in kept(connection)] == ["unknown_user"]


def test_what_arrives_meanwhile_is_left_alone(database: Database, connection: psycopg.Connection) -> None:
    """A replay goes up to the newest reject that was there at its start, so it ends however many come."""
    refuse(connection, event(1))
    _, until = rejects.count(database, Selection())
    refuse(connection, event(2))
    assert sum(Replay(database, Committer(database)).run(Selection(), until, FOREVER), Outcome()).read == 1


# Whatever happens meanwhile


def test_kill_9_between_storing_and_forgetting(dsn: str, connection: psycopg.Connection) -> None:
    """Killed after COMMIT and before the rejects are forgotten, it leaves them, and the next stores nothing twice."""
    refuse(connection, *(event(name, f"s{name % 9}", name % 5) for name in range(700)))
    with replaying(dsn) as killed, psycopg.connect(dsn) as holder:
        holder.execute("LOCK TABLE analytics_reject IN SHARE MODE")  # it may read them, and change nothing
        wait_until(lambda: stored(connection) == rejects.PAGE, within=20, what="the first page being stored")
        killed.kill()
        killed.wait(10)
    assert (len(kept(connection)), stored(connection)) == (700, rejects.PAGE)
    with replaying(dsn) as again:
        assert outcome(again) == {"read": 700, "stored": 700, "duplicates": rejects.PAGE, "refused": {}}
    assert (kept(connection), stored(connection), profiles.verify(connection)) == ([], 700, [])


def test_kill_9_anywhere(dsn: str, connection: psycopg.Connection) -> None:
    """Killed again and again in the middle of its work, it ends with each event stored once and none lost."""
    refuse(connection, *(event(name, f"s{name % 9}", name % 5) for name in range(4000)))
    for share in (1, 2, 3):
        with replaying(dsn) as killed:
            enough = share * 1000
            wait_until(lambda enough=enough: stored(connection) >= enough, within=20, what="some being stored")
            killed.kill()
    assert len(kept(connection)) + stored(connection) >= 4000
    assert len(kept(connection)) > 0
    with replaying(dsn) as last:
        outcome(last)
    assert (kept(connection), stored(connection), profiles.verify(connection)) == ([], 4000, [])


def test_two_replays_at_once(dsn: str, connection: psycopg.Connection) -> None:
    """Two replays of the same rejects both succeed, and store each event once between them."""
    refuse(connection, *(event(name, f"s{name % 9}", name % 5) for name in range(2000)), b"never good")
    with psycopg.connect(dsn) as holder, ExitStack() as stack:
        holder.execute("LOCK TABLE analytics_reject IN SHARE MODE")
        both = [stack.enter_context(replaying(dsn)) for _ in range(2)]
        wait_until(lambda: waiting(connection) == 2, within=20, what="both waiting with the same page")
        holder.rollback()
        found = [outcome(process) for process in both]
    assert sum(one["stored"] - one["duplicates"] for one in found) == 2000
    assert sum(one["duplicates"] for one in found) >= rejects.PAGE - 1
    assert (kept(connection), stored(connection)) == ([("invalid_json", b"never good")], 2000)
    assert profiles.verify(connection) == []


def waiting(connection: psycopg.Connection) -> int:
    """How many collectors wait for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'analytics-%' AND wait_event_type = 'Lock'"
    )
    return connection.execute(query).fetchall()[0][0]


# As somebody types it


def test_rejects_are_counted_by_code_kind_and_key(dsn: str, connection: psycopg.Connection) -> None:
    """`rejects` has a line for each, the most frequent first; `--show` prints the newest so that one can read them."""
    refuse(connection, b"\x1b[2Jx\xff", code="invalid_json")
    refuse(connection, event(1), event(2))
    shown = invoke("rejects", "--show", "1", "--code", "invalid_json", dsn=dsn).output
    assert "\x1b" not in shown
    assert "invalid_json: as it was then\n  \N{REPLACEMENT CHARACTER}[2Jx\N{REPLACEMENT CHARACTER}\n" in shown
    lines = invoke("rejects", dsn=dsn).output.splitlines()
    assert [re.split(" +", line.strip())[:4] for line in lines[:2]] == [
        ["2", "unknown_user", "event", "web"],
        ["1", "invalid_json", "event", "web"],
    ]
    assert lines[2:] == ["3 records were refused; `replay` tries them again."]
    [group] = json.loads(invoke("rejects", "--code", "unknown_user", "--json", dsn=dsn).output)["groups"]
    assert (group["rejects"], group["oldest"] <= group["newest"]) == (2, True)


def test_replay_says_what_became_of_them(dsn: str, connection: psycopg.Connection) -> None:
    """`replay --dry-run` changes nothing; `replay` says in a sentence, or as JSON, what is stored and what is not."""
    refuse(connection, event(1), event(2), b"bad")
    said = invoke("replay", "--dry-run", dsn=dsn)
    assert said.stdout == "2 of 3 would be given to Postgres; still refused are 1 (invalid_json 1).\n"
    assert (len(kept(connection)), stored(connection)) == (3, 0)
    assert kept(connection)[0][0] == "unknown_user"
    said = invoke("replay", dsn=dsn)
    assert said.stdout == "2 of 3 are stored, 0 of them were already; still refused are 1 (invalid_json 1).\n"
    as_json = json.loads(invoke("replay", "--json", dsn=dsn).stdout)
    assert as_json == {"read": 1, "stored": 0, "duplicates": 0, "refused": {"invalid_json": 1}}


@pytest.mark.parametrize("arguments", [["replay", "--since", "yesterday"], ["rejects", "--code", "wrong"]])
def test_what_is_typed_wrong_is_told(dsn: str, arguments: list[str]) -> None:
    """A time or a code that is none is refused with what it could be."""
    said = invoke(*arguments, dsn=dsn)
    assert said.exit_code == 2
    assert "write it like 2026-01-31" in said.output or "'clock_ahead'" in said.output


def test_without_a_database_replay_says_what_to_do() -> None:
    """Without ANALYTICS_DATABASE_URL the commands say so in one sentence."""
    environ = {name: value for name, value in os.environ.items() if name != "ANALYTICS_DATABASE_URL"}
    for command in ("replay", "rejects"):
        said = CliRunner().invoke(main, [command], env=environ)
        assert (said.exit_code, said.output.startswith("Error: No database given. Set ANALYTICS_")) == (1, True)
