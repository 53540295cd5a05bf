"""A segment: what was written is read again, in order and whole, or told to be damaged; nothing wrong comes out."""

from __future__ import annotations

import os
import zlib
from math import inf
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk import _file_system, _segment
from analytics_sdk._segment import Segment
from analytics_sdk._spool import Spool
from tests.programs import wait_until
from tests.sdk.world import HEADER, disk_with_room_for, lines_of, rot

MOST = 1_000_000
RECORDS = [b'{"event_id":"%d","text":"%b"}' % (number, b"x" * number) for number in range(20)]


pytestmark = pytest.mark.usefixtures("way")


def new_spool(folder: Path) -> Spool:
    """A spool with plenty of room."""
    return Spool(str(folder), "http://collector.test", 1 << 30)


def new_segment(folder: Path) -> Segment:
    """A segment that is empty."""
    segment = new_spool(folder).create(0)
    assert segment is not None
    return segment


def written(folder: Path, records: list[bytes] = RECORDS) -> Segment:
    """A segment whose records are on disk only."""
    segment = new_segment(folder)
    for record in records:
        segment.append(record)
        segment.leave_unread(record)
    return segment


def read_all(segment: Segment) -> tuple[list[bytes], int]:
    """Its records, and how many lines were damaged."""
    records: list[bytes] = []
    damaged = 0
    while segment.unread:
        found, passed = segment.read(7, MOST)
        records += found
        damaged += (passed or segment.unread) - len(found)
        segment.unread -= passed or segment.unread
    return records, damaged


def left_behind(folder: Path, change: bytes) -> Segment | None:
    """Adopt a file with a content that a dead process left."""
    folder.mkdir(exist_ok=True)
    segment = written(folder, [])
    segment.leave()
    assert segment.path is not None
    segment.path.write_bytes(change)
    return new_spool(folder).adopt()


def file_of(segment: Segment) -> bytes:
    """What is in its file, without what a window has made that longer by."""
    assert segment.path is not None
    return segment.path.read_bytes().rstrip(b"\0")


def content_of(records: list[bytes]) -> bytes:
    """A segment as docs/spool.md describes it."""
    return HEADER + b"".join(b"%08x %b\n" % (zlib.crc32(record), record) for record in records)


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    """Records come back as they were, in order, however they are read."""
    assert read_all(written(tmp_path)) == (RECORDS, 0)


def test_the_file_is_as_the_page_says(tmp_path: Path) -> None:
    """A file is the format's name and a line for each record: checksum, blank, the bytes of the wire."""
    segment = written(tmp_path)
    assert file_of(segment) == content_of(RECORDS)
    assert segment.size == len(content_of(RECORDS))


def test_reading_keeps_within_its_bounds(tmp_path: Path) -> None:
    """Neither more records nor more bytes than asked for are read, and one record always is."""
    segment = written(tmp_path)
    for most, size, expected in [(3, MOST, 3), (20, 100, 2), (20, 1, 1), (0, MOST, 0)]:
        records, passed = segment.read(most, size)
        segment.unread -= passed
        assert len(records) == passed == expected


def test_reading_goes_on_behind_what_was_sent_from_memory(tmp_path: Path) -> None:
    """Of records that are in memory too, those that are on disk only are read, and no others."""
    segment = new_segment(tmp_path)
    for number, record in enumerate(RECORDS):
        segment.append(record)
        if number >= 8:
            segment.leave_unread(record)
    assert read_all(segment) == (RECORDS[8:], 0)
    segment.append(b'{"in memory"}')
    segment.append(b'{"on disk"}')
    segment.leave_unread(b'{"on disk"}')
    assert read_all(segment) == ([b'{"on disk"}'], 0)


def test_a_record_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    """A record of 3 MB comes back whole, and so do its neighbours."""
    records = [b'{"small"}', b'{"' + b"x" * 3_000_000 + b'"}', b'{"small too"}']
    assert read_all(written(tmp_path, records)) == (records, 0)


@pytest.mark.parametrize("missing", range(1, len(RECORDS[-1]) + 10))
def test_a_torn_tail_costs_the_last_record_only(tmp_path: Path, missing: int) -> None:
    """Wherever a last line was torn, it is counted as damaged, and all before it are read."""
    segment = left_behind(tmp_path, content_of(RECORDS)[:-missing])
    assert segment is not None
    assert read_all(segment) == (RECORDS[:-1], 1)


@given(st.floats(0, 1), st.integers(0, 7))
def test_a_changed_bit_costs_its_own_line_only(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    """Whichever bit changes, nothing wrong is read, and at most the two lines that it joins are damaged."""
    content = bytearray(content_of(RECORDS))
    content[len(HEADER) + int(place * (len(content) - len(HEADER) - 1))] ^= 1 << bit
    segment = left_behind(tmp_path_factory.mktemp("spool"), bytes(content))
    assert segment is not None
    records, damaged = read_all(segment)
    segment.leave()
    assert records == [record for record in RECORDS if record in records]
    assert len(RECORDS) - len(records) <= 2  # none, if a digit of a checksum became a capital
    assert damaged <= 2


def test_a_file_that_became_shorter_has_lost_the_rest(tmp_path: Path) -> None:
    """Of a file that somebody cuts while it is ours, those before the cut are read, and the others told of."""
    segment = written(tmp_path)
    assert segment.path is not None
    segment.path.write_bytes(rot(segment.path.read_bytes(), 0.5, is_torn=True))
    records, damaged = read_all(segment)
    assert records == RECORDS[: len(records)]
    assert 10 < len(records) < 18
    assert len(records) + damaged == len(RECORDS)


@pytest.mark.parametrize("room", [1, 5, 12, 30])
def test_a_write_that_fails_leaves_no_trace(tmp_path: Path, room: int) -> None:
    """When the disk takes a part of a record, that part is cut off again, and what is written later is whole."""
    segment = new_segment(tmp_path)
    segment.append(RECORDS[0])
    segment.seal()  # or there is room already
    before = segment.size
    with disk_with_room_for(before + room), pytest.raises(OSError, match=r"space|large"):
        segment.append(RECORDS[19])
    assert segment.size == before
    segment.append(RECORDS[1])
    assert file_of(segment) == content_of(RECORDS[:2])


@pytest.mark.parametrize("size", [100, 20_000])
def test_a_segment_can_be_emptied_again_and_again(tmp_path: Path, size: int) -> None:
    """However much was in it: nothing of that comes back, to us or to who adopts it."""
    segment = new_segment(tmp_path)
    for number in range(40):
        record = b'{"event_id":"%d","text":"%b"}' % (number, b"x" * size * number)
        segment.append(record)
        segment.append(record)
        segment.empty()
    segment.append(RECORDS[0])
    segment.leave()
    adopted = new_spool(tmp_path).adopt()
    assert adopted is not None
    assert read_all(adopted) == (RECORDS[:1], 0)


def test_an_emptied_segment_begins_anew(tmp_path: Path) -> None:
    """What was settled is gone from the disk, and what comes next is read from the beginning."""
    segment = written(tmp_path)
    read_all(segment)
    segment.empty()
    assert file_of(segment) == HEADER
    segment.append(RECORDS[3])
    segment.leave_unread(RECORDS[3])
    assert read_all(segment) == ([RECORDS[3]], 0)


def test_it_knows_when_its_file_was_removed(tmp_path: Path) -> None:
    """A file that nobody can find any more is known to be gone, and still takes and gives records."""
    segment = written(tmp_path)
    assert not segment.is_gone
    assert segment.path is not None
    segment.path.unlink()
    assert segment.is_gone
    segment.append(RECORDS[0])
    assert read_all(segment) == (RECORDS, 0)


def test_letting_go_twice_harms_nobody(tmp_path: Path) -> None:
    """A segment that was let go of closes no file of somebody else's later."""
    segment = written(tmp_path)
    segment.leave()
    with (tmp_path / "other").open("wb") as other:  # gets the number that has become free
        segment.leave()
        segment.remove()
        other.write(b"still open")
    assert segment.is_gone


def test_the_rest_of_an_unreadable_file_is_nothing(tmp_path: Path) -> None:
    """What cannot be read at the end of the process is no error."""
    segment = written(tmp_path)
    segment.leave()
    assert segment.rest() == []


def test_synchronizing_is_never_an_error(tmp_path: Path) -> None:
    """An fsync works on a file that is open and is skipped on one that is not."""
    segment = written(tmp_path)
    segment.sync()
    segment.leave()
    segment.sync()


def test_only_whole_lines_count_for_these_tests() -> None:
    """The reader of our own that the tests compare with finds what is whole, and nothing else."""
    content = content_of([b'{"event_id":"1"}', b'{"event_id":"2"}'])
    assert list(lines_of(content)) == [("event", "1"), ("event", "2")]
    assert list(lines_of(content[:-1])) == [("event", "1")]
    assert list(lines_of(content.replace(b'"1"', b'"3"'))) == [("event", "2")]


# Windows


def test_what_a_window_has_made_the_file_longer_by_is_cut_off(tmp_path: Path, way: str) -> None:
    """A segment that is done with is as long as what it holds; one with a window is as long as it may become."""
    segment = written(tmp_path)
    assert segment.path is not None
    assert (segment.path.stat().st_size > segment.size) == (way == "through a window")
    segment.seal()
    assert segment.path.read_bytes() == content_of(RECORDS)
    segment.append(RECORDS[0])
    segment.leave_unread(RECORDS[0])
    assert read_all(segment) == ([*RECORDS, RECORDS[0]], 0)


def test_what_a_killed_process_leaves_is_whole(tmp_path: Path) -> None:
    """A file that nobody could cut any more has all of its records, and nothing of what follows them counts."""
    written(tmp_path).leave()
    adopted = new_spool(tmp_path).adopt()
    assert adopted is not None
    assert adopted.unread == len(RECORDS)
    assert read_all(adopted) == (RECORDS, 0)


@pytest.mark.parametrize("missing", [1, 5, 20])
def test_a_store_that_a_kill_cut_short(tmp_path: Path, missing: int) -> None:
    """Of a last record only the beginning of which was stored, with zeros behind it, nothing but the loss is told."""
    segment = left_behind(tmp_path, content_of(RECORDS)[:-missing] + bytes(100_000))
    assert segment is not None
    assert read_all(segment) == (RECORDS[:-1], 1)


def test_zeros_that_could_not_be_cut_off(tmp_path: Path) -> None:
    """Where zeros stand between two records, as on a disk that failed for a while, both are read."""
    segment = left_behind(tmp_path, content_of(RECORDS[:1]) + bytes(5000) + content_of(RECORDS[1:3])[len(HEADER) :])
    assert segment is not None
    assert read_all(segment) == (RECORDS[:3], 0)


def test_a_kill_while_a_segment_is_emptied(tmp_path: Path) -> None:
    """A file whose owner was just making zeros of what was settled holds nothing, whatever is left; it is removed."""
    content = bytearray(content_of(RECORDS))
    content[0] = 0
    content[len(HEADER) : len(HEADER) + 40] = bytes(40)
    assert left_behind(tmp_path, bytes(content)) is None
    assert list(tmp_path.iterdir()) == []


def append_after_a_cut(segment: Segment, length: int) -> None:
    """Append, in a process that ends if it stores where there is no file any more."""
    assert segment.path is not None
    os.truncate(segment.path, length)
    wait_until(lambda: monotonic() > segment.until or segment.until == inf, what="the end of its trust")
    for record in RECORDS:
        segment.append(record)
    segment.leave()


@pytest.mark.parametrize("length", [0, 30, 4096])
def test_a_file_that_somebody_cuts_while_we_write(tmp_path: Path, length: int) -> None:
    """What is appended after the cut is in the file, and the process lives."""
    segment = written(tmp_path, [b'{"event_id":"%d"}' % number for number in range(1000)])
    process = get_context("fork").Process(target=append_after_a_cut, args=(segment, length))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert set(lines_of(HEADER + file_of(segment).lstrip(b"\0").split(b"\0")[-1])) >= {("event", "19")}


def test_a_child_leaves_the_window_to_its_parent(tmp_path: Path) -> None:
    """A forked child that lets go of a segment neither cuts the file nor stops its parent from storing into it."""
    segment = written(tmp_path)
    process = get_context("fork").Process(target=segment.leave)
    process.start()
    process.join(30)
    segment.append(RECORDS[0])
    segment.leave_unread(RECORDS[0])
    assert read_all(segment) == ([*RECORDS, RECORDS[0]], 0)


@pytest.mark.usefixtures("windows")
def test_a_few_records_are_written_and_many_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window is made once a segment holds 8 KiB, on file systems that it works on; not on others."""
    monkeypatch.setattr(_segment, "_FEW", 8 * 1024)
    for kind in ("ext4", "nfs4"):
        monkeypatch.setattr(_file_system, "kind_of", lambda _, kind=kind: kind)
        segment = new_segment(tmp_path)
        assert segment.path is not None
        sizes = []
        for _ in range(100):
            segment.append(RECORDS[19] + b" " * 100)
            sizes.append(segment.path.stat().st_size)
        firsts = [size for size in sizes if size < 9000]
        assert len(firsts) > 40
        assert (sizes[-1] > 1_000_000) == (kind == "ext4")
