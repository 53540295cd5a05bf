"""A whole collector in one command: a Postgres of its own, tables, keys, gunicorn. One owner; Ctrl-C ends all."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from . import embedded, keys, migrate
from .db import connect
from .exceptions import CollectorError
from .keys import KeyKind
from .signals import stop_signals
from .web_server import WebServer, listen


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
        listener = stack.enter_context(listen(port))
        server = None
        dsn = environ.get("ANALYTICS_DATABASE_URL", "")
        if not dsn:
            server = stack.enter_context(embedded.start(data))
            dsn = server.dsn
        write_key, read_key = _prepare(dsn, environ)
        web = WebServer(listener, {**environ, "ANALYTICS_DATABASE_URL": dsn})
        stack.callback(web.stop)
        web.start()
        web.wait_until_ready()
        collector = DevCollector(Ready(web.url, write_key, read_key, dsn), web, server)
        # From before anybody is told that it is ready: whoever reads that may ask it to end at once.
        collector.asked_to_end = stack.enter_context(stop_signals())
        yield collector


class DevCollector:
    """A collector that runs, and the processes behind it.

    Attributes:
        asked_to_end: The signals to end that have come.
    """

    def __init__(self, ready: Ready, web: WebServer, server: embedded.Server | None) -> None:
        self.ready = ready
        self.asked_to_end: Sequence[int] = ()
        self._web = web
        self._server = server

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
        return self._web.alive() and (self._server is None or self._server.alive())


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
