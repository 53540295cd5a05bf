"""Start a Postgres, or join the one that runs."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import psycopg

from analytics_collector.exceptions import EmbeddedPostgresError

from ._account import LOCK_NAME, account_for, default_data_dir, prepare_data_dir
from ._binaries import checked, find_binaries, usable
from ._cluster import cluster_of, ensure_cluster
from ._lock import Lock
from ._postmaster import Launcher, end, is_ready
from ._socket import SocketFolder, answers, dsn_of, end_orphan

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self


_PAUSE = 0.03  # seconds between two looks at somebody else's server


@attrs.frozen(eq=False)
class Server:
    """A running Postgres, as its owner or as one who joined."""

    #: For psycopg.connect(): superuser postgres, database postgres.
    dsn: str
    #: Database files, socket, log and lock.
    data_dir: Path
    #: Such as "18.6".
    version: str
    _socket_dir: str = attrs.field(repr=False)
    #: The owner's: the process, and all there is to undo.
    _process: subprocess.Popen[bytes] | None = attrs.field(repr=False)
    _undo: contextlib.ExitStack = attrs.field(repr=False)
    #: A forked child has this object too, but does not own the server.
    _pid: int = attrs.field(init=False, repr=False, factory=os.getpid)

    @property
    def owner(self) -> bool:
        """Whether the server ends with this object."""
        return self._process is not None and os.getpid() == self._pid

    def alive(self) -> bool:
        """Whether the server still runs: an owner that sees it gone should end as well."""
        if self._process is not None and self.owner:
            return self._process.poll() is None
        return answers(self._socket_dir)

    def stop(self) -> None:
        """End the server if this process owns it; from a joiner or a forked child it changes nothing."""
        if self.owner:
            atexit.unregister(self.stop)
            self._undo.close()

    def kill(self) -> None:
        """End the server's first process by kill -9, if this process owns it; its others notice and end as well.

        `start()` on the same folder brings it back, for trials of what outlives that.
        """
        if self.owner and self._process is not None:
            self._process.kill()
            self._process.wait()
            self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(
    data_dir: Path | str | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    bin_dir: Path | str | None = None,
    patience: float = 60.0,
) -> Server:
    """Start a Postgres on a data directory, or join the one that another process runs there.

    Args:
        data_dir: The folder; made if missing. By default `default_data_dir()`.
        settings: Settings of Postgres, such as {"shared_buffers": "256MB"}; they count for the owner only.
        bin_dir: The folder of Postgres's programs. By default `find_binaries()`.
        patience: Seconds to wait until it answers: recovery after a crash may take a while.

    Raises:
        EmbeddedPostgresError: It did not start; the message says why and what to do.
    """
    if sys.platform == "win32":
        raise EmbeddedPostgresError(
            "The embedded Postgres needs Linux or macOS. Set ANALYTICS_DATABASE_URL to a Postgres that runs."
        )
    home = Path(data_dir or default_data_dir()).expanduser().resolve()
    programs = Path(bin_dir) if bin_dir else None
    try:
        return _start(home, settings or {}, programs, time.monotonic() + patience)
    except (OSError, psycopg.Error) as error:
        raise EmbeddedPostgresError(f"Postgres did not start on {home}: {error}") from error


def _start(home: Path, settings: Mapping[str, str], programs: Path | None, deadline: float) -> Server:
    account = account_for(home)
    prepare_data_dir(home, account)
    with contextlib.ExitStack() as undo:
        lock = Lock(home / LOCK_NAME, account)
        undo.callback(lock.release)
        joined = _join_unless_free(home, lock, deadline)
        if joined:
            return joined
        folder = checked(programs, "bin_dir") if programs else find_binaries()
        lock.withdraw()
        end_orphan(home, lock.last, deadline)
        binaries = usable(folder, account, home)
        cluster = ensure_cluster(home, binaries, account)
        socket_folder = SocketFolder.choose(home, account)
        undo.callback(socket_folder.remove)
        undo.callback(lock.withdraw)
        # Before the launch, so that whoever comes after a crash of ours finds the server.
        lock.announce(socket_folder.path)
        process = Launcher(binaries, cluster, socket_folder, settings, account).run(deadline)
        undo.callback(end, process)
        server = _connected(home, socket_folder.path, process, undo)
    atexit.register(server.stop)
    return server


def _join_unless_free(home: Path, lock: Lock, deadline: float) -> Server | None:
    """Take the lock and return None, or return the server of the process that holds it."""
    while not lock.take():
        server = _find(home, lock)
        # An owner that ended in the meantime takes its server along.
        if server and not lock.take():
            return server
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(
                f"Another process owns {home}, and its Postgres does not answer: end that process."
            )
        time.sleep(_PAUSE)
    return None


def _find(home: Path, lock: Lock) -> Server | None:
    """Return the owner's server, or None as long as it is not ready."""
    folder = lock.announced
    if folder and is_ready(cluster_of(home)):
        with contextlib.suppress(psycopg.OperationalError):
            return _connected(home, folder)
    return None


def _connected(
    home: Path,
    folder: str,
    process: subprocess.Popen[bytes] | None = None,
    undo: contextlib.ExitStack | None = None,
) -> Server:
    """Return the server that answers in a folder, which it shows by taking a connection."""
    dsn = dsn_of(folder)
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        number = connection.info.server_version
    version = f"{number // 10000}.{number % 10000}"
    undo = undo.pop_all() if undo else contextlib.ExitStack()
    return Server(dsn=dsn, data_dir=home, version=version, socket_dir=folder, process=process, undo=undo)
