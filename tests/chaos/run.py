"""The chaos run: hosts with a spool track into a real collector while everything is killed, cut, filled and stepped.

The collector's part of the havoc is the one that `analytics-collector selftest --chaos` makes at its users'.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import psycopg

from analytics_collector import keys, migrate, web_server
from analytics_collector.selftest._faults import Fault, deal
from analytics_collector.selftest._havoc import Havoc
from analytics_collector.selftest._postgres import Line, OwnPostgres
from analytics_collector.selftest._proxy import Proxy
from analytics_collector.web_server import WebServer
from tests.chaos.clock import Clock, build
from tests.chaos.disk import Disk, disk_of
from tests.chaos.verdict import Verdict, compare, traces_of
from tests.programs import ROOT

HOSTS = 4
STEPS = (-300, -5, 0, 0, 60, 2 * 86400)  # seconds that the collector's clock is ahead of the real time
LAST_EVENTS = 600  # seconds in which everything must have arrived once all is well again
WRITE_KEY = "write-key-of-the-chaos-run"
BROKEN_KEY = "write-key-of-broken-records"

Tell = Callable[[str], None]


@attrs.frozen
class Size:
    """How large the run is.

    Attributes:
        events: How many are tracked, at least.
        seconds: In what time, if the machine can.
        seed: Of all chance.
    """

    events: int
    seconds: float
    seed: int

    @property
    def calm(self) -> float:
        """Seconds between two faults, on average: a short run has them close together."""
        return min(2.0, max(0.4, self.seconds / 100))

    @property
    def full(self) -> float:
        """Seconds that the disk stays full once Postgres has noticed."""
        return min(15.0, self.seconds / 15)

    @property
    def disk(self) -> int:
        """Bytes that Postgres has: twice what it needs."""
        return (768 << 20) + self.events * 2000


@attrs.define
class Hosts:
    """The processes that track, each with a clock; one that is killed is started again."""

    folder: Path
    url: str
    size: Size
    library: Path | None
    processes: list[subprocess.Popen[bytes]] = attrs.field(factory=list)
    kills: int = 0
    _counted: int = 0
    _position: int = 0

    @property
    def ids(self) -> Path:
        """The diary of good events."""
        return self.folder / "ids"

    @property
    def bad(self) -> Path:
        """The diary of those that the collector must refuse."""
        return self.folder / "bad"

    def start(self, number: int) -> subprocess.Popen[bytes]:
        """Start one."""
        clock = Clock(self.folder / f"host-{number}.clock", self.library)
        clock.set(0)
        rate = self.size.events / self.size.seconds / HOSTS * 1.1  # what a start costs must be caught up with
        arguments = [str(rate), f"{self.size.seed}-{self.kills}", str(clock.path)]
        with (self.folder / "hosts.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.host", *arguments],
                cwd=ROOT,
                env=self.environ | clock.environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def kill_one(self, chance: random.Random) -> str:
        """Kill -9 one of them, and start another in its place."""
        number = chance.randrange(len(self.processes))
        killed = self.processes[number]
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        self.kills += 1
        self.processes[number] = self.start(number)
        return f"host {killed.pid} killed by kill -9, and another one started"

    def end(self) -> None:
        """Let them end normally, and see to what is left in the spool."""
        for process in self.processes:
            process.communicate(timeout=LAST_EVENTS)
        adopt = [sys.executable, "-m", "tests.delivery.host", "adopt", str(LAST_EVENTS)]
        with (self.folder / "hosts.log").open("ab") as log:
            subprocess.run(adopt, cwd=ROOT, env=self.environ, stdout=log, stderr=log, check=True)

    def kill_all(self) -> None:
        """End those that still run."""
        for process in self.processes:
            process.kill()
            process.communicate()

    def tracked(self) -> int:
        """How many good events they have written down so far."""
        if self.ids.exists():
            with self.ids.open("rb") as file:
                file.seek(self._position)
                new = file.read()
            self._position += len(new)
            self._counted += new.count(b"\n")
        return self._counted

    @property
    def environ(self) -> dict[str, str]:
        """Of every host."""
        settings = {
            "URL": self.url,
            "WRITE_KEY": WRITE_KEY,
            "SPOOL": str(self.folder / "spool"),
            "MAX_SPOOL_BYTES": str(1 << 32),
            "RETRY_CAP": "1",
            "EXIT_TIMEOUT": "20",
        }
        return {
            **os.environ,
            **{f"ANALYTICS_{name}": value for name, value in settings.items()},
            "DELIVERY_IDS": str(self.ids),
            "DELIVERY_ACCOUNTS": str(self.folder / "accounts"),
            "DELIVERY_KIND": "visit",
            "CHAOS_BAD": str(self.bad),
        }


@attrs.define
class Run:
    """One run, from the first event to the comparison."""

    size: Size
    tell: Tell
    folder: Path
    disk: Disk
    hosts: Hosts
    havoc: Havoc
    clock: Clock
    deeds: Counter[str] = attrs.field(factory=Counter)
    broken: int = 0
    _began: float = attrs.field(factory=time.monotonic)

    def go(self) -> None:
        """Start the hosts, and make things fail until all is tracked."""
        chance = self.havoc.chance
        for number in range(HOSTS):
            self.hosts.processes.append(self.hosts.start(number))
        fault_at, news_at, round_of_faults = self._began + 1, self._began, list[Callable[[], str]]()
        while (tracked := self.hosts.tracked()) < self.size.events:
            now = time.monotonic()
            assert now < self._began + 5 * self.size.seconds + 60, "this machine is too slow for so many events"
            if now >= news_at:
                self._say(f"{tracked:,} of {self.size.events:,} events tracked")
                news_at = now + max(1.0, self.size.seconds / 60)
            if now >= fault_at:
                round_of_faults = round_of_faults or self._deal(chance)
                self._say(round_of_faults.pop(0)())
                fault_at = time.monotonic() + chance.uniform(0, 2 * self.size.calm)
            time.sleep(0.05)  # the pace of this loop; what it waits for it looks at
        self._bring_about_what_is_missing()
        self.clock.set(0)
        self.havoc.heal()

    def _deal(self, chance: random.Random) -> list[Callable[[], str]]:
        """A round: the faults of the collector, and ours among them."""
        faults: list[Callable[[], str]] = [self._deed(fault) for fault in deal(chance, self.havoc.possible())]
        ours = [self._kill_host] * len(faults) + [self._step_clock] * 2 + [self._post_broken] * 4
        chance.shuffle(ours)
        for fault in ours:
            faults.insert(chance.randrange(len(faults) + 1), fault)
        if self.disk.is_own and not self.deeds["disk full"]:
            faults.insert(4, self._fill_disk)
        return faults

    def _bring_about_what_is_missing(self) -> None:
        """In a run that was too short for a whole round, the rest of what is promised."""
        for name, deed in {
            "disk full": self._fill_disk,
            "host killed": self._kill_host,
            "broken record": self._post_broken,
            "postgres killed": self._deed("postgres killed"),
            "worker killed": self._deed("worker killed"),
            "master killed": self._deed("master killed"),
        }.items():
            if not self.deeds[name] and (name != "disk full" or self.disk.is_own):
                self._say(deed())

    def _deed(self, fault: Fault) -> Callable[[], str]:
        def do() -> str:
            self.deeds[fault] += 1
            return self.havoc.do(fault)

        return do

    def _kill_host(self) -> str:
        self.deeds["host killed"] += 1
        return self.hosts.kill_one(self.havoc.chance)

    def _step_clock(self) -> str:
        if not self.clock.library:
            return "no C compiler, so no clock is stepped"
        self.deeds["clock stepped"] += 1
        seconds = self.havoc.chance.choice(STEPS)
        self.clock.set(seconds)
        return f"the collector's clock is stepped to {seconds:+} s"

    def _fill_disk(self) -> str:
        """Fill the disk, wait until Postgres has noticed, and give the space back."""
        self.deeds["disk full"] += 1
        filled = self.disk.fill()
        began = time.monotonic()
        noticed = float("inf")
        while time.monotonic() < min(noticed + self.size.full, began + 30):
            time.sleep(0.1)
            if noticed == float("inf") and self._has_noticed():
                noticed = time.monotonic()
                self._use_up_the_journal()
        lasted = time.monotonic() - began
        has_died = self.havoc.postgres is not None and not self.havoc.postgres.alive()
        self.disk.clear()
        self.havoc.heal()
        fate = "ended by itself and was started again" if has_died else "lived on"
        return f"disk full for {lasted:.1f} s (with {filled} MiB on it); Postgres {fate}"

    def _has_noticed(self) -> bool:
        log = (self.disk.path / "postgres" / "postgres.log").read_text(errors="replace")
        return "No space left on device" in log

    def _use_up_the_journal(self) -> None:
        """Make Postgres need room for its journal (WAL), too: without that it cannot go on, and ends or starts over."""
        assert self.havoc.postgres is not None
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(self.havoc.postgres.dsn, autocommit=True) as connection,
        ):
            for _ in range(20):
                connection.execute("SELECT pg_logical_emit_message(false, 'chaos', 'x'), pg_switch_wal()")

    def _post_broken(self) -> str:
        """Post what is no event, twice, until each time is answered 200."""
        self.deeds["broken record"] += 1
        event = {"event_id": str(uuid.uuid4()), "event_type": "broken", "created_at": "yesterday"}
        body = json.dumps({"events": [event]}).encode()
        while not (_post(self.havoc.web, body) and _post(self.havoc.web, body)):
            time.sleep(0.1)
        self.broken += 1
        return "a broken record posted twice"

    def _say(self, words: str) -> None:
        self.tell(f"{time.monotonic() - self._began:6.1f} s  {words}")


def _post(web: WebServer, body: bytes) -> bool:
    """Post a body once; whether it was answered 200."""
    address = web.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        try:
            connection.request("POST", "/v1/events", body, {"Authorization": f"Bearer {BROKEN_KEY}"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


@contextlib.contextmanager
def prepared(size: Size, tell: Tell) -> Iterator[Run]:
    """Start everything but the hosts; end everything after the block."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="analytics-chaos-", dir="/var/tmp")))
        folder.chmod(0o755)
        disk = stack.enter_context(disk_of(size.disk, folder / "disk"))
        postgres = OwnPostgres(disk.path / "postgres", {"max_wal_size": "256MB"})
        stack.callback(lambda: postgres.stop())
        _make_tables(postgres.dsn)
        library = build(folder)
        clock = Clock(folder / "collector.clock", library)
        line = stack.enter_context(contextlib.closing(Line(postgres.dsn)))
        web = stack.enter_context(web_server.running(_environ(line.dsn, folder, clock), folder / "collector.log"))
        requests = stack.enter_context(contextlib.closing(Proxy(web.connect)))
        hosts = Hosts(folder, f"http://127.0.0.1:{requests.port}", size, library)
        stack.callback(hosts.kill_all)
        yield Run(
            size, tell, folder, disk, hosts, Havoc(web, requests, line, postgres, random.Random(size.seed)), clock
        )


def _make_tables(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate.apply(connection)
        keys.register(connection, "hosts", "write", WRITE_KEY)
        keys.register(connection, "broken", "write", BROKEN_KEY)


def _environ(dsn: str, folder: Path, clock: Clock) -> dict[str, str]:
    """That of the collector's processes."""
    settings = {"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_HOUSEKEEPING_SECONDS": "1", "TMPDIR": str(folder)}
    return {**os.environ, **settings, **clock.environ}


def perform(size: Size, tell: Tell) -> Verdict:
    """Do a whole run; returns the comparison."""
    with prepared(size, tell) as run:
        run.go()
        tell("all is well again; waiting for the last events ...")
        run.hosts.end()
        run.havoc.web.stop()
        assert run.havoc.postgres is not None
        tell(f"deeds: {', '.join(f'{name} {count}' for name, count in sorted(run.deeds.items()))}")
        with psycopg.connect(run.havoc.postgres.dsn, autocommit=True) as connection:
            verdict = compare(connection, run.hosts.ids, run.hosts.bad, run.hosts.kills, run.broken)
        logs = "".join((run.folder / f"{name}.log").read_text(errors="replace") for name in ("collector", "hosts"))
        return attrs.evolve(verdict, traces=traces_of(logs))
