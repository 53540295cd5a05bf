"""The spool: each segment has one owner at any time, and the folder is never left in a mess."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from analytics_sdk import _spool
from analytics_sdk._segment import Segment
from analytics_sdk._spool import Spool
from tests.sdk.world import HEADER, Clock, disk_with_room_for

URL = "http://collector.test"
RECORD = b'{"event_id":"1"}'


def new_spool(folder: Path, *, url: str = URL, most: int = 1 << 30) -> Spool:
    """A spool as a process has it."""
    return Spool(str(folder), url, most)


def create(spool: Spool, *records: bytes) -> Segment:
    """A segment that is ours, with records."""
    segment = spool.create(0)
    assert segment is not None
    for record in records:
        segment.append(record)
    return segment


def leave(spool: Spool, *records: bytes) -> Path:
    """The file of a process that has ended."""
    segment = create(spool, *records)
    segment.leave()
    assert segment.path is not None
    return segment.path


def log_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the spool has said: level and words."""
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "analytics_sdk"]


# The folder


def test_only_this_user_can_read_it(tmp_path: Path) -> None:
    """The folder is made with all its parents for this user only, and so are the files."""
    folder = tmp_path / "new" / "spool"
    path = leave(new_spool(folder), RECORD)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that goes to another folder later keeps its spool."""
    monkeypatch.chdir(tmp_path)
    spool = Spool("spool", URL, 1 << 30)
    monkeypatch.chdir("/")
    assert leave(spool, RECORD).parent == tmp_path / "spool"


def test_what_else_lies_there_is_left_alone(tmp_path: Path) -> None:
    """Other files and folders are neither adopted nor removed nor an error."""
    spool = new_spool(tmp_path)
    ending = _spool.ending_for(URL)
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / f"nowhere{ending}").symlink_to(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("analytics-spool 1\n")
    before = sorted(tmp_path.iterdir())
    assert spool.adopt() is None
    assert sorted(tmp_path.iterdir()) == before
    create(spool).remove()


def test_a_folder_that_is_missing_has_nothing_to_adopt(tmp_path: Path) -> None:
    """Looking for segments makes no folder and is no error."""
    assert new_spool(tmp_path / "missing").adopt() is None
    assert not (tmp_path / "missing").exists()


# Who adopts what


def test_the_oldest_segment_is_adopted_first(tmp_path: Path) -> None:
    """Segments are adopted in the order in which they were made."""
    spool = new_spool(tmp_path)
    left = []
    for number in range(3):
        with mock.patch.object(_spool.time, "time_ns", return_value=(1_700_000_000 + number) * 10**9):
            left.append(leave(spool, RECORD))
    adopted = [spool.adopt() for _ in range(4)]
    assert [segment and segment.path for segment in adopted] == [*left, None]


def test_an_adopted_segment_has_its_records(tmp_path: Path) -> None:
    """All of its records are to be read, and owed."""
    spool = new_spool(tmp_path)
    leave(spool, RECORD, RECORD, RECORD)
    segment = spool.adopt()
    assert segment is not None
    assert (segment.unread, segment.owed) == (3, 3)
    assert segment.read(10, 1000) == ([RECORD] * 3, 3)


def test_what_is_meant_for_another_collector_is_left_alone(tmp_path: Path) -> None:
    """A segment goes to the collector that it was meant for; a slash at the end of the address makes no difference."""
    path = leave(new_spool(tmp_path, url="http://other.test"), RECORD)
    assert new_spool(tmp_path).adopt() is None
    adopted = new_spool(tmp_path, url="http://other.test/").adopt()
    assert adopted is not None
    assert adopted.path == path


def test_a_segment_in_use_is_not_adopted(tmp_path: Path) -> None:
    """As long as its owner holds it, nobody else gets a segment, in this process or another."""
    spool = new_spool(tmp_path)
    mine = create(spool, RECORD)
    assert spool.adopt() is None
    assert in_other_process(adopts, tmp_path) == 0
    mine.leave()
    assert in_other_process(adopts, tmp_path) == 1


def adopts(folder: Path) -> int:
    """How many segments there are to adopt."""
    spool = new_spool(folder)
    return sum(1 for _ in iter(spool.adopt, None))


def in_other_process(function: Callable[..., int], *arguments: Any) -> int:
    """What a function returns in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def adopts_when_told(folder: Path, told: Any) -> int:
    """As `adopts`, together with others."""
    told.wait(20)
    return adopts(folder)


def test_of_several_processes_one_adopts(tmp_path: Path) -> None:
    """Of four processes that look at the same moment exactly one gets each segment."""
    spool = new_spool(tmp_path)
    for _ in range(30):
        leave(spool, RECORD)
    context = get_context("spawn")
    with context.Manager() as manager, context.Pool(4) as pool:
        told = manager.Barrier(4)
        running = [pool.apply_async(adopts_when_told, (tmp_path, told)) for _ in range(4)]
        assert sum(result.get(30) for result in running) == 30


def test_a_child_that_lets_go_does_not_unlock_its_parents_segment(tmp_path: Path) -> None:
    """After a fork the parent's lock holds, whatever the child does with its copy; it ends with the parent."""
    spool = new_spool(tmp_path)
    segment = create(spool, RECORD)
    with get_context("fork").Pool(1, initializer=segment.leave) as pool:
        assert pool.apply(adopts, (tmp_path,)) == 0
        assert adopts(tmp_path) == 0
        segment.leave()  # as the kernel does at the end of the parent, while the child lives
        assert adopts(tmp_path) == 1


# What is in a file


@pytest.mark.parametrize("content", [b"", b"analy", HEADER])
def test_a_segment_without_records_is_removed(tmp_path: Path, content: bytes) -> None:
    """Whoever finds a file that its owner never wrote a record to removes it."""
    path = leave(new_spool(tmp_path))
    path.write_bytes(content)
    assert new_spool(tmp_path).adopt() is None
    assert not path.exists()


@pytest.mark.parametrize("content", [b"analytics-spool 2\n????\n", b"\0\0\0\0", b"analytics-spool 10\nx", b"{}\n"])
def test_another_format_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """A file of a later version's, or of nobody's, is neither read nor touched, nor does it hide those behind it."""
    path = leave(new_spool(tmp_path))
    path.write_bytes(content)
    behind = leave(new_spool(tmp_path), RECORD)
    spool = new_spool(tmp_path)
    adopted = spool.adopt()
    assert adopted is not None
    assert adopted.path == behind
    assert spool.adopt() is None
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damaged", [b"analytics-spooL 1\n", b"analytics-spool 1\r", b"analytics-spool \x00\n", bytes(18)]
)
def test_a_damaged_first_line_hides_no_records(tmp_path: Path, damaged: bytes) -> None:
    """A file whose first line was changed is known by the lines behind it, and they are read."""
    path = leave(new_spool(tmp_path), RECORD, RECORD)
    path.write_bytes(damaged + path.read_bytes()[len(HEADER) :])
    adopted = new_spool(tmp_path).adopt()
    assert adopted is not None
    assert adopted.read(10, 1000) == ([RECORD] * 2, 2)


def test_where_a_page_was_lost_the_rest_counts(tmp_path: Path) -> None:
    """Of a file that begins with zeros, as a power cut may leave it, whole lines are read, and a torn one is told."""
    path = leave(new_spool(tmp_path), RECORD, RECORD, RECORD)
    content = path.read_bytes()
    path.write_bytes(bytes(40) + content[40:])
    adopted = new_spool(tmp_path).adopt()
    assert adopted is not None
    assert adopted.read(10, 1000) == ([RECORD] * 2, 3)


# A disk in trouble


def test_no_more_bytes_than_allowed(tmp_path: Path) -> None:
    """Once all segments, of all collectors, are near max_spool_bytes, there are no further ones."""
    others, spool = new_spool(tmp_path, url="http://other.test", most=4000), new_spool(tmp_path, most=4000)
    for _ in range(3):
        create(others, b"x" * 980)
    assert spool.create(0) is None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
    others.adopt()


def test_one_large_record_counts_before_it_is_written(tmp_path: Path) -> None:
    """A segment is not even made for what would not fit."""
    spool = new_spool(tmp_path, most=4000)
    assert spool.create(4001) is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_empty_files(tmp_path: Path) -> None:
    """A disk that takes not even the name of the format is left as it was."""
    with disk_with_room_for(5):
        assert new_spool(tmp_path).create(0) is None
    assert list(tmp_path.iterdir()) == []


def test_a_disk_in_trouble_is_left_alone_for_a_while(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """After a failure the disk is tried every 15 seconds; the log has one line when it begins and one when it ends."""
    caplog.set_level(logging.INFO, "analytics_sdk")
    spool = new_spool(tmp_path)
    with disk_with_room_for(5):
        for _ in range(10):
            assert spool.create(0) is None
            clock.sleep(15)
    spool.say()
    assert spool.is_ready
    create(spool)
    spool.say()
    assert [level for level, _ in log_of(caplog)] == ["WARNING"]  # it has not taken anything yet
    spool.note_written()
    spool.note_written()
    spool.say()
    assert [level for level, _ in log_of(caplog)] == ["WARNING", "INFO"]


def test_a_disk_in_trouble_is_not_asked_again_at_once(tmp_path: Path, clock: Clock) -> None:
    """Within 15 seconds of a failure nothing touches the disk, but for the end of the process."""
    spool = new_spool(tmp_path)
    with disk_with_room_for(5):
        spool.create(0)
    clock.sleep(14.9)
    assert not spool.is_ready
    assert spool.create(0) is None
    assert spool.create(0, is_last=True) is not None


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder of somebody else's, or a file in its place, is one line in the log that says where and why."""
    folder = tmp_path / "spool"
    if os.geteuid() == 0:
        folder.write_bytes(b"")
    else:
        folder.mkdir(mode=0o500)
    spool = new_spool(folder)
    assert spool.create(0) is None
    assert spool.adopt() is None
    assert log_of(caplog) == []  # not yet: whoever creates holds a lock
    spool.say()
    ((level, words),) = log_of(caplog)
    assert (level, str(folder) in words) == ("WARNING", True)


@pytest.mark.parametrize("size", ["16k", "400k"])
def test_a_disk_that_is_really_full(tmp_path: Path, size: str) -> None:
    """On a file system without room a segment takes what fits, through a window too, and holds whole records only."""
    mount = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    alone = ["unshare", *user, "--mount", "sh", "-c", mount, str(tmp_path)]  # the mount ends with the process
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this kernel lets us mount nothing: neither as root nor in a namespace of our own")
    done = subprocess.run([*alone, sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    written, read, passed = map(int, done.stdout.split())
    assert written == read == passed > int(size[:-1]) * 35


FILL = """
import sys
from analytics_sdk._spool import Spool

spool, written = Spool(sys.argv[1], "http://collector.test", 1 << 30), 0
segment = spool.create(0)
try:
    while True:
        segment.append(b'{"event_id":"1"}')
        written += 1
except OSError:
    segment.leave()
records, passed = spool.adopt().read(100_000, 1 << 20)
print(written, records.count(b'{"event_id":"1"}'), passed)
"""


def test_removing_the_folder_is_no_error(tmp_path: Path) -> None:
    """After an rm -rf the next segment makes the folder again."""
    folder = tmp_path / "spool"
    spool = new_spool(folder)
    before = create(spool, RECORD)
    shutil.rmtree(folder)
    after = create(spool, RECORD)
    before.remove()
    assert list(folder.iterdir()) == [after.path]
