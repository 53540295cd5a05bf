"""The queue: bounded, in order, in memory or on disk or both, whatever the disk does."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import pytest

from analytics_sdk import EventError
from tests.sdk.buffers import MODES, Make, deliver, deliver_all, levels, numbers, put, record
from tests.sdk.world import Clock, disk_with_room_for, keys_on_disk

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


# Overflow


def test_memory_first_then_the_disk(buffer: Make, spool_folder: Path) -> None:
    """With overflow nothing touches the disk while memory has room; what comes then is on disk only, in order."""
    made = buffer("overflow", records=10)
    put(made, 10)
    assert not spool_folder.exists()
    put(made, 20, 10)
    assert (made.stats().pending, made.stats().spooled) == (10, 20)
    assert keys_on_disk(spool_folder) == {("event", number) for number in range(10, 30)}
    assert deliver_all(made) == list(range(30))


def test_after_an_overflow_memory_is_used_again(buffer: Make, spool_folder: Path) -> None:
    """Once the disk is read empty its files are gone, and new records are in memory again."""
    made = buffer("overflow", records=10)
    put(made, 30)
    deliver_all(made)
    put(made, 5)
    assert (made.stats().pending, made.stats().spooled) == (5, 0)
    assert list(spool_folder.iterdir()) == []


def test_a_full_disk_and_a_full_memory_refuse(buffer: Make, spool_folder: Path) -> None:
    """With no room in memory or on disk a record is refused; what was accepted is delivered, and then there is room."""
    made = buffer("overflow", records=10, most=2000)
    accepted = put(made, 1000)
    assert 20 < accepted < 30
    assert sum(path.stat().st_size for path in spool_folder.iterdir()) <= 2000
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
    buffer: Make, spool_folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk costs nothing but its protection: one warning when it begins, one line when it is over."""
    caplog.set_level(logging.INFO, "analytics_sdk")
    made = buffer("always")
    put(made, 5)
    with disk_with_room_for(700):
        put(made, 400, 5)  # more than a window has room for already
    with disk_with_room_for(5):
        clock.sleep(20)
        made.tend()
        put(made, 20, 405)
    assert levels(caplog) == ["WARNING"]
    clock.sleep(20)
    made.tend()
    put(made, 5, 425)
    made.tend()
    assert levels(caplog) == ["WARNING", "INFO"]
    assert {("event", number) for number in (*range(5), *range(425, 430))} <= keys_on_disk(spool_folder)
    assert deliver_all(made) == list(range(430))


def test_a_spool_that_was_removed_is_made_again(buffer: Make, spool_folder: Path) -> None:
    """After an rm -rf the records that were there are sent from memory, and the next ones are on disk again."""
    made = buffer("always")
    put(made, 5)
    shutil.rmtree(spool_folder)
    put(made, 5, 5)
    made.tend()
    put(made, 5, 10)
    assert keys_on_disk(spool_folder) == {("event", number) for number in range(10, 15)}
    assert deliver_all(made) == list(range(15))


# Others


def test_beginning_anew_leaves_all_to_the_parent(buffer: Make, spool_folder: Path) -> None:
    """In a forked child nothing is accepted yet, and what the parent has on disk stays as it is."""
    made = buffer("always")
    put(made, 5)
    before = {path: path.read_bytes() for path in spool_folder.iterdir()}
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
