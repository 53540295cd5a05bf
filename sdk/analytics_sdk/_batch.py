"""A batch: records on their way, and the one body they have on every try."""

from __future__ import annotations

import functools

import attrs

from ._event import SessionLine, UserLine


@attrs.frozen(slots=False)
class Batch:
    """Records that are sent together."""

    records: list[bytes]

    @functools.cached_property
    def body(self) -> bytes:
        """The request body: a join of what `track()` encoded, the same bytes on every try."""
        sessions = [record for record in self.records if type(record) is SessionLine]
        users = [record for record in self.records if type(record) is UserLine]
        events = [record for record in self.records if type(record) is bytes]
        return b'{"sessions":[%b],"users":[%b],"events":[%b]}' % (
            b",".join(sessions),
            b",".join(users),
            b",".join(events),
        )

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches in the place of one that was refused."""
        middle = len(self.records) // 2
        return Batch(self.records[:middle]), Batch(self.records[middle:])
