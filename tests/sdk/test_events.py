"""Records: what is taken as a user, a session, a moment, and what their bytes are."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_collector import records
from analytics_sdk import EventError, EventType, _event
from analytics_sdk._encoder import Encoder
from tests.sdk.garbage import Text
from tests.sdk.test_encoder import Number, Word

ENCODER = Encoder()
ID = "0190a0b0-0000-7000-8000-000000000000"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
EARLIEST, LATEST = datetime(1, 1, 2), datetime(2026, 1, 30)  # noqa: DTZ001


def test_the_standard_types_are_the_tables() -> None:
    """EventType names what the existing application calls its events."""
    standard = ["page_view", "click", "form_submit", "purchase", "signup", "login", "logout"]
    assert [str(event_type) for event_type in EventType] == standard


@pytest.mark.parametrize(
    ("user_id", "sent"),
    [
        (0, 0),
        (-1, -1),
        (2**64 - 1, 2**64 - 1),
        ("42", "42"),
        ("x" * 255, "x" * 255),
        (UUID(ID), ID),
        (Text("ann"), "ann"),
        (Number.ONE, 1),
        (Word.YES, "yes"),
    ],
)
def test_user_ids_go_over_the_wire_as_they_are(user_id: Any, sent: Any) -> None:
    """Integers stay integers, texts texts, UUIDs become text; subclasses count as what they are."""
    lines = (
        ENCODER.event(ID, "click", NOW, None, user_id, None, None),
        ENCODER.session("s", user_id=user_id),
        ENCODER.user(user_id, {"a": 1}, NOW),
    )
    assert [json.loads(line)["user_id"] for line in lines] == [sent] * 3


@pytest.mark.parametrize("user_id", ["", "x" * 256, True, 1.5, 2**64, -(2**63) - 1, b"ann", object(), "a\0", "\ud800"])
def test_other_user_ids_are_refused(user_id: Any) -> None:
    """An id that would not be the same user again is refused with the reason."""
    with pytest.raises(EventError, match="user_id") as caught:
        _event.checked_user_id(user_id)
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize("session_id", ["", "x" * 65, 7, None, b"s", "s\0", "\udfff"])
def test_other_session_ids_are_refused(session_id: Any) -> None:
    """A session id that the column cannot hold is refused with the reason."""
    with pytest.raises(EventError, match="session_id") as caught:
        _event.checked_session_id(session_id)
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize("event_type", ["a\0b", "\ud800", "ü\udfff"])
def test_types_that_cannot_be_stored_are_refused(event_type: str) -> None:
    """The type of an event is stored as it is or not at all: another one would be counted among those."""
    with pytest.raises(EventError, match="event_type") as caught:
        ENCODER.event(ID, event_type, NOW, None, None, None, {"a": 1})
    assert caught.value.reason == "invalid"


def test_what_is_not_known_is_left_out() -> None:
    """An event costs no bytes for what it does not have."""
    line = ENCODER.event(ID, "click", NOW, None, None, None, None)
    assert json.loads(line) == {"event_id": ID, "event_type": "click", "created_at": "2026-01-31T12:00:00Z"}


@pytest.mark.parametrize("field", ["user_agent", "referrer"])
@pytest.mark.parametrize("value", [b"bytes", 7, ["list"], Text("x"), "\0\ud800", "x" * 10_000])
def test_whatever_a_visitor_sends_his_session_is_taken(field: str, value: Any) -> None:
    """The headers of strangers, of any type and content, keep no session from being stored."""
    record = records.session(ENCODER.session("s", started_at=NOW, **{field: value}), NOW)
    assert getattr(record, field) != ""


offsets = st.integers(-86399, 86399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
naive = st.datetimes(EARLIEST, LATEST)
aware = st.datetimes(EARLIEST, LATEST, timezones=st.timezones() | offsets)


@given(naive | aware)
def test_every_moment_arrives_as_the_same_moment(moment: datetime) -> None:
    """A datetime of any zone is the same moment, to the microsecond, when the collector reads it."""
    expected = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    line = ENCODER.event(ID, "click", _event.utc_moment(moment), None, None, None, None)
    # A difference, as two zones never agree on times that the clocks skipped.
    assert records.event(line, NOW).created_at - NOW == expected - NOW


@pytest.mark.parametrize("traits", [None, "text", [1], 7, object()])
def test_traits_are_an_object(traits: Any) -> None:
    """Traits that are no mapping are refused with the reason."""
    with pytest.raises(EventError, match="mappings") as caught:
        ENCODER.user(42, traits, NOW)
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize(
    ("address", "stored"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("nonsense", None),
        (ipaddress.ip_address("192.0.2.1"), "192.0.2.1"),
    ],
)
def test_an_address_is_the_same_however_it_is_written(address: object, stored: str | None) -> None:
    """An address is stored as Postgres knows it, IPv4 as such; a useless one is left out and costs nothing else."""
    assert _event.checked_address(address) == stored
