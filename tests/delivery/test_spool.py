"""What many processes and damaged files do to a spool."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.delivery.proxy import Proxy
from tests.delivery.trial import PATIENCE, Size, Trial, sizes
from tests.programs import Collector, wait_until

HOSTS = 3


@sizes(runs=20)
def test_processes_that_share_a_spool_and_are_killed_at_random(
    make_trial: Callable[..., Trial], collector: Collector, size: Size
) -> None:
    """Processes track into one spool and adopt from it, and each is killed in the midst of that: all arrives once."""
    trial = make_trial(collector.url, spool=True, ANALYTICS_FLUSH_INTERVAL="0.05")
    chance = random.Random(size.run)
    kills = 0
    while kills < HOSTS or len(trial.verdict().accepted) < size.count:
        with contextlib.ExitStack() as stack:
            hosts = [stack.enter_context(trial.host("track until killed", size.count // 300)) for _ in range(HOSTS)]
            for host in hosts:
                host.wait_until_tracked()
            for host in hosts:
                time.sleep(chance.uniform(0, 0.2))  # at random is what it says
                host.kill()
                kills += 1
    trial.adopt()
    trial.verdict().assert_nothing_lost(kills=kills)


@sizes(runs=20)
def test_a_dead_process_is_adopted_once(make_trial: Callable[..., Trial], proxy: Proxy, size: Size) -> None:
    """Of several processes that look for the segments of a dead one, exactly one sends each."""
    trial = make_trial(proxy.url, spool=True)
    leave_behind(trial, proxy)
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(trial.host("adopt", PATIENCE // 2)) for _ in range(HOSTS)]
        assert [host.end() for host in hosts] == [0] * HOSTS
    verdict = trial.verdict()
    verdict.assert_nothing_lost(size.count)
    assert sum(account.stats["adopted"] for account in verdict.last.values()) == size.count
    assert sum(account.stats["delivered"] for account in verdict.last.values()) == size.count


@sizes(runs=20)
def test_a_child_does_not_keep_what_its_parent_left(
    make_trial: Callable[..., Trial], collector: Collector, size: Size
) -> None:
    """A parent that is killed is adopted from while a child of it lives on, with all it has inherited."""
    trial = make_trial(collector.url, spool=True, ANALYTICS_FLUSH_INTERVAL="60")
    with trial.host("fork and wait in the child") as host:
        host.wait_until_tracked()
        host.kill()
        trial.adopt()
    trial.verdict().assert_nothing_lost(size.count)


@sizes(runs=5)
def test_a_living_process_adopts(make_trial: Callable[..., Trial], proxy: Proxy, size: Size) -> None:
    """What a dead process left is sent by one that lives and works, without any call of `flush()`."""
    trial = make_trial(proxy.url, spool=True)
    leave_behind(trial, proxy)
    with trial.host("wait", 1) as host:
        host.wait_until_tracked()
        wait_until(lambda: len(trial.verdict().stored) == size.count + 1, within=PATIENCE, what="the adoption")
        assert host.end() == 0
    trial.verdict().assert_nothing_lost(size.count + 1)


def leave_behind(trial: Trial, proxy: Proxy) -> None:
    """Have a host track everything while the collector is down, and be killed."""
    proxy.down()
    with trial.host("wait") as host:
        host.wait_until_tracked()
        host.kill()
    proxy.up()


def tear(content: bytearray) -> None:
    """The last record is there in part, as a write that was cut short leaves it."""
    del content[-7:]


def tear_early(content: bytearray) -> None:
    """Of the last record there are three bytes."""
    del content[content.rindex(b"\n", 0, -1) + 4 :]


def flip(offset: int) -> Callable[[bytearray], None]:
    """Changes one bit, so many bytes into a record in the middle."""

    def damage(content: bytearray) -> None:
        content[content.index(b"\n", len(content) // 2) + 1 + offset] ^= 1

    return damage


DAMAGES: dict[str, Callable[[bytearray], None]] = {
    "torn tail": tear,
    "torn early": tear_early,
    "checksum changed": flip(3),
    "space changed": flip(8),
    "content changed": flip(60),
}


@sizes(runs=5)
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_record(make_trial: Callable[..., Trial], proxy: Proxy, name: str, size: Size) -> None:
    """A record that is torn or changed is counted as damaged; its neighbours arrive, and nothing wrong ever does."""
    trial = make_trial(proxy.url, spool=True)
    leave_behind(trial, proxy)
    assert trial.spool is not None
    damage_last(trial.spool, DAMAGES[name])
    trial.adopt()
    verdict = trial.verdict()
    verdict.assert_books_balance()
    assert len(verdict.lost) == 1
    (account,) = verdict.last.values()
    assert account.stats["dropped"] == {"damaged": 1}
    assert account.stats["delivered"] + account.stats["duplicate"] == size.count - 1


def damage_last(spool: Path, damage: Callable[[bytearray], None]) -> None:
    """Damage the segment that was written last."""
    path = max(spool.iterdir(), key=lambda path: path.name)
    content = bytearray(path.read_bytes().rstrip(b"\0"))  # without what a window has made it longer by
    damage(content)
    path.write_bytes(content)
