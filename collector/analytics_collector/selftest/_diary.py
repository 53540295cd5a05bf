"""What a sender writes down: before it sends a batch, what is in it; and what it was answered.

Lines of JSON, each by one `write`, read by the trial while the sender still writes.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

_LINE_END: Final = b"\n"


class Told(msgspec.Struct, array_like=True, frozen=True):
    """What a batch says of one event, or of a session alone."""

    session_id: str
    user_id: int | str | None
    event_id: UUID | None = None
    created_at: datetime | None = None


class Sent(msgspec.Struct, tag=True, frozen=True):
    """A batch that is about to be sent."""

    number: int
    told: list[Told]
    bad: int


class Acknowledged(msgspec.Struct, tag=True, frozen=True):
    """A batch that was answered 200."""

    number: int
    accepted: int
    duplicates: int
    rejected: int


class Failed(msgspec.Struct, tag=True, frozen=True):
    """An answer that no sender should ever get; it ends this one."""

    reason: str


Entry = Sent | Acknowledged | Failed

_decoder: Final = msgspec.json.Decoder(Entry)


class Writer:
    """Adds to a diary."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def put_down(self, entry: Entry) -> None:
        """Write one entry."""
        os.write(self._file, msgspec.json.encode(entry) + _LINE_END)


class Reader:
    """Reads what has been added to a diary since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def entries(self) -> list[Entry]:
        """What is new."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            whole, end, _ = file.read().rpartition(_LINE_END)
        self._position += len(whole) + len(end)
        return [_decoder.decode(line) for line in whole.splitlines()]
