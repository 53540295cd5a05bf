"""Housekeeping: the jobs, when they are due, and the one process of all that does them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from analytics_collector import housekeeping, migrate, partitions
from analytics_collector.cli import main
from analytics_collector.config import Settings
from analytics_collector.db import Connection
from analytics_collector.exceptions import ConfigError, HousekeepingError
from analytics_collector.housekeeping import JOBS, Housekeeper, Job, LastRun, is_due
from tests.collector.batches import Fields, event
from tests.collector.bystanders import LONGEST_PAUSE, bystanders, calmly
from tests.programs import Collector, run_collector, wait_until

START = Housekeeper.start  # before the fixture that keeps it from starting
LEADER = (
    "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'"
    " AND classid = 727041823 AND objid = 'analytics_job'::regclass AND granted"
    " AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture
def own(own_dsn: str) -> Iterator[Connection]:
    """A connection to it."""
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        yield connection


def job(work: Callable[[], str], name: str = "work", period: int = 60) -> Job:
    """A job of a test's own."""
    return Job(name, "For tests", period, lambda *_: work())


def refuse() -> str:
    """Do nothing, and say why."""
    raise HousekeepingError("not today")


def settings(dsn: str) -> Settings:
    """Settings with which a housekeeper looks once a second."""
    return Settings(database_url=dsn, housekeeping_seconds=1)


@contextlib.contextmanager
def keeping_house(dsn: str, *jobs: Job) -> Iterator[Housekeeper]:
    """A housekeeper in this process, for the length of the block."""
    housekeeper = Housekeeper(settings(dsn), jobs)
    START(housekeeper)
    try:
        yield housekeeper
    finally:
        housekeeper.stop()


# The jobs


def test_the_table_of_jobs() -> None:
    """These are the jobs, each with its period in seconds, rows being moved before partitions are made."""
    assert {job.name: job.period for job in JOBS} == {
        "end_idle_sessions": 60,
        "empty_default": 3600,
        "make_partitions": 3600,
        "drop_old_partitions": 21600,
        "trim_rejects": 3600,
        "pack_indexes": 21600,
        "trim_quotas": 21600,
    }
    assert [job.name for job in JOBS].index("empty_default") < [job.name for job in JOBS].index("make_partitions")


def test_every_job_does_its_work(own: Connection, own_dsn: str) -> None:
    """Run one after the other on a database that has something for each, all do what their names say."""
    own.execute("INSERT INTO analytics_session (session_id, started_at) VALUES ('s', now() - interval '31 minutes')")
    own.execute(
        "INSERT INTO analytics_event (session_id, event_type, created_at)"
        " VALUES ('', 'x', now() - interval '100 days'), ('', 'x', now() - interval '800 days')"
    )
    own.execute(
        "INSERT INTO analytics_reject (reject_id, kind, code, message, record, key_name, received_at)"
        " VALUES (gen_random_uuid(), 'event', 'x', '', '', '', now() - interval '31 days')"
    )
    own.execute("INSERT INTO analytics_quota (key_name, day, events) VALUES ('web', now() - interval '9 days', 1)")
    own.execute(f"DROP TABLE {partitions.attached(own)[-1]}")
    runs = [housekeeping.run(own, job, Settings(database_url=own_dsn, retention_days=365)) for job in JOBS]
    assert [run.failed for run in runs if run] == [False] * len(JOBS)
    outcomes = {run.name: run.outcome for run in runs if run}
    assert outcomes["end_idle_sessions"] == "ended 1 sessions"
    assert outcomes["empty_default"].count("analytics_event_") == 2
    assert outcomes["make_partitions"].count("analytics_event_") == 1
    assert outcomes["drop_old_partitions"].startswith("dropped analytics_event_")
    assert outcomes["trim_rejects"] == "forgot 1 rejects"
    assert outcomes["pack_indexes"].startswith("packed analytics_event_")
    assert outcomes["trim_quotas"] == "forgot 1 counts"


def test_what_is_put_down(own: Connection, own_dsn: str) -> None:
    """The table of runs has when a job began and ended and what it did; while it runs it has not ended."""
    seen = []

    def look() -> str:
        seen.append(housekeeping.last_runs(own)["work"])
        return "looked"

    housekeeping.run(own, job(look), settings(own_dsn))
    last = housekeeping.last_runs(own)["work"]
    assert (seen[0].finished_at, last.outcome, last.failures) == (None, "looked", 0)
    assert last.finished_at is not None
    assert seen[0].started_at == last.started_at < last.finished_at


def test_failures(own: Connection, own_dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it gives up, Postgres refuses or it has a bug: that is put down, logged once an incident, and counted."""

    def clash() -> str:
        own.execute("SELECT 1 / 0")
        return "never"

    for work, said in [
        (refuse, "failed: not today"),
        (clash, "failed: division by zero"),
        (lambda: str(1 / 0), "failed: ZeroDivisionError('division by zero')"),
    ]:
        run = housekeeping.run(own, job(work), settings(own_dsn))
        assert run is not None
        assert (run.outcome, run.failed) == (said, True)
    assert housekeeping.last_runs(own)["work"].failures == 3
    assert caplog.text.count("The job work failed") == 1
    assert "Traceback" not in caplog.text
    housekeeping.run(own, job(lambda: "did it"), settings(own_dsn))
    assert housekeeping.last_runs(own)["work"].failures == 0
    for _ in range(2):
        housekeeping.run(own, job(lambda: str(1 / 0)), settings(own_dsn))
    assert caplog.text.count("The job work failed") == 2
    assert caplog.text.count("Traceback") == 1  # of a bug one wants to know where it is


@pytest.mark.parametrize(
    ("failures", "rested", "due"),
    [
        (0, None, True),  # it died in the middle
        (0, 3599, False),
        (0, 3600, True),
        (1, 29, False),
        (1, 30, True),
        (3, 119, False),
        (3, 120, True),
        (10_000, 3599, False),
        (10_000, 3600, True),
    ],
)
def test_when_a_job_is_due(failures: int, rested: float | None, due: bool) -> None:
    """After its period; after a failure 30 s later, then twice as long each time, up to the period."""
    last = LastRun(datetime.now(UTC), None, "", failures, rested)
    assert is_due(job(refuse, period=3600), last) == due


def test_a_job_that_never_ran_is_due() -> None:
    """On a new database everything is done at once."""
    assert is_due(JOBS[0], None)


def test_two_runners_of_one_job(own_dsn: str, own: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody begins a job that another one is at; by hand one waits for it, and says so if it takes too long."""
    monkeypatch.setattr(housekeeping, "_PATIENCE", 0.3)
    with psycopg.connect(own_dsn, autocommit=True) as other:
        waiting, going = threading.Event(), threading.Event()

        def wait() -> str:
            going.set()
            assert waiting.wait(10)
            return "waited"

        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(housekeeping.run, other, job(wait), settings(own_dsn))
            assert going.wait(10)
            assert housekeeping.run(own, job(refuse), settings(own_dsn)) is None
            with pytest.raises(HousekeepingError, match="A collector is running work"):
                housekeeping.run_by_hand(own, job(refuse), settings(own_dsn))
            waiting.set()
            assert first.result() is not None
    assert housekeeping.run_by_hand(own, job(lambda: "now"), settings(own_dsn)).outcome == "now"


def test_a_writer_beside_the_making_of_partitions(own_dsn: str, own: Connection) -> None:
    """While partitions are made no writer waits for 100 ms."""
    years = iter(range(2031, 2040))

    def make(number: int) -> Fields:
        return event(f"{number} {time.monotonic_ns()}", f"s{number % 9}", number % 3 + 1)

    def attempt() -> float:
        with bystanders(own_dsn, make) as writer:
            now = datetime(next(years), 1, 1, tzinfo=UTC)
            assert len(partitions.make_ahead(own, now, months=11)) == 12
        return writer.longest

    longest = calmly(attempt)
    print(f"longest pause of a writer: {longest * 1000:.0f} ms")
    assert longest < LONGEST_PAUSE


def test_making_partitions_waits_for_nobody(own_dsn: str, own: Connection) -> None:
    """Behind somebody who holds on to DEFAULT no writer waits for 100 ms: the maker steps aside and tries again."""
    years = iter(range(2041, 2050))

    def attempt() -> float:
        year = next(years)
        with psycopg.connect(own_dsn) as holder, ThreadPoolExecutor(1) as threads:
            holder.execute("SELECT count(*) FROM analytics_event_default")
            making = threads.submit(partitions.make_ahead, own, datetime(year, 1, 1, tzinfo=UTC), 0)
            longest = max(_seconds_to_write(own_dsn) for _ in range(60))
            assert not making.done()
            holder.rollback()
            assert making.result(20) == [f"analytics_event_{year}_01"]
        return longest

    assert calmly(attempt) < LONGEST_PAUSE


def _seconds_to_write(dsn: str) -> float:
    """How long it takes to store an event in DEFAULT."""
    with psycopg.connect(dsn, autocommit=True) as writer:
        began = time.monotonic()
        writer.execute(
            "INSERT INTO analytics_event (session_id, event_type, created_at) VALUES ('', 'x', '2010-01-01')"
        )
        return time.monotonic() - began


# The housekeeper


def test_what_is_overdue_is_done_at_once(own_dsn: str, own: Connection) -> None:
    """A housekeeper that begins does all that never ran or died, and leaves alone what has rested too short."""
    done: list[str] = []
    jobs = [job(lambda name=name: done.append(name) or name, name, 3600) for name in ("new", "died", "fresh")]  # type: ignore[misc]
    own.execute("INSERT INTO analytics_job (name, started_at) VALUES ('died', now())")
    own.execute("INSERT INTO analytics_job (name, started_at, finished_at) VALUES ('fresh', now(), now())")
    with keeping_house(own_dsn, *jobs):
        wait_until(lambda: len(done) >= 2, what="two jobs")
        wait_until(lambda: housekeeping.last_runs(own)["died"].finished_at)
    assert done == ["new", "died"]


def test_a_failing_job_does_not_stop_the_others(own_dsn: str, own: Connection) -> None:
    """Jobs after one that fails, even by a bug, are done."""
    done = threading.Event()

    def bug() -> str:
        raise RuntimeError("a bug")

    with keeping_house(own_dsn, job(refuse, "first"), job(bug, "second"), job(lambda: str(done.set()), "third")):
        assert done.wait(10)
    assert housekeeping.last_runs(own)["second"].outcome == "failed: RuntimeError('a bug')"


def test_one_of_five(own_dsn: str, own: Connection) -> None:
    """Of five housekeepers one does the jobs; when its connection is lost, another one or itself goes on."""
    done: list[int] = []
    with contextlib.ExitStack() as stack:
        for number in range(5):
            stack.enter_context(keeping_house(own_dsn, job(lambda number=number: str(done.append(number)), period=0)))  # type: ignore[misc]
        wait_until(lambda: len(done) >= 2, what="two runs")
        assert len(set(done)) == 1
        (leader,) = own.execute(LEADER).fetchall()
        own.execute("SELECT pg_terminate_backend(%s)", [leader[0]])
        runs = len(done)
        wait_until(lambda: len(done) >= runs + 2, what="runs after that")
        (next_leader,) = own.execute(LEADER).fetchall()
        assert next_leader[0] != leader[0]


def test_tables_in_two_schemas(own_dsn: str, own: Connection) -> None:
    """Of two sets of tables in one database each has its housekeeper, and a job of one keeps none of the other."""
    own.execute("CREATE SCHEMA beside")
    dsn = psycopg.conninfo.make_conninfo(own_dsn, options="-csearch_path=beside")
    with psycopg.connect(dsn, autocommit=True) as beside:
        migrate.apply(beside)
    done: set[str] = set()
    meeting = threading.Barrier(2)

    def meet(name: str) -> str:
        meeting.wait(10)
        done.add(name)
        return name

    with (
        keeping_house(own_dsn, job(lambda: meet("here"))),
        keeping_house(dsn, job(lambda: meet("beside"))),
    ):
        wait_until(lambda: len(done) == 2, what="both at once")


def test_it_begins_once_in_a_process(own_dsn: str) -> None:
    """Of many first requests at once, one starts the thread; it is a daemon and ends when it is told to."""
    housekeeper = Housekeeper(settings(own_dsn), ())
    with ThreadPoolExecutor(8) as threads:
        for _ in range(50):
            threads.submit(START, housekeeper)
    mine = [thread for thread in threading.enumerate() if thread is housekeeper._threads[os.getpid()]]
    assert [thread.daemon for thread in mine] == [True]
    housekeeper.stop()
    assert not mine[0].is_alive()


def test_it_can_be_switched_off() -> None:
    """With ANALYTICS_HOUSEKEEPING_SECONDS=0 there is no thread."""
    housekeeper = Housekeeper(Settings(database_url="postgresql://", housekeeping_seconds=0))
    START(housekeeper)
    assert housekeeper._threads == {}


def test_without_tables(new_database: Callable[[], str], caplog: pytest.LogCaptureFixture) -> None:
    """On a database without our tables it says so once, and begins when they are there."""
    dsn, done = new_database(), threading.Event()
    with keeping_house(dsn, job(lambda: str(done.set()))):
        wait_until(lambda: "run `analytics-collector migrate`" in caplog.text, what="the warning")
        assert not done.wait(1.5)
        with psycopg.connect(dsn, autocommit=True) as connection:
            migrate.apply(connection)
        assert done.wait(10)
    assert caplog.text.count("Housekeeping has to wait") == 1


def test_without_a_database(caplog: pytest.LogCaptureFixture) -> None:
    """With Postgres away it says so once, and tells nobody the password."""
    with keeping_house("postgresql://ada:secret@127.0.0.1:1/nowhere", job(refuse)):
        wait_until(lambda: "Housekeeping has to wait: The database is away" in caplog.text, what="the warning")
    assert "secret" not in caplog.text


# Behind gunicorn


def leader_of(connection: Connection) -> int | None:
    """The backend that serves the one housekeeper."""
    row = connection.execute(LEADER).fetchone()
    return None if row is None else int(row[0])


def workers_of(pid: int) -> list[int]:
    """The worker processes of a gunicorn."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ask(collector: Collector) -> None:
    """Some requests, so that every worker gets one sooner or later."""
    for _ in range(4):
        with urllib.request.urlopen(f"{collector.url}/healthz", timeout=10) as response:
            assert response.status == 200


@pytest.mark.parametrize("options", [{}, {"GUNICORN_CMD_ARGS": "--preload"}], ids=["plain", "preload"])
def test_behind_gunicorn(own_dsn: str, own: Connection, options: dict[str, str]) -> None:
    """One worker of three does it; killed with -9, another one takes over; SIGTERM ends gunicorn without delay."""
    with run_collector(own_dsn, workers=3, ANALYTICS_HOUSEKEEPING_SECONDS="1", **options) as collector:
        wait_until(lambda: len(housekeeping.last_runs(own)) == len(JOBS), within=20, what="the first round")
        leaders = set()
        for _ in range(2):
            wait_until(lambda: ask(collector) or leader_of(own) not in {None, *leaders}, within=20, what="a leader")
            leaders.add(leader_of(own))
            for worker in workers_of(collector.process.pid):
                os.kill(worker, signal.SIGKILL)
        wait_until(lambda: ask_gently(collector) and leader_of(own) not in {None, *leaders}, within=20, what="a third")
        began = time.monotonic()
        collector.process.terminate()
        assert collector.process.wait(20) == 0
        assert time.monotonic() - began < 10
        wait_until(lambda: leader_of(own) is None, what="the end of its connection")


def ask_gently(collector: Collector) -> bool:
    """Ask, while workers may be dying."""
    with contextlib.suppress(OSError):
        ask(collector)
    return True


# By hand


def run_command(dsn: str, *arguments: str) -> Result:
    """Run `analytics-collector housekeeping` on a database."""
    return CliRunner(env={"ANALYTICS_DATABASE_URL": dsn}).invoke(main, ["housekeeping", *arguments])


def test_all_jobs_by_hand(own_dsn: str, own: Connection) -> None:
    """Without a name all jobs are run, with one line each on what was done and how long it took."""
    result = run_command(own_dsn)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [job.name for job in JOBS]
    assert lines[0].startswith("end_idle_sessions    ended 0 sessions (0.")
    assert set(housekeeping.last_runs(own)) == {job.name for job in JOBS}


def test_some_jobs_by_hand(own_dsn: str, own: Connection) -> None:
    """With names those are run, and no others; a wrong name is named, with what there is."""
    result = run_command(own_dsn, "trim_rejects", "make_partitions", "--json")
    assert [run["name"] for run in json.loads(result.stdout)] == ["make_partitions", "trim_rejects"]
    assert set(housekeeping.last_runs(own)) == {"make_partitions", "trim_rejects"}
    wrong = run_command(own_dsn, "nonsense")
    assert wrong.exit_code == 2
    assert "drop_old_partitions" in wrong.output


def test_a_failure_by_hand(own_dsn: str, own: Connection) -> None:
    """If a job fails the others are run, and the exit code is 1."""
    own.execute("ALTER TABLE analytics_reject RENAME TO elsewhere")
    result = run_command(own_dsn, "trim_rejects", "make_partitions")
    assert result.exit_code == 1
    assert 'failed: relation "analytics_reject" does not exist' in result.stdout
    assert "make_partitions      made none" in result.stdout


def test_the_list(own_dsn: str, own: Connection) -> None:
    """`--list` runs nothing and shows every job with its period and how its last run went, for people and programs."""
    own.execute("INSERT INTO analytics_job (name, started_at) VALUES ('empty_default', '2026-01-31T12:00:00Z')")
    run_command(own_dsn, "trim_rejects")
    shown = run_command(own_dsn, "--list").stdout
    assert "end_idle_sessions    every 1 min  has never run" in shown
    assert "began 2026-01-31 12:00:00 and has not ended" in shown
    assert "forgot 0 rejects" in shown
    listed = {entry["name"]: entry for entry in json.loads(run_command(own_dsn, "--list", "--json").stdout)}
    assert listed["trim_rejects"]["outcome"] == "forgot 0 rejects"
    assert (listed["empty_default"]["finished_at"], listed["empty_default"]["period_seconds"]) == (None, 3600)


def test_the_help_names_every_job() -> None:
    """`--help` has the name and the description of every job, as the table has them."""
    shown = CliRunner().invoke(main, ["housekeeping", "--help"]).stdout
    for job in JOBS:
        assert f"{job.name:<21} {job.description}" in shown


@pytest.mark.parametrize("name", ["HOUSEKEEPING_SECONDS", "RETENTION_DAYS"])
def test_settings_that_may_be_zero(name: str) -> None:
    """Zero means off or for ever, and less than that is a mistake."""
    variable = f"ANALYTICS_{name}"
    assert getattr(Settings.from_env({variable: "0"}), name.lower()) == 0
    with pytest.raises(ConfigError, match=f"{variable} must be zero or above, not -1"):
        Settings.from_env({variable: "-1"})
