"""`analytics-collector selftest`: it finds what is wrong, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from analytics_collector import migrate
from analytics_collector.committer import Committer
from analytics_collector.db import Connection, Database
from analytics_collector.exceptions import CollectorError
from analytics_collector.protocols import native
from analytics_collector.selftest._author import Author
from analytics_collector.selftest._diary import Acknowledged, Reader, Sent, Writer
from analytics_collector.selftest._faults import FAULTS, deal
from analytics_collector.selftest._ledger import Books, Ledger, compare, report
from analytics_collector.selftest._postgres import _detour
from analytics_collector.selftest._proxy import Proxy
from analytics_collector.selftest._schema import own_schema
from analytics_collector.selftest._sender import _told
from tests.programs import ROOT, free_port, wait_until

COMMAND = [sys.executable, "-m", "analytics_collector", "selftest"]
TABLES = "SELECT oid, nspname FROM pg_namespace WHERE nspname LIKE 'analytics_selftest%'"


def run(dsn: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    environ = {**os.environ, "ANALYTICS_DATABASE_URL": dsn}
    return subprocess.run(
        [*COMMAND, *options], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )


# The command


def test_without_faults(new_database: Callable[[], str]) -> None:
    """On the user's Postgres everything is stored once, and nothing is there afterwards that was not before."""
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate.apply(connection)
        connection.execute("INSERT INTO analytics_event (session_id, event_type) VALUES ('theirs', 'click')")
        before = everything(connection)
        ended = run(dsn, "--seconds", "2", "--writers", "2", "--json")
        assert (ended.returncode, everything(connection)) == (0, before), ended.stderr
    ledger = json.loads(ended.stdout)
    assert ledger["ok"]
    assert ledger["sent"] == ledger["acknowledged"] == ledger["stored"] > 100
    assert [ledger[name] for name in ("lost", "duplicated", "unknown", "unanswered", "wrong_profiles")] == [0] * 4 + [
        []
    ]
    assert ledger["rejected"] == ledger["kept"] > 0
    assert "killed" not in ended.stderr


def everything(connection: Connection) -> list[tuple[object, ...]]:
    """All relations of a database that are not the system's, and the rows of theirs."""
    relations = connection.execute(
        "SELECT relnamespace::regnamespace::text, relname FROM pg_class"
        " WHERE relnamespace::regnamespace::text !~ '^pg_|^information' ORDER BY 1, 2"
    ).fetchall()
    rows = connection.execute("SELECT session_id, event_type FROM analytics_event").fetchall()
    schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1").fetchall()
    return [*relations, *rows, *schemas]


def test_with_faults() -> None:
    """With a Postgres of its own, killed like everything else, nothing is lost, stored twice or wrong."""
    ended = run("", "--chaos", "--seconds", "7", "--writers", "2", "--seed", "6")  # whose first faults are these two
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert "Every acknowledged event is stored once, and every profile is exact." in ended.stdout
    assert re.search(r"worker \d+ killed by kill -9", ended.stderr), ended.stderr
    assert "Postgres killed by kill -9, and started again" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_it_is_asked_to_end(new_database: Callable[[], str], tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with exit code 1, and its schema is gone all the same."""
    dsn = new_database()
    with trial_under_way(dsn, tmp_path) as process:
        process.send_signal(number)
        _, words = process.communicate(timeout=60)
    assert (process.returncode, "what it had made is removed" in words) == (1, True), words
    assert list(tmp_path.iterdir()) == []
    with psycopg.connect(dsn) as connection:
        assert connection.execute(TABLES).fetchall() == []


def test_one_that_was_killed(new_database: Callable[[], str], tmp_path: Path) -> None:
    """What a trial left that was killed by kill -9 is dropped by the next one; one that is under way is not."""
    dsn = new_database()
    with trial_under_way(dsn, tmp_path) as process:
        process.kill()
        process.wait()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA analytics_selftest_of_somebody_else")
        left = set(connection.execute(TABLES).fetchall())
        assert len(left) == 2
        wait_until(lambda: not others(connection), within=30, what="the end of what was killed")
        with own_schema(dsn), own_schema(dsn):
            names = connection.execute(TABLES).fetchall()
            assert len(names) == 3
            assert len(left & set(names)) == 1
        assert [name for _, name in connection.execute(TABLES)] == ["analytics_selftest_of_somebody_else"]


def test_a_sender_that_is_left_alone(tmp_path: Path) -> None:
    """A sender whose trial was killed gives up in time, even where nobody answers it any more."""
    code = "from analytics_collector.selftest import _sender; _sender.PATIENCE = 0.5; _sender.main()"
    given = [str(free_port()), "sender-1", str(tmp_path / "diary"), "--seed", "1"]
    environ = {**os.environ, "ANALYTICS_SELFTEST_KEY": "write-key"}
    with subprocess.Popen([sys.executable, "-c", code, *given], env=environ, cwd=ROOT, stdin=subprocess.PIPE) as sender:
        try:
            wait_until((tmp_path / "diary").exists, what="the sender's first batch")
            assert sender.stdin is not None
            sender.stdin.close()
            assert sender.wait(30) == 0
        finally:
            sender.kill()


def others(connection: Connection) -> list[tuple[object, ...]]:
    """Connections to this database beside our own."""
    return connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    ).fetchall()


@contextlib.contextmanager
def trial_under_way(dsn: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A trial that has begun to send; its files are in a folder."""
    environ = {**os.environ, "ANALYTICS_DATABASE_URL": dsn, "TMPDIR": str(folder)}
    command = [*COMMAND, "--seconds", "60", "--writers", "1"]
    with subprocess.Popen(command, env=environ, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            while "events sent" not in (line := process.stderr.readline()):
                assert line, "it ended"
            yield process
        finally:
            process.kill()


def test_a_role_that_may_not(new_database: Callable[[], str]) -> None:
    """A role that may make no schema is told so in one sentence, and what to do."""
    dsn, role = new_database(), f"selftest_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        try:
            ended = run(make_conninfo(dsn, user=role), "--seconds", "1")
        finally:
            connection.execute(f"DROP ROLE {role}")
    assert ended.returncode == 1
    assert f"The role {role} may not make a schema" in ended.stderr
    assert "Traceback" not in ended.stderr


# The books


@pytest.fixture
def books() -> Books:
    """The books of the fixture `trial`."""
    return Books()


@pytest.fixture
def trial(dsn: str, books: Books, tmp_path: Path) -> Iterator[Connection]:
    """A database with the events of a short trial, all of whose batches were answered; the books say so."""
    diary = tmp_path / "diary"
    author, now = Author("sender", random.Random(3)), datetime.now(UTC)
    with contextlib.closing(Database(dsn)) as database, psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(40):
            batch = author.batch(now)
            verdict = Committer(database).commit(native.parse(author.body(batch), now), "tests")
            Writer(diary).put_down(Sent(number, _told(batch), len(batch.bad)))
            Writer(diary).put_down(Acknowledged(number, 0, 0, len(verdict.rejected)))
        books.enter(1, Reader(diary).entries())
        yield connection


def test_books_that_balance(trial: Connection, books: Books) -> None:
    """Claims, late events, ended sessions and bad records in any order: our own count of profiles is Postgres's."""
    ledger = compare(trial, books)
    assert ledger.holds, ledger
    assert ledger.rejected > 0
    assert trial.execute("SELECT count(*) > 20 FROM analytics_useranalyticsprofile").fetchone() == (True,)


@pytest.mark.parametrize(
    ("deed", "figure"),
    [
        ("DELETE FROM analytics_event WHERE event_id = (SELECT event_id FROM analytics_event LIMIT 1)", "lost"),
        ("INSERT INTO analytics_event (session_id, event_type) VALUES ('', 'click')", "unknown"),
        (
            """INSERT INTO analytics_event (event_id, session_id, event_type, created_at)
            SELECT event_id, '', 'click', '2001-01-01' FROM analytics_event LIMIT 1""",
            "duplicated",
        ),
    ],
)
def test_rows_that_are_wrong(trial: Connection, books: Books, deed: str, figure: str) -> None:
    """A row too few, too many, or twice is one in the ledger, which then does not hold."""
    trial.execute(deed)
    ledger = compare(trial, books)
    assert (getattr(ledger, figure), ledger.holds) == (1, False)
    assert "FAILED" in report(ledger)


@pytest.mark.parametrize(
    "deed",
    [
        "UPDATE analytics_useranalyticsprofile SET total_events = total_events + 1 WHERE user_id = 1",
        "UPDATE analytics_event SET user_id = NULL WHERE user_id = 1",
        "DELETE FROM analytics_useranalyticsprofile WHERE user_id = 1",
    ],
)
def test_profiles_that_are_wrong(trial: Connection, books: Books, deed: str) -> None:
    """A profile that is not what the rows say, or rows that are not what was sent, is named."""
    trial.execute(deed)
    ledger = compare(trial, books)
    assert set(ledger.wrong_profiles) & {"1", "number 1"}
    assert not ledger.holds


def test_profiles_that_agree_with_wrong_rows(trial: Connection, books: Books) -> None:
    """Where profile and rows agree with one another and not with what was sent, `verify` is content and we are not."""
    trial.execute("UPDATE analytics_event SET user_id = NULL WHERE user_id = 1")
    trial.execute(
        "UPDATE analytics_useranalyticsprofile SET total_events = 0, first_seen = NULL, last_seen = NULL"
        " WHERE user_id = 1"
    )
    assert compare(trial, books).wrong_profiles == ("1",)


def test_a_reject_that_is_gone(trial: Connection, books: Books) -> None:
    """A refused record that nobody kept is missed."""
    trial.execute("DELETE FROM analytics_reject WHERE reject_id = (SELECT reject_id FROM analytics_reject LIMIT 1)")
    ledger = compare(trial, books)
    assert (ledger.rejected - ledger.kept, ledger.holds) == (1, False)


def test_a_batch_without_an_answer(trial: Connection, books: Books) -> None:
    """A collector that stores nothing and answers nothing loses nothing, and does not pass either."""
    books.enter(1, [Sent(1000, [], 0)])
    ledger = compare(trial, books)
    assert (ledger.lost, ledger.unanswered, ledger.holds) == (0, 1, False)


def test_an_empty_trial(connection: Connection) -> None:
    """A trial in which nothing happened proves nothing."""
    assert not compare(connection, Books()).holds


def test_a_report_that_names_what_failed() -> None:
    """What a sender was answered and should never have been is in the report."""
    ledger = Ledger(1, 1, 0, 1, 0, 0, 0, (), 0, 0, ("a batch was answered 500",))
    assert not ledger.holds
    assert "a batch was answered 500\nIt FAILED." in report(ledger)


# Chance


def test_a_round_of_faults() -> None:
    """Every fault that is possible comes, none else, as often as its weight says, and the same seed deals the same."""
    possible = FAULTS.keys() - {"postgres killed"}
    dealt = deal(random.Random(1), possible)
    assert {fault: dealt.count(fault) for fault in possible} == {fault: FAULTS[fault] for fault in possible}
    assert set(dealt[: len(possible)]) == possible
    assert dealt == deal(random.Random(1), possible) != deal(random.Random(2), possible)


def test_an_author_repeats_itself() -> None:
    """The same seed makes the same batches; another sender's share nothing with them but the users."""
    now = datetime.now(UTC)
    one, same, other = (Author(name, random.Random(name)) for name in ("a", "a", "b"))
    batches = [[author.batch(now) for _ in range(20)] for author in (one, same, other)]
    assert batches[0] == batches[1]
    ids = [{event["event_id"] for batch in part for event in batch.events} for part in batches]
    assert not ids[0] & ids[2]


# The line


class Echo:
    """A server that answers every message with itself, and remembers it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(self.listener.getsockname())

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while message := connection.recv(1000):
                self.heard.append(message)
                connection.sendall(message)


@pytest.fixture
def echo() -> Iterator[Echo]:
    """An echo."""
    server = Echo()
    with contextlib.closing(server.listener):
        yield server


def ask(proxy: Proxy, *messages: bytes) -> list[bytes]:
    """Send messages on one connection, each after the answer to the one before; what was answered until it was cut."""
    answers = []
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        for message in messages:
            client.sendall(message)
            if not (answer := client.recv(1000)):
                break
            answers.append(answer)
    return answers


@pytest.mark.parametrize(("moment", "heard"), [("before", []), ("after", [b"COMMIT"])])
def test_a_line_that_is_reset(echo: Echo, moment: str, heard: list[bytes]) -> None:
    """Before: the server never heard it. After: it did, and nobody is told. What is not decisive passes."""
    with contextlib.closing(Proxy(echo.connect, b"COMMIT")) as proxy:
        proxy.reset_next(moment, 1)  # type: ignore[arg-type]
        assert ask(proxy, b"INSERT", b"COMMIT", b"never") == [b"INSERT"]
        assert echo.heard == [b"INSERT", *heard]
        assert ask(proxy, b"COMMIT", b"INSERT") == [b"COMMIT", b"INSERT"]


def test_a_line_that_is_cut(echo: Echo) -> None:
    """All lines end at once; new ones work."""
    with contextlib.closing(Proxy(echo.connect)) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            client.sendall(b"hello")
            assert client.recv(1000) == b"hello"
            assert proxy.cut() == 1
            with contextlib.suppress(OSError):
                assert client.recv(1000) == b""
        assert ask(proxy, b"again") == [b"again"]


def test_a_line_to_nobody() -> None:
    """If the server is away, so is the line: whoever connects is reset and may try again."""

    def refuse() -> socket.socket:
        raise ConnectionRefusedError

    with contextlib.closing(Proxy(refuse)) as proxy:
        assert ask(proxy, b"hello") == []


@pytest.mark.parametrize(
    ("dsn", "is_local", "expected"),
    [
        (
            "postgresql://ada@db.example.org:5433/shop?sslmode=verify-full",
            False,
            {"host": "db.example.org", "hostaddr": "127.0.0.1", "port": "99", "sslmode": "verify-full"},
        ),
        (
            "postgresql://ada@/shop?host=/run/postgresql&sslmode=require",
            True,
            {"host": "127.0.0.1", "hostaddr": "127.0.0.1", "port": "99", "sslmode": "disable"},
        ),
    ],
)
def test_the_way_round(dsn: str, is_local: bool, expected: dict[str, str]) -> None:
    """By way of the line, a certificate is checked against the server's name as before; a Unix socket has none."""
    found = conninfo_to_dict(_detour(dsn, 99, "db.example.org", is_local, {"password": "secret"}))
    assert found == {"user": "ada", "dbname": "shop", "password": "secret", **expected}


def test_a_schema_is_dropped_after_an_error(new_database: Callable[[], str]) -> None:
    """Whatever ends a trial, its schema goes; and inside it nothing of another schema is seen."""
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate.apply(connection)
        with pytest.raises(CollectorError, match="enough"), own_schema(dsn) as inside:
            end_after_a_look(inside)
        assert connection.execute(TABLES).fetchall() == []


def end_after_a_look(dsn: str) -> None:
    """See that there are no tables, and fail."""
    with psycopg.connect(dsn) as inside:
        assert inside.execute("SELECT to_regclass('analytics_event')").fetchone() == (None,)
    raise CollectorError("enough")
