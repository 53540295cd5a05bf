"""One run of one scenario: hosts are started, something befalls them, and the books are compared."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import psycopg
import pytest

from tests.conftest import WRITE_KEY
from tests.delivery.ledger import Verdict, compare
from tests.programs import ROOT

QUICK = 300  # events of a run in the default tests
FULL = 10_000  # events of a run in the nox session `delivery`
PATIENCE = 90  # seconds that anything may take before the test fails


@attrs.frozen
class Size:
    """How large a run is.

    Attributes:
        count: Events.
        run: 0 is the quick one; the full ones count from 1, and vary the moment of the fault.
        fault: Seconds that a fault lasts.
    """

    count: int
    run: int

    @property
    def delay(self) -> float:
        """Seconds between the last `track()` and a kill: each run meets the worker at another moment."""
        return self.run * 0.02


def sizes(runs: int = 5) -> pytest.MarkDecorator:
    """Give a test its `size`: one quick run by default, and so many full ones in the session `delivery`."""
    quick = pytest.param(Size(QUICK, 0), id="quick")
    full = [pytest.param(Size(FULL, run), id=f"full-{run}", marks=pytest.mark.slow) for run in range(1, runs + 1)]
    return pytest.mark.parametrize("size", [quick, *full])


@attrs.define
class Trial:
    """A folder for what the hosts write, an event type of its own, and perhaps a spool.

    Attributes:
        url: Where the hosts send to.
        spool: Their spool's folder, or None.
        environ: Further settings of the hosts.
    """

    folder: Path
    url: str
    size: Size
    connection: psycopg.Connection
    spool: Path | None = None
    environ: Mapping[str, str] = attrs.field(factory=dict)
    # Rows of an earlier run may still be on their way when this one begins, as its host was killed.
    kind: str = attrs.field(factory=lambda: f"run {uuid.uuid4().hex}")

    def settings(self) -> dict[str, str]:
        """The environment of a host."""
        ours = {
            "ANALYTICS_URL": self.url,
            "ANALYTICS_WRITE_KEY": WRITE_KEY,
            "ANALYTICS_MAX_BATCH_EVENTS": str(max(1, self.size.count // 20)),
            "ANALYTICS_RETRY_CAP": "0.5",
            "DELIVERY_IDS": str(self.folder / "ids"),
            "DELIVERY_ACCOUNTS": str(self.folder / "accounts"),
            "DELIVERY_KIND": self.kind,
        }
        return {**os.environ, **ours, **({"ANALYTICS_SPOOL": str(self.spool)} if self.spool else {}), **self.environ}

    @contextlib.contextmanager
    def host(self, ending: str, count: int | None = None, *before: str, **environ: str) -> Iterator[Host]:
        """Start a host (tests/delivery/host.py); it is killed at the end of the block if it still runs.

        Args:
            ending: What it comes to.
            count: Events; all of the run's if left out.
            before: A command that runs it.
            environ: Settings of this host only.
        """
        command = [*before, sys.executable, "-m", "tests.delivery.host", ending, str(count or self.size.count)]
        with (
            (self.folder / "log").open("ab") as log,
            subprocess.Popen(
                command,
                cwd=ROOT,
                env={**self.settings(), **environ},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            ) as process,
        ):
            try:
                yield Host(process)
            finally:
                process.kill()

    def run(self, ending: str, count: int | None = None, *before: str, **environ: str) -> int:
        """Start a host that ends by itself; returns its exit code."""
        with self.host(ending, count, *before, **environ) as host:
            return host.end()

    def adopt(self) -> None:
        """Let one plain new process deliver what the dead have left in the spool."""
        assert self.run("adopt", PATIENCE // 2) == 0, self.log

    @property
    def log(self) -> str:
        """What all hosts have written to stderr."""
        return (self.folder / "log").read_text()

    def verdict(self) -> Verdict:
        """Compare the books."""
        return compare(self.folder, self.connection, self.kind)


@attrs.frozen
class Host:
    """A host that runs."""

    process: subprocess.Popen[bytes]

    def wait_until_tracked(self) -> None:
        """Return once it has tracked everything, and written it down."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"READY\n"

    def signal(self, signum: int) -> None:
        """Send it a signal."""
        self.process.send_signal(signum)

    def kill(self) -> None:
        """End it by kill -9, and wait until the kernel has let go of its files and locks."""
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait until it has ended by itself, or by a signal; returns its exit code."""
        return self.process.wait(PATIENCE)

    def end(self) -> int:
        """Tell it to end, if it waits for that; returns its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.wait()
