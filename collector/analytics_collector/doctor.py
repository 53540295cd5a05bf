"""Looks at what a collector would meet here: Postgres, its own tables, the machine, and the way to it.

`diagnosis` and `door_diagnosis` judge what it finds. Nothing is stored and nothing changed.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import psycopg

from . import diagnosis, door_diagnosis, keys, migrate, partitions
from .config import Settings
from .db import Connection, connect
from .diagnosis import Role, Server, Table
from .door_diagnosis import Answer
from .exceptions import MigrationError, UnavailableError
from .finding import Finding, cleaned
from .sql import load

_PATIENCE: Final = 10  # seconds for each question
_LOCAL: Final = ("localhost", "127.0.0.1", "::1", "")

# What the collector does at run time; migrate, rebuild and the making of partitions are the owner's.
_NEEDS: Final = tuple(
    (relation, privilege)
    for relation, privileges in (
        ("analytics_event", ("SELECT", "INSERT", "UPDATE")),
        ("analytics_session", ("SELECT", "INSERT", "UPDATE")),
        ("analytics_useranalyticsprofile", ("SELECT", "INSERT", "UPDATE")),
        ("analytics_user", ("SELECT", "INSERT", "UPDATE")),
        ("analytics_quota", ("SELECT", "INSERT", "UPDATE")),
        ("analytics_reject", ("SELECT", "INSERT")),
        ("analytics_key", ("SELECT",)),
        ("analytics_migration", ("SELECT",)),
        ("analytics_job", ("SELECT",)),
        ("analytics_known_user", ("SELECT",)),
    )
    for privilege in privileges
)


def examine(settings: Settings, url: str = "") -> list[Finding]:
    """Look at everything.

    Args:
        settings: Those of the collector.
        url: Where it runs, as its senders see it; empty looks at the database only.
    """
    findings = [*_examine_database(settings), *(_examine_door(url.rstrip("/"), settings) if url else ())]
    return [cleaned(finding) for finding in findings]


# The database


def _examine_database(settings: Settings) -> Iterator[Finding]:
    try:
        connection = connect(settings.database_url, autocommit=True)
    except UnavailableError as error:
        yield Finding("fail", "database", error.detail, "does it run? are host, user and password right?")
        return
    with contextlib.closing(connection):
        yield Finding("ok", "database", f"{connection.info.user}@{connection.info.host} answers")
        yield from _examine_server(connection, settings)
        pending = _migrations(connection)
        yield pending
        if pending.status != "fail":
            yield from _examine_tables(connection)
        yield _looked("disk", lambda: _disk(connection))


def _examine_server(connection: Connection, settings: Settings) -> Iterator[Finding]:
    server = _server(connection)
    timeouts = {"lock_timeout": f"{_PATIENCE}s", "statement_timeout": f"{_PATIENCE}s"}
    connection.execute(load("db.session"), timeouts)
    yield diagnosis.judge_version(server)
    yield diagnosis.judge_writable(server)
    yield diagnosis.judge_durability(server)
    yield diagnosis.judge_vacuum(server)
    yield diagnosis.judge_memory(server)
    yield diagnosis.judge_session(server)
    yield diagnosis.judge_connections(server, settings.workers, settings.connections)
    yield diagnosis.judge_clock(_clock_ahead(connection))


def _examine_tables(connection: Connection) -> Iterator[Finding]:
    now = datetime.now(UTC)
    looks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("role", lambda: diagnosis.judge_role(_role(connection))),
        ("partitions", lambda: _partitions(connection, now)),
        ("default rows", lambda: diagnosis.judge_default_rows(_default_months(connection), f"{now:%Y-%m}")),
        ("dead rows", lambda: diagnosis.judge_bloat(_tables(connection), now)),
        ("indexes", lambda: diagnosis.judge_indexes(_column(connection, "doctor.indexes"))),
        ("keys", lambda: diagnosis.judge_keys(keys.listing(connection))),
    )
    for check, look in looks:
        yield _looked(check, look)


def _looked(check: str, look: Callable[[], Finding]) -> Finding:
    """A finding; what Postgres does not let this role see, or not in time, is no reason to see nothing."""
    try:
        return look()
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.QueryCanceled,
        psycopg.errors.LockNotAvailable,
    ) as error:
        return Finding("skip", check, str(error).partition("\n")[0])


def _server(connection: Connection) -> Server:
    row = connection.execute(load("doctor.server"), {"names": list(diagnosis.SETTINGS)}).fetchone()
    assert row is not None
    return Server(*row)


def _clock_ahead(connection: Connection) -> float:
    """By how many seconds our clock is ahead of the database's."""
    asked_at = time.time()
    (theirs,) = connection.execute(load("doctor.clock")).fetchone() or (asked_at,)
    return (asked_at + time.time()) / 2 - float(theirs)


def _migrations(connection: Connection) -> Finding:
    try:
        pending = [migration.name for migration in migrate.pending(connection)]
        return diagnosis.judge_migrations(pending, "", migrate.newer(connection))
    except MigrationError as error:
        return diagnosis.judge_migrations([], str(error))
    except psycopg.errors.InsufficientPrivilege:
        return diagnosis.judge_migrations([], "this role may not read analytics_migration")


def _role(connection: Connection) -> Role:
    row = connection.execute(load("doctor.role")).fetchone()
    assert row is not None
    relations, privileges = zip(*_NEEDS, strict=True)
    missing = _column(connection, "doctor.privileges", relations=list(relations), privileges=list(privileges))
    name, is_superuser, owns_tables = row
    return Role(name, is_superuser, owns_tables, missing)


def _partitions(connection: Connection, now: datetime) -> Finding:
    ahead = range(partitions.MONTHS_AHEAD + 1)
    wanted = [f"analytics_event_{partitions.month_after(now, months):%Y_%m}" for months in ahead]
    return diagnosis.judge_partitions(wanted, _column(connection, "doctor.partitions"))


def _default_months(connection: Connection) -> dict[str, int]:
    return dict(connection.execute(load("doctor.default_months")).fetchall())


def _tables(connection: Connection) -> list[Table]:
    return [Table(*row) for row in connection.execute(load("doctor.tables"))]


def _column(connection: Connection, name: str, **parameters: object) -> list[str]:
    return [row[0] for row in connection.execute(load(name), parameters)]


def _disk(connection: Connection) -> Finding:
    if not (connection.info.host.startswith("/") or connection.info.host in _LOCAL):
        return Finding("skip", "disk", "the database is on another machine")
    (directory,) = connection.execute(load("doctor.directory")).fetchone() or ("",)
    try:
        disk = os.statvfs(directory)
    except OSError as error:
        return Finding("skip", "disk", f"{directory}: {error.strerror}")
    return diagnosis.judge_disk(directory, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)


# The way to a running collector


def _examine_door(url: str, settings: Settings) -> Iterator[Finding]:
    health = _ask(url, "GET", "/healthz")
    collector = door_diagnosis.judge_collector(url, health)
    yield collector
    if collector.status == "fail":
        return
    yield door_diagnosis.judge_readiness(_ask(url, "GET", "/readyz"))
    request_id = f"doctor-{secrets.token_hex(8)}"
    stranger = {"Authorization": f"Bearer {secrets.token_hex(16)}", "X-Request-ID": request_id}
    tried = _ask(url, "POST", "/v1/events", stranger, b"{}")
    yield door_diagnosis.judge_authorization(tried)
    yield door_diagnosis.judge_request_id(request_id, tried)
    limit = settings.max_body_bytes
    yield door_diagnosis.judge_body(limit, _ask(url, "POST", "/v1/events", stranger, b" " * limit))
    yield from door_diagnosis.judge_exposure(url, _ask(url, "GET", "/metrics"))


def _ask(
    url: str, method: str, path: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
) -> Answer:
    """Send one request; whatever goes wrong is an answer, too."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=_PATIENCE)
        with contextlib.closing(connection):
            # Who refuses a large body may answer, and close, before it has been sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, parts.path + path, content, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Answer(error=f"{type(error).__name__}: {error}".removesuffix(": "))
