"""What happens when Postgres goes away, loses a connection, or does not like a record."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Identifier
from psycopg_pool import PoolTimeout

from analytics_collector import embedded, keys, migrate, profiles
from analytics_collector.committer import Committer, Verdict
from analytics_collector.db import Connection, Database, fault_of
from analytics_collector.exceptions import UnavailableError
from tests.collector.batches import Answer, Fields, at, body, commit, event, event_id, post
from tests.collector.postgres import OwnPostgres
from tests.conftest import WRITE_KEY
from tests.programs import Collector, run_collector, wait_until

EVENTS = [event(n, f"s{n % 3}", n % 2 + 1, created_at=at(n)) for n in range(20)]


@pytest.fixture(scope="module")
def module_postgres(folder: Path) -> Iterator[OwnPostgres]:
    """A Postgres for the tests of this file alone."""
    own = OwnPostgres(embedded.start(folder / "own"))
    with psycopg.connect(own.dsn, autocommit=True) as connection:
        migrate.apply(connection)
        keys.register(connection, "tests-write", "write", WRITE_KEY)
    yield own
    own.server.stop()


@pytest.fixture(scope="module")
def impatient(module_postgres: OwnPostgres) -> Iterator[Collector]:
    """A collector on it, which waits for it one second at most."""
    with run_collector(module_postgres.dsn, workers=1, ANALYTICS_DATABASE_PATIENCE_SECONDS="1") as collector:
        yield collector


@pytest.fixture
def own(module_postgres: OwnPostgres) -> OwnPostgres:
    """A Postgres that other tests do without, and no rows in it."""
    with psycopg.connect(module_postgres.dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE analytics_event, analytics_session, analytics_useranalyticsprofile")
    return module_postgres


def stored_once(connection: Connection, count: int) -> bool:
    """Whether there are so many events, each of them once, and all profiles are exact."""
    row = connection.execute("SELECT count(*), count(DISTINCT event_id) FROM analytics_event").fetchone()
    return row == (count, count) and not profiles.verify(connection)


def counts(answer: Answer) -> tuple[int, int, int]:
    """Status, accepted and duplicates."""
    return answer.status, answer.json["accepted"], answer.json["duplicates"]


def test_the_database_is_away(own: OwnPostgres, impatient: Collector) -> None:
    """While Postgres is away the answer is 503 with Retry-After; sent again, the batch is stored once."""
    content = body(events=EVENTS)
    assert counts(post(impatient.url, body(events=[event("before")]))) == (200, 1, 0)
    own.server.stop()
    refused = post(impatient.url, content)
    own.start_again()
    assert (refused.status, refused.headers["Retry-After"], refused.json["code"]) == (503, "1", "unavailable")
    assert {"code", "message", "detail"} == refused.json.keys()
    wait_until(lambda: post(impatient.url, body()).status == 200, what="the collector's recovery")
    assert [counts(post(impatient.url, content)) for _ in range(2)] == [(200, 20, 0), (200, 0, 20)]
    with psycopg.connect(own.dsn) as connection:
        assert stored_once(connection, 21)


def test_the_first_threads_of_a_process(dsn: str) -> None:
    """Threads that all come first open one pool between them, so no process has more connections than it may."""
    barrier = threading.Barrier(8)

    def ask(connection: Connection) -> int:
        connection.execute("SELECT pg_sleep(0.05)")
        return connection.info.backend_pid

    def come(_: int) -> int:
        barrier.wait(10)
        return database.run(ask)

    with contextlib.closing(Database(dsn, connections=2)) as database, ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(come, range(8)))) <= 2


def test_recovery_is_quick(own: OwnPostgres) -> None:
    """However long Postgres was away, soon after it is back we are too: no pause between attempts grows for ever."""
    with contextlib.closing(Database(own.dsn, patience=0.2)) as database:
        database.run(answer_42)
        own.server.stop()
        away_until = time.monotonic() + 3.2
        while time.monotonic() < away_until:
            with pytest.raises(UnavailableError):
                database.run(answer_42)
        own.start_again()
        wait_until(lambda: answers(database), within=1.5, what="our recovery")


def answer_42(connection: Connection) -> int:
    """Some work."""
    row = connection.execute("SELECT 42").fetchone()
    assert row is not None
    return int(row[0])


def answers(database: Database) -> bool:
    """Whether the work is done."""
    with contextlib.suppress(UnavailableError):
        return database.run(answer_42) == 42
    return False


def test_postgres_crashes_while_it_is_written_to(own: OwnPostgres, impatient: Collector) -> None:
    """Three crashes under load cost no event and double none, if the sender repeats what was not answered 200."""
    batches = [[event(f"{n} {m}", f"s{n % 7}", m or None) for m in range(10)] for n in range(120)]
    with ThreadPoolExecutor(4) as threads:
        sending = [threads.submit(post_until_stored, impatient, batch) for batch in batches]
        for crash in range(3):
            wait_until(sending[20 + 30 * crash].done, within=60, what="the next batches")
            own.crash()
        for future in sending:
            future.result()
    with psycopg.connect(own.dsn) as connection:
        assert stored_once(connection, 1200)


def post_until_stored(collector: Collector, events: list[Fields]) -> None:
    """Send a batch as a client does: again and again until it is answered 200."""
    content = body(events=events)
    wait_until(lambda: post(collector.url, content).status == 200, within=60, what="a batch being stored")


def test_connections_are_cut_while_they_write(collector: Collector, connection: Connection) -> None:
    """Cutting the collector's connections again and again costs no event and doubles none."""
    batches = [[event(f"{n} {m}", f"s{n % 7}", m or None) for m in range(10)] for n in range(300)]
    with ThreadPoolExecutor(4) as threads:
        sending = [threads.submit(post_until_stored, collector, batch) for batch in batches]
        for future in sending[::40]:
            future.result()
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'analytics-collector'"
            )
        for future in sending:
            future.result()
    assert stored_once(connection, 3000)


def waiting_for_a_lock(connection: Connection) -> list[int]:
    """The backends of the collector that wait for a lock."""
    rows = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'analytics-collector' AND wait_event_type = 'Lock'"
    )
    return [pid for (pid,) in rows]


@pytest.mark.parametrize("table", ["user", "session", "useranalyticsprofile"])
def test_a_connection_is_lost_between_statements(collector: Collector, connection: Connection, table: str) -> None:
    """A transaction that loses its connection halfway is done again from the start; the sender sees only 200."""
    user = {"user_id": 1, "traits": {"plan": "pro"}, "updated_at": at(0)}
    post(collector.url, body(events=[event("before", "s1", 1)], users=[user]))
    with ThreadPoolExecutor(1) as thread, psycopg.connect(collector.dsn) as blocker:
        blocker.execute(f"SELECT FROM analytics_{table} FOR UPDATE")
        answer = thread.submit(post, collector.url, body(events=EVENTS, users=[user]))
        wait_until(lambda: waiting_for_a_lock(connection), what="the writer waiting for our lock")
        connection.execute("SELECT pg_terminate_backend(%s)", waiting_for_a_lock(connection))
        blocker.rollback()
    assert counts(answer.result()) == (200, 21, 0)
    assert stored_once(connection, 21)


def test_a_connection_is_lost_while_it_reads(dsn: str) -> None:
    """A read whose connection is cut is made again, and goes without BEGIN and COMMIT."""
    states: list[TransactionStatus] = []

    def look(connection: Connection) -> object:
        if not states:
            with psycopg.connect(dsn) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        states.append(connection.info.transaction_status)
        return connection.execute("SELECT 42").fetchone()

    with contextlib.closing(Database(dsn)) as database:
        assert database.autocommit(look) == (42,)
    assert states == [TransactionStatus.IDLE, TransactionStatus.IDLE]


def test_somebody_holds_a_lock(own: OwnPostgres, impatient: Collector) -> None:
    """A row that somebody else has locked costs the sender no more than the patience; then it is stored once."""
    content = body(events=EVENTS)
    with psycopg.connect(own.dsn) as blocker:
        assert post(impatient.url, body(sessions=[{"session_id": "s1"}])).status == 200
        blocker.execute("SELECT FROM analytics_session FOR UPDATE")
        assert post(impatient.url, content, timeout=10).status == 503
        blocker.rollback()
        assert counts(post(impatient.url, content)) == (200, 20, 0)
        assert stored_once(blocker, 20)


def test_the_functions_are_missing(own_dsn: str) -> None:
    """A database without our functions is one that was not migrated, and its sender comes again."""
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        connection.execute("DROP FUNCTION analytics_write")
    with contextlib.closing(Database(own_dsn)) as database, pytest.raises(UnavailableError) as raised:
        commit(Committer(database), events=EVENTS)
    assert raised.value.code == "unmigrated"


def test_the_database_s_isolation_is_not_ours(own_dsn: str) -> None:
    """Where the default is SERIALIZABLE the writer has READ COMMITTED all the same, as its claims need it."""
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        name = Identifier(connection.info.dbname)
        connection.execute(SQL("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'").format(name))
    with contextlib.closing(Database(own_dsn)) as database:
        for run in (database.run, database.autocommit):
            assert run(lambda connection: connection.execute("SHOW transaction_isolation").fetchone()) == (
                "read committed",
            )


@contextlib.contextmanager
def cut_at(words: bytes, dsn: str, *, delivered: bool) -> Iterator[str]:
    """A line to Postgres that breaks at the first of these words: before they arrive, or before their answer does."""
    parameters = conninfo_to_dict(dsn)
    path = f"{parameters['host']}/.s.PGSQL.{parameters['port']}"
    cuts = ["the first"]

    class Line(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(path)
                while self.carry(server):
                    pass

        def carry(self, server: socket.socket) -> bool:
            for source in select.select([self.request, server], [], [])[0]:
                data = source.recv(65536)
                if source is self.request and words in data and cuts:
                    cuts.clear()
                    if delivered:
                        server.sendall(data)
                        assert server.recv(65536)
                    return False
                (server if source is self.request else self.request).sendall(data)
                if not data:
                    return False
            return True

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Line) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        yield make_conninfo(
            dsn, host="127.0.0.1", port=proxy.server_address[1], sslmode="disable", gssencmode="disable"
        )
        proxy.shutdown()
        thread.join()
    assert not cuts


@pytest.mark.parametrize("delivered", [False, True])
@pytest.mark.parametrize(
    ("words", "count"), [(b"INTO analytics_event", 1), (b"analytics_write", 20), (b"COMMIT\0", 200)]
)
def test_the_answer_to_commit_is_lost(
    dsn: str, connection: Connection, words: bytes, count: int, delivered: bool
) -> None:
    """Whether a commit of one, few or many happened or not, what comes after makes no second row and loses none."""
    events = [event(n, f"s{n % 3}", n % 2 + 1, created_at=at(n / 100)) for n in range(count)]
    with cut_at(words, dsn, delivered=delivered) as broken, contextlib.closing(Database(broken)) as database:
        verdicts = [commit(Committer(database), events=events) for _ in range(2)]
    first = Verdict(duplicates=count) if delivered else Verdict(accepted=count)
    assert [first, Verdict(duplicates=count)] == verdicts
    assert stored_once(connection, count)


@pytest.mark.parametrize(
    ("sqlstate", "fault"),
    [
        ("08006", "again"),  # connection failure
        ("40001", "again"),  # serialization failure
        ("40P01", "again"),  # deadlock
        ("55P03", "again"),  # lock not available
        ("57P01", "again"),  # shutdown by an administrator
        ("57P03", "again"),  # it is starting
        ("25006", "away"),  # read only
        ("53100", "away"),  # disk full
        ("53200", "away"),  # out of memory
        ("53300", "away"),  # too many connections
        ("58030", "away"),  # input/output error
        ("42P01", "unmigrated"),  # undefined table
        ("42703", "unmigrated"),  # undefined column
        ("42883", "bug"),  # undefined function, none of ours
        ("42704", "unmigrated"),  # undefined object: a type
        ("22003", "refused"),  # numeric value out of range
        ("23503", "refused"),  # foreign key
        ("54000", "refused"),  # program limit
        ("42501", "bug"),  # no privilege
        ("42601", "bug"),  # syntax
        ("XX000", "bug"),  # internal
    ],
)
def test_faults_by_sqlstate(sqlstate: str, fault: str) -> None:
    """Each class of Postgres's errors means one of five things."""
    assert fault == fault_of(psycopg.errors.lookup(sqlstate)())


def test_faults_of_the_driver() -> None:
    """Errors that never came from Postgres: no connection in time, a lost one, a value that cannot be sent."""
    errors = [
        PoolTimeout("no"),
        psycopg.errors.ConnectionTimeout("no"),
        psycopg.OperationalError("lost"),
        psycopg.DataError("NUL"),
    ]
    assert [fault_of(error) for error in errors] == ["away", "away", "again", "refused"]


@pytest.mark.parametrize("bad", [(250,), (0, 499), (10, 11, 12), range(0, 500, 20)])
def test_records_that_postgres_refuses(collector: Collector, connection: Connection, bad: range | tuple[int]) -> None:
    """What only Postgres finds wrong is refused alone, with a reason, and kept; its neighbours are stored."""
    events = [event(n, f"s{n % 10}", n % 7 + 1) for n in range(500)]
    for n in bad:
        events[n]["event_data"] = {"n": "tiny"}
    content = body(events=events).replace(b'"tiny"', b"1e-20000")
    for accepted, duplicates in [(500 - len(bad), 0), (0, 500 - len(bad))]:
        answer = post(collector.url, content)
        assert (200, accepted, duplicates) == counts(answer)
        refused = [(reject["index"], reject["event_id"], reject["code"]) for reject in answer.json["rejected"]]
        assert [(n, event_id(n), "database_refused") for n in bad] == refused
    assert stored_once(connection, 500 - len(bad))
    kept = connection.execute("SELECT record FROM analytics_reject").fetchall()
    assert len(bad) == len(kept)
    assert all(b"1e-20000" in record for (record,) in kept)


@pytest.fixture
def tied_dsn(new_database: Callable[[], str]) -> str:
    """A database whose users are those of the app's own table: 1, 2 and 3."""
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE auth_user AS SELECT id FROM generate_series(1, 3) AS id")
        connection.execute("ALTER TABLE auth_user ADD PRIMARY KEY (id)")
        migrate.apply(connection)
        migrate.use_user_table(connection, "auth_user")
    return dsn


def test_users_that_the_app_does_not_have(tied_dsn: str) -> None:
    """With a user table, sessions and events of users it lacks are refused and kept; their neighbours are stored."""
    events = [event(n, f"s{n}", user) for n, user in enumerate([1, 4, "ann", None, 3, "2"])]
    sessions = [{"session_id": "t1", "user_id": 2}, {"session_id": "t2", "user_id": 5}]
    with contextlib.closing(Database(tied_dsn)) as database, psycopg.connect(tied_dsn) as connection:
        verdict = commit(Committer(database), events=events, sessions=sessions)
        assert (verdict.accepted, verdict.duplicates) == (5, 0)
        refused = [(reject.kind, reject.index, reject.code) for reject in verdict.rejected]
        assert [(kind, n, "unknown_user") for kind, n in [("session", 1), ("event", 1), ("event", 2)]] == refused
        assert stored_once(connection, 4)
        assert connection.execute("SELECT session_id FROM analytics_session ORDER BY session_id").fetchall() == [
            ("s0",),
            ("s3",),
            ("s4",),
            ("s5",),
            ("t1",),
        ]
        assert connection.execute("SELECT count(*) FROM analytics_reject").fetchone() == (3,)


@pytest.mark.parametrize("neighbour", [1, 4])
def test_traits_may_come_before_their_user(tied_dsn: str, neighbour: int) -> None:
    """Traits of a user that the app does not have yet are stored, whatever becomes of their neighbours."""
    users = [{"user_id": 9, "traits": {"plan": "pro"}, "updated_at": at(0)}]
    with contextlib.closing(Database(tied_dsn)) as database, psycopg.connect(tied_dsn) as connection:
        verdict = commit(Committer(database), users=users, events=[event("e", user_id=neighbour)])
        assert {1: 0, 4: 1}[neighbour] == len(verdict.rejected)
        assert connection.execute("SELECT id, traits FROM analytics_user").fetchall() == [(9, {"plan": "pro"})]
