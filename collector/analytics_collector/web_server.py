"""gunicorn with our configuration, as a child process on a port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from . import embedded
from .exceptions import CollectorError, ConfigError
from .serve import GUNICORN

_READY_WITHIN: Final = 30.0  # seconds
_STOP_WITHIN: Final = 25.0  # seconds; gunicorn's own grace is 20
_direct: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows our 127.0.0.1


class WebServer:
    """A collector behind gunicorn, which can be started again on the same port.

    Args:
        listener: What it listens on; stays open, so that connections wait while it is away.
        environ: The whole environment of its processes.
        log: The descriptor that they write to; our own standard error if left out.
    """

    def __init__(self, listener: socket.socket, environ: Mapping[str, str], log: int | None = None) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._listener = listener
        self._environ = environ
        self._log = sys.stderr.fileno() if log is None else log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Gunicorn's first process, whose children do the work; 0 before the start."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start gunicorn, from a thread that outlives it."""
        # A session of its own, so that Ctrl-C reaches only us and we stop things in order; and should we be
        # killed, it does not stay behind.
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter, no shell
            [sys.executable, *GUNICORN, "--bind", f"fd://{self._listener.fileno()}", "--log-level", "warning"],
            env=self._environ,
            pass_fds=[self._listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            preexec_fn=embedded.die_with_parent(signal.SIGTERM),
        )

    def connect(self) -> socket.socket:
        """A connection to its port, which waits if gunicorn is away."""
        return socket.create_connection(self._listener.getsockname())

    def alive(self) -> bool:
        """Whether gunicorn runs."""
        return self._process is not None and self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Return once `/readyz` says so.

        Raises:
            CollectorError: It ended, or is not ready after 30 seconds.
        """
        deadline = time.monotonic() + _READY_WITHIN
        while not _answers(f"{self.url}/readyz"):
            if not self.alive():
                raise CollectorError("The collector ended while starting; its log above says why.")
            if time.monotonic() > deadline:
                raise CollectorError(f"The collector is not ready after {_READY_WITHIN:.0f} seconds.")
            time.sleep(0.05)

    def stop(self) -> None:
        """End gunicorn: politely, then firmly."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End gunicorn's first process by kill -9; its workers notice that within a second and end as well."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def kill_all(self) -> None:
        """End every process that gunicorn has left, at once."""
        self.kill()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def listen(port: int) -> socket.socket:
    """Take the port before anything is started: the error is clear, and 0 can be resolved."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"Port {port} cannot be used ({error.strerror}); choose another with --port.") from None
    listener.listen(128)
    return listener


def _answers(url: str) -> bool:
    try:
        with _direct.open(url, timeout=2):  # our own address
            return True
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def running(environ: Mapping[str, str], log: Path) -> Iterator[WebServer]:
    """One on a free port, ready, until the end of the block.

    Args:
        environ: The whole environment of its processes.
        log: The file that they write to, at its end.
    """
    with listen(0) as listener, log.open("ab") as stream:
        web = WebServer(listener, environ, stream.fileno())
        try:
            web.start()
            web.wait_until_ready()
            yield web
        finally:
            web.stop()
            web.kill_all()  # should one that lost its first process to kill -9 still be there
