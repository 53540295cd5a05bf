"""A whole collector in one command: a Postgres of its own, tables, keys, gunicorn. One owner; Ctrl-C ends all."""

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

import attrs

from . import embedded, keys, migrate
from .db import connect
from .exceptions import CollectorError, ConfigError
from .keys import KeyKind
from .serve import GUNICORN

_READY_WITHIN: Final = 30.0  # seconds
_direct: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows our 127.0.0.1
_STOP_WITHIN: Final = 25.0  # seconds; gunicorn's own grace is 20


@attrs.frozen
class Ready:
    """What one needs to use a running collector."""

    url: str
    write_key: str
    read_key: str
    dsn: str


@contextlib.contextmanager
def running(data: Path | None, port: int, environ: Mapping[str, str] = os.environ) -> Iterator[DevCollector]:
    """Start everything, and stop everything at the end of the block.

    Args:
        data: Folder of the Postgres; the user's own if left out.
        port: 0 picks a free one.
        environ: ANALYTICS_DATABASE_URL means that no Postgres is started; ANALYTICS_WRITE_KEY and
            ANALYTICS_READ_KEY are registered if they are set.

    Raises:
        CollectorError: Something cannot start, and why.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(port))
        server = None
        dsn = environ.get("ANALYTICS_DATABASE_URL", "")
        if not dsn:
            server = stack.enter_context(embedded.start(data))
            dsn = server.dsn
        write_key, read_key = _prepare(dsn, environ)
        gunicorn = _start_gunicorn(listener, dsn, environ)
        stack.callback(_stop, gunicorn)
        ready = Ready(f"http://127.0.0.1:{listener.getsockname()[1]}", write_key, read_key, dsn)
        collector = DevCollector(ready, gunicorn, server)
        collector.wait_until_ready()
        # From before anybody is told that it is ready: whoever reads that may ask it to end at once.
        collector.asked_to_end = stack.enter_context(_stop_signals())
        yield collector


class DevCollector:
    """A collector that runs, and the processes behind it.

    Attributes:
        asked_to_end: The signals to end that have come.
    """

    def __init__(self, ready: Ready, gunicorn: subprocess.Popen[bytes], server: embedded.Server | None) -> None:
        self.ready = ready
        self.asked_to_end: Sequence[int] = ()
        self._gunicorn = gunicorn
        self._server = server

    def wait_until_ready(self) -> None:
        """Return once `/readyz` says so.

        Raises:
            CollectorError: It ended, or is not ready after 30 seconds.
        """
        deadline = time.monotonic() + _READY_WITHIN
        while not _answers(f"{self.ready.url}/readyz"):
            if not self._alive():
                raise CollectorError("The collector ended while starting; its log above says why.")
            if time.monotonic() > deadline:
                raise CollectorError(f"The collector is not ready after {_READY_WITHIN:.0f} seconds.")
            time.sleep(0.05)

    def wait(self) -> None:
        """Return when somebody asks this process to end.

        Raises:
            CollectorError: gunicorn or Postgres ended before.
        """
        while not self.asked_to_end:
            if not self._alive():
                raise CollectorError("gunicorn or Postgres ended unexpectedly.")
            time.sleep(0.2)

    def _alive(self) -> bool:
        return self._gunicorn.poll() is None and (self._server is None or self._server.alive())


def _listen(port: int) -> socket.socket:
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


def _prepare(dsn: str, environ: Mapping[str, str]) -> tuple[str, str]:
    with connect(dsn, autocommit=True) as connection:
        migrate.apply(connection)
        made: list[str] = []
        kinds: tuple[KeyKind, KeyKind] = ("write", "read")
        for kind in kinds:
            key = environ.get(f"ANALYTICS_{kind.upper()}_KEY") or keys.new(kind)
            keys.register(connection, f"dev-{kind}", kind, key)
            made.append(key)
    return made[0], made[1]


def _start_gunicorn(listener: socket.socket, dsn: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # A session of its own, so that Ctrl-C reaches only us and we stop things in order; and should we be
    # killed, it does not stay behind.
    return subprocess.Popen(  # noqa: S603  # our own interpreter, no shell
        [sys.executable, *GUNICORN, "--bind", f"fd://{listener.fileno()}", "--log-level", "warning"],
        env={**environ, "ANALYTICS_DATABASE_URL": dsn},
        pass_fds=[listener.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,
        preexec_fn=embedded.die_with_parent(signal.SIGTERM),
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM; the handlers themselves do nothing else."""
    asked: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answers(url: str) -> bool:
    try:
        with _direct.open(url, timeout=2):  # our own address
            return True
    except (urllib.error.URLError, OSError):
        return False
