"""The account balances, whatever happens in whatever order: hypothesis plays host, collector, disk and fate.

A machine drives the public Client, over its real engine, buffer, worker and spool, in a world that is made up
(tests/sdk/world.py). Nothing waits: the SDK is told that the host lacks threads, as some uWSGI do, so flush() and
close() send in the thread of the test, and each sleep only moves the hands of a clock. So a run is the same each
time and a failure shrinks to a few lines, which a thread of its own and real pauses would never let it. The thread
has its turn in the last test of this page.

No rule has a precondition on what the SDK did: threads that track beside a flush make that a matter of chance, and
hypothesis wants the same choices each time.

Beside `stats()` the machine keeps books of its own, on the collector's side and on the disk's, by each record's key.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import pickle
import random
import shutil
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import attrs
import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from analytics_sdk import Client, Stats, _engine, _process, _segment, _spool, _transport
from tests.programs import wait_until
from tests.sdk.world import (
    MISBEHAVIOURS,
    Clock,
    FakeCollector,
    Key,
    assert_balanced,
    disk_with_room_for,
    key_of,
    keys_on_disk,
    lines_of,
    open_in,
    rot,
    without_waiting,
)

URL = "http://collector.test"
COMMON = {"write_key": "k", "flush_interval": 60, "retry_cap": 4.0, "read_timeout": 3.0, "exit_timeout": 1.0}
BATCHES = {"max_batch_events": 5, "max_batch_bytes": 1500, "max_event_bytes": 1000}
TINY = {"max_buffer_events": 6, "max_buffer_bytes": 1500}

EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("click", {}),
    "big": ("click", {"text": "x" * 600}),
    "set aside by the collector": ("reject", {}),
    "blocked by a firewall": ("poison", {}),
    "malformed": ("malformed", {}),
    "invalid": ("", {}),
    "cut to size": ("click", {str(number): number for number in range(500)}),
}
UNACCEPTABLE = {"invalid"}


@attrs.define
class Books:
    """What is known of each record from outside of the SDK, in all processes together.

    Attributes:
        accepted: Those that a client has accepted.
        at_risk: Of those, the ones that are in memory only as the disk was in trouble: a kill may lose them.
        lost: Those that may be missing in the end, each for a reason.
        given_up: What on_reject was told of.
    """

    accepted: set[Key] = attrs.field(factory=set)
    at_risk: set[Key] = attrs.field(factory=set)
    lost: set[Key] = attrs.field(factory=set)
    given_up: set[Key] = attrs.field(factory=set)


@attrs.define
class Life:
    """One engine from its first client to its end, in one process.

    Attributes:
        clients: Those that share it.
        closed: Those of them that were closed.
        keys: What they accepted.
        refused: How many calls came to nothing.
        dropped: What on_drop was told.
        rejects: How often on_reject was told.
        in_trouble: Whether something happened to the disk.
    """

    clients: list[Client] = attrs.field(factory=list)
    closed: list[Client] = attrs.field(factory=list)
    keys: set[Key] = attrs.field(factory=set)
    refused: int = 0
    dropped: Counter[str] = attrs.field(factory=Counter)
    rejects: int = 0
    in_trouble: bool = False

    @property
    def is_over(self) -> bool:
        """Whether all clients are closed."""
        return len(self.closed) == len(self.clients)


class Host(RuleBasedStateMachine):
    """A host, and all that can happen to it; subclasses say with which spool.

    Args:
        parent: Where it makes its folder. It removes that in the end; whoever gave it sees to what a failure leaves.
    """

    options: ClassVar[Mapping[str, Any]] = {}
    has_spool = False
    survives_kills = False
    few = 8 * 1024  # bytes that are not worth a window

    def __init__(self, parent: Path) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.folder = Path(tempfile.mkdtemp(dir=parent))
        self.stack.callback(shutil.rmtree, self.folder)
        self.spool = self.folder / "spool"
        self.clock = Clock()
        self.collector = FakeCollector(self.clock)
        self.stack.enter_context(without_waiting(self.clock))
        http = httpx.MockTransport(self.collector)
        self.stack.enter_context(mock.patch.object(_transport, "new_http_transport", return_value=http))
        self.stack.enter_context(mock.patch.object(_spool, "SEGMENT_BYTES", 1500))
        self.books = Books()
        self.room: int | None = None
        self.has_rotted = False
        self.numbers = 0

    # Lives

    @initialize()
    def begin(self) -> None:
        """Start a process, as far as the SDK can tell."""
        self.life = Life(in_trouble=self.room is not None)
        self.collector.told.clear()
        self.collector.not_before = 0.0
        self.collector.meanwhile = None
        self.join()

    def join(self) -> None:
        """Make a client."""
        spool = {"spool": str(self.spool)} if self.has_spool else {}
        hooks = {"on_drop": self.on_drop, "on_reject": self.on_reject}
        self.life.clients.append(Client(URL, **(COMMON | BATCHES | self.options | spool), **hooks))

    def on_drop(self, reason: str, count: int) -> None:
        """Count what is lost or not accepted."""
        self.life.dropped[reason] += count

    def on_reject(self, event: dict[str, Any], _: str) -> None:
        """Note what the collector will never store."""
        self.life.rejects += 1
        self.books.given_up.add(key_of(event))

    @property
    def client(self) -> Client:
        """A client that is open, as long as there is one."""
        return next((client for client in self.life.clients if client not in self.life.closed), self.life.clients[0])

    @property
    def outstanding(self) -> set[Key]:
        """What is accepted, and its fate is not known."""
        return self.books.accepted - self.collector.settled - self.books.given_up

    @property
    def own(self) -> set[Key]:
        """What this life has accepted of that."""
        return self.life.keys & self.outstanding

    # Tracking

    def note(self, key: Key, accepted: bool) -> None:
        """Note whether a record was accepted."""
        if not accepted:
            self.life.refused += 1
            return
        self.life.keys.add(key)
        self.books.accepted.add(key)
        if self.life.in_trouble and key not in keys_on_disk(self.spool):
            self.books.at_risk.add(key)

    def call(self, key: Key, function: Callable[[], object]) -> None:
        """Make a call that says one thing of a session or a user."""
        before = self.life.clients[0].stats().accepted
        with disk_with_room_for(self.room):
            function()
        self.note(key, self.life.clients[0].stats().accepted == before + 1)

    def track_one(self, client: Client, name: str) -> tuple[str, str | None]:
        """Track an event; what it was and its id."""
        event_type, event_data = EVENTS[name]
        return name, client.track(event_type, event_data)

    def note_event(self, name: str, event_id: str | None) -> None:
        """Note what came of an event."""
        assert event_id is None or name not in UNACCEPTABLE
        self.note(("event", event_id), event_id is not None)

    @rule(name=st.sampled_from(sorted(EVENTS)), count=st.integers(1, 8), place=st.integers(0, 3))
    def track(self, name: str, count: int, place: int) -> None:
        """Track some events, by any client, closed ones as well."""
        client = self.life.clients[place % len(self.life.clients)]
        with disk_with_room_for(self.room):
            tracked = [self.track_one(client, name) for _ in range(count)]
        for name, event_id in tracked:
            self.note_event(name, event_id)

    @rule(names=st.lists(st.sampled_from(sorted(EVENTS)), min_size=2, max_size=3), flushes=st.booleans())
    def track_from_threads(self, names: list[str], flushes: bool) -> None:
        """Track from several threads at once, perhaps beside a flush."""
        tracked: list[tuple[str, str | None]] = []
        client, was_over = self.client, self.life.is_over

        def work(name: str) -> None:
            tracked.extend([self.track_one(client, name) for _ in range(4)])

        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        with disk_with_room_for(self.room):
            for thread in threads:
                thread.start()
            if flushes and not self.life.is_over:
                client.flush(1.0)
            for thread in threads:
                thread.join()
        for name, event_id in tracked:
            self.note_event(name, event_id)
        if self.life.is_over and not was_over:
            self.settle_end()

    def next_number(self) -> int:
        """A number that was not there before."""
        self.numbers += 1
        return os.getpid() * 1000 + self.numbers

    @rule(ends=st.booleans())
    def visit(self, ends: bool) -> None:
        """Start a session, say whose it is, perhaps end it."""
        session_id, user_id = f"s{self.next_number()}", self.next_number()
        client = self.client
        self.call(("session", session_id, True, False, None), lambda: client.start_session(session_id=session_id))
        self.call(
            ("session", session_id, False, False, user_id), lambda: client.identify(user_id, session_id=session_id)
        )
        if ends:
            self.call(("session", session_id, False, True, None), lambda: client.end_session(session_id))

    @rule()
    def tell_traits(self) -> None:
        """Say what is known of a user."""
        user_id = self.next_number()
        client = self.client
        self.call(("user", user_id), lambda: client.identify(user_id, {"plan": "pro"}))

    # The collector and the time

    @rule(plan=st.lists(st.sampled_from(sorted(MISBEHAVIOURS)), min_size=1, max_size=4))
    def collector_will_stumble(self, plan: list[str]) -> None:
        """Have the next requests go wrong."""
        self.collector.plan.extend(plan)

    @rule(habit=st.sampled_from(sorted(MISBEHAVIOURS)))
    def collector_is_ill(self, habit: str) -> None:
        """Have all requests go wrong."""
        self.collector.habit = habit

    @rule(firewall=st.booleans(), largest=st.sampled_from([300, 700, 1_000_000]))
    def network_changes(self, firewall: bool, largest: int) -> None:
        """Put something before the collector."""
        self.collector.firewall, self.collector.largest = firewall, largest

    @rule()
    def collector_recovers(self) -> None:
        """Have all go well."""
        self.collector.be_healthy()
        self.clock.sleep(301)

    @rule(seconds=st.sampled_from([1.0, 16.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        """Let some time pass."""
        self.clock.sleep(seconds)

    # Sending

    @rule(timeout=st.sampled_from([0.0, 0.5, 5.0, 40.0]))
    def flush(self, timeout: float) -> None:
        """Flush; if all is well, nothing waits after that."""
        began, is_healthy = self.clock.now, self.collector.is_healthy
        with disk_with_room_for(self.room):
            report = self.client.flush(timeout)
        assert self.clock.now - began <= timeout + 0.2
        if is_healthy and timeout >= 5 and not self.life.is_over:
            assert (report.pending, report.spooled) == (0, 0)
            assert self.outstanding <= self.books.lost

    @rule()
    def another_client(self) -> None:
        """Make another client with the same settings."""
        if not self.life.is_over:
            self.join()

    @rule(timeout=st.sampled_from([0.0, 1.0, 30.0]))
    def close(self, timeout: float) -> None:
        """Close a client; the last one ends the engine."""
        client = self.client
        if self.life.is_over:
            return
        self.life.closed.append(client)
        self.collector.patience = False  # there is no later, so one try is made all the same
        with disk_with_room_for(self.room):
            client.close(timeout)
        self.collector.patience = True
        if self.life.is_over:
            self.settle_end()

    @rule()
    def the_end_will_come_amid_a_request(self) -> None:
        """Have the process end while the next request is under way."""
        self.collector.meanwhile = None if self.life.is_over else self.end_here

    def end_here(self) -> None:
        """End as the process does, whatever is going on."""
        for engine in {client._engine for client in self.life.clients}:
            engine.close(0.0)
        self.life.closed[:] = self.life.clients
        self.settle_end()

    def settle_end(self) -> None:
        """What is left is on disk, or counted as lost."""
        stats = self.client.stats()
        gone = self.own - keys_on_disk(self.spool)
        counted = stats.dropped.get("exit", 0) + stats.dropped.get("unanswered", 0)
        assert stats.pending == 0
        assert len(gone) == counted or (stats.adopted and len(gone) < counted)
        self.books.lost |= gone

    @rule()
    def next_process(self) -> None:
        """Start again after the end."""
        if self.life.is_over:
            self.begin()

    # Fate

    @rule()
    def kill(self) -> None:
        """End as kill -9 does: files stay as they are, and the kernel closes them."""
        for engine in {client._engine for client in self.life.clients}:
            _process._engines.discard(engine)
            _engine._forget(engine)
            engine.buffer.reset()  # lets go of them without touching them
        assert list(open_in(self.spool)) == []
        self.lose_memory()
        self.begin()

    def lose_memory(self) -> None:
        """What was not on disk is lost; with a spool for every record that is nothing, unless the disk had trouble."""
        gone = self.own - keys_on_disk(self.spool)
        assert not self.survives_kills or gone <= self.books.at_risk | self.books.lost
        self.books.lost |= gone

    @rule(
        name=st.sampled_from(["plain", "big", "malformed"]),
        count=st.integers(0, 6),
        end=st.sampled_from(["is killed", "flushes and is killed", "closes"]),
        is_well=st.booleans(),
    )
    def fork(self, **what: Any) -> None:
        """Fork; the child has an account of its own, and what it makes of the world is told through a pipe."""
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads of other tests
            pid = os.fork()
        if pid == 0:
            os.close(reader)
            self.live_as_child(writer, **what)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            outcome = pickle.loads(told.read())
        os.waitpid(pid, 0)
        assert not isinstance(outcome, str), outcome
        self.books, self.collector.stored, self.collector.settled, self.collector.refusable = outcome

    def live_as_child(self, writer: int, **what: Any) -> None:
        """The whole life of a child."""
        try:
            self.do_as_child(**what)
            collector = self.collector
            outcome: object = (self.books, collector.stored, collector.settled, collector.refusable)
        except BaseException:
            outcome = traceback.format_exc()
        with os.fdopen(writer, "wb") as told:
            told.write(pickle.dumps(outcome))
        os._exit(0)

    def do_as_child(self, name: str, count: int, end: str, is_well: bool) -> None:
        """Begin with nothing, track, and end, perhaps with a collector that has recovered."""
        if is_well:
            self.collector.be_healthy()
        before = self.life
        self.life = Life(before.clients, list(before.closed), in_trouble=before.in_trouble)
        self.collector.told.clear()
        self.collector.not_before = 0.0
        stats = self.client.stats()
        assert (stats.accepted, stats.adopted, stats.pending, stats.spooled) == (0, 0, 0, 0)
        self.balances()
        with disk_with_room_for(self.room):
            tracked = [self.track_one(self.client, name) for _ in range(count)]
        for tracked_one in tracked:
            self.note_event(*tracked_one)
        self.balances()
        if end == "closes":
            while not self.life.is_over:
                self.close(1.0)
        elif end == "flushes and is killed":
            with disk_with_room_for(self.room):
                self.client.flush(5.0)
        self.balances()
        self.lose_memory()

    # The disk

    @precondition(lambda self: self.has_spool)
    @rule(room=st.sampled_from([10, 100, 700, None]))
    def disk_fills(self, room: int | None) -> None:
        """Have the disk take no more, or again."""
        self.room = room
        self.life.in_trouble = True

    @precondition(lambda self: self.has_spool)
    @rule()
    def somebody_cleans_up(self) -> None:
        """Remove the spool under the feet of whoever uses it."""
        self.books.lost |= self.outstanding if self.life.is_over else self.outstanding - self.life.keys
        self.books.at_risk |= self.own
        self.life.in_trouble = True
        shutil.rmtree(self.spool, ignore_errors=True)

    @precondition(lambda self: self.has_spool)
    @rule(is_torn=st.booleans(), place=st.floats(0, 1))
    def disk_rots(self, is_torn: bool, place: float) -> None:
        """Tear or change a segment that nobody has open."""
        mine = {path for _, path in open_in(self.spool)}
        others = [path for path in sorted(self.spool.glob("*.spool")) if str(path) not in mine]
        for path in others[:1]:
            self.has_rotted = True
            content = path.read_bytes()
            rotten = rot(content, place, is_torn=is_torn)
            path.write_bytes(rotten)
            self.books.lost |= set(lines_of(content)) - set(lines_of(rotten))

    # What holds at any moment

    @invariant()
    def balances(self) -> None:
        """The account adds up, and agrees with what host, collector and disk know."""
        stats = self.life.clients[0].stats()
        assert_balanced(stats)
        assert all(client.stats() == stats for client in self.life.clients)
        assert stats.accepted - stats.adopted == len(self.life.keys)
        assert sum(stats.refused.values()) == self.life.refused
        assert +self.life.dropped == +(Counter(stats.dropped) + Counter(stats.refused))
        self.agrees_with_collector(stats)
        self.agrees_with_disk(stats)

    def agrees_with_collector(self, stats: Stats) -> None:
        """What it said is booked as it said, and it has stored nothing that nobody tracked."""
        told = self.collector.told
        assert (stats.delivered, stats.duplicate, stats.rejected) == (
            told["accepted"], told["duplicates"], told["rejected"])  # fmt: skip
        assert self.life.rejects == stats.rejected + stats.dropped.get("refused", 0)
        assert not self.collector.was_pressed
        assert self.collector.stored <= self.books.accepted
        assert self.books.given_up <= self.collector.settled | self.collector.refusable

    def agrees_with_disk(self, stats: Stats) -> None:
        """Each record waits in memory or on disk; with a spool for every record, all are on disk."""
        assert self.life.is_over or len(self.own) <= stats.pending + stats.spooled
        assert self.has_rotted or not stats.dropped.get("damaged")
        if self.survives_kills:
            assert self.outstanding <= keys_on_disk(self.spool) | self.books.at_risk | self.books.lost

    def teardown(self) -> None:
        """In the end all is delivered but for what is counted."""
        try:
            if hasattr(self, "life"):
                self.end_well()
        finally:
            self.stack.close()

    def end_well(self) -> None:
        """Close; a last process then adopts what is left, with a collector in good health."""
        while not self.life.is_over:
            self.close(0.5)
        self.balances()
        self.room = None
        self.begin()
        self.collector_recovers()
        self.flush(40.0)
        self.close(1.0)
        self.balances()
        assert self.books.accepted - self.collector.stored - self.collector.settled - self.books.given_up <= (
            self.books.lost
        )


class InMemory(Host):
    """A host without a spool."""

    options: ClassVar = {"max_buffer_events": 20, "max_buffer_bytes": 5000}


class WriteAhead(Host):
    """A host with a spool for every record, and room enough."""

    has_spool = survives_kills = True


class WriteAheadInWindows(WriteAhead):
    """The same, with a window for every segment from its first record on."""

    options: ClassVar = {"max_spool_bytes": 256 * 1024}
    few = 0


class Overflow(Host):
    """A host with a spool for what memory has no room for, and little of both."""

    options: ClassVar = {"spool_mode": "overflow", "max_spool_bytes": 6000, **TINY}
    has_spool = True


class WriteAheadInStraits(Host):
    """A host with a spool for every record, and little room in memory and on disk."""

    options: ClassVar = {"max_spool_bytes": 6000, **TINY}
    has_spool = True


HOSTS = [InMemory, WriteAhead, WriteAheadInWindows, Overflow, WriteAheadInStraits]
CHECKS = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What the SDK would log of a thousand troubles is of no interest."""
    logger = logging.getLogger("analytics_sdk")
    before, logger.disabled = logger.disabled, True
    yield
    logger.disabled = before
    gc.collect()


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> Iterator[type[Host]]:
    """A kind of host."""
    with mock.patch.object(_segment, "_FEW", request.param.few):
        yield request.param


def test_the_account_balances_whatever_happens(host: type[Host], tmp_path: Path) -> None:
    """After each of any row of calls, failures, forks, kills and repairs the account adds up, and nothing is lost."""
    run_state_machine_as_test(
        functools.partial(host, tmp_path),
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=CHECKS,
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_account_balances_in_the_long_run(host: type[Host], tmp_path: Path) -> None:
    """The same with many and longer rows, other ones each night."""
    run_state_machine_as_test(
        functools.partial(host, tmp_path),
        settings=settings(
            max_examples=1000,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=CHECKS,
            database=None,
        ),
    )


SHORT = {"flush_interval": 0.001, "retry_cap": 0.005, "read_timeout": 0.1}
LASTING = {"503 in seconds", "429 with a date"}


def test_the_account_balances_beside_a_busy_thread(host: type[Host], tmp_path: Path) -> None:
    """While threads track, the worker sends, much fails and children are forked, every look adds up; all arrives."""
    collector = FakeCollector(Clock())
    collector.patience = False
    chance = random.Random(7)
    collector.plan.extend(chance.choices(sorted(MISBEHAVIOURS.keys() - LASTING), k=200))
    spool = {"spool": str(tmp_path)} if host.has_spool else {}
    transport = _transport.HttpTransport(URL, "k", http=httpx.MockTransport(collector))
    client = Client(URL, transport=transport, **(COMMON | BATCHES | host.options | spool | SHORT))
    with ThreadPoolExecutor(4) as pool:
        tracking = [pool.submit(track_many, client, seed) for seed in range(4)]
        while not all(done.done() for done in tracking):
            client.flush(0.01)
            assert_balanced(client.stats())
            check_in_child(client)
    ids = {("event", event_id) for done in tracking for event_id in done.result()}
    collector.be_healthy()
    wait_until(lambda: client.flush(1).pending + client.stats().spooled == 0, what="the delivery of all")
    client.close()
    assert_settled(client.stats(), collector, ids)


def track_many(client: Client, seed: int) -> list[str]:
    """Track what a visitor may cause; the ids of what was accepted."""
    chance = random.Random(seed)
    made = [client.track(*EVENTS[chance.choice(sorted(EVENTS))]) for _ in range(300)]
    return [event_id for event_id in made if event_id is not None]


def check_in_child(client: Client) -> None:
    """A child that was forked in the midst of it has an account of its own, and can close."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            client.close(0.0)
            assert client.stats().accepted == 0
            status = 0
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def assert_settled(stats: Stats, collector: FakeCollector, ids: set[Key]) -> None:
    """Nothing waits, and what was accepted is stored, set aside or refused, each once."""
    assert_balanced(stats)
    assert stats.accepted == len(ids)
    assert stats.delivered == collector.told["accepted"]
    assert (stats.duplicate, stats.rejected) == (collector.told["duplicates"], collector.told["rejected"])
    assert stats.dropped.keys() <= {"refused"}
    assert collector.settled <= ids
    assert len(ids - collector.settled) == stats.dropped.get("refused", 0)
