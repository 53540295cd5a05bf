"""How much room an event takes on the disk."""

from __future__ import annotations

import psycopg

_PARTS = r"""
WITH tables AS (SELECT relid FROM pg_partition_tree('analytics_event') WHERE isleaf)
SELECT 'table', sum(pg_table_size(relid)) FROM tables
UNION ALL
SELECT substring(pg_get_indexdef(indexrelid) FROM '[(](.*?)[)]') AS columns, sum(pg_relation_size(indexrelid))
FROM tables JOIN pg_index ON indrelid = relid
GROUP BY columns
"""


def of_event(connection: psycopg.Connection) -> str:
    """In words: the bytes of an event, and of what they are."""
    (count,) = connection.execute("SELECT count(*) FROM analytics_event").fetchone() or (1,)
    parts = [(name, float(size) / count) for name, size in connection.execute(_PARTS)]
    words = ", ".join(
        f"{size:.1f} of ({name})" if name != "table" else f"{size:.1f} of the table" for name, size in parts
    )
    return f"{sum(size for _, size in parts):.0f} bytes of disk an event: {words}"
