"""The server's Unix socket: where it is, and who answers there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from psycopg.conninfo import make_conninfo

from analytics_collector.exceptions import EmbeddedPostgresError

if TYPE_CHECKING:
    from ._account import Account

PORT = 5432
_NAME = f".s.PGSQL.{PORT}"
_LONGEST = 103  # bytes of a socket's path: sun_path has 104 on macOS, 108 on Linux
_SHORT = Path("/tmp")  # noqa: S108 - mkdtemp makes a folder in it that only its owner can enter
_PREFIX = "analytics-postgres-"
_PAUSE = 0.02  # seconds
_TIMEOUT = 2.0  # seconds; connecting blocks when the server's queue is full


@attrs.frozen
class SocketFolder:
    """The folder of the socket: the data directory, or a short one in /tmp."""

    path: str

    @classmethod
    def choose(cls, data_dir: Path, account: Account) -> SocketFolder:
        """Return the data directory if the socket's path is one that the kernel and libpq take."""
        if _is_fit(str(data_dir)):
            return cls(str(data_dir))
        folder = tempfile.mkdtemp(prefix=_prefix(data_dir), dir=_SHORT)
        account.give(Path(folder))
        return cls(folder)

    def belongs_to(self, data_dir: Path) -> bool:
        """Whether `choose` could have returned it: a copied data directory names the original's folder."""
        return self.path == str(data_dir) or self.path.startswith(str(_SHORT / _prefix(data_dir)))

    def clear(self) -> None:
        """Remove what an ended server left: the socket, and its lock file with a pid that may be reused."""
        for name in (_NAME, f"{_NAME}.lock"):
            with contextlib.suppress(OSError):
                Path(self.path, name).unlink()

    def remove(self) -> None:
        """Remove the socket, and the folder if it was made for it."""
        folder = Path(self.path)
        if folder.parent == _SHORT and folder.name.startswith(_PREFIX):
            self.clear()
            with contextlib.suppress(OSError):
                folder.rmdir()


def _prefix(data_dir: Path) -> str:
    return f"{_PREFIX}{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]}-"


def dsn_of(folder: str) -> str:
    """Return what psycopg.connect() takes; the port is named because PGPORT may say otherwise."""
    return make_conninfo(host=folder, port=PORT, user="postgres", dbname="postgres")


def answers(folder: str) -> bool:
    """Whether a process listens on the socket in a folder."""
    with contextlib.suppress(OSError), _connected(folder):
        return True
    return False


def end_orphan(data_dir: Path, last: str, deadline: float) -> None:
    """End a server whose owner has gone, and remove its socket. Call it with the lock held.

    Args:
        data_dir: Where it may listen; also if the folder was moved in the meantime.
        last: Where the last owner said that it listens.
        deadline: When to give up, on the monotonic clock, in seconds.
    """
    _silence(str(data_dir), deadline)
    if SocketFolder(last).belongs_to(data_dir):
        _silence(last, deadline)
        SocketFolder(last).remove()


def _silence(folder: str, deadline: float) -> None:
    while answers(folder):
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(f"A Postgres that nobody owns listens in {folder} and does not end.")
        pid = _listener(folder)
        if pid > 1 and pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        time.sleep(_PAUSE)


def _is_fit(folder: str) -> bool:
    """Whether the kernel takes the socket's path, and libpq finds it: it splits hosts at commas, in UTF-8."""
    path = os.fsencode(folder)
    is_utf8 = path == folder.encode(errors="replace")
    return len(path) + len(f"/{_NAME}") <= _LONGEST and is_utf8 and not set(folder) & {",", "\n"}


def _connected(folder: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(_TIMEOUT)
    try:
        client.connect(os.path.join(folder, _NAME))  # noqa: PTH118 - sockets take no Path
    except BaseException:
        client.close()
        raise
    return client


def _listener(folder: str) -> int:
    """Ask the kernel for the pid that listens, 0 if it does not say; a pid in a file may have been reused."""
    pid = 0
    with contextlib.suppress(OSError), _connected(folder) as client:
        if sys.platform == "linux":
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid = struct.unpack("3i", credentials)[0]
        elif sys.platform == "darwin":
            pid = client.getsockopt(0, 2)  # SOL_LOCAL, LOCAL_PEERPID
    return pid
