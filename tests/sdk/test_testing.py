"""What we ship for the tests of applications: it behaves as the collector does, without a network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

import analytics_sdk
from analytics_sdk import Client
from analytics_sdk.testing import Outcome, RecordingTransport


def test_it_keeps_what_was_sent(client: Client, transport: RecordingTransport) -> None:
    """Events, sessions and users are there to look at after a flush, in order, as they went over the wire."""
    with client.session(session_id="s", user_id=42):
        client.track("one")
        client.track("two", {"a": 1})
        client.identify(42, {"plan": "pro"})
    client.flush()
    assert [event["event_type"] for event in transport.events] == ["one", "two"]
    assert transport.events[1]["event_data"] == {"a": 1}
    assert [session["session_id"] for session in transport.sessions] == ["s", "s"]
    assert [user["traits"] for user in transport.users] == [{"plan": "pro"}]
    assert transport.attempts == 1


def test_it_answers_as_it_was_told(make: Callable[..., Client]) -> None:
    """The first batches get the outcomes given, and nothing of them is kept; then it stores."""
    transport = RecordingTransport([Outcome(fate="again"), Outcome(fate="misconfigured")])
    client = make(transport=transport, flush_interval=60, retry_cap=0.01)
    client.track("click")
    assert client.flush().delivered == 1
    assert (transport.attempts, len(transport.events)) == (3, 1)


def test_it_knows_duplicates(client: Client, transport: RecordingTransport) -> None:
    """An event that is there is counted as the collector would count it, also within one batch."""
    for _ in range(2):
        client.track("order", event_id="order-42", created_at=datetime(2026, 1, 31, tzinfo=UTC))
        client.track("order", event_id="order-42", created_at=datetime(2026, 1, 31, tzinfo=UTC))
        client.flush()
    assert len(transport.events) == 1
    assert (client.stats().delivered, client.stats().duplicate) == (1, 3)


def test_it_touches_no_network(no_default_client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application's test with it opens no socket, and needs neither address nor key."""
    monkeypatch.setattr(socket, "socket", None)
    transport = RecordingTransport()
    analytics_sdk.init(transport=transport)
    analytics_sdk.track("purchase")
    analytics_sdk.flush()
    assert transport.events[0]["event_type"] == "purchase"
