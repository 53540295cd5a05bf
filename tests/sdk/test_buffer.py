"""The buffer: bounded, in order, in memory or on disk or both, and its account adds up whatever becomes of it."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics_sdk import EventError, _spool
from analytics_sdk._batch import Batch
from analytics_sdk._buffer import Buffer
from analytics_sdk._spool import Spool
from tests.sdk.world import Clock, assert_balanced, disk_with_room_for, keys_on_disk

Make = Callable[..., Buffer]
MODES = {"memory": None, "always": True, "overflow": False}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the spool goes by."""
    clock = Clock()
    monkeypatch.setattr(_spool.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the spool is."""
    return tmp_path / "spool"


@pytest.fixture
def buffer(folder: Path) -> Iterator[Make]:
    """Makes buffers; they are ended after the test."""
    made: list[Buffer] = []

    def make(
        mode: str = "memory", *, records: int = 1000, size: int = 10**6, most: int = 1 << 30, **rest: Any
    ) -> Buffer:
        spool = None if mode == "memory" else Spool(str(folder), "http://collector.test", most)
        told = {"full_batch": 10, "notice": lambda _: None} | rest
        made.append(Buffer(records, size, spool=spool, is_write_ahead=mode == "always", **told))
        return made[-1]

    yield make
    for one in made:
        one.end()
        assert_balanced(one.stats())


def record(number: int) -> bytes:
    """A record of 100 bytes."""
    return b'{"event_id":%d,"text":"' % number + b"x" * 74 + b'"}'


def put(buffer: Buffer, count: int, start: int = 0) -> int:
    """Put so many records; how many were accepted."""
    for number in range(start, start + count):
        try:
            buffer.put(record(number))
        except EventError:
            return number - start
    return count


def numbers(batch: Batch | None) -> list[int]:
    """What a batch carries."""
    return [json.loads(one)["event_id"] for one in batch.records] if batch else []


def deliver(buffer: Buffer, most: int = 1000) -> list[int]:
    """Take and settle one batch."""
    batch = buffer.take(most, 10**6)
    if batch is not None:
        buffer.settle(batch, delivered=len(batch.records))
    return numbers(batch)


def deliver_all(buffer: Buffer) -> list[int]:
    """Take and settle until nothing is left."""
    return [number for batch in iter(lambda: deliver(buffer, 7), []) for number in batch]


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The levels of what was logged."""
    return [one.levelname for one in caplog.records if one.name == "analytics_sdk"]


# In and out


@pytest.mark.parametrize("mode", MODES)
def test_first_in_first_out(buffer: Make, mode: str) -> None:
    """Records come out in the order in which they came in, however putting and taking alternate."""
    made = buffer(mode)
    out: list[int] = []
    for start in range(0, 200, 20):
        put(made, 20, start)
        out += deliver(made, 13)
    assert out + deliver_all(made) == list(range(200))


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_keeps_within_its_bounds(buffer: Make, mode: str) -> None:
    """Neither more records nor more bytes than asked for are taken, and one record always is."""
    made = buffer(mode, records=5)
    put(made, 20)
    for most, size, expected in [(2, 10**6, 2), (100, 250, 2), (100, 1, 1)]:
        assert len(numbers(made.take(most, size))) == expected


def test_room_is_given_back_when_a_batch_is_settled(buffer: Make) -> None:
    """Records that are being sent take room in memory, by number and by bytes, until their fate is known."""
    for made in (buffer(records=10), buffer(size=1000)):
        assert put(made, 15) == 10
        batch = made.take(4, 10**6)
        assert put(made, 1) == 0
        assert batch is not None
        made.settle(batch, delivered=4)
        assert put(made, 15) == 4


def test_why_a_record_is_not_accepted(buffer: Make) -> None:
    """A full buffer and a closed one say which they are."""
    made = buffer(records=1)
    made.put(record(0))
    with pytest.raises(EventError) as full:
        made.put(record(1))
    made.close()
    with pytest.raises(EventError) as closed:
        made.put(record(1))
    assert (full.value.reason, closed.value.reason) == ("buffer_full", "closed")


def test_whom_it_tells_of_records(buffer: Make) -> None:
    """It tells of the first record that waits and of a full batch, and after all are taken of the next first one."""
    told: list[int] = []
    made = buffer(notice=told.append, full_batch=10)
    put(made, 35)
    assert told == [1, 10]
    deliver_all(made)
    put(made, 5)
    assert told == [1, 10, 1]


def test_the_fate_of_a_batch_is_booked_once(buffer: Make) -> None:
    """Each record of a batch is delivered, a duplicate, rejected or dropped; a second verdict changes nothing."""
    made = buffer()
    put(made, 10)
    batch = made.take(10, 10**6)
    assert batch is not None
    assert made.settle(batch, delivered=4, duplicate=3, rejected=2, dropped="refused")
    stats = made.stats()
    assert (stats.delivered, stats.duplicate, stats.rejected, stats.dropped) == (4, 3, 2, {"refused": 1})
    assert not made.settle(batch, delivered=10)
    assert made.stats() == stats


def test_halves_are_booked_each(buffer: Make) -> None:
    """A batch that is halved is still all in hand, and each half has a fate of its own."""
    made = buffer()
    put(made, 5)
    batch = made.take(10, 10**6)
    assert batch is not None
    first, second = made.halve(batch)
    assert numbers(first) + numbers(second) == [0, 1, 2, 3, 4]
    assert made.stats().pending == 5
    made.settle(first, delivered=2)
    assert (made.stats().pending, made.stats().delivered) == (3, 2)
    made.settle(second, dropped="refused")
    assert made.stats().dropped == {"refused": 3}


def test_what_is_refused_is_not_part_of_the_sum(buffer: Make) -> None:
    """Records that were never accepted are counted by reason, beside the account."""
    made = buffer()
    made.refuse("invalid")
    made.refuse("invalid")
    assert (made.stats().refused, made.stats().accepted) == ({"invalid": 2}, 0)


# Overflow


def test_memory_first_then_the_disk(buffer: Make, folder: Path) -> None:
    """With overflow nothing touches the disk while memory has room; what comes then is on disk only, in order."""
    made = buffer("overflow", records=10)
    put(made, 10)
    assert not folder.exists()
    put(made, 20, 10)
    assert (made.stats().pending, made.stats().spooled) == (10, 20)
    assert keys_on_disk(folder) == {("event", number) for number in range(10, 30)}
    assert deliver_all(made) == list(range(30))


def test_after_an_overflow_memory_is_used_again(buffer: Make, folder: Path) -> None:
    """Once the disk is read empty its files are gone, and new records are in memory again."""
    made = buffer("overflow", records=10)
    put(made, 30)
    deliver_all(made)
    put(made, 5)
    assert (made.stats().pending, made.stats().spooled) == (5, 0)
    assert list(folder.iterdir()) == []


def test_a_full_disk_and_a_full_memory_refuse(buffer: Make, folder: Path) -> None:
    """With no room in memory or on disk a record is refused; what was accepted is delivered, and then there is room."""
    made = buffer("overflow", records=10, most=2000)
    accepted = put(made, 1000)
    assert 20 < accepted < 30
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2000
    assert deliver_all(made) == list(range(accepted))
    assert put(made, 10, accepted) == 10


def test_order_is_kept_when_overflow_comes_and_goes(buffer: Make) -> None:
    """Memory, disk, and memory again: what happened first comes out first."""
    made = buffer("overflow", records=5)
    out: list[int] = []
    for start in range(0, 120, 12):
        put(made, 12, start)
        out += deliver(made, 4) + deliver(made, 4)
    assert out + deliver_all(made) == list(range(120))


# A disk in trouble


def test_it_goes_on_in_memory_and_comes_back(
    buffer: Make, folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk costs nothing but its protection: one warning when it begins, one line when it is over."""
    caplog.set_level(logging.INFO, "analytics_sdk")
    made = buffer("always")
    put(made, 5)
    with disk_with_room_for(700):
        put(made, 20, 5)
    with disk_with_room_for(5):
        clock.sleep(20)
        made.tend()
        put(made, 20, 25)
    assert levels(caplog) == ["WARNING"]
    clock.sleep(20)
    made.tend()
    put(made, 5, 45)
    made.tend()
    assert levels(caplog) == ["WARNING", "INFO"]
    assert {("event", number) for number in (*range(5), *range(45, 50))} <= keys_on_disk(folder)
    assert deliver_all(made) == list(range(50))


def test_a_spool_that_was_removed_is_made_again(buffer: Make, folder: Path) -> None:
    """After an rm -rf the records that were there are sent from memory, and the next ones are on disk again."""
    made = buffer("always")
    put(made, 5)
    shutil.rmtree(folder)
    put(made, 5, 5)
    made.tend()
    put(made, 5, 10)
    assert keys_on_disk(folder) == {("event", number) for number in range(10, 15)}
    assert deliver_all(made) == list(range(15))


@pytest.mark.parametrize("mode", ["always", "overflow"])
def test_the_end_writes_what_was_removed_once_more(buffer: Make, folder: Path, mode: str) -> None:
    """Records whose file was removed are written to a new one at the end, in hand or not, in memory or not."""
    made = buffer(mode, records=10)
    put(made, 20)
    made.take(3, 10**6)
    shutil.rmtree(folder)
    assert made.end() == {}
    assert (made.stats().pending, made.stats().spooled) == (0, 20)
    assert keys_on_disk(folder) == {("event", number) for number in range(20)}


def test_damage_is_told(buffer: Make, folder: Path) -> None:
    """Records that cannot be read back are counted as damaged, and whoever asked is told how many."""
    told: list[int] = []
    made = buffer("overflow", records=2, damaged=told.append)
    put(made, 10)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-150])
    assert deliver_all(made) == list(range(8))
    assert (made.stats().dropped, sum(told)) == ({"damaged": 2}, 2)


# The end


@pytest.mark.parametrize("mode", ["always", "overflow"])
def test_with_a_spool_the_end_loses_nothing(buffer: Make, folder: Path, mode: str) -> None:
    """What waits and what is in hand stays on disk, and counts as spooled."""
    made = buffer(mode)
    put(made, 10)
    made.take(3, 10**6)
    assert made.end() == {}
    assert (made.stats().pending, made.stats().spooled) == (0, 10)
    assert keys_on_disk(folder) == {("event", number) for number in range(10)}


def test_without_a_spool_the_end_says_what_is_lost(buffer: Make) -> None:
    """What was never sent is lost by the end; of what was sent and not answered nobody knows."""
    made = buffer()
    put(made, 10)
    batch = made.take(3, 10**6)
    assert batch is not None
    batch.loss = "unanswered"
    assert made.end() == {"exit": 7, "unanswered": 3}
    assert made.stats().dropped == {"exit": 7, "unanswered": 3}
    assert made.end() == {}


def test_a_full_disk_at_the_end_takes_what_fits(buffer: Make, folder: Path) -> None:
    """Of what the end leaves over the disk takes what it has room for, and exactly the rest is told as lost."""
    made = buffer("overflow")
    put(made, 20)
    with disk_with_room_for(1000):
        lost = made.end()
    assert lost["exit"] == 20 - len(keys_on_disk(folder)) == 11
    assert (made.stats().spooled, made.stats().dropped) == (9, {"exit": 11})


def test_an_answer_that_comes_after_the_end_changes_nothing(buffer: Make) -> None:
    """Once the end has given a batch away neither its fate nor its halves are booked."""
    made = buffer()
    put(made, 10)
    batch = made.take(10, 10**6)
    assert batch is not None
    made.end()
    stats = made.stats()
    assert not made.settle(made.halve(batch)[0], delivered=5)
    assert not made.settle(batch, delivered=10)
    assert made.take(10, 10**6) is None
    assert made.stats() == stats


def test_adopted_records_are_in_the_account(buffer: Make) -> None:
    """What another process left is accepted and adopted at once, and is delivered as the own records are."""
    before = buffer("always")
    put(before, 10)
    before.end()
    made = buffer("always")
    put(made, 5, 10)
    assert made.adopt()
    stats = made.stats()
    assert (stats.accepted, stats.adopted, stats.pending, stats.spooled) == (15, 10, 5, 10)
    assert sorted(deliver_all(made)) == list(range(15))
    assert not made.has_adopted
    assert not made.adopt()


def test_own_and_adopted_records_take_turns(buffer: Make) -> None:
    """Whoever takes can have the adopted ones first."""
    before = buffer("always")
    put(before, 3)
    before.end()
    made = buffer("always")
    put(made, 3, 10)
    made.adopt()
    assert numbers(made.take(10, 10**6, prefer_adopted=True)) == [0, 1, 2]
    assert numbers(made.take(10, 10**6, prefer_adopted=True)) == [10, 11, 12]


# Others


def test_beginning_anew_leaves_all_to_the_parent(buffer: Make, folder: Path) -> None:
    """In a forked child nothing is accepted yet, and what the parent has on disk stays as it is."""
    made = buffer("always")
    put(made, 5)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    made.reset()
    assert (made.stats().accepted, made.stats().pending, made.take(10, 10**6)) == (0, 0, None)
    put(made, 5, 5)
    assert deliver_all(made) == list(range(5, 10))
    assert {path: path.read_bytes() for path in before} == before


def test_a_log_handler_may_track(buffer: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that waits for another thread that tracks is not waited for: nothing is logged under the lock."""
    made = buffer("always")

    class Tracking(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            thread = threading.Thread(target=put, args=(made, 1, 100), daemon=True)
            thread.start()
            thread.join(10)
            assert not thread.is_alive()

    handler = Tracking()
    logging.getLogger("analytics_sdk").addHandler(handler)
    try:
        with disk_with_room_for(5):
            put(made, 1)
    finally:
        logging.getLogger("analytics_sdk").removeHandler(handler)
    assert levels(caplog) == ["WARNING"]
    assert made.stats().pending == 2


@pytest.mark.parametrize("mode", MODES)
def test_many_threads(buffer: Make, mode: str) -> None:
    """While threads put, another one takes, settles and looks: every look adds up, and each record comes out once."""
    made = buffer(mode, records=50)
    done = threading.Event()
    out: list[int] = []

    def keep_delivering() -> None:
        while not done.is_set() or made.stats().pending + made.stats().spooled:
            out.extend(deliver(made, 7))
            assert_balanced(made.stats())

    taker = threading.Thread(target=keep_delivering)
    putters = [threading.Thread(target=put, args=(made, 300, 1000 * number)) for number in range(4)]
    for thread in (taker, *putters):
        thread.start()
    for thread in putters:
        thread.join()
    done.set()
    taker.join()
    assert len(out) == len(set(out)) == made.stats().delivered == made.stats().accepted
