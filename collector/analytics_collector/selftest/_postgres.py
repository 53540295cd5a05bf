"""The Postgres of a trial: one of its own, which may be killed, or the user's, of which only the line is touched."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .. import embedded
from ..db import connect
from ._proxy import Proxy


class OwnPostgres:
    """A Postgres that ends with the trial, and may be killed in the midst of it.

    Args:
        folder: Where its files are; every user must be able to enter the one above.
        settings: Settings of Postgres.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = settings
        self._server = embedded.start(folder, settings=settings)

    @property
    def dsn(self) -> str:
        """For psycopg.connect()."""
        return self._server.dsn

    def alive(self) -> bool:
        """Whether it runs."""
        return self._server.alive()

    def kill(self) -> None:
        """End its first process by kill -9."""
        self._server.kill()

    def start_again(self) -> None:
        """Start it on the same files.

        Raises:
            EmbeddedPostgresError: It does not start.
        """
        self._server.stop()
        self._server = embedded.start(self._folder, settings=self._settings)

    def stop(self) -> None:
        """End it."""
        self._server.stop()


class Line:
    """A line to Postgres that can be cut; whoever uses `dsn` goes through it.

    Args:
        dsn: The way to Postgres without it.
    """

    def __init__(self, dsn: str) -> None:
        with contextlib.closing(connect(dsn)) as probe:
            host, port = probe.info.hostaddr or probe.info.host, probe.info.port
            self.is_encrypted = bool(probe.pgconn.ssl_in_use)
            password = {"password": probe.info.password} if probe.info.password else {}
            is_local = host.startswith(("/", "@")) or not host
            self.proxy = Proxy(_way_to(host, port), b"COMMIT")
            self.dsn = _detour(dsn, self.proxy.port, host if is_local else probe.info.host, is_local, password)

    def close(self) -> None:
        """Cut it for good."""
        self.proxy.close()


def _way_to(host: str, port: int) -> Callable[[], socket.socket]:
    """Connects as libpq does."""
    if not host.startswith(("/", "@")):
        return lambda: socket.create_connection((host, port), timeout=None)
    path = f"{host}/.s.PGSQL.{port}"

    def connect_locally() -> socket.socket:
        local = socket.socket(socket.AF_UNIX)
        try:
            local.connect(path if path.startswith("/") else f"\0{path[1:]}")
        except OSError:
            local.close()
            raise
        return local

    return connect_locally


def _detour(dsn: str, port: int, host: str, is_local: bool, password: Mapping[str, str]) -> str:
    """The same database by way of a port of ours; a certificate is still checked against the server's name."""
    parameters: dict[str, Any] = {**conninfo_to_dict(dsn), **password, "hostaddr": "127.0.0.1", "port": port}
    if is_local:  # where TLS is not spoken
        return make_conninfo(**{**parameters, "host": "127.0.0.1", "sslmode": "disable"})
    return make_conninfo(**{**parameters, "host": host})
