"""What was accepted against what is in Postgres: the comparison that every proof ends with.

An id counts as accepted once `track()` has returned it. A process that got as far as its last account has reported
what it could not deliver; one that was killed has not, and then only a spool can help.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import msgspec
import psycopg

LOSS = re.compile(r"(\d+) records (?:could not be sent within|were sent, and no answer came)")


@attrs.frozen
class Account:
    """What `stats()` said in a process at one moment.

    Attributes:
        when: "tracked" after the last `track()`, "end" after all exit handlers.
        at: Seconds on the clock of `time.monotonic()`.
    """

    pid: int
    when: str
    at: float
    stats: dict[str, Any]

    @property
    def reported(self) -> int:
        """Records that this process says it could not deliver, at its end; it has none that wait any more."""
        assert self.stats["pending"] == 0, self
        return int(sum(self.stats["dropped"].values()))

    @property
    def is_balanced(self) -> bool:
        """Whether every accepted record is in exactly one place."""
        stats = self.stats
        places = ("delivered", "duplicate", "rejected", "pending", "spooled")
        return bool(stats["accepted"] == sum(stats[place] for place in places) + sum(stats["dropped"].values()))


@attrs.frozen
class Verdict:
    """The comparison.

    Attributes:
        accepted: Which process was given each id.
        stored: How many rows have each id.
        accounts: In the order in which they were written.
        logged: Records that the log says were lost, or may have been.
    """

    accepted: dict[str, int]
    stored: Counter[str]
    accounts: list[Account]
    logged: int

    @property
    def lost(self) -> set[str]:
        """Accepted and not in Postgres."""
        return self.accepted.keys() - self.stored.keys()

    @property
    def duplicated(self) -> set[str]:
        """In Postgres more than once."""
        return {event_id for event_id, count in self.stored.items() if count > 1}

    @property
    def unwritten(self) -> set[str]:
        """In Postgres, though no process wrote the id down: it was killed between `track()` and that."""
        return self.stored.keys() - self.accepted.keys()

    @property
    def last(self) -> dict[int, Account]:
        """The last account of each process that came to its end."""
        return {account.pid: account for account in self.accounts if account.when == "end"}

    def assert_books_balance(self, kills: int = 0) -> None:
        """Nothing is stored twice, nothing came from nowhere, and every account balances.

        Args:
            kills: How many processes were killed while they tracked.
        """
        assert not self.duplicated
        assert len(self.unwritten) <= kills
        assert [account for account in self.accounts if not account.is_balanced] == []
        tracked = Counter(self.accepted.values())
        for account in self.last.values():
            assert account.stats["accepted"] - account.stats["adopted"] == tracked[account.pid], account

    def assert_nothing_lost(self, count: int | None = None, kills: int = 0) -> None:
        """Every accepted id is in Postgres once.

        Args:
            count: How many must have been accepted.
            kills: How many processes were killed while they tracked.
        """
        assert len(self.accepted) == count or count is None
        assert len(self.lost) == 0, f"{len(self.lost)} of {len(self.accepted)} are lost; {self.accounts}"
        self.assert_books_balance(kills)

    def assert_losses_reported(self, count: int, *, exactly: bool = True) -> None:
        """Of each process that came to its end, as many ids are missing as it has reported.

        Args:
            count: How many must have been accepted.
            exactly: False if the collector stored what it did not acknowledge: what was reported as unanswered may
                then have arrived.
        """
        assert len(self.accepted) == count
        missing = Counter(self.accepted[event_id] for event_id in self.lost)
        for pid, account in self.last.items():
            unknown = 0 if exactly else account.stats["dropped"].get("unanswered", 0)
            assert account.reported - unknown <= missing[pid] <= account.reported, account
        assert self.logged == sum(account.reported for account in self.last.values())
        self.assert_books_balance()


def compare(folder: Path, connection: psycopg.Connection, kind: str) -> Verdict:
    """Compare what the processes wrote down in a folder with the rows of an event type."""
    ids, accounts, log = (_lines(folder / name) for name in ("ids", "accounts", "log"))
    rows = connection.execute(
        "SELECT event_id::text, count(*) FROM analytics_event WHERE event_type = %s GROUP BY event_id", [kind]
    )
    return Verdict(
        accepted={event_id: int(pid) for pid, event_id in map(str.split, ids)},
        stored=Counter(dict(rows.fetchall())),
        accounts=[msgspec.json.decode(line, type=Account) for line in accounts],
        logged=sum(int(count) for line in log for count in LOSS.findall(line)),
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
