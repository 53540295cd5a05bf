"""Brings the database's tables to what this version of the collector needs.

Numbered files, each applied and recorded in one transaction, under an advisory lock: run twice, or by four
processes at once, the second finds nothing left to do.

The first digit of a file's number is the major of the tables. Within a major, migrations only add, so that a version
goes on working on tables that a newer one has migrated: that is what lets versions run side by side in an upgrade.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.resources import files

import attrs
import psycopg
from psycopg import sql as composed

from . import partitions, short_lock
from .db import Connection
from .exceptions import MigrationError
from .sql import load

_FOLDER = "migrations"


@attrs.frozen
class Migration:
    """One numbered file.

    Attributes:
        name: For instance "0001_tables".
        checksum: sha256 of the file, in hexadecimal: an applied file never changes again.
    """

    name: str
    checksum: str


def known() -> list[Migration]:
    """The migrations of this version, in order."""
    folder = files(f"{__package__}.sql") / _FOLDER
    names = sorted(entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [Migration(name, _checksum(_text(name))) for name in names]


def pending(connection: Connection) -> list[Migration]:
    """The migrations that this database lacks.

    Raises:
        MigrationError: An applied file has changed since, or the tables are not of this version's major.
    """
    applied = _applied(connection)
    files_here = {migration.name: migration for migration in known()}
    for name, checksum in applied.items():
        _check_unchanged(name, checksum, files_here)
    return [migration for name, migration in files_here.items() if name not in applied]


def newer(connection: Connection) -> list[str]:
    """Names of the migrations that a newer version has applied here: those that this one does not know."""
    names_here = {migration.name for migration in known()}
    return [name for name in _applied(connection) if name not in names_here]


def apply(connection: Connection, now: datetime | None = None) -> list[Migration]:
    """Apply what is pending, and make the partitions of the coming months; writers wait for a moment at most.

    Args:
        connection: A plain one of the tables' owner, autocommitting.
        now: For the partitions.

    Returns:
        What was applied.

    Raises:
        MigrationError: The database and the files disagree, or tables of these names are there already.
    """
    applied = short_lock.hold(connection, lambda: _apply_pending(connection))
    partitions.make_ahead(connection, now or datetime.now(UTC))
    return applied


def use_user_table(connection: Connection, user_table: str) -> None:
    """Tie users to the app's own table: foreign keys, and the `id` index that its models need.

    Args:
        connection: A plain one of the tables' owner, autocommitting.
        user_table: For instance "auth_user"; its key is `id`.

    Raises:
        MigrationError: There is no such table, rows of ours name users that it does not have, or users are tied to
            another table already.
    """
    statement = composed.SQL(load("migrate.user_table")).format(
        user_table=composed.Identifier(*user_table.split(".")), name=composed.Literal(user_table)
    )
    try:
        with connection.transaction():
            connection.execute(load("migrate.lock"))
            query = connection.execute(load("migrate.user_table_in_use"), {"user_table": user_table})
            in_use, is_same = query.fetchone() or (None, None)
            if in_use is None:
                connection.execute(statement)
            elif not is_same:
                raise MigrationError(f"Users are those of {in_use} already; they cannot be tied to two tables.")
    except psycopg.errors.UndefinedTable:
        raise MigrationError(f"There is no table {user_table}; migrate the app that owns it first.") from None
    except psycopg.errors.ForeignKeyViolation as error:
        raise MigrationError(f"Rows name users that {user_table} does not have: {error.diag.message_detail}") from None


def _apply_pending(connection: Connection) -> list[Migration]:
    connection.execute(load("migrate.lock"))
    _make_table(connection)
    applied = pending(connection)
    for migration in applied:
        _apply_one(connection, migration)
    return applied


def _make_table(connection: Connection) -> None:
    try:
        connection.execute(load("migrate.table"))
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"The role {connection.info.user} may not change the tables ({error.diag.message_primary}). Migrate with"
            " the role that owns them; the collector needs only what `migrate --grant-to ROLE` gives it."
        ) from None


def _apply_one(connection: Connection, migration: Migration) -> None:
    try:
        connection.execute(_text(migration.name).encode())
    except psycopg.errors.DuplicateTable as error:
        raise MigrationError(
            f"{error.diag.message_primary}, but no migration of ours made it. `migrate --adopt` takes over the"
            " tables of an app, with their rows."
        ) from None
    connection.execute(load("migrate.record"), {"name": migration.name, "checksum": migration.checksum})


def _applied(connection: Connection) -> dict[str, str]:
    if connection.execute(load("migrate.exists")).fetchone() == (False,):
        return {}
    return dict(connection.execute(load("migrate.applied")).fetchall())


def _check_unchanged(name: str, checksum: str, files_here: dict[str, Migration]) -> None:
    if name not in files_here:
        if name > max(files_here) and name[0] == max(files_here)[0]:
            return  # of a newer version, and it only adds
        raise MigrationError(f"The database has migration {name}, which this version lacks: it is older. Upgrade it.")
    if files_here[name].checksum != checksum:
        raise MigrationError(
            f"Migration {name} has changed since it was applied to this database. Put the file back as it was, and"
            " make the change in a new one."
        )


def _text(name: str) -> str:
    return load(f"{_FOLDER}/{name}")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
