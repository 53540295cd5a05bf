"""The client: what `track()` returns, inherits, refuses and promises."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analytics_sdk
from analytics_sdk import Client, EventError, EventType, Stats
from analytics_sdk.testing import Outcome, RecordingTransport
from tests.sdk.garbage import MAKERS, anything
from tests.sdk.servers import hanging_server
from tests.sdk.test_encoder import Moment

Make = Callable[..., Client]

UNUSABLE = [
    {"event_type": ""},
    {"event_type": "x" * 51},
    {"event_type": None},
    {"event_type": 7},
    {"user_id": ""},
    {"user_id": "x" * 256},
    {"user_id": True},
    {"user_id": 1.5},
    {"user_id": 10**5000},
    {"session_id": ""},
    {"session_id": "x" * 65},
    {"session_id": 7},
    {"session_id": {}},
    {"event_data": [1]},
    {"event_data": "text"},
    {"event_data": 7},
    {"created_at": "2026-01-31"},
    {"created_at": 7},
    {"created_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
    {"event_id": "\ud800"},
]


def assert_balanced(stats: Stats) -> None:
    """Everything accepted is somewhere, and only once."""
    known = stats.delivered + stats.duplicate + stats.rejected + sum(stats.dropped.values()) + stats.pending
    assert stats.accepted == known


def only_event(client: Client, transport: RecordingTransport) -> dict[str, Any]:
    """The one event that was tracked, as it went over the wire."""
    client.flush()
    (event,) = transport.events
    return event


# What track() takes


def test_track_returns_the_id_under_which_the_event_arrives(client: Client, transport: RecordingTransport) -> None:
    """The id that track() returns is a UUID of version 7, and is the id that the collector gets."""
    event_id = client.track("purchase", {"amount": 9})
    assert event_id is not None
    assert uuid.UUID(event_id).version == 7
    assert only_event(client, transport)["event_id"] == event_id


def test_track_takes_a_snapshot(client: Client, transport: RecordingTransport) -> None:
    """What happens to the data after the call changes nothing, and the call changes nothing of the data."""
    data = {"cart": [1, {"two": 2}]}
    client.track("purchase", data)
    assert data == {"cart": [1, {"two": 2}]}
    data["cart"].append(3)
    assert only_event(client, transport)["event_data"] == {"cart": [1, {"two": 2}]}


def test_a_tracked_event_has_the_time_of_the_call(client: Client, transport: RecordingTransport) -> None:
    """created_at is the moment of the call, not that of the sending."""
    before = datetime.now(UTC)
    client.track("click")
    after = datetime.now(UTC)
    assert before - timedelta(microseconds=1) <= datetime.fromisoformat(only_event(client, transport)["created_at"])
    assert datetime.fromisoformat(transport.events[0]["created_at"]) <= after


@pytest.mark.parametrize(
    ("created_at", "sent"),
    [
        (datetime(2026, 1, 31, 12), "2026-01-31T12:00:00Z"),  # noqa: DTZ001
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
        (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T10:00:00Z"),
        (Moment(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
        (Moment(2026, 1, 31, 12), "2026-01-31T12:00:00Z"),
        (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(seconds=30))), "2026-01-31T11:59:30Z"),
    ],
)
def test_a_given_time_is_sent_in_utc(
    client: Client, transport: RecordingTransport, created_at: datetime, sent: str
) -> None:
    """A moment of any time zone is sent as the same moment in UTC, and a naive one is UTC already."""
    client.track("click", created_at=created_at)
    assert only_event(client, transport)["created_at"] == sent


@pytest.mark.parametrize(
    ("given_id", "sent"),
    [
        ("0190A0B0-0000-7000-8000-000000000000", "0190a0b0-0000-7000-8000-000000000000"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("order-42", "23b2a68c-0a8b-5f6d-960d-4f99d61e8d19"),
    ],
)
def test_an_event_can_have_an_id_of_the_apps_own(
    client: Client, transport: RecordingTransport, given_id: Any, sent: str
) -> None:
    """A UUID stays as it is, and any other text becomes the same UUID each time."""
    assert client.track("purchase", event_id=given_id) == sent
    assert only_event(client, transport)["event_id"] == sent


@pytest.mark.parametrize("event_type", [*EventType, "x", "x" * 50, "größe", "with space"])
def test_any_name_of_1_to_50_characters_is_an_event_type(
    client: Client, transport: RecordingTransport, event_type: str
) -> None:
    """Standard types and all others arrive under their name."""
    client.track(event_type)
    assert only_event(client, transport)["event_type"] == str(event_type)


# What an event inherits


def test_events_inherit_from_the_session_block(client: Client, transport: RecordingTransport) -> None:
    """An event inside `with session()` has its id, user and address; one outside has none of them."""
    with client.session(user_id=42, ip_address="192.0.2.1") as session_id:
        client.track("inside")
    client.track("outside")
    client.flush()
    inside, outside = transport.events
    inherited = {"session_id": session_id, "user_id": 42, "ip_address": "192.0.2.1"}
    assert inherited.items() <= inside.items()
    assert outside.keys() & inherited.keys() == set()


def test_explicit_arguments_win(client: Client, transport: RecordingTransport) -> None:
    """What is given to track() is not overridden by the session that is going on."""
    own = {"session_id": "other", "user_id": "ann", "ip_address": "192.0.2.2"}
    with client.session(user_id=42, ip_address="192.0.2.1"):
        client.track("click", **own)
    assert own.items() <= only_event(client, transport).items()


def test_another_sessions_event_does_not_inherit_the_user(client: Client, transport: RecordingTransport) -> None:
    """An event of a session that is given by its id takes neither user nor address of the block around it."""
    with client.session(user_id=42, ip_address="192.0.2.1"):
        client.track("click", session_id="other")
    assert only_event(client, transport).keys() & {"user_id", "ip_address"} == set()


def test_session_blocks_nest(client: Client, transport: RecordingTransport) -> None:
    """After an inner block the outer session goes on."""
    with client.session(user_id=1) as outer:
        with client.session(user_id=2) as inner:
            client.track("inner")
        client.track("outer")
    client.flush()
    found = [(event["session_id"], event["user_id"]) for event in transport.events]
    assert found == [(inner, 2), (outer, 1)]


def test_each_thread_has_its_own_session(client: Client, transport: RecordingTransport) -> None:
    """Sessions of threads that run side by side do not mix, and a new thread begins without any."""
    together = threading.Barrier(8, timeout=10)

    def visit(user_id: int) -> None:
        client.track("before")
        with client.session(user_id=user_id):
            together.wait()
            client.track("during", {"expected": user_id})
            together.wait()

    with client.session(user_id=999), ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(8)))
    client.flush()
    during = [event for event in transport.events if event["event_type"] == "during"]
    assert [event["user_id"] for event in during] == [event["event_data"]["expected"] for event in during]
    assert all("user_id" not in event for event in transport.events if event["event_type"] == "before")


def test_each_asyncio_task_has_its_own_session(client: Client, transport: RecordingTransport) -> None:
    """Sessions of tasks that take turns in one thread do not mix."""

    async def visit(user_id: int) -> None:
        """Track in a session, after all others have begun theirs."""
        with client.session(user_id=user_id):
            await asyncio.sleep(0)
            client.track("click", {"expected": user_id})

    async def main() -> None:
        """Let twenty visit at once."""
        await asyncio.gather(*map(visit, range(20)))

    asyncio.run(main())
    client.flush()
    assert [event["user_id"] for event in transport.events] == list(range(20))
    assert [event["event_data"]["expected"] for event in transport.events] == list(range(20))


def test_a_session_block_starts_and_ends_its_session(client: Client, transport: RecordingTransport) -> None:
    """One record says when it started and what is known of the visitor, another when it ended."""
    with client.session(user_id=42, user_agent="Browser", referrer="https://example.org/") as session_id:
        pass
    client.flush()
    start, end = transport.sessions
    known = {"session_id": session_id, "user_id": 42, "user_agent": "Browser", "referrer": "https://example.org/"}
    assert start == {**known, "started_at": start["started_at"]}
    assert end == {"session_id": session_id, "ended_at": end["ended_at"]}
    assert start["started_at"] <= end["ended_at"]


def test_a_session_block_ends_with_an_error_too(client: Client, transport: RecordingTransport) -> None:
    """An exception of the host's passes through the block, and the session ends."""
    with pytest.raises(KeyError, match="the host's"), client.session():
        raise KeyError("the host's")
    client.flush()
    assert "ended_at" in transport.sessions[-1]


def test_a_joined_session_goes_on_after_the_block(client: Client, transport: RecordingTransport) -> None:
    """A block that joins a session by its id does not end it."""
    with client.session(session_id="cookie") as session_id:
        client.track("click")
    assert session_id == "cookie"
    assert only_event(client, transport)["session_id"] == "cookie"
    assert all("ended_at" not in record for record in transport.sessions)


def test_a_started_session_is_inherited_by_its_id(client: Client, transport: RecordingTransport) -> None:
    """Events with the id of a started session have its user and address, until it ends."""
    session_id = client.start_session(user_id=42, ip_address="192.0.2.1")
    client.track("during", session_id=session_id)
    client.end_session(session_id)
    client.track("after", session_id=session_id)
    client.flush()
    during, after = transport.events
    assert {"user_id": 42, "ip_address": "192.0.2.1"}.items() <= during.items()
    assert after["session_id"] == session_id
    assert "user_id" not in after


def test_session_ids_cannot_be_guessed(client: Client) -> None:
    """Ids of sessions are all different and fit the column."""
    ids = {client.start_session() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(session_id) <= 64 for session_id in ids)


def test_identify_changes_who_later_events_belong_to(client: Client, transport: RecordingTransport) -> None:
    """After identify() the session and its later events belong to the user, and the traits are told."""
    with client.session() as session_id:
        client.track("before")
        client.identify(42, {"plan": "pro"})
        client.track("after")
    client.flush()
    before, after = transport.events
    assert "user_id" not in before
    assert after["user_id"] == 42
    assert {"session_id": session_id, "user_id": 42} in transport.sessions
    assert [(user["user_id"], user["traits"]) for user in transport.users] == [(42, {"plan": "pro"})]


def test_identify_can_name_the_session(client: Client, transport: RecordingTransport) -> None:
    """identify() with the id of a started session changes that one."""
    session_id = client.start_session()
    client.identify("ann", session_id=session_id)
    client.track("click", session_id=session_id)
    assert only_event(client, transport)["user_id"] == "ann"
    assert {"session_id": session_id, "user_id": "ann"} in transport.sessions


# What is refused


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(
    ("event_data", "user_id", "session_id", "created_at", "ip_address", "event_id"), anything)), anything)  # fmt: skip
def test_track_never_raises(arguments: dict[str, Any], event_type: Any) -> None:
    """Whatever is passed, track() returns an id or None, and the account tells which."""
    client = Client(transport=RecordingTransport(), flush_interval=60)
    event_id = client.track(event_type, **arguments)
    stats = client.stats()
    assert (stats.accepted, sum(stats.refused.values())) == ((0, 1) if event_id is None else (1, 0))
    client.close()
    assert_balanced(client.stats())


@settings(max_examples=100, deadline=None)
@given(anything, anything, anything, anything)
def test_nothing_else_raises_either(one: Any, two: Any, three: Any, four: Any) -> None:
    """Sessions and identify() of anything never raise into the host."""
    client = Client(transport=RecordingTransport(), flush_interval=60)
    client.identify(one, two, session_id=three)
    client.end_session(four)
    with client.session(user_id=one, user_agent=two, referrer=three, ip_address=four, session_id=one) as session_id:
        client.identify(two, three)
        client.track("click")
    assert isinstance(session_id, str)
    client.start_session(user_id=four, user_agent=three, session_id=two, started_at=one)
    client.close()
    assert_balanced(client.stats())


@pytest.mark.parametrize("name", MAKERS)
def test_a_poisonous_value_costs_neither_the_event_nor_its_neighbours(
    client: Client, transport: RecordingTransport, name: str
) -> None:
    """An event that holds any bad value is accepted, and what else it holds arrives."""
    began = time.thread_time()
    assert client.track("click", {"before": 1, "bad": MAKERS[name](), "after": [2]}) is not None
    assert time.thread_time() - began < 2
    data = only_event(client, transport)["event_data"]
    assert (data["before"], data["after"]) == (1, [2])


@pytest.mark.parametrize("unusable", UNUSABLE, ids=range(len(UNUSABLE)))
def test_what_the_collector_would_refuse_is_refused_at_once(make: Make, unusable: dict[str, Any]) -> None:
    """An unusable argument makes track() return None and is counted as invalid; strict=True says what is wrong."""
    arguments = {"event_type": "click"} | unusable
    lenient = make(transport=RecordingTransport())
    assert lenient.track(**arguments) is None
    assert (lenient.stats().accepted, lenient.stats().refused) == (0, {"invalid": 1})
    strict = make(transport=RecordingTransport(), strict=True)
    with pytest.raises(EventError) as caught:
        strict.track(**arguments)
    assert caught.value.reason == "invalid"


def test_too_large_an_event_is_refused(make: Make) -> None:
    """An event that has no room for data in max_event_bytes is counted as too_large; the next one is accepted."""
    client = make(transport=RecordingTransport(), max_event_bytes=400)
    assert client.track("click", {"text": "x" * 500}, user_id="u" * 200) is None
    assert client.track("click", {"text": "x" * 500}) is not None
    assert client.stats().refused == {"too_large": 1}


def test_a_full_buffer_refuses_by_count(make: Make) -> None:
    """Of more events than max_buffer_events the first ones are kept, and the others counted."""
    client = make(transport=RecordingTransport(), max_buffer_events=10, flush_interval=60)
    ids = [client.track("click") for _ in range(15)]
    assert [event_id is None for event_id in ids] == [False] * 10 + [True] * 5
    assert client.stats().refused == {"buffer_full": 5}
    client.flush()
    assert client.track("click") is not None


def test_a_full_buffer_refuses_by_bytes(make: Make) -> None:
    """Of more bytes than max_buffer_bytes the first ones are kept, and the others counted."""
    client = make(transport=RecordingTransport(), max_buffer_bytes=10_000, flush_interval=60)
    ids = [client.track("click", {"text": "x" * 900}) for _ in range(15)]
    assert [event_id is None for event_id in ids] == [False] * 9 + [True] * 6
    assert client.stats().refused == {"buffer_full": 6}
    client.flush()
    assert client.track("click") is not None


def test_a_closed_client_refuses(client: Client, transport: RecordingTransport) -> None:
    """What is tracked after close() is counted as closed; what was tracked before has been sent."""
    client.track("before")
    client.close()
    assert client.track("after") is None
    assert client.stats().refused == {"closed": 1}
    assert only_event(client, transport)["event_type"] == "before"


@pytest.mark.parametrize(
    ("reason", "options"),
    [("too_large", {"max_event_bytes": 10}), ("buffer_full", {"max_buffer_bytes": 10}), ("closed", {})],
)
def test_strict_raises_the_reason(make: Make, reason: str, options: dict[str, int]) -> None:
    """With strict=True whatever is refused raises an EventError that names the reason."""
    client = make(transport=RecordingTransport(), strict=True, **options)
    if reason == "closed":
        client.close()
    with pytest.raises(EventError) as caught:
        client.track("click")
    assert caught.value.reason == reason
    assert client.stats().refused == {reason: 1}


def test_many_refusals_are_one_log_line(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A host that does it wrong a thousand times reads of it once, and its data is in no log."""
    client = make(transport=RecordingTransport())
    for _ in range(1000):
        client.track("secret" * 20)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "secret" not in caplog.text


def test_a_disabled_client_does_nothing(make: Make, transport: RecordingTransport) -> None:
    """With enabled=False every call works, nothing is accepted and nothing is sent."""
    client = make(transport=transport, enabled=False)
    with client.session(user_id=42) as session_id:
        assert client.track("click") is None
        client.identify(42)
    assert isinstance(session_id, str)
    assert client.close().delivered == 0
    assert (client.stats().accepted, client.stats().refused, transport.attempts) == (0, {}, 0)


# What flush() and close() come to


@pytest.mark.parametrize("method", ["flush", "close"])
def test_a_hanging_collector_does_not_hold_the_host(make: Make, method: str, caplog: pytest.LogCaptureFixture) -> None:
    """flush() and close() return at their deadline, and say how much still waits."""
    with hanging_server() as url:
        client = make(url, write_key="k", flush_interval=60)
        client.track("click")
        report = getattr(client, method)(timeout=0.5)
        assert (report.delivered, report.pending + report.dropped) == (0, 1)
        assert 0.4 < report.elapsed < 5
        assert_balanced(client.stats())


def test_a_hanging_request_of_the_worker_does_not_hold_the_host(make: Make) -> None:
    """flush() returns at its deadline, also while the worker's own request hangs."""
    with hanging_server() as url:
        client = make(url, write_key="k", flush_interval=0.01)
        client.track("click")
        deadline = time.monotonic() + 10
        while not is_sending(client):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        report = client.flush(timeout=0.3)
        assert report.pending == 1
        assert 0.2 < report.elapsed < 5


def is_sending(client: Client) -> bool:
    """Whether a request of a client is under way."""
    sending = client._engine.worker._sending
    return sending is not None and sending.locked()


def test_flush_waits_for_ever_if_told_to(client: Client) -> None:
    """A timeout of infinity is no error."""
    client.track("click")
    assert client.flush(timeout=float("inf")).delivered == 1


def test_flush_reports_what_it_did(make: Make) -> None:
    """A report counts what arrived during the call, what was set aside and what waits."""
    verdict = {"index": 0, "code": "clock_ahead", "message": "..."}
    stored = Outcome(fate="stored", accepted=6, duplicates=3, rejected=(verdict,))
    client = make(transport=RecordingTransport([stored]), flush_interval=60)
    for _ in range(10):
        client.track("click")
    report = client.flush()
    assert (report.delivered, report.rejected, report.pending) == (9, 1, 0)
    again = client.flush()
    assert (again.delivered, again.rejected, again.pending) == (0, 0, 0)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], {"delivered": 10}),
        ([Outcome(fate="stored", accepted=4, duplicates=6)], {"delivered": 4, "duplicate": 6}),
        ([Outcome(fate="stored", accepted=9, rejected=({"index": 0},))], {"delivered": 9, "rejected": 1}),
        ([Outcome(fate="again")], {"delivered": 10}),
        ([Outcome(fate="refused")] * 19, {"dropped": {"refused": 10}}),
        ([Outcome(fate="again", retry_after=300.0)], {"pending": 10}),
        ([Outcome(fate="misconfigured")] * 100, {"pending": 10}),
    ],
    ids=["stored", "duplicates", "rejected", "again", "refused", "asked to wait", "misconfigured"],
)
def test_the_account_balances(make: Make, outcomes: list[Outcome], expected: dict[str, Any]) -> None:
    """Whatever the collector answers, each accepted record is in exactly one place."""
    client = make(transport=RecordingTransport(outcomes), flush_interval=60, retry_cap=0.05)
    for _ in range(10):
        client.track("click")
    client.flush(timeout=0.5)
    stats = client.stats()
    nothing = {"delivered": 0, "duplicate": 0, "rejected": 0, "dropped": {}, "pending": 0}
    assert {name: getattr(stats, name) for name in nothing} == nothing | expected
    assert_balanced(stats)


def test_the_account_balances_at_any_moment(make: Make) -> None:
    """While threads track and the worker sends, every look at stats() adds up."""
    client = make(transport=RecordingTransport(), flush_interval=0.001, max_batch_events=7)
    looks: list[Stats] = []

    def work(_: int) -> None:
        for _ in range(300):
            client.track("click")
            looks.append(client.stats())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    client.flush()
    for stats in looks:
        assert_balanced(stats)
    assert client.stats().delivered == 2400


def test_close_says_what_is_lost(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """One line tells how many records could not be sent; a second close() repeats nothing."""
    client = make(transport=RecordingTransport([Outcome(fate="misconfigured")] * 100), flush_interval=60)
    client.track("click")
    client.track("click")
    client.close(timeout=0.1)
    client.close(timeout=0.1)
    lines = [record.getMessage() for record in caplog.records if "lost" in record.getMessage()]
    assert lines == ["2 records could not be sent within 0.1 seconds and are lost."]


# The functions of the package


def test_everything_can_be_called_before_init(no_default_client: None, caplog: pytest.LogCaptureFixture) -> None:
    """Without init() and without environment every function works and does nothing, and one warning says so."""
    with analytics_sdk.session(user_id=42):
        assert analytics_sdk.track("click") is None
        analytics_sdk.identify(42)
    analytics_sdk.end_session(analytics_sdk.start_session())
    assert analytics_sdk.flush().delivered == 0
    assert analytics_sdk.stats().accepted == 0
    assert analytics_sdk.close().pending == 0
    assert ["init() was not called" in record.getMessage() for record in caplog.records] == [True]


def test_the_environment_is_enough(no_default_client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without init() the default client is made from the environment."""
    monkeypatch.setenv("ANALYTICS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANALYTICS_WRITE_KEY", "k")
    monkeypatch.setenv("ANALYTICS_FLUSH_INTERVAL", "60")
    assert analytics_sdk.track("click") is not None
    assert analytics_sdk.stats().pending == 1


def test_init_sets_up_anew(no_default_client: None) -> None:
    """A second init() sends what is there to where it belongs, and what comes then to the new place."""
    first, second = RecordingTransport(), RecordingTransport()
    client = analytics_sdk.init(transport=first, flush_interval=60)
    analytics_sdk.track("one")
    assert analytics_sdk.init(transport=second, flush_interval=60) is client
    assert [event["event_type"] for event in first.events] == ["one"]
    analytics_sdk.track("two")
    analytics_sdk.flush()
    assert [event["event_type"] for event in second.events] == ["two"]


def test_a_failed_init_changes_nothing(no_default_client: None) -> None:
    """Wrong configuration raises, and the client before goes on."""
    transport = RecordingTransport()
    analytics_sdk.init(transport=transport, flush_interval=60)
    with pytest.raises(analytics_sdk.ConfigError):
        analytics_sdk.init("no address", write_key="k")
    analytics_sdk.track("click")
    assert analytics_sdk.flush().delivered == 1


@pytest.mark.parametrize(
    "name", ["track", "identify", "session", "start_session", "end_session", "flush", "close", "stats"]
)
def test_the_functions_are_the_clients_methods(name: str) -> None:
    """Each function of the package has the signature and the documentation of the client's method."""
    function, method = getattr(analytics_sdk, name), getattr(Client, name)
    parameters = list(inspect.signature(method).parameters.values())[1:]
    assert list(inspect.signature(function).parameters.values()) == parameters
    assert function.__doc__ == method.__doc__
    assert function.__name__ == name


def test_tracking_from_a_signal_handler(client: Client) -> None:
    """A signal handler may track in the midst of a track() of its own thread; the account balances all the same."""
    handled = itertools.count()

    def handle(*_: object) -> None:
        client.track("click", {"handled": next(handled)})

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(20_000):
            client.track("click", {"number": number})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    client.flush()
    assert next(handled) > 10
    assert client.stats().pending == 0
    assert client.stats().accepted == client.stats().delivered


def test_an_event_is_accepted_before_the_close_or_not_at_all(make: Callable[..., Client]) -> None:
    """Whatever threads track while the client is closed, what was accepted has arrived."""
    for _ in range(50):
        client = make(transport=RecordingTransport(), flush_interval=60)
        started = threading.Barrier(5)

        def keep_tracking(client: Client = client, started: threading.Barrier = started) -> None:
            started.wait()
            while client.track("click"):
                pass

        threads = [threading.Thread(target=keep_tracking) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        client.close()
        for thread in threads:
            thread.join()
        assert client.stats().pending == 0


def test_a_useless_address_costs_no_event(client: Client, transport: RecordingTransport) -> None:
    """An address that is none is left out of the event, rather than lose the event to it."""
    client.track("click", ip_address="1.2.3.4, 5.6.7.8")
    client.track("click", ip_address="fe80::1%eth0")
    client.flush()
    assert [event.get("ip_address") for event in transport.events] == [None, "fe80::1"]


def test_a_useless_user_costs_no_event_of_the_session(client: Client, transport: RecordingTransport) -> None:
    """A session for a user id that is none is anonymous, and its events are accepted."""
    with client.session(user_id=3.5):  # type: ignore[arg-type]
        client.track("click")
    client.flush()
    assert [event.get("user_id") for event in transport.events] == [None]
    assert client.stats().refused == {"invalid": 1}
