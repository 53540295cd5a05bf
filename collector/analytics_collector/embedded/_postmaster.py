"""The server's main process: launched until it is ready, ended with growing force."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from analytics_collector.exceptions import EmbeddedPostgresError

from ._process import launch
from ._socket import PORT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from ._account import Account
    from ._binaries import Binaries
    from ._socket import SocketFolder

_PAUSE = 0.02  # seconds between two looks
_GRACE = 1.0  # seconds during which the pid in postmaster.pid may be a server that is ending
_LOG_LIMIT = 10_000_000  # bytes, above which a new server begins a new log
_TAIL = 4_000  # bytes of the log in an error message

# Postgres's words for "the server before me has not ended yet".
_NOT_YET = re.compile(
    r'lock file ".*" (already exists|is empty)|bogus data in lock file|pre-existing shared memory block'
)

# Fast shutdown, immediate shutdown, kill; and the seconds to wait after each.
_ENDINGS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


@attrs.frozen
class Launcher:
    """All that a launch of the server needs."""

    binaries: Binaries
    cluster: Path
    folder: SocketFolder
    settings: Mapping[str, str]
    account: Account

    def run(self, deadline: float) -> subprocess.Popen[bytes]:
        """Launch the server, again while one that was just killed is still ending, until it is ready.

        Args:
            deadline: When to give up, on the monotonic clock, in seconds.

        Raises:
            EmbeddedPostgresError: It ended for another reason, or was not ready in time.
        """
        grace = time.monotonic() + _GRACE
        while True:
            with _open_log(self.cluster.parent / "postgres.log", self.account) as log:
                start = log.tell()
                process = self._launch(log, trust_pid=time.monotonic() < grace)
                if _becomes_ready(process, self.cluster, deadline):
                    return process
                log.seek(start)
                words = log.read()[-_TAIL:].decode(errors="replace").strip()
            late = time.monotonic() > deadline
            if late or not _NOT_YET.search(words):
                problem = "was not ready in time" if late else "did not start"
                raise EmbeddedPostgresError(f"Postgres {problem}. Its log says:\n{words}")
            time.sleep(_PAUSE)

    def _launch(self, log: BinaryIO, *, trust_pid: bool) -> subprocess.Popen[bytes]:
        self.folder.clear()
        environment = {} if trust_pid else _without_pid(self.cluster)
        return launch(self._command(), self.account, log=log.fileno(), signum=signal.SIGINT, environment=environment)

    def _command(self) -> list[str]:
        return [
            str(self.binaries.folder / "postgres"),
            *("-D", str(self.cluster)),
            *(f"--{name}={value}" for name, value in self.settings.items()),
            # Last, so that no setting opens another way in. Postgres reads a list here, hence the quotes.
            *("-p", str(PORT), "--listen_addresses=", "-k", '"' + self.folder.path.replace('"', '""') + '"'),
        ]


def end(process: subprocess.Popen[bytes]) -> None:
    """End the server: politely, then firmly."""
    for signum, seconds in _ENDINGS:
        process.send_signal(signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def is_ready(cluster: Path) -> bool:
    """Whether the server says that it takes connections; asking by connecting would log each refusal."""
    return _says_ready(_pid_file(cluster))


def _says_ready(lines: list[str]) -> bool:
    return bool(lines) and lines[-1].strip() == "ready"


def _pid_file(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return []


def _without_pid(cluster: Path) -> dict[str, str]:
    """Make Postgres ignore the pid in a postmaster.pid that was left behind: by now it is another program's.

    Only the pid: removing the file would also remove what it says about shared memory, by which Postgres
    notices processes of the old server that still write.
    """
    lines = _pid_file(cluster)
    if lines and re.fullmatch(r"[1-9]\d*", lines[0].strip()):
        # pg_ctl's own means to say "this one is no server".
        return {"PG_GRANDPARENT_PID": lines[0].strip()}
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    return {}


def _becomes_ready(process: subprocess.Popen[bytes], cluster: Path, deadline: float) -> bool:
    """Wait until the server is ready; return False, with the server ended, if that does not come."""
    try:
        while process.poll() is None and time.monotonic() < deadline:
            lines = _pid_file(cluster)  # once: what a crash left behind says "ready", too, until it is replaced
            if lines[:1] == [str(process.pid)] and _says_ready(lines):
                return True
            time.sleep(_PAUSE)
    except BaseException:
        end(process)
        raise
    end(process)
    return False


def _open_log(path: Path, account: Account) -> BinaryIO:
    """Open the log at its end. O_NOFOLLOW: root opens it in a folder that belongs to somebody else."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    account.give(fd)
    log = open(fd, "rb")  # noqa: PTH123, SIM115 - it is a descriptor, and the caller closes it
    if log.seek(0, os.SEEK_END) > _LOG_LIMIT:
        os.ftruncate(fd, 0)
        log.seek(0)
    return log
