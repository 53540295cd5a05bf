"""Batches for the tests: records in few words, committed in this process or posted over HTTP."""

from __future__ import annotations

import http.client
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import attrs

from analytics_collector.committer import Committer, Verdict
from analytics_collector.protocols import native
from tests.conftest import WRITE_KEY

Fields = dict[str, Any]

#: The zero of the tests' time, in a month that has a partition.
NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


def at(minute: float) -> str:
    """So many minutes after `NOON`, as the wire has it."""
    return (NOON + timedelta(minutes=minute)).isoformat()


def event_id(name: object) -> str:
    """The same UUID for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(name)))


def event(name: object, session_id: str = "", user_id: int | str | None = None, **fields: Any) -> Fields:
    """An event; its id is made from its name, and it happens at minute 0 unless `created_at` is given."""
    record = {"event_id": event_id(name), "event_type": "page_view", "created_at": at(0), "session_id": session_id}
    return {**record, "user_id": user_id, **fields}


def body(*, sessions: list[Fields] = [], users: list[Fields] = [], events: list[Fields] = []) -> bytes:  # noqa: B006
    """The records as a request's body."""
    return json.dumps({"sessions": sessions, "users": users, "events": events}).encode()


def commit(committer: Committer, **records: list[Fields]) -> Verdict:
    """Put records through the same functions that a request goes through, in this process."""
    return committer.commit(native.parse(body(**records), datetime.now(UTC)), "tests")


@attrs.frozen
class Answer:
    """What came back over HTTP."""

    status: int
    headers: dict[str, str]
    json: Any


def post(url: str, content: bytes, *, timeout: float = 60.0) -> Answer:
    """Post a body to a collector; the time-out is in seconds."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)
    try:
        connection.request("POST", "/v1/events", content, {"Authorization": f"Bearer {WRITE_KEY}"})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), json.loads(response.read()))
    finally:
        connection.close()
