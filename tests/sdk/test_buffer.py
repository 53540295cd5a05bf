"""The buffer: its account adds up whatever becomes of the records, and the end loses none that it need not."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from tests.sdk.buffers import MODES, Make, deliver, deliver_all, numbers, put
from tests.sdk.world import assert_balanced, disk_with_room_for, keys_on_disk

# What becomes of a batch


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


def test_damage_is_told(buffer: Make, spool_folder: Path) -> None:
    """Records that cannot be read back are counted as damaged, and whoever asked is told how many."""
    told: list[int] = []
    made = buffer("overflow", records=2, damaged=told.append)
    put(made, 10)
    (path,) = spool_folder.iterdir()
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-150])
    assert deliver_all(made) == list(range(8))
    assert (made.stats().dropped, sum(told)) == ({"damaged": 2}, 2)


# The end


@pytest.mark.parametrize("mode", ["always", "overflow"])
def test_with_a_spool_the_end_loses_nothing(buffer: Make, spool_folder: Path, mode: str) -> None:
    """What waits and what is in hand stays on disk, and counts as spooled."""
    made = buffer(mode)
    put(made, 10)
    made.take(3, 10**6)
    assert made.end() == {}
    assert (made.stats().pending, made.stats().spooled) == (0, 10)
    assert keys_on_disk(spool_folder) == {("event", number) for number in range(10)}


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


def test_a_full_disk_at_the_end_takes_what_fits(buffer: Make, spool_folder: Path) -> None:
    """Of what the end leaves over the disk takes what it has room for, and exactly the rest is told as lost."""
    made = buffer("overflow")
    put(made, 20)
    with disk_with_room_for(1000):
        lost = made.end()
    assert lost["exit"] == 20 - len(keys_on_disk(spool_folder)) == 11
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


@pytest.mark.parametrize("mode", ["always", "overflow"])
def test_the_end_writes_what_was_removed_once_more(buffer: Make, spool_folder: Path, mode: str) -> None:
    """Records whose file was removed are written to a new one at the end, in hand or not, in memory or not."""
    made = buffer(mode, records=10)
    put(made, 20)
    made.take(3, 10**6)
    shutil.rmtree(spool_folder)
    assert made.end() == {}
    assert (made.stats().pending, made.stats().spooled) == (0, 20)
    assert keys_on_disk(spool_folder) == {("event", number) for number in range(20)}


# Others


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
