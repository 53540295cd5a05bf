"""The cases of the golden files: calls of the SDK with fixed inputs, and the records that the collector must see.

`python -m tests.wire.cases` writes the files anew; what changes in them changes for every SDK out there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import attrs
from msgspec import Raw

from analytics_collector.records import EventRecord, Record, SessionRecord, UserRecord
from analytics_sdk import Client, _ids
from analytics_sdk.testing import Outcome

GOLDEN = Path(__file__).parent / "golden"

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
NOW_NS = 1_769_860_800_123_456_789
MADE_IDS = (
    "019c13ec-9e7b-7000-8001-020304050607",  # made at this moment, with random bytes 0, 1, 2...
    "019c13ec-9e7b-7010-8001-020304050607",
)
ID = "0190a0b0-0000-7000-8000-000000000001"
OTHER_ID = "0190a0b0-0000-7000-8000-000000000002"


class KeepingTransport:
    """Keeps the bytes that would have been sent."""

    body = b""

    def send(self, body: bytes, timeout: float) -> Outcome:  # noqa: ARG002
        """Keep them."""
        self.body = body
        return Outcome(fate="stored")

    def reset(self) -> None:
        """Nothing is open."""

    close = reset


@attrs.frozen
class Case:
    """A golden file.

    Attributes:
        call: What an app does.
        records: What the collector reads, in the order of the arrays.
    """

    call: Callable[[Client], object]
    records: list[Record]

    def body(self) -> bytes:
        """What the SDK makes of it."""
        transport = KeepingTransport()
        frozen = mock.Mock(return_value=NOW)
        ends = mock.patch("os.urandom", lambda count: bytes(range(count)))
        with mock.patch("time.time_ns", return_value=NOW_NS), mock.patch("analytics_sdk._client.now", frozen), ends:
            _ids.reseed()
            client = Client(transport=transport, flush_interval=60)
            self.call(client)
            client.close()
        _ids.reseed()
        return transport.body


def event(event_id: str = ID, event_type: str = "click", data: bytes = b"{}", **fields: Any) -> EventRecord:
    """An event as the collector reads it."""
    return EventRecord(event_id=event_id, event_type=event_type, event_data=Raw(data), **{"created_at": NOW, **fields})


def everything(client: Client) -> None:
    """A visit: browse, log in, buy, leave."""
    with client.session(session_id="s1", user_agent="Browser", ip_address="192.0.2.1"):
        client.track("page_view", event_id=ID)
        client.identify(42, {"plan": "pro"})
        client.track("purchase", {"amount": Decimal("9.99")}, event_id=OTHER_ID)
    client.end_session("s1")


def user_ids(client: Client) -> None:
    """All kinds of user ids."""
    for user_id in (0, 42, "42", "ann", 2**48, -1, UUID(ID)):
        client.track("click", user_id=user_id, event_id=ID)


AWKWARD = {
    "nul": "a\0b",
    "half a pair": "\ud800",
    "emoji": "\N{PARTY POPPER}",
    "nan": float("nan"),
    "bytes": b"\xff",
    "decimal": Decimal("0.10"),
    "time": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "duration": timedelta(hours=1),
    "set": {1},
    "object": KeepingTransport(),
}
AWKWARD_JSON = (
    '{"nul":"a\ufffdb","half a pair":"\ufffd","emoji":"\N{PARTY POPPER}","nan":null,"bytes":"/w==","decimal":"0.10",'
    '"time":"2026-01-31T12:00:00Z","duration":3600.0,"set":[1],"object":"<KeepingTransport>"}'
)

CASES = {
    "least": Case(lambda client: client.track("click"), [event(MADE_IDS[0])]),
    "two events": Case(
        lambda client: [client.track("click"), client.track("click")], [event(event_id) for event_id in MADE_IDS]
    ),
    "all of an event": Case(
        lambda client: client.track(
            "purchase",
            {"amount": Decimal("9.99"), "items": [{"sku": "a"}, {"sku": "ü"}]},
            user_id=42,
            session_id="s1",
            created_at=datetime(2026, 1, 31, 13, 30, tzinfo=timezone(timedelta(hours=2))),
            ip_address="2001:db8::1",
            event_id=ID,
        ),
        [
            event(
                event_type="purchase",
                data='{"amount":"9.99","items":[{"sku":"a"},{"sku":"ü"}]}'.encode(),
                user_id=42,
                session_id="s1",
                created_at=datetime(2026, 1, 31, 11, 30, tzinfo=UTC),
                ip_address="2001:db8::1",
            )
        ],
    ),
    "an id of the app's own": Case(
        lambda client: client.track("click", event_id="order-42"), [event("23b2a68c-0a8b-5f6d-960d-4f99d61e8d19")]
    ),
    "user ids": Case(user_ids, [event(user_id=user_id) for user_id in (0, 42, "42", "ann", 2**48, -1, ID)]),
    "start of a session": Case(
        lambda client: client.start_session(
            session_id="s1", user_id="ann", user_agent="Browser", referrer="https://example.org/"
        ),
        [
            SessionRecord(
                session_id="s1",
                user_id="ann",
                started_at=NOW,
                user_agent="Browser",
                referrer="https://example.org/",
            )
        ],
    ),
    "end of a session": Case(lambda client: client.end_session("s1"), [SessionRecord(session_id="s1", ended_at=NOW)]),
    "identify": Case(
        lambda client: client.identify("ann", {"plan": "pro"}, session_id="s1"),
        [
            SessionRecord(session_id="s1", user_id="ann"),
            UserRecord(user_id="ann", traits=Raw(b'{"plan":"pro"}'), updated_at=NOW),
        ],
    ),
    "everything": Case(
        everything,
        [
            SessionRecord(session_id="s1", started_at=NOW, user_agent="Browser"),
            SessionRecord(session_id="s1", user_id=42),
            SessionRecord(session_id="s1", ended_at=NOW),
            UserRecord(user_id=42, traits=Raw(b'{"plan":"pro"}'), updated_at=NOW),
            event(event_type="page_view", session_id="s1", ip_address="192.0.2.1"),
            event(OTHER_ID, "purchase", b'{"amount":"9.99"}', session_id="s1", user_id=42, ip_address="192.0.2.1"),
        ],
    ),
    "awkward values": Case(
        lambda client: client.track("click", AWKWARD, event_id=ID), [event(data=AWKWARD_JSON.encode())]
    ),
}


def path_of(name: str) -> Path:
    """Where the golden file of a case is."""
    return GOLDEN / f"{name.replace(' ', '_').replace(chr(39), '')}.json"


if __name__ == "__main__":
    for name, case in CASES.items():
        path_of(name).write_bytes(case.body())
