"""What a running collector may do in the database: a role of its own, apart from the one that migrates."""

from __future__ import annotations

from psycopg import sql as composed

from .db import Connection
from .exceptions import MigrationError
from .sql import load


def grant(connection: Connection, role: str) -> None:
    """Give a role what a collector needs, and nothing else.

    Args:
        connection: A plain one of the tables' owner, autocommitting.
        role: For instance "collector"; it exists and may log in.

    Raises:
        MigrationError: There is no such role.
    """
    facts = connection.execute(load("roles.facts"), {"role": role}).fetchone()
    if facts is None:
        raise MigrationError(f"There is no role {role}; make it first: CREATE ROLE {role} LOGIN PASSWORD '...'.")
    schema, has_users = facts
    names = {"role": composed.Identifier(role), "schema": composed.Identifier(schema)}
    with connection.transaction():
        for name in ("roles.grant", "roles.grant_users")[: 1 + has_users]:
            connection.execute(composed.SQL(load(name)).format(**names))
