"""What can become of a Postgres, under load: one line in the log, 503 within the patience, and recovery by itself."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from analytics_collector import embedded, keys, migrate
from tests.collector.operating import ask, logging_collector
from tests.collector.postgres import OwnPostgres, stopped
from tests.collector.senders import Ledger, goes_on, load
from tests.conftest import WRITE_KEY
from tests.programs import wait_until

PATIENCE = 4  # seconds; less than twice that, however busy the machine is, shows that nobody waits twice
CLIENTS = 12
SILENT = "The database does not answer"
ROLE, PASSWORD = "collector_of_outages", "the-first"
SETTINGS = {"max_connections": "24", "min_wal_size": "32MB", "max_wal_size": "64MB", "shared_buffers": "16MB"}


@pytest.fixture(scope="module")
def volume(folder: Path) -> Iterator[Path]:
    """A folder on a small disk of its own, if we may mount one."""
    path = folder / "volume"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m,mode=755", "none", path], capture_output=True, check=False
    )
    yield path
    if mounted.returncode == 0:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture(scope="module")
def postgres(volume: Path) -> Iterator[OwnPostgres]:
    """A Postgres to which everything happens, with a role that needs a password."""
    own = OwnPostgres(embedded.start(volume / "data", settings=SETTINGS), SETTINGS)
    with admin(own) as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"CREATE DATABASE product OWNER {ROLE}")
        (path,) = connection.execute("SHOW hba_file").fetchone() or ()
        rules = Path(path).read_text()
        Path(path).write_text(f"local all {ROLE} scram-sha-256\n{rules}")
        connection.execute("SELECT pg_reload_conf()")
    yield own
    own.server.stop()


@contextlib.contextmanager
def admin(own: OwnPostgres, **parameters: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection."""
    with psycopg.connect(make_conninfo(own.dsn, **parameters), autocommit=True) as connection:
        yield connection


@pytest.fixture
def dsn(postgres: OwnPostgres) -> str:
    """A clean database, as the collector's role reaches it."""
    dsn = make_conninfo(postgres.dsn, dbname="product", user=ROLE, password=PASSWORD)
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate.apply(connection)
        keys.register(connection, "web", "write", WRITE_KEY)
        connection.execute("TRUNCATE analytics_event, analytics_session, analytics_useranalyticsprofile")
    return dsn


def cut_off(connection: psycopg.Connection) -> None:
    """End all of the collector's connections."""
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ROLE])


@contextlib.contextmanager
def frozen(own: OwnPostgres) -> Iterator[None]:
    """Every process of Postgres is stopped, as in a container that is paused."""
    with stopped(own.server):
        yield


@contextlib.contextmanager
def another_password(own: OwnPostgres) -> Iterator[None]:
    """Postgres is restarted, and the role's password is another one by then."""
    with admin(own) as connection:
        connection.execute(f"ALTER ROLE {ROLE} PASSWORD 'the-second'")
    own.server.stop()
    own.start_again()
    yield
    with admin(own) as connection:
        connection.execute(f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")


@contextlib.contextmanager
def another_name(own: OwnPostgres) -> Iterator[None]:
    """Somebody renames the database."""
    with admin(own) as connection:

        def is_renamed() -> bool:
            cut_off(connection)
            with contextlib.suppress(psycopg.errors.ObjectInUse):
                connection.execute("ALTER DATABASE product RENAME TO product_of_old")
                return True
            return False

        wait_until(is_renamed, within=30, what="renaming")
        yield
        connection.execute("ALTER DATABASE product_of_old RENAME TO product")


@contextlib.contextmanager
def no_connection_left(own: OwnPostgres) -> Iterator[None]:
    """Other programs have all connections, and the collector has lost its own."""
    parameters = {"dbname": "product", "application_name": "others"}
    with admin(own) as connection, contextlib.ExitStack() as others:

        def is_full() -> bool:
            cut_off(connection)
            with contextlib.suppress(psycopg.OperationalError):
                for _ in range(int(SETTINGS["max_connections"])):
                    others.enter_context(admin(own, **parameters))
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [ROLE]).fetchone()
            return row == (0,)

        wait_until(is_full, within=30, what="having them all")
        yield


@contextlib.contextmanager
def only_reading(own: OwnPostgres) -> Iterator[None]:
    """The database becomes one that only reads, as a primary that was replaced."""
    with admin(own) as connection:
        connection.execute("ALTER DATABASE product SET default_transaction_read_only = on")
        cut_off(connection)
        yield
        connection.execute("ALTER DATABASE product RESET default_transaction_read_only")


@contextlib.contextmanager
def full_disk(own: OwnPostgres) -> Iterator[None]:
    """Something fills the disk."""
    volume = own.server.data_dir.parent
    if not os.path.ismount(volume):
        pytest.skip("we may not mount a small disk")
    filler = volume / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    yield
    filler.unlink()
    if not own.server.alive():  # it ends itself when its log has no room
        own.server.stop()
        own.start_again()


OUTAGES = {
    SILENT: frozen,
    "The database does not let this role in": another_password,
    "There is no database of this name": another_name,
    "The database has no connection left": no_connection_left,
    "The database only reads": only_reading,
    "The disk of the database is full": full_disk,
}
#: They take 20 seconds each, and are found in the same way as a Postgres that does not answer.
_SLOW = {
    "The database does not let this role in",
    "There is no database of this name",
    "The database has no connection left",
    "The database only reads",
}
_QUICK = [words for words in OUTAGES if words not in _SLOW]


@pytest.mark.parametrize("words", [*_QUICK, *(pytest.param(words, marks=pytest.mark.slow) for words in _SLOW)])
def test_an_outage(postgres: OwnPostgres, dsn: str, tmp_path: Path, words: str) -> None:
    """Whatever it is: a line a worker, 503 with Retry-After in time, /readyz says what, then all goes on, once."""
    log = tmp_path / "log"
    settings = {"ANALYTICS_DATABASE_PATIENCE_SECONDS": str(PATIENCE)}
    with (
        logging_collector(dsn, log, workers=1, **settings) as collector,
        load(collector.url, clients=CLIENTS) as ledger,
    ):
        with OUTAGES[words](postgres):
            wait_until(lambda: ledger.seen["503"] > 100, within=40, what="answers 503")
            wait_until(lambda: says(collector.url, words), within=30, what=f"/readyz saying {words}")
            before = ledger.batches
            until = time.monotonic() + PATIENCE
            wait_until(lambda: time.monotonic() > until)
            assert ledger.batches == before or "disk" in words  # where there is room in some page yet
        wait_until(goes_on(ledger), within=40, what="going on")
        wait_until(lambda: ask(collector.url, "/readyz").status == 200, within=20, what="being ready again")
    assert ledger.slowest["503"] < 2 * PATIENCE - 0.5
    ledger.assert_balanced(dsn)
    assert_told_once(log, words, ledger)


def says(url: str, words: str) -> bool:
    """Whether /readyz is 503 and gives this reason."""
    answer = ask(url, "/readyz", timeout=5)
    is_silent = words == SILENT and answer.json["message"] == "The database has not answered within 0.7 s"
    return (answer.status, answer.headers.get("retry-after")) == (503, "1") and (
        is_silent or answer.json["message"] == words
    )


def assert_told_once(log: Path, words: str, ledger: Ledger) -> None:
    """The log has one line with these words, and few others however many requests were refused."""
    told = log.read_text()
    assert len(re.findall(f"WARNING .*{words}: Postgres says: ", told)) == 1, told
    assert "Traceback" not in told
    assert PASSWORD not in told
    assert len(told.splitlines()) < 12 < ledger.seen["503"], told
