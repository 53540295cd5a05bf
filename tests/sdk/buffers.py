"""Buffers with records that are numbered."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from analytics_sdk import EventError
from analytics_sdk._batch import Batch
from analytics_sdk._buffer import Buffer

Make = Callable[..., Buffer]
MODES = {"memory": None, "always": True, "overflow": False}


def record(number: int) -> bytes:
    """A record of 100 bytes."""
    return b'{"event_id":%d,"text":"' % number + b"x" * 74 + b'"}'


def put(buffer: Buffer, count: int, start: int = 0) -> int:
    """Put so many records; how many were accepted."""
    for number in range(start, start + count):
        try:
            buffer.put(record(number))
        except EventError:
            return number - start
    return count


def numbers(batch: Batch | None) -> list[int]:
    """What a batch carries."""
    return [json.loads(one)["event_id"] for one in batch.records] if batch else []


def deliver(buffer: Buffer, most: int = 1000) -> list[int]:
    """Take and settle one batch."""
    batch = buffer.take(most, 10**6)
    if batch is not None:
        buffer.settle(batch, delivered=len(batch.records))
    return numbers(batch)


def deliver_all(buffer: Buffer) -> list[int]:
    """Take and settle until nothing is left."""
    return [number for batch in iter(lambda: deliver(buffer, 7), []) for number in batch]


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The levels of what was logged."""
    return [one.levelname for one in caplog.records if one.name == "analytics_sdk"]
