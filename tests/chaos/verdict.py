"""What the hosts wrote down against what is in Postgres, counted by Postgres itself."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from analytics_collector import profiles
from analytics_collector.db import Connection

TOLD = """
CREATE TEMP TABLE told (event_id uuid NOT NULL, is_good boolean NOT NULL);
CREATE TEMP TABLE refused AS
    SELECT (convert_from(record, 'UTF8')::json ->> 'event_id')::uuid AS event_id FROM analytics_reject
    WHERE kind = 'event' AND key_name = 'hosts';
"""

COUNTS = {
    "accepted": "SELECT count(*) FROM told WHERE is_good",
    "stored": "SELECT count(DISTINCT event_id) FROM analytics_event",
    "lost": "SELECT count(*) FROM told WHERE is_good"
    " AND NOT EXISTS (SELECT FROM seen WHERE seen.event_id = told.event_id)",
    "duplicated": "SELECT count(*) - count(DISTINCT event_id) FROM analytics_event",
    "unwritten": "SELECT count(*) FROM seen WHERE NOT EXISTS (SELECT FROM told WHERE told.event_id = seen.event_id)",
    "refused": "SELECT count(*) FROM told WHERE NOT is_good",
    "not_kept": "SELECT count(*) FROM told WHERE NOT is_good"
    " AND NOT EXISTS (SELECT FROM refused WHERE refused.event_id = told.event_id)",
    "wrongly_refused": "SELECT count(*) FROM refused JOIN told USING (event_id) WHERE is_good",
    "refused_and_stored": "SELECT count(*) FROM refused JOIN seen USING (event_id)",
    "broken_kept": "SELECT count(*) FROM analytics_reject WHERE key_name = 'broken'",
    # Not as `verify` counts, partition by partition, but plainly.
    "profiles_recounted_wrong": """
        SELECT count(*)
        FROM (
            SELECT user_id, sum(sessions) AS sessions, sum(events) AS events, min(seen) AS first, max(seen) AS last
            FROM (
                SELECT user_id, 0 AS sessions, 1 AS events, created_at AS seen FROM analytics_event
                UNION ALL
                SELECT user_id, 1, 0, NULL FROM analytics_session
            ) AS rows
            WHERE user_id IS NOT NULL
            GROUP BY user_id
        ) AS counted
        FULL JOIN analytics_useranalyticsprofile AS p USING (user_id)
        WHERE (p.total_sessions, p.total_events, p.first_seen, p.last_seen)
            IS DISTINCT FROM (counted.sessions, counted.events, counted.first, counted.last)
    """,
    "profiles": "SELECT count(*) FROM analytics_useranalyticsprofile",
}

MUST_BE_ZERO = (
    "lost",
    "duplicated",
    "not_kept",
    "wrongly_refused",
    "refused_and_stored",
    "profiles_recounted_wrong",
    "profiles_verified_wrong",
)


@attrs.frozen
class Verdict:
    """The comparison.

    Attributes:
        counts: By the names in `COUNTS`, and "profiles_verified_wrong".
        kills: How many hosts were killed; each may have died between `track()` and writing its id down.
        broken: Different broken records that were posted and answered.
        traces: Stack traces in the logs of collector and hosts: bugs.
    """

    counts: dict[str, int]
    kills: int
    broken: int
    traces: list[str] = attrs.field(factory=list)

    @property
    def faults(self) -> list[str]:
        """What does not hold."""
        found = [f"{name} is {self.counts[name]}" for name in MUST_BE_ZERO if self.counts[name]]
        if self.counts["unwritten"] > self.kills:
            found.append(f"{self.counts['unwritten']} events are stored that nobody wrote down; {self.kills} kills")
        if self.counts["broken_kept"] != self.broken:
            found.append(f"{self.counts['broken_kept']} of {self.broken} broken records are kept")
        return found + [f"a bug:\n{trace}" for trace in self.traces]


def traces_of(log: str) -> list[str]:
    """The stack traces in a log, each once, up to the line that names the error."""
    return sorted(set(re.findall(r"^Traceback .*\n(?:[ \n].*\n|\n)*.*$", log, re.MULTILINE)))


def compare(connection: Connection, ids: Path, bad: Path, kills: int, broken: int) -> Verdict:
    """Compare the two diaries with the tables, on a plain autocommitting connection."""
    connection.execute(TOLD)
    with connection.cursor().copy("COPY told FROM STDIN") as copy:
        for path, is_good in ((ids, "t"), (bad, "f")):
            with path.open() as file:
                for line in file:
                    copy.write(f"{line.split()[-1]}\t{is_good}\n")
    connection.execute("CREATE TEMP TABLE seen AS SELECT DISTINCT event_id FROM analytics_event")
    connection.execute("SET work_mem = '256MB'")
    connection.execute("ANALYZE told, seen, refused")
    counts = {name: connection.execute(query).fetchone()[0] for name, query in COUNTS.items()}  # type: ignore[index]
    counts["profiles_verified_wrong"] = len(profiles.verify(connection))
    return Verdict({name: int(count) for name, count in counts.items()}, kills, broken)
