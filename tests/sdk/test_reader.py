"""The reader, against a real collector over a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest

from analytics_sdk import Client, ConfigError, Reader
from analytics_sdk.exceptions import AnswerError, ReaderError, UnreachableError
from tests.conftest import READ_KEY, WRITE_KEY
from tests.programs import Collector, free_port
from tests.sdk.servers import hanging_server

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def reader(collector: Collector) -> Iterator[Reader]:
    """A reader of the clean collector."""
    with Reader(collector.url, read_key=READ_KEY) as made:
        yield made


@pytest.fixture
def tracker(collector: Collector) -> Iterator[Client]:
    """A client that sends when it is flushed."""
    made = Client(collector.url, write_key=WRITE_KEY, flush_interval=60, strict=True)
    yield made
    made.close()


def test_a_profile_is_exact(reader: Reader, tracker: Client) -> None:
    """Right after flush() the profile has all sessions, events, times and traits of the user, in Python's types."""
    with tracker.session(user_id=42):
        tracker.track("page_view", created_at=START)
        tracker.track("purchase", {"amount": Decimal("9.99")}, created_at=START + timedelta(hours=1))
        tracker.identify(42, {"plan": "pro"})
    tracker.flush()
    profile = reader.profile(42)
    assert profile is not None
    assert (profile.user_id, profile.total_sessions, profile.total_events) == (42, 1, 2)
    assert (profile.first_seen, profile.last_seen) == (START, START + timedelta(hours=1))
    assert profile.traits == {"plan": "pro"}


def test_a_user_never_seen_has_no_profile(reader: Reader) -> None:
    """An unknown user is None, no exception."""
    assert reader.profile(42) is None
    assert reader.profile("ann") is None


@pytest.mark.parametrize("user_id", ["ann", "a/b", "a b?c=d&e#f", "50%", "%2F", "größe", "..", "a//b", "-1", "007"])
def test_any_text_is_a_user(reader: Reader, tracker: Client, user_id: str) -> None:
    """Whatever characters an id has, its profile is found under it."""
    tracker.track("click", user_id=user_id)
    tracker.flush()
    profile = reader.profile(user_id)
    assert profile is not None
    assert (str(profile.user_id), profile.total_events) == (user_id, 1)


def test_several_profiles_come_in_the_order_asked(reader: Reader, tracker: Client) -> None:
    """profiles() has one for each user who was seen."""
    for user_id in (1, "ann", 3):
        tracker.track("click", user_id=user_id)
    tracker.flush()
    assert [profile.user_id for profile in reader.profiles(3, 2, "ann", 1)] == [3, "ann", 1]


def test_events_are_read_page_by_page(reader: Reader, tracker: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list longer than a page comes whole, from the newest to the oldest, each event once."""
    monkeypatch.setattr("analytics_sdk.reader._PAGE", 20)
    ids = [tracker.track("click", created_at=START + timedelta(seconds=number // 3)) for number in range(100)]
    tracker.flush()
    found = list(reader.events())
    assert sorted(event.event_id for event in found) == sorted(filter(None, ids))
    times = [event.created_at for event in found]
    assert times == sorted(times, reverse=True)


def test_sessions_are_read_page_by_page(reader: Reader, tracker: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions come whole too, over several pages."""
    monkeypatch.setattr("analytics_sdk.reader._PAGE", 20)
    ids = {tracker.start_session(started_at=START + timedelta(seconds=number)) for number in range(50)}
    tracker.flush()
    found = [session.session_id for session in reader.sessions()]
    assert (len(found), set(found)) == (50, ids)


def test_an_event_comes_back_as_it_was_tracked(reader: Reader, tracker: Client) -> None:
    """All that an event had is read, in Python's types."""
    before = datetime.now(UTC) - timedelta(minutes=1)
    event_id = tracker.track(
        "purchase",
        {"amount": Decimal("9.99"), "items": [1, {"a": None}]},
        user_id="ann",
        session_id="s1",
        created_at=START,
        ip_address="2001:db8::1",
    )
    tracker.flush()
    (event,) = reader.events()
    assert (event.event_id, event.event_type, event.session_id, event.user_id) == (event_id, "purchase", "s1", "ann")
    assert (event.created_at, event.ip_address) == (START, "2001:db8::1")
    assert event.event_data == {"amount": "9.99", "items": [1, {"a": None}]}
    assert event.received_at is not None
    assert before < event.received_at < before + timedelta(minutes=5)


def test_a_session_comes_back_as_it_was_tracked(reader: Reader, tracker: Client) -> None:
    """All that a session had is read, its duration in seconds."""
    with tracker.session(user_id=42, user_agent="Browser", referrer="https://example.org/") as session_id:
        (active,) = flushed(tracker, reader)
    (ended,) = flushed(tracker, reader)
    assert (active.session_id, active.ended_at, active.duration) == (session_id, None, None)
    assert (ended.session_id, ended.user_id) == (session_id, 42)
    assert (ended.user_agent, ended.referrer) == ("Browser", "https://example.org/")
    assert ended.ended_at is not None
    assert ended.duration == (ended.ended_at - ended.started_at).total_seconds()


def flushed(tracker: Client, reader: Reader) -> list[Any]:
    """All sessions, once everything tracked has arrived."""
    tracker.flush()
    return list(reader.sessions())


def test_the_filters_of_events(reader: Reader, tracker: Client) -> None:
    """Each filter of events leaves what it names; `since` is included and `until` is not."""
    for number in range(4):
        moment = START + timedelta(hours=number)
        tracker.track(f"type-{number}", user_id=number, session_id=f"s{number}", created_at=moment)
    tracker.flush()

    def types(**filters: Any) -> list[str]:
        return [event.event_type for event in reader.events(**filters)]

    assert types(user_id=1) == ["type-1"]
    assert types(session_id="s2") == ["type-2"]
    assert types(event_type="type-3") == ["type-3"]
    assert types(since=START + timedelta(hours=1), until=START + timedelta(hours=3)) == ["type-2", "type-1"]
    assert types(user_id=1, event_type="type-2") == []
    assert types(user_id=7) == []


def test_the_filters_of_sessions(reader: Reader, tracker: Client) -> None:
    """Each filter of sessions leaves what it names."""
    for number in range(3):
        tracker.start_session(session_id=f"s{number}", user_id=number, started_at=START + timedelta(hours=number))
    tracker.end_session("s1")
    tracker.flush()

    def ids(**filters: Any) -> list[str]:
        return [session.session_id for session in reader.sessions(**filters)]

    assert ids(active=True) == ["s2", "s0"]
    assert ids(active=False) == ["s1"]
    assert ids(user_id=2) == ["s2"]
    assert ids(since=START + timedelta(hours=1), until=START + timedelta(hours=2)) == ["s1"]


@pytest.mark.parametrize("key", ["wrong", WRITE_KEY])
def test_a_wrong_key_is_an_answer_error(collector: Collector, key: str) -> None:
    """A key that does not open raises with the collector's status and words."""
    with Reader(collector.url, read_key=key) as reader, pytest.raises(AnswerError, match="unauthorized") as caught:
        reader.profile(42)
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")


def test_a_question_that_makes_no_sense_is_an_answer_error(reader: Reader) -> None:
    """What the collector refuses to answer is raised with its reason."""
    with pytest.raises(AnswerError) as caught:
        reader.profiles()
    assert caught.value.status == 400


def test_nobody_there_is_an_unreachable_error() -> None:
    """No collector at the address, or one that hangs, raises an error that says so."""
    with hanging_server() as hanging:
        for url in (f"http://127.0.0.1:{free_port()}", hanging, "http://nowhere.invalid", "http://a..b"):
            with Reader(url, read_key="k", timeout=0.2) as reader, pytest.raises(UnreachableError, match="not answer"):
                reader.profile(42)


@pytest.mark.parametrize("content", [b"<html>", b"", b"\xff", b'"\xff"', b"[]", b"{}"])
@pytest.mark.parametrize("status", [200, 302, 404, 502])
def test_an_answer_that_is_not_the_collectors_is_an_answer_error(status: int, content: bytes) -> None:
    """A proxy's page is no profile, and its 404 does not say that there is none."""
    http = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    with Reader("http://example.org", read_key="k", http=http) as reader, pytest.raises(AnswerError) as caught:
        reader.profile(42)
    assert caught.value.status == status


def test_every_error_of_a_reader_is_a_reader_error() -> None:
    """One except clause catches all of them."""
    assert issubclass(AnswerError, ReaderError)
    assert issubclass(UnreachableError, ReaderError)


def test_address_and_key_come_from_the_environment(
    collector: Collector, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without arguments ANALYTICS_URL and ANALYTICS_READ_KEY are used; without those it is a ConfigError."""
    with pytest.raises(ConfigError, match="ANALYTICS_READ_KEY"):
        Reader()
    monkeypatch.setenv("ANALYTICS_URL", collector.url)
    monkeypatch.setenv("ANALYTICS_READ_KEY", READ_KEY)
    with Reader() as reader:
        assert list(reader.events()) == []
