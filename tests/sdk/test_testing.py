"""What we ship for the tests of applications: it behaves as the collector does, without a network."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

import analytics_sdk
from analytics_sdk import Client, ConfigError, EventError, _default, _process
from analytics_sdk._spool import Spool
from analytics_sdk._transport import HttpTransport
from analytics_sdk.testing import Outcome, Recorder, RecordingTransport, recording
from tests.conftest import READ_KEY, WRITE_KEY
from tests.programs import ROOT, Collector
from tests.sdk.servers import Answering, answering_server

pytest_plugins = ["pytester"]

# RecordingTransport: for a client of one's own making


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


# recording(): everything that is tracked in a block


@pytest.fixture
def recorder(no_default_client: None) -> Iterator[Recorder]:
    """What is tracked during the test, in a process where `init()` has not been called yet."""
    with recording() as recorder:
        yield recorder


@pytest.fixture
def real() -> Iterator[Answering]:
    """A server that nothing may reach."""
    with answering_server() as server:
        yield server
    assert server.requests == []


def types(recorder: Recorder) -> list[str]:
    """The types of the events, in order."""
    return [event["event_type"] for event in recorder.events]


def test_every_client_is_recorded(
    real: Answering, make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default client, before and after init(), clients that there are and new ones: all are seen, none sends."""
    monkeypatch.setenv("ANALYTICS_URL", real.url)
    monkeypatch.setenv("ANALYTICS_WRITE_KEY", "k")
    old = make(real.url, write_key="k", flush_interval=0.01)
    with recording() as recorder:
        analytics_sdk.track("default")
        analytics_sdk.init(real.url, write_key="other", flush_interval=0.01)
        analytics_sdk.track("after init")
        old.track("old")
        make(real.url, write_key="third", flush_interval=0.01).track("new")
        assert analytics_sdk.flush().delivered == 1
        analytics_sdk.close()
        old.close()
    assert types(recorder) == ["default", "after init", "old", "new"]


def test_afterwards_all_is_as_it_was(real: Answering, make: Callable[..., Client], no_default_client: None) -> None:
    """Default client and other clients have the very engines that they had, and these know nothing of the block."""
    client = make(real.url, write_key="k", flush_interval=60)
    analytics_sdk.init(real.url, write_key="k", flush_interval=61)
    before = (client._engine, _default.client._engine, set(_process.engines()), threading.enumerate())
    with recording():
        client.track("click")
        client.close()
        analytics_sdk.init("https://collector.example", write_key="x")
        analytics_sdk.track("click")
    assert (client._engine, _default.client._engine, set(_process.engines()), threading.enumerate()) == before
    assert (client.stats().accepted, analytics_sdk.stats().accepted) == (0, 0)


def test_afterwards_a_process_without_init_is_without_it(no_default_client: None) -> None:
    """If the default client had no engine before the block, it has none after it."""
    with recording():
        analytics_sdk.track("click")
        analytics_sdk.init("https://collector.example", write_key="x")
    assert _default.client.engine_so_far is None


def test_afterwards_a_block_that_failed_is_left_all_the_same(no_default_client: None) -> None:
    """An exception in the block, as of a test that fails, changes nothing of that."""

    def fail() -> None:
        with recording():
            analytics_sdk.track("click")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert _default.client.engine_so_far is None


def test_a_client_that_was_made_in_a_block_waits_for_the_next(real: Answering) -> None:
    """A client that a test has left behind never sends: it tracks nothing, and in the next block it is recorded."""
    with recording() as first:
        client = Client(real.url, write_key="k", flush_interval=0.01, strict=True)
        client.track("one")
    assert client.track("between") is None
    client.identify(42, {"plan": "pro"})
    with recording() as second:
        client.track("two")
        with pytest.raises(EventError):
            client.track("")
    assert (types(first), types(second)) == (["one"], ["two"])
    client.close()
    assert client.track("closed") is None


def test_clients_that_are_put_aside_can_be_closed() -> None:
    """One that is closed between two blocks stays closed, and the others are recorded in the next one."""
    with recording():
        clients = [Client("https://collector.example", write_key=key) for key in ("a", "b", "a")]
    clients[0].close()
    with recording() as recorder:
        for client in clients:
            client.track("click")
    assert types(recorder) == ["click", "click"]
    for client in clients:
        client.close()


def test_blocks_in_blocks() -> None:
    """The inner block records what is tracked in it; clients that were made in it go over to the outer one."""
    with recording() as outer:
        analytics_sdk.track("before")
        with recording() as inner:
            analytics_sdk.track("inside")
            client = Client("https://collector.example", write_key="k")
        analytics_sdk.track("after")
        client.track("left behind")
    assert (types(outer), types(inner)) == (["before", "after", "left behind"], ["inside"])


def test_neither_address_nor_key_is_needed(recorder: Recorder) -> None:
    """What production gets from its environment, a test need not have; a wrong setting is wrong all the same."""
    analytics_sdk.init()
    Client().track("click")
    with pytest.raises(ConfigError):
        analytics_sdk.init("no address")
    analytics_sdk.track("click")
    recorder.assert_tracked("click", times=2)


def test_no_socket_and_no_thread(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracking in a block opens no socket and starts no thread."""
    monkeypatch.setattr(socket, "socket", None)
    before = threading.enumerate()
    for _ in range(2_000):
        analytics_sdk.track("click")
    analytics_sdk.flush()
    assert threading.enumerate() == before


def test_more_than_the_buffer_holds(recorder: Recorder) -> None:
    """Nobody sends, and yet nothing is ever full."""
    client = Client(max_buffer_events=1000, max_batch_events=100)
    for number in range(5_000):
        assert client.track("click", {"number": number})
    assert [event["event_data"]["number"] for event in recorder.events] == list(range(5_000))
    assert client.stats().delivered >= 4_900
    assert client.flush().pending == 0


def test_threads_and_tasks(recorder: Recorder) -> None:
    """What threads and asyncio tasks track is there at once, each in its own session."""

    def work(user_id: int) -> None:
        with analytics_sdk.session(user_id=user_id):
            analytics_sdk.track("thread")

    async def work_in_turn(user_id: int) -> None:
        """Track in a session that others interrupt."""
        with analytics_sdk.session(user_id=user_id):
            await asyncio.sleep(0)
            analytics_sdk.track("task")

    async def work_all() -> None:
        """Work at the same time, and look at it before the loop ends."""
        await asyncio.gather(*map(work_in_turn, range(20)))
        recorder.assert_tracked("task", times=20)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(100)))
    asyncio.run(work_all())
    for kind, count in (("thread", 100), ("task", 20)):
        assert sorted(event["user_id"] for event in recorder.assert_tracked(kind)) == list(range(count))


def test_the_spool_is_left_alone(recorder: Recorder, tmp_path: Path) -> None:
    """A spool is neither made nor written, and what waits in one is not taken for the test's."""
    url = "http://127.0.0.1:9"
    segment = Spool(str(tmp_path / "full"), url, 2**30).create(0)
    assert segment is not None
    segment.append(b'{"event_id":"019c1400-cafb-7000-8000-000000000001"}')
    segment.leave()
    before = segment.path.read_bytes() if segment.path else b""
    for folder in ("full", "missing"):
        client = Client(url, write_key="k", spool=tmp_path / folder)
        client.track("click")
        client.flush()
        client.close()
    assert types(recorder) == ["click", "click"]
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.read_bytes() for path in (tmp_path / "full").iterdir()] == [before]


def test_signal_handlers_are_left_alone(recorder: Recorder) -> None:
    """handle_sigterm has no effect in a test."""
    before = signal.getsignal(signal.SIGTERM)
    analytics_sdk.init(handle_sigterm=True)
    analytics_sdk.track("click")
    assert signal.getsignal(signal.SIGTERM) is before


def test_everything_is_tracked(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests switch off for the sake of the network, and what is left to chance, has no effect."""
    monkeypatch.setenv("ANALYTICS_ENABLED", "false")
    analytics_sdk.init(sample_rate=0.0)
    assert analytics_sdk.track("click")
    Client(enabled=False).track("click")
    recorder.assert_tracked("click", times=2)


def test_the_settings_of_the_app_have_their_effect(make: Callable[..., Client]) -> None:
    """before_send, encoder, redact and strict are those of the client, also of one that was made before."""

    class Money:
        """Nothing that JSON has a form for."""

    def before_send(event: dict[str, Any]) -> dict[str, Any] | None:
        return None if event["event_type"] == "secret" else event

    client = make(
        "http://127.0.0.1:9",
        write_key="k",
        strict=True,
        before_send=before_send,
        encoder=lambda value: "9.99 EUR" if isinstance(value, Money) else None,
        redact=["pin"],
    )
    with recording() as recorder:
        client.track("purchase", {"price": Money(), "pin": 1234})
        client.track("secret")
        with pytest.raises(EventError):
            client.track("x" * 100)
    [event] = recorder.assert_tracked("purchase", {"price": Money()})
    assert event["event_data"]["price"] == "9.99 EUR"
    assert event["event_data"]["pin"] != 1234
    assert recorder.refused == {"before_send": 1, "invalid": 1}
    recorder.assert_not_tracked("secret")


def test_a_child_keeps_to_itself(real: Answering, recorder: Recorder) -> None:
    """What a forked child tracks does not touch the network either; the parent does not see it."""
    client = Client(real.url, write_key="k", flush_interval=0.01)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            client.track("child")
            client.flush()
            status = 0 if "child" in types(recorder) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    client.track("parent")
    assert types(recorder) == ["parent"]


def test_page_views_are_recorded(recorder: Recorder) -> None:
    """What the middleware records is there when the response is closed."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        analytics_sdk.track("click")
        return [b"<p>"]

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_ACCEPT": "text/html", "wsgi.url_scheme": "http"}
    response: Any = analytics_sdk.wsgi.AnalyticsMiddleware(app)(environ, lambda *_: None)
    list(response)
    response.close()
    [click] = recorder.assert_tracked("click")
    recorder.assert_tracked("page_view", session_id=click["session_id"])


def test_it_costs_less_than_a_millisecond(no_default_client: None) -> None:
    """A block with an event and a look at it is nothing that a suite of thousands of tests would feel."""

    def once() -> float:
        began = time.process_time()
        with recording() as recorder:
            analytics_sdk.track("click")
            recorder.assert_tracked("click")
        return time.process_time() - began

    assert min(once() for _ in range(100)) < 0.001


# The rows


def do_what_an_app_does() -> None:
    """Everything that changes rows, in an order that matters."""
    with analytics_sdk.session(session_id="s1", referrer="https://a.example/") as session_id:
        analytics_sdk.track("page_view", {"path": "/"})
        analytics_sdk.identify("42", {"plan": "free", "since": 2020})
        analytics_sdk.track("click", user_id="007", ip_address="10.0.0.1")
        analytics_sdk.identify(7)
    analytics_sdk.end_session(session_id)
    analytics_sdk.track("late", session_id="s1")
    analytics_sdk.identify(42, {"plan": "pro"})
    analytics_sdk.identify(-1, {"a": None}, session_id="s2")
    with analytics_sdk.session(user_id="ann@example.org", user_agent="Browser"):
        analytics_sdk.track("purchase", {"amount": Decimal("9.990"), "ids": {1}})
    for _ in range(2):
        analytics_sdk.track("order", event_id="order-1", created_at=datetime(2026, 1, 31, 12, 0, 0, 500000, UTC))
    analytics_sdk.track("order", event_id="order-1", created_at=datetime(2026, 2, 1, tzinfo=UTC), session_id="s3")
    analytics_sdk.track("order", created_at=datetime(2026, 1, 1, tzinfo=UTC), session_id="s3", user_id=2**50)
    analytics_sdk.track("alone")


def test_rows_are_those_of_the_collector(recorder: Recorder, collector: Collector) -> None:
    """What was recorded, sent to a real collector record by record, makes the very rows that the recorder shows."""
    do_what_an_app_does()
    transport = HttpTransport(collector.url, WRITE_KEY)
    for record in recorder._stand_ins.records:
        batch = {"e": b'{"events":[%b]}', "s": b'{"sessions":[%b]}', "u": b'{"users":[%b]}'}[chr(record[2])]
        assert transport.send(batch % record, 10.0).fate == "stored"
    transport.close()
    with analytics_sdk.Reader(collector.url, read_key=READ_KEY) as reader:
        events = {(event.event_id, event.created_at): as_row(event, "received_at") for event in reader.events()}
        sessions = {session.session_id: as_row(session, "duration") for session in reader.sessions()}
        users = {user["user_id"]: reader.profile(user["user_id"]) for user in recorder.users}
    assert {(event["event_id"], event["created_at"]): event for event in recorder.events} == events
    sessions["s2"]["started_at"] = mock.ANY  # of which nothing is known but when the record came
    assert {session["session_id"]: session for session in recorder.sessions} == sessions
    assert len(users) == 2
    assert {user_id: user and user.traits for user_id, user in users.items()} == {
        user["user_id"]: user["traits"] for user in recorder.users
    }


def as_row(value: Any, without: str) -> dict[str, Any]:
    """What the reader has read, as a dict."""
    return {name: part for name, part in msgspec.structs.asdict(value).items() if name != without}


def test_clear_forgets(recorder: Recorder) -> None:
    """After clear() only what comes later is there."""
    do_what_an_app_does()
    recorder.clear()
    assert (recorder.events, recorder.sessions, recorder.users) == ([], [], [])
    analytics_sdk.track("later")
    assert types(recorder) == ["later"]


# Assertions


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["purchase"], {}),
        (["purchase", {"amount": Decimal("9.99")}], {}),
        (["purchase", {"amount": "9.99", "cart": {"items": [{"id": 1}, {"id": 2}]}}], {}),
        (["purchase", {"at": datetime(2026, 1, 31, tzinfo=UTC), "weight": pytest.approx(0.3), "note": mock.ANY}], {}),
        (["purchase", {1: "one", "tags": ("a", "b")}], {}),
        (["purchase"], {"user_id": 42}),
        (["purchase"], {"user_id": "42", "session_id": "s", "times": 1}),
        ([analytics_sdk.EventType.CLICK], {"user_id": None, "session_id": "", "times": 2}),
        (["signup"], {"times": 0}),
    ],
    ids=lambda value: re.sub(r"\W+", "-", str(value))[:60],
)
def test_what_was_tracked(recorder: Recorder, arguments: list[Any], options: dict[str, Any]) -> None:
    """Events are found by type, by a part of their data at any depth, by user and by session."""
    data = {
        "amount": Decimal("9.99"),
        "cart": {"items": [{"id": 1, "n": 1}, {"id": 2, "n": 1}], "total": 2},
        "at": datetime(2026, 1, 31, tzinfo=UTC),
        "weight": 0.1 + 0.2,
        "note": "thanks",
        "tags": ["a", "b"],
        1: "one",
    }
    analytics_sdk.track("purchase", data, user_id=42, session_id="s")
    analytics_sdk.track("click")
    analytics_sdk.track("click")
    found = recorder.assert_tracked(*arguments, **options)
    assert found == [event for event in recorder.events if event["event_type"] == arguments[0]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"flag": 1}, "event_data['flag'] is True, not 1"),
        ({"one": True}, "event_data['one'] is 1, not True"),
        ({"amount": Decimal("9.990")}, "event_data['amount'] is '9.99', not Decimal('9.990')"),
        ({"items": [1]}, "event_data['items'] is [1, 2], not [1]"),
        ({"items": [1, 3]}, "event_data['items'][1] is 2, not 3"),
        ({"cart": {"id": 2}}, "event_data['cart']['id'] is 1, not 2"),
        ({"cart": {"nothing": None}}, "event_data['cart']['nothing'] is missing"),
        ({"cart": 1}, "event_data['cart'] is {'id': 1}, not 1"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", str(value)) if isinstance(value, dict) else "",
)
def test_what_was_tracked_otherwise(recorder: Recorder, data: dict[str, Any], why: str) -> None:
    """A failure says of the nearest event which of its values are others."""
    stored = {"flag": True, "one": 1, "amount": Decimal("9.99"), "items": [1, 2], "cart": {"id": 1}}
    analytics_sdk.track("purchase", stored)
    with pytest.raises(AssertionError) as caught:
        recorder.assert_tracked("purchase", data)
    assert why in str(caught.value).splitlines()[-1]


def test_a_failure_shows_what_was_tracked(recorder: Recorder) -> None:
    """The nearest event comes first, a misspelt type is near, and what was not accepted is told."""
    for number in range(12):
        analytics_sdk.track("page_view", {"number": number})
    analytics_sdk.track("purchased", {"amount": 1})
    analytics_sdk.track("purchase", {"amount": 1}, user_id=7, session_id="s")
    analytics_sdk.track("")
    with pytest.raises(AssertionError) as caught:
        recorder.assert_tracked("purchase", {"amount": 2}, user_id=42)
    lines = str(caught.value).splitlines()
    assert lines[:6] == [
        "'purchase' with user_id=42, event_data with {'amount': 2} was not tracked.",
        "What was tracked, 14 events, the nearest first:",
        "  - purchase user_id=7 session_id='s' {\"amount\": 1}",
        "      user_id is 7, not 42",
        "      event_data['amount'] is 1, not 2",
        '  - purchased {"amount": 1}',
    ]
    assert lines[-2:] == ["  and 4 more", "Not accepted: 1 invalid. With strict=True track() raises and says why."]
    assert len(lines) == 16


def test_failures_with_little_to_show(recorder: Recorder) -> None:
    """Nothing at all, too often, and what should not have been: each is said in its own words."""
    with pytest.raises(AssertionError) as nothing:
        recorder.assert_tracked("click")
    assert str(nothing.value) == "'click' was not tracked.\nNothing was tracked."
    analytics_sdk.track("click", {"long": "x" * 1000})
    with pytest.raises(AssertionError) as too_often:
        recorder.assert_tracked("click", times=2)
    assert str(too_often.value).splitlines()[0] == "'click' was tracked once, not twice."
    assert max(map(len, str(too_often.value).splitlines())) < 310
    with pytest.raises(AssertionError) as at_all:
        recorder.assert_not_tracked(session_id="")
    assert str(at_all.value).splitlines()[0] == "any event with session_id='' was tracked once."
    assert str(at_all.value).splitlines()[2].startswith("  = click")


def test_nothing_was_tracked(recorder: Recorder) -> None:
    """assert_not_tracked() without arguments means any event; what it is asked about may be there otherwise."""
    recorder.assert_not_tracked()
    analytics_sdk.track("click", user_id=1)
    recorder.assert_not_tracked("click", user_id=None)
    recorder.assert_not_tracked("click", {"a": 1})


class UnittestUsers(unittest.TestCase):
    """The same without pytest."""

    def setUp(self) -> None:
        """Record each test by itself."""
        self.analytics = self.enterContext(recording())

    def test_one(self) -> None:
        """A test of unittest sees what it has tracked."""
        analytics_sdk.track("click", {"test": 1})
        self.analytics.assert_tracked("click", {"test": 1}, times=1)

    def test_two(self) -> None:
        """And nothing of the test before it."""
        analytics_sdk.track("click", {"test": 2})
        self.analytics.assert_tracked("click", {"test": 2}, times=1)
        self.analytics.assert_tracked("click", times=1)


# The pytest plugin, in runs of its own


APP = """
import analytics_sdk

analytics_sdk.init({url!r}, write_key="real", flush_interval=0.01)
early = analytics_sdk.Client({url!r}, write_key="early", flush_interval=0.01)


def buy(amount):
    analytics_sdk.track("purchase", {{"amount": amount}}, user_id=42)
    early.track("early")
    analytics_sdk.Client({url!r}, write_key="late", flush_interval=0.01).track("late")
"""

TESTS = """
import unittest

import pytest
import app


@pytest.mark.parametrize("amount", range(8))
def test_buying(analytics, amount):
    app.buy(amount)
    analytics.assert_tracked("purchase", {"amount": amount}, user_id=42, times=1)
    assert [event["event_type"] for event in analytics.events] == ["purchase", "early", "late"]


@pytest.mark.usefixtures("analytics")
class TestOld(unittest.TestCase):
    def test_buying(self):
        app.buy(1)
"""


def run_pytest(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest as a host would, without the plugins that it would not have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        plugins = ("-p", "analytics_sdk_pytest", "-p", "xdist")
        return pytester.runpytest_subprocess("-W", "error", *plugins, *arguments)


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_the_fixture(pytester: pytest.Pytester, real: Answering, processes: tuple[str, ...]) -> None:
    """Each test of a host sees its own events, also in processes of pytest-xdist, and nothing reaches the network."""
    pytester.makepyfile(app=APP.format(url=real.url), test_app=TESTS)
    run_pytest(pytester, *processes).assert_outcomes(passed=9)


def test_a_failure_in_a_test_of_the_host(pytester: pytest.Pytester) -> None:
    """The report shows the line of the test and what was tracked, and nothing of our insides."""
    pytester.makepyfile(
        """
        import analytics_sdk

        def test_buying(analytics):
            analytics_sdk.track("purchase", {"amount": 1})
            analytics.assert_tracked("purchase", {"amount": 2})
        """
    )
    result = run_pytest(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       analytics.assert_tracked(?purchase?, {?amount?: 2})",
            "E       AssertionError: 'purchase' with event_data with {'amount': 2} was not tracked.",
            "E       What was tracked:",
            "E         - purchase {?amount?: 1}",
            "E             event_data?'amount'? is 1, not 2",
        ]
    )
    result.stdout.no_fnmatch_line("*_expectation.py*")


def test_all_tests_of_a_host_at_once(pytester: pytest.Pytester, real: Answering) -> None:
    """One line of configuration keeps a whole suite off the network."""
    pytester.makeini("[pytest]\nusefixtures = analytics")
    pytester.makepyfile(app=APP.format(url=real.url), test_app="import app\n\ndef test_it():\n    app.buy(1)\n")
    run_pytest(pytester).assert_outcomes(passed=1)


def test_the_plugin_costs_a_host_nothing(pytester: pytest.Pytester) -> None:
    """A run that does not ask for the fixture imports the plugin's one module, and nothing of the package."""
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "analytics_sdk_pytest" in sys.modules
            assert not [name for name in sys.modules if name.partition(".")[0] in ("analytics_sdk", "msgspec", "httpx")]
        """
    )
    run_pytest(pytester).assert_outcomes(passed=1)


def test_the_plugin_is_installed_with_the_package() -> None:
    """The entry point names a module that the wheel has, by the name that `-p` takes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"analytics_sdk_pytest": "analytics_sdk_pytest"}
    assert "sdk/analytics_sdk_pytest.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert (ROOT / "sdk/analytics_sdk_pytest.py").exists()


def test_pytest_is_not_needed() -> None:
    """Without pytest everything but the fixture works."""
    script = """
import sys
sys.modules["pytest"] = None
import analytics_sdk
with analytics_sdk.testing.recording() as analytics:
    analytics_sdk.track("click")
    analytics.assert_tracked("click")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_tests_in_the_documentation_pass(pytester: pytest.Pytester) -> None:
    """Every test of docs/testing.md is one that passes in a host's run, in the order of the page."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/testing.md").read_text(), re.S)
    ini = re.search(r"```ini\n(.*?)```", (ROOT / "docs/testing.md").read_text(), re.S)
    assert ini is not None
    pytester.makeini(ini[1])
    for number, block in enumerate(blocks):
        pytester.makepyfile(**{f"test_page_{number}": block})
    result = run_pytest(pytester)
    outcomes = result.parseoutcomes()
    assert outcomes == {"passed": sum(block.count("def test_") for block in blocks)}
    assert outcomes["passed"] > 3
