"""A Postgres to which something happens."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import psycopg
import pytest

from analytics_collector import embedded
from tests.collector.operating import workers_of
from tests.programs import wait_until


@attrs.define
class OwnPostgres:
    """A Postgres that a test may stop, start and crash; its DSN stays the same."""

    server: embedded.Server
    settings: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def dsn(self) -> str:
        """For psycopg.connect()."""
        return self.server.dsn

    def start_again(self) -> None:
        """Start it on the same files."""
        self.server = embedded.start(self.server.data_dir, settings=self.settings)

    def answers(self) -> bool:
        """Whether it takes connections."""
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn):
            return True
        return False

    def crash(self) -> None:
        """Kill the process that serves a connection of ours: Postgres ends all others and starts over."""
        with contextlib.closing(psycopg.connect(self.dsn)) as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                wait_until(lambda: connection.execute("SELECT 1") is None, what="the crash")
        wait_until(self.answers, what="the recovery")


@contextlib.contextmanager
def stopped(server: embedded.Server) -> Iterator[None]:
    """Stop Postgres with all its processes, as a machine that swaps or a frozen container does."""
    with psycopg.connect(server.dsn) as connection:
        (path,) = connection.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone() or ()
    postmaster = int((Path(path) / "postmaster.pid").read_text().splitlines()[0])
    stopped: list[int] = []
    try:
        os.kill(postmaster, signal.SIGSTOP)  # first, as it makes no others then
        stopped.append(postmaster)
        for pid in workers_of(postmaster):
            with contextlib.suppress(ProcessLookupError):  # one may be ending: ours from above, for instance
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
        yield
    finally:
        for pid in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
