"""One trial: everything is started, senders send, things fail if that is wanted, and the books are compared."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from .. import keys, migrate, web_server
from ..db import connect
from ..exceptions import CollectorError
from ..signals import stop_signals
from . import _sender
from ._diary import Reader
from ._faults import Fault, deal, pause
from ._havoc import Havoc
from ._ledger import Books, Ledger, compare
from ._postgres import Line, OwnPostgres
from ._proxy import Proxy
from ._schema import own_schema

Tell = Callable[[str], None]

_LOOK: Final = 0.1  # seconds between two looks at everything
_NEWS: Final = 1.0  # seconds between two lines about how far it is
_LAST_ANSWERS: Final = _sender.PATIENCE + 15  # seconds until the senders must have ended
_KEY: Final = "selftest"
_SENDER: Final = f"from {_sender.__name__} import main; main()"


@attrs.frozen
class Plan:
    """What to do.

    Attributes:
        seconds: How long to send.
        senders: Processes.
        seed: Of all chance: the same one makes the same batches and the same round of faults.
        chaos: Whether things are to fail.
    """

    seconds: float
    senders: int
    seed: int
    chaos: bool


def run(plan: Plan, dsn: str, tell: Tell) -> Ledger:
    """Try the collector out, and leave nothing behind but a log if it failed.

    Args:
        plan: What to do.
        dsn: The Postgres; empty for one of the trial's own.
        tell: Told how it goes, a line at a time.

    Raises:
        CollectorError: It cannot begin, or was asked to end before its end.
    """
    with stop_signals() as asked_to_end, _folder() as folder, contextlib.ExitStack() as stack:
        postgres = None if dsn else stack.enter_context(_own_postgres(folder, tell))
        tables = stack.enter_context(own_schema(postgres.dsn if postgres else dsn))
        key = _prepare(tables)
        havoc = stack.enter_context(_havoc(plan, tables, postgres, folder))
        senders = stack.enter_context(_senders(plan, havoc.requests.port, key, folder))
        trial = _Trial(plan, havoc, senders, tell, asked_to_end)
        trial.send()
        trial.await_last_answers()
        havoc.web.stop()
        with contextlib.closing(connect(tables, autocommit=True)) as connection:
            ledger = compare(connection, trial.books)
        if not ledger.holds:
            tell(f"What everybody wrote down meanwhile is kept in {_keep(folder)}")
        return ledger


class _Trial:
    """A trial that is under way."""

    def __init__(
        self, plan: Plan, havoc: Havoc, senders: Sequence[_Sender], tell: Tell, asked_to_end: Sequence[int]
    ) -> None:
        self.books = Books()
        self._plan = plan
        self._havoc = havoc
        self._senders = senders
        self._tell = tell
        self._asked_to_end = asked_to_end
        self._began = time.monotonic()
        self._news_at = self._began + _NEWS

    def send(self) -> None:
        """Let the senders send for as long as planned, and make things fail meanwhile."""
        chance, faults = self._havoc.chance, list[Fault]()
        fault_at = self._began + pause(chance) if self._plan.chaos else float("inf")
        while (now := time.monotonic()) < self._began + self._plan.seconds:
            self._look()
            if now >= fault_at:
                faults = faults or deal(chance, self._havoc.possible())
                self._say(self._havoc.do(faults.pop(0)))
                fault_at = time.monotonic() + pause(chance)
        self._havoc.heal()

    def await_last_answers(self) -> None:
        """Ask the senders to end once they have an answer to everything."""
        self._say("waiting for the last answers")
        for sender in self._senders:
            sender.ask_to_end()
        deadline = time.monotonic() + _LAST_ANSWERS
        while any(sender.alive() for sender in self._senders) and time.monotonic() < deadline:
            self._look()
        self._read()
        self._say(f"{self.books.events_answered:,} events were acknowledged; comparing")

    def _look(self) -> None:
        """Wait a moment, and see how far it is.

        Raises:
            CollectorError: Somebody asked us to end, or a sender ended by itself.
        """
        time.sleep(_LOOK)
        if self._asked_to_end:
            raise CollectorError("The trial was asked to end; what it had made is removed.")
        self._read()
        if self.books.failures:
            raise CollectorError(f"The trial cannot go on: {self.books.failures[0]}")
        if time.monotonic() >= self._news_at:
            self._news_at = time.monotonic() + _NEWS
            self._say(f"{self.books.events_sent:,} events sent, {self.books.events_answered:,} acknowledged")

    def _read(self) -> None:
        for number, sender in enumerate(self._senders):
            self.books.enter(number, sender.diary.entries())

    def _say(self, words: str) -> None:
        self._tell(f"{time.monotonic() - self._began:6.1f} s  {words}")


class _Sender:
    """A process that sends, and its diary."""

    def __init__(self, name: str, plan: Plan, port: int, key: str, folder: Path) -> None:
        path = folder / f"{name}.diary"
        self.diary = Reader(path)
        command = ["-c", _SENDER, str(port), name, str(path), "--seed", str(plan.seed)]
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter, no shell
            [sys.executable, *command],
            env={**os.environ, _sender.KEY: key},
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only us
        )

    def ask_to_end(self) -> None:
        """Close its standard input."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it, whatever it is at."""
        self.ask_to_end()
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _own_postgres(folder: Path, tell: Tell) -> Iterator[OwnPostgres]:
    tell("Starting a Postgres of its own ...")
    postgres = OwnPostgres(folder / "postgres")
    try:
        yield postgres
    finally:
        postgres.stop()


@contextlib.contextmanager
def _havoc(plan: Plan, dsn: str, postgres: OwnPostgres | None, folder: Path) -> Iterator[Havoc]:
    """A collector, and lines to and from it that can be cut."""
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(contextlib.closing(Line(dsn)))
        web = stack.enter_context(web_server.running(_environ(os.environ, line.dsn, folder), folder / "collector.log"))
        requests = stack.enter_context(contextlib.closing(Proxy(web.connect)))
        yield Havoc(web, requests, line, postgres, random.Random(plan.seed))


@contextlib.contextmanager
def _senders(plan: Plan, port: int, key: str, folder: Path) -> Iterator[list[_Sender]]:
    with contextlib.ExitStack() as stack:
        senders = []
        for number in range(plan.senders):
            senders.append(_Sender(f"sender {number + 1}", plan, port, key, folder))
            stack.callback(senders[-1].kill)
        yield senders


def _environ(ours: Mapping[str, str], dsn: str, folder: Path) -> dict[str, str]:
    """Without the user's settings of the collector: a tracking plan, for instance, would refuse our events."""
    kept = {name: value for name, value in ours.items() if not name.startswith("ANALYTICS_")}
    settings = {"DATABASE_URL": dsn, "WORKERS": "2", "HOUSEKEEPING_SECONDS": "1"}
    return {**kept, "TMPDIR": str(folder), **{f"ANALYTICS_{name}": value for name, value in settings.items()}}


def _prepare(dsn: str) -> str:
    """Make the tables, and a key."""
    with contextlib.closing(connect(dsn, autocommit=True)) as connection:
        migrate.apply(connection)
        return keys.create(connection, _KEY, "write")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that every user can enter, as Postgres does not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="analytics-selftest-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _keep(folder: Path) -> Path:
    """Copy the log of the collector and the diaries of the senders to where they stay."""
    kept = Path(tempfile.mkdtemp(prefix="analytics-selftest-failed-"))
    for path in [*folder.glob("*.log"), *folder.glob("*.diary")]:
        shutil.copy(path, kept)
    return kept
