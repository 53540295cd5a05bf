"""What events take on the disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import psycopg

from analytics_collector import packing


@attrs.frozen
class Room:
    """Bytes of one event."""

    table: float
    indexes: float

    @property
    def both(self) -> float:
        """Of all."""
        return self.table + self.indexes

    def __str__(self) -> str:
        return f"{self.both:.0f} bytes on disk an event: {self.table:.0f} in the table, {self.indexes:.0f} in indexes"


def per_event(dsn: str) -> Room:
    """Look at all partitions."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM analytics_event")
        count, table, indexes = connection.execute(
            "SELECT (SELECT count(*) FROM analytics_event), sum(pg_table_size(relid)), sum(pg_indexes_size(relid))"
            " FROM pg_partition_tree('analytics_event') WHERE isleaf"
        ).fetchone() or (1, 0, 0)
        return Room(float(table) / count, float(indexes) / count)


def pack(dsn: str) -> None:
    """Let the present month be over, as housekeeping will leave it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        packing.pack(connection, datetime.now(UTC) + timedelta(days=40))
