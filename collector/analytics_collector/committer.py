"""Commits batches: all of one in a transaction, and only what Postgres itself refuses is left out."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import psycopg

from . import users, writer
from .batch import Batch, Item, Reject, refuse, user_ids
from .db import Connection, Database, fault_of
from .records import stored_user_id


@attrs.frozen
class Verdict:
    """What became of a batch: accepted, duplicates and rejected add up to its records.

    Attributes:
        accepted: Events stored now for the first time, and session and user records applied.
        duplicates: Events that were stored before.
        rejected: Records kept in `analytics_reject`, each with its reason.
    """

    accepted: int = 0
    duplicates: int = 0
    rejected: tuple[Reject, ...] = ()

    def __add__(self, other: Verdict) -> Verdict:
        """The verdict on two batches together."""
        return Verdict(
            self.accepted + other.accepted,
            self.duplicates + other.duplicates,
            self.rejected + other.rejected,
        )


class Committer:
    """Puts batches into Postgres; when `commit` returns they are there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit(self, batch: Batch, key_name: str) -> Verdict:
        """Store a batch, in one transaction unless Postgres refuses a record of it.

        Args:
            batch: Judged records; those refused already are kept too.
            key_name: Whose records these are.

        Raises:
            UnavailableError: Postgres is away. Sending the same batch again stores nothing twice.
        """
        try:
            return self._store(batch.items, batch.rejects, key_name)
        except psycopg.Error as error:
            if fault_of(error) != "refused":
                raise
        known, strangers = self._tell_strangers(batch.items)
        return self._store((), (*batch.rejects, *strangers), key_name) + self._bisect(known, key_name)

    def _store(self, items: Sequence[Item], rejects: Sequence[Reject], key_name: str) -> Verdict:
        def work(connection: Connection) -> int:
            writer.write_rejects(connection, rejects, key_name)
            return writer.write(connection, items, users.number(connection, user_ids(items)))

        new = self._database.run(work)
        events = sum(item.kind == "event" for item in items)
        return Verdict(new + len(items) - events, events - new, tuple(rejects))

    def _bisect(self, items: Sequence[Item], key_name: str) -> Verdict:
        """Store all that Postgres takes; halves that it refuses are halved again."""
        try:
            return self._store(items, (), key_name)
        except psycopg.Error as error:
            if fault_of(error) != "refused":
                raise
            if len(items) == 1:
                reject = refuse(items[0], "database_refused", str(error).partition("\n")[0])
                return self._store((), (reject,), key_name)
        middle = len(items) // 2
        return self._bisect(items[:middle], key_name) + self._bisect(items[middle:], key_name)

    def _tell_strangers(self, items: Sequence[Item]) -> tuple[list[Item], list[Reject]]:
        """Set sessions and events of users that the app does not have aside, all at once; traits may come first."""
        strangers = self._database.run(lambda connection: users.strangers(connection, user_ids(items)))
        known: list[Item] = []
        rejects: list[Reject] = []
        for item in items:
            user_id = item.record.user_id
            if item.kind != "user" and user_id is not None and stored_user_id(user_id) in strangers:
                rejects.append(refuse(item, "unknown_user", f"the app's user table has no user {user_id}"))
            else:
                known.append(item)
        return known, rejects
