"""What the doctor makes of the database: pure decisions, facts in, findings out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import attrs

from .finding import Finding, duration, size
from .keys import Key

OLDEST_VERSION: Final = 150_000  # server_version_num of Postgres 15.0
SETTINGS: Final = (
    "autovacuum",
    "default_transaction_read_only",
    "fsync",
    "full_page_writes",
    "max_connections",
    "server_encoding",
    "server_version",
    "shared_buffers",
    "statement_timeout",
    "superuser_reserved_connections",
    "synchronous_commit",
    "TimeZone",
    "track_counts",
)
"""Of the server, as a new session of the role has them."""

_PAGE: Final = 8192  # bytes; the unit of shared_buffers
_SMALLEST_BUFFERS: Final = 128 * 2**20  # bytes; Postgres's own default
_PROBE: Final = 1  # connections of a worker beside its pool, for /readyz
_CLOCK_WARNS: Final = 5.0  # seconds
_CLOCK_FAILS: Final = 600.0  # seconds; what is further ahead of the server is set aside
_MANY_DEAD: Final = 10_000  # rows
_DEAD_SHARE: Final = 0.4  # autovacuum begins at 0.2
_MANY_OLD_ROWS: Final = 1_000_000


@attrs.frozen
class Server:
    """Postgres itself.

    Attributes:
        version: server_version_num.
        settings: By name, as text in Postgres's own units.
        is_standby: It only follows another server.
        connections: How many there are now, of all programs.
    """

    version: int
    settings: Mapping[str, str]
    is_standby: bool
    connections: int

    def number(self, name: str) -> int:
        """A setting that is a number; 0 if it is not known."""
        return int(self.settings.get(name, "0"))


@attrs.frozen
class Role:
    """Whom the collector is to Postgres.

    Attributes:
        owns_tables: It can make partitions.
        missing: Privileges that it lacks, for instance "INSERT on analytics_event".
    """

    name: str
    is_superuser: bool
    owns_tables: bool
    missing: Sequence[str]


@attrs.frozen
class Table:
    """The rows of a table, as Postgres's statistics have them.

    Attributes:
        dead: Rows that have been replaced or deleted and still take room.
        vacuumed_at: None if never.
    """

    name: str
    live: int
    dead: int
    vacuumed_at: datetime | None


# The server


def judge_version(server: Server) -> Finding:
    """Whether Postgres is new enough."""
    told = f"Postgres {server.settings.get('server_version', server.version)}"
    if server.version < OLDEST_VERSION:
        return Finding("fail", "version", f"{told} is too old", "the collector needs 15 or newer: upgrade Postgres")
    return Finding("ok", "version", told)


def judge_writable(server: Server) -> Finding:
    """Whether anything can be stored there at all."""
    if server.is_standby:
        return Finding("fail", "writable", "this is a standby, which only reads", "connect to the primary")
    if server.settings.get("default_transaction_read_only") == "on":
        advice = "ALTER ROLE ... RESET default_transaction_read_only, or the same for the database"
        return Finding("fail", "writable", "transactions are read-only by default", advice)
    if (encoding := server.settings.get("server_encoding", "")) != "UTF8":
        advice = "make the database anew with ENCODING 'UTF8': other encodings cannot store every event"
        return Finding("fail", "writable", f"the database is encoded in {encoding}", advice)
    return Finding("ok", "writable", "a primary, encoded in UTF8")


def judge_durability(server: Server) -> Finding:
    """Whether what was answered 200 is there after a power cut."""
    off = [name for name in ("fsync", "full_page_writes") if server.settings.get(name) == "off"]
    if off:
        advice = "ALTER SYSTEM RESET it and reload: a crash can cost the whole database"
        return Finding("fail", "durability", f"{' and '.join(off)} is off", advice)
    if server.settings.get("synchronous_commit") == "off":
        advice = "set it to on, or live with losing the last second of events in a crash"
        return Finding("warn", "durability", "synchronous_commit is off: an answered event may be lost", advice)
    return Finding("ok", "durability", f"synchronous_commit is {server.settings.get('synchronous_commit')}")


def judge_vacuum(server: Server) -> Finding:
    """Whether Postgres cleans up after itself."""
    off = [name for name in ("autovacuum", "track_counts") if server.settings.get(name) == "off"]
    if off:
        advice = "switch it on: profiles are updated all the time, and dead rows pile up"
        return Finding("warn", "autovacuum", f"{' and '.join(off)} is off", advice)
    return Finding("ok", "autovacuum", "on")


def judge_memory(server: Server) -> Finding:
    """Whether Postgres has more than next to no memory."""
    buffers = server.number("shared_buffers") * _PAGE
    if buffers < _SMALLEST_BUFFERS:
        advice = "a quarter of the machine's memory is usual; it takes a restart of Postgres"
        return Finding("warn", "memory", f"shared_buffers is {size(buffers)}", advice)
    return Finding("ok", "memory", f"shared_buffers is {size(buffers)}")


def judge_session(server: Server) -> Finding:
    """What a new session of the role brings along."""
    limit = server.number("statement_timeout") / 1000
    zone = f"time zone {server.settings.get('TimeZone')} (the collector itself uses UTC)"
    if 0 < limit < 60:
        told = f"statement_timeout is {duration(limit)}"
        return Finding("warn", "session", told, "it cuts `migrate` and `rebuild` short; the collector sets its own")
    return Finding("ok", "session", zone)


def judge_connections(server: Server, workers: int, connections: int) -> Finding:
    """Whether there are connections for all workers.

    Args:
        server: Has max_connections.
        workers: Processes of this collector.
        connections: Most in the pool of each.
    """
    most = server.number("max_connections") - server.number("superuser_reserved_connections")
    ours = workers * (connections + _PROBE)
    told = f"{workers} workers x ({connections} in the pool + {_PROBE} probe) = {ours} of {most} connections"
    if ours > most:
        return Finding("fail", "connections", told, "fewer ANALYTICS_WORKERS or ANALYTICS_CONNECTIONS, or a pgbouncer")
    if ours > 0.8 * most or server.connections > 0.8 * most:
        advice = "every other program, a reload, and a second collector need some, too: raise max_connections"
        return Finding("warn", "connections", f"{told}; {server.connections} are open now", advice)
    return Finding("ok", "connections", f"{told}; {server.connections} are open now")


def judge_clock(ahead: float) -> Finding:
    """Whether this machine and the database's agree on the time.

    Args:
        ahead: By how many seconds ours is ahead; negative if it is behind.
    """
    if abs(ahead) < _CLOCK_WARNS:
        return Finding("ok", "clock", "within 5 s of the database's")
    told = f"{duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the database's"
    advice = "let both machines ask a time server (chrony, systemd-timesyncd)"
    if abs(ahead) < _CLOCK_FAILS:
        return Finding("warn", "clock", told, advice)
    return Finding("fail", "clock", f"{told}: events are set aside as clock_ahead, or dated wrongly", advice)


# The tables


def judge_migrations(pending: Sequence[str], mistake: str, newer: Sequence[str] = ()) -> Finding:
    """Whether the tables are those of this version.

    Args:
        pending: Names of migrations that the database lacks.
        mistake: Why they cannot be compared; empty if they can.
        newer: Names of those that this version does not know, and can work with.
    """
    if mistake:
        return Finding("fail", "migrations", mistake, "run the version that made these tables, or a newer one")
    if pending:
        return Finding("fail", "migrations", f"pending: {', '.join(pending)}", "run `analytics-collector migrate`")
    if newer:
        advice = "finish the upgrade: restart this collector with the new version"
        return Finding("warn", "migrations", f"all applied, and newer ones: {', '.join(newer)}", advice)
    return Finding("ok", "migrations", "all applied")


def judge_role(role: Role) -> Finding:
    """Whether the role can do what it has to, and not much more."""
    if role.missing:
        advice = "GRANT it; docs/operating.md has all that the collector needs"
        return Finding("fail", "role", f"{role.name} lacks {', '.join(role.missing)}", advice)
    if role.is_superuser:
        advice = (
            "use a role with the privileges of docs/operating.md: whoever breaks in then has events, not the server"
        )
        return Finding("warn", "role", f"{role.name} is a superuser", advice)
    if not role.owns_tables:
        advice = (
            "run `analytics-collector migrate` once a month, for instance by cron, as the role that owns the tables"
        )
        return Finding("ok", "role", f"{role.name} cannot make partitions", advice)
    return Finding("ok", "role", f"{role.name} owns the tables")


def judge_partitions(wanted: Sequence[str], present: Sequence[str]) -> Finding:
    """Whether the coming months have their partitions.

    Args:
        wanted: Names of those of this month and the coming ones.
        present: Names of all that there are.
    """
    missing = [name for name in wanted if name not in present]
    if not missing:
        return Finding("ok", "partitions", f"there up to {wanted[-1]}")
    advice = "run `analytics-collector migrate`; until then events of that month go to the DEFAULT partition"
    # The collector makes them three months ahead: without the next one, nothing has made any for two months.
    is_late = bool(set(wanted[:2]) & set(missing))
    return Finding("fail" if is_late else "warn", "partitions", f"missing: {', '.join(missing)}", advice)


def judge_default_rows(months: Mapping[str, int], this_month: str) -> Finding:
    """What the DEFAULT partition has caught.

    Args:
        months: How many rows by month ("2026-01"), counted up to a limit.
        this_month: In the same form.
    """
    current = sorted(month for month in months if month >= this_month)
    if current:
        advice = "these months get no partition of their own as long as their rows are there: move them by hand"
        return Finding("warn", "default rows", f"rows of {', '.join(current)} are in the DEFAULT partition", advice)
    if (rows := sum(months.values())) >= _MANY_OLD_ROWS:
        advice = "queries of those months read all of them: make partitions of these months and move the rows"
        return Finding("warn", "default rows", f"{rows:,} or more rows are in the DEFAULT partition", advice)
    return Finding("ok", "default rows", f"{rows:,} rows of other months are in the DEFAULT partition")


def judge_bloat(tables: Sequence[Table], now: datetime) -> Finding:
    """Whether dead rows pile up."""
    bloated = [table for table in tables if table.dead > max(_MANY_DEAD, _DEAD_SHARE * (table.live + table.dead))]
    if bloated:
        advice = "VACUUM it; a long transaction, a replication slot or autovacuum's limits keep them"
        return Finding("warn", "dead rows", "; ".join(_bloat(table, now) for table in bloated), advice)
    return Finding("ok", "dead rows", f"{sum(table.dead for table in tables):,} in {len(tables)} tables")


def _bloat(table: Table, now: datetime) -> str:
    vacuumed = "never" if table.vacuumed_at is None else f"{duration((now - table.vacuumed_at).total_seconds())} ago"
    return f"{table.name} has {table.dead:,} dead rows beside {table.live:,}, vacuumed {vacuumed}"


def judge_indexes(invalid: Sequence[str]) -> Finding:
    """Whether every index is one that Postgres uses."""
    if invalid:
        return Finding("fail", "indexes", f"not valid: {', '.join(invalid)}", "REINDEX INDEX CONCURRENTLY each of them")
    return Finding("ok", "indexes", "all valid")


def judge_keys(keys: Sequence[Key]) -> Finding:
    """Whether anybody can come in."""
    valid = Counter(key.kind for key in keys if key.revoked_at is None)
    told = ", ".join(f"{valid[kind]} {kind}" for kind in ("write", "read", "admin"))
    revoked = len(keys) - valid.total()
    if not (valid["write"] or valid["admin"]):
        advice = "run `analytics-collector keys create --kind write web`"
        return Finding("fail", "keys", "no key opens the door for events", advice)
    if not valid["write"]:
        return Finding("warn", "keys", "apps can only use an admin key", "make them a key of kind write")
    return Finding("ok", "keys", f"{told}; {revoked} revoked")


# The machine


def judge_disk(directory: str, free: int, total: int) -> Finding:
    """Whether the disk of the database has room.

    Args:
        directory: Postgres's data directory.
        free: Bytes that it may still use.
        total: Bytes in all.
    """
    told = f"{size(free)} of {size(total)} are free below {directory}"
    if free < 0.02 * total or free < 100 * 2**20:
        return Finding("fail", "disk", told, "make room now: Postgres stops when it cannot write its log")
    if free < 0.1 * total:
        return Finding("warn", "disk", told, "make room, or drop partitions of old months")
    return Finding("ok", "disk", told)
