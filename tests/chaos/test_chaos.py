"""The chaos run in short, and what makes it: its clock, its disk, and its verdict."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psycopg
import pytest

from tests.chaos.__main__ import report
from tests.chaos.clock import Clock, build
from tests.chaos.disk import disk_of
from tests.chaos.run import Size, perform
from tests.chaos.verdict import MUST_BE_ZERO, Verdict, compare, traces_of


def test_a_short_run() -> None:
    """Hosts, workers, gunicorn and Postgres killed, the disk full, clocks stepped: all accepted is stored once."""
    said: list[str] = []
    verdict = perform(Size(events=3000, seconds=4, seed=3), said.append)
    assert verdict.faults == [], "\n".join([*said, report(verdict)])
    assert verdict.counts["accepted"] >= 3000
    (deeds,) = [line for line in said if line.startswith("deeds: ")]
    promised = {"host killed", "worker killed", "master killed", "postgres killed", "broken record"}
    assert {name for name in promised if name not in deeds} == set()
    assert ("disk full" in deeds) == (os.geteuid() == 0)


@pytest.fixture
def diaries(tmp_path: Path) -> tuple[Path, Path]:
    """The ids of two good events and of a bad one."""
    good, bad = tmp_path / "ids", tmp_path / "bad"
    good.write_text(f"1 {uuid.UUID(int=1)}\n1 {uuid.UUID(int=2)}\n")
    bad.write_text(f"{uuid.UUID(int=3)}\n")
    return good, bad


EVENT = "INSERT INTO analytics_event (event_id, user_id, session_id, event_type) VALUES ('{}', {}, 's', 'visit')"
REJECT = (
    "INSERT INTO analytics_reject (reject_id, kind, code, message, record, key_name)"
    " VALUES (gen_random_uuid(), 'event', '', '', convert_to('{{\"event_id\": \"{}\"}}', 'UTF8'), 'hosts')"
)
GOOD = [EVENT.format(uuid.UUID(int=number), "NULL") for number in (1, 2)] + [REJECT.format(uuid.UUID(int=3))]


@pytest.mark.parametrize(
    ("deeds", "faults"),
    [
        (GOOD, []),
        (GOOD[1:], ["lost is 1"]),
        ([*GOOD, GOOD[0].replace("visit", "again")], ["duplicated is 1"]),
        (GOOD[:2], ["not_kept is 1"]),
        ([*GOOD, REJECT.format(uuid.UUID(int=1))], ["wrongly_refused is 1", "refused_and_stored is 1"]),
        ([*GOOD, EVENT.format(uuid.UUID(int=4), 7)], ["profiles_recounted_wrong is 1", "profiles_verified_wrong is 1"]),
        (
            [*GOOD, EVENT.format(uuid.UUID(int=4), "NULL"), EVENT.format(uuid.UUID(int=5), "NULL")],
            ["2 events are stored that nobody wrote down; 1 kills"],
        ),
    ],
)
def test_the_verdict(
    connection: psycopg.Connection, diaries: tuple[Path, Path], deeds: list[str], faults: list[str]
) -> None:
    """Whatever is missing, twice, wrong or from nowhere is found, and nothing else is."""
    for deed in deeds:
        connection.execute(deed)  # type: ignore[call-overload]
    assert compare(connection, *diaries, kills=1, broken=0).faults == faults


def test_broken_records_are_counted() -> None:
    """A broken record that was answered and is not kept fails the run."""
    verdict = Verdict(dict.fromkeys([*MUST_BE_ZERO, "unwritten", "broken_kept"], 0), kills=0, broken=2)
    assert verdict.faults == ["0 of 2 broken records are kept"]


def test_bugs_are_seen() -> None:
    """A stack trace in a log fails the run, once however often it comes; a warning does not."""
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n    bug()\nLookupError: a bug'
    verdict = Verdict(
        dict.fromkeys([*MUST_BE_ZERO, "unwritten", "broken_kept"], 0),
        kills=0,
        broken=0,
        traces=traces_of(f"a warning\n{trace}\nanother\n{trace}\n"),
    )
    assert verdict.faults == [f"a bug:\n{trace}"]


def test_a_clock_that_is_stepped(tmp_path: Path) -> None:
    """A process sees the step at once, in every way to ask for the time, and its monotonic clock does not."""
    library = build(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler")
    clock = Clock(tmp_path / "clock", library)
    command = [sys.executable, "-c", CLOCK_READER]
    with subprocess.Popen(
        command, env={**os.environ, **clock.environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for ahead in (0, 86400, -3600, 0):
            clock.set(ahead)
            print("now?", file=process.stdin, flush=True)
            seen, aware, monotonic = map(float, process.stdout.readline().split())
            assert seen == pytest.approx(time.time() + ahead, abs=5)
            assert aware == pytest.approx(time.time() + ahead, abs=5)
            assert monotonic == pytest.approx(time.monotonic(), abs=5)
        process.stdin.close()


CLOCK_READER = """
import sys, time, datetime
for _ in sys.stdin:
    print(time.time(), datetime.datetime.now(datetime.UTC).timestamp(), time.monotonic(), flush=True)
"""


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A full disk takes no more bytes until it is cleared."""
    with disk_of(8 << 20, tmp_path / "disk") as disk:
        if not disk.is_own:
            pytest.skip("only root may mount here")
        (disk.path / "before").write_bytes(bytes(1 << 20))
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.path / "during").write_bytes(bytes(1 << 20))
        disk.clear()
        (disk.path / "after").write_bytes(bytes(1 << 20))
    assert not (tmp_path / "disk" / "before").exists()
