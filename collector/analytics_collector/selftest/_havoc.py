"""Makes things fail, one at a time; each deed is told in a few words."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from ..web_server import WebServer
from ._faults import FAULTS, Fault
from ._postgres import Line, OwnPostgres
from ._proxy import Moment, Proxy

_MOST_RESETS: Final = 5


@attrs.frozen
class Havoc:
    """What can be made to fail.

    Attributes:
        web: The collector.
        requests: The line from the senders to it.
        line: The line from it to Postgres.
        postgres: The trial's own, or None: somebody else's is left alone.
        chance: The only source of what is random.
    """

    web: WebServer
    requests: Proxy
    line: Line
    postgres: OwnPostgres | None
    chance: random.Random

    def possible(self) -> frozenset[Fault]:
        """The faults that can be brought about here."""
        impossible: set[Fault] = set()
        if self.postgres is None:
            impossible.add("postgres killed")
        if self.line.is_encrypted:  # nobody sees COMMIT go by
            impossible |= {"commit lost", "commit unanswered"}
        if not Path("/proc/self/stat").exists():
            impossible.add("worker killed")
        return frozenset(FAULTS.keys() - impossible)

    def do(self, fault: Fault) -> str:
        """Make something fail, and put it right again where it would not come back by itself."""
        deeds: dict[Fault, Callable[[], str]] = {
            "request lost": lambda: self._reset("before"),
            "answer lost": lambda: self._reset("after"),
            "commit lost": lambda: self._lose_commit("before"),
            "commit unanswered": lambda: self._lose_commit("after"),
            "connections cut": self._cut,
            "worker killed": self._kill_worker,
            "master killed": self._kill_master,
            "reload": self._reload,
            "postgres killed": self._kill_postgres,
        }
        return deeds[fault]()

    def heal(self) -> None:
        """Have everything run again."""
        if self.postgres is not None and not self.postgres.alive():
            self.postgres.start_again()
        if not self.web.alive():
            self.web.start()

    def _reset(self, moment: Moment) -> str:
        times = self.chance.randint(1, _MOST_RESETS)
        self.requests.reset_next(moment, times)
        return f"{times} requests reset {'before they are' if moment == 'before' else 'once they were'} stored"

    def _lose_commit(self, moment: Moment) -> str:
        self.line.proxy.reset_next(moment, 1)
        return (
            f"connection to Postgres reset {'before COMMIT' if moment == 'before' else 'instead of the answer to it'}"
        )

    def _cut(self) -> str:
        return f"{self.line.proxy.cut()} connections to Postgres cut"

    def _kill_worker(self) -> str:
        workers = children_of(self.web.pid)
        if not workers:
            return "no worker there to be killed"
        worker = self.chance.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        return f"worker {worker} killed by kill -9"

    def _kill_master(self) -> str:
        self.web.kill()
        self.web.start()
        return "gunicorn killed by kill -9, and started again"

    def _reload(self) -> str:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.web.pid, signal.SIGHUP)
        return "workers replaced (SIGHUP)"

    def _kill_postgres(self) -> str:
        if self.postgres is None:
            return "Postgres is not ours"
        self.postgres.kill()
        self.postgres.start_again()
        return "Postgres killed by kill -9, and started again"


def children_of(parent: int) -> list[int]:
    """The processes that a process has started, without those that have ended; Linux only."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, its_parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(its_parent) == parent and state != "Z":
                found.append(int(folder.name))
    return sorted(found)
