"""The host's functions: they are told everything once, their errors go nowhere, and the log keeps quiet about data."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from analytics_sdk import Client
from analytics_sdk._batch import Batch
from analytics_sdk._config import make_config
from analytics_sdk._hooks import Hooks, is_sampled
from analytics_sdk._segment import Segment
from analytics_sdk.testing import Outcome, RecordingTransport
from tests.sdk.world import Clock

Make = Callable[..., Client]
REFUSED = Outcome(fate="refused", reason="HTTP 413")
VERDICT = {"record": "event", "index": 0, "code": "clock_ahead", "message": "an hour ahead"}


def new_hooks(clock: Clock, **functions: Any) -> Hooks:
    """Hooks that go by a clock of ours."""
    return Hooks(make_config(functions, {}, needs_collector=False), clock.monotonic)


def batch_of(*records: dict[str, Any]) -> Batch:
    """A batch as it is sent."""
    return Batch([json.dumps(one, separators=(",", ":")).encode() for one in records], Segment(), in_memory=True)


def fail(*_: object) -> None:
    """What a host's function may do."""
    raise ZeroDivisionError("the host's")


# Told of losses


def test_on_drop_is_told_as_much_as_is_counted(make: Make) -> None:
    """The numbers that on_drop gets add up to those in stats(), dropped and refused together."""
    told: Counter[str] = Counter()
    transport = RecordingTransport([REFUSED] * 5)
    client = make(
        transport=transport,
        flush_interval=60,
        max_buffer_events=3,
        on_drop=lambda reason, count: told.update({reason: count}),
    )
    for _ in range(5):
        client.track("click")
    client.track("")
    client.flush()
    client.close()
    client.track("click")
    stats = client.stats()
    assert stats.dropped == {"refused": 3}
    assert stats.refused == {"buffer_full": 2, "invalid": 1, "closed": 1}
    assert told == Counter(stats.dropped) + Counter(stats.refused)


def test_what_the_host_wished_is_no_loss(make: Make) -> None:
    """Events that before_send or the sample leave out are counted, and nobody is alarmed."""
    told: list[Any] = []
    client = make(transport=RecordingTransport(), before_send=lambda _: None, on_drop=lambda *what: told.append(what))
    assert client.track("click") is None
    sampled = make(transport=RecordingTransport(), sample_rate=0.0, on_drop=lambda *what: told.append(what))
    assert sampled.track("click") is None
    assert (client.stats().refused, sampled.stats().refused) == ({"before_send": 1}, {"sampled_out": 1})
    assert told == []


def test_the_end_tells_on_drop(make: Make) -> None:
    """What close() could not send is told by its reason."""
    told: list[tuple[str, int]] = []
    transport = RecordingTransport([Outcome(fate="again")] * 100)
    client = make(transport=transport, flush_interval=60, on_drop=lambda reason, count: told.append((reason, count)))
    client.track("click")
    client.track("click")
    client.close(timeout=0.05)
    assert told == [("exit", 2)]


def test_on_reject_gets_the_event(make: Make) -> None:
    """What the collector set aside, and what it will never take, is given back with the reason."""
    told: list[tuple[str, str]] = []
    transport = RecordingTransport([Outcome(fate="stored", rejected=(VERDICT,)), REFUSED])
    client = make(
        transport=transport,
        flush_interval=60,
        on_reject=lambda event, reason: told.append((event["event_type"], reason)),
    )
    client.track("set aside")
    client.flush()
    client.track("refused")
    client.flush()
    assert told == [("set aside", "clock_ahead: an hour ahead"), ("refused", "HTTP 413")]


def test_verdicts_find_their_records() -> None:
    """A verdict is on a record of one kind at a place among those of that kind."""
    told: list[dict[str, Any]] = []
    hooks = new_hooks(Clock(), on_reject=lambda event, _: told.append(event))
    event, session, user = {"event_id": "e"}, {"session_id": "s"}, {"user_id": 1}
    batch = batch_of({"event_id": "other"}, session, event, user)
    verdicts = [
        {"record": "event", "index": 1},
        {"record": "session", "index": 0},
        {"record": "user", "index": 0},
        {"index": 1},
    ]
    hooks.rejected(batch, verdicts)
    assert told == [event, session, user, event]


@pytest.mark.parametrize(
    "verdict",
    [
        {},
        {"index": None},
        {"index": 7},
        {"index": -1},
        {"index": "0"},
        {"index": 0.0},
        {"record": None, "index": 0},
        {"record": "", "index": 0},
        {"record": ["event"], "index": 0},
        {"record": "galaxy", "index": 0},
    ],
)
def test_a_verdict_on_nothing_is_no_error(verdict: dict[str, Any]) -> None:
    """What does not name a record is passed over."""
    told: list[Any] = []
    hooks = new_hooks(Clock(), on_reject=lambda event, _: told.append(event))
    hooks.rejected(batch_of({"event_id": "e"}), [verdict])
    assert told == []


# Errors of the host's


@pytest.mark.parametrize("name", ["on_drop", "on_reject"])
def test_a_function_that_fails_costs_nothing(make: Make, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a function raises is one line in the log; the records behind are delivered, and the books are right."""
    transport = RecordingTransport([REFUSED, REFUSED])
    client = make(transport=transport, flush_interval=60, max_batch_events=1, **{name: fail})
    for _ in range(5):
        client.track("click")
    assert client.track("") is None
    client.flush()
    assert (client.stats().delivered, client.stats().dropped) == (3, {"refused": 2})
    assert sum(f"{name} raised" in record.getMessage() for record in caplog.records) == 1
    assert "the host's" in caplog.text


def test_a_before_send_that_fails_lets_nothing_pass(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A function that should have removed something, and failed, has not: the event is not accepted."""
    transport = RecordingTransport()
    client = make(transport=transport, flush_interval=60, before_send=fail)
    assert client.track("click", {"secret": "value"}) is None
    client.flush()
    assert (client.stats().refused, transport.events) == ({"before_send": 1}, [])
    assert "value" not in caplog.text.replace("return value", "")


def test_a_function_that_ends_the_thread_does_not_end_the_worker(make: Make) -> None:
    """Records arrive although a function of the host's raises again and again, in the worker's own thread."""
    transport = RecordingTransport([REFUSED] * 10)
    client = make(transport=transport, flush_interval=0.001, max_batch_events=1, on_reject=fail, on_drop=fail)
    for _ in range(20):
        client.track("click")
    assert client.flush().pending == 0
    assert (client.stats().delivered, client.stats().dropped) == (10, {"refused": 10})


# Functions that track


def test_on_drop_may_track(make: Make) -> None:
    """A function that tracks what was lost is not called for what that itself loses, so it ends."""
    told: list[str] = []

    def note(reason: str, _: int) -> None:
        told.append(reason)
        client.track("lost", {"reason": reason})
        client.track("")

    client = make(transport=RecordingTransport(), max_buffer_events=2, flush_interval=60, on_drop=note)
    for _ in range(3):
        client.track("click")
    assert told == ["buffer_full"]
    assert client.stats().refused == {"buffer_full": 2, "invalid": 1}
    client.flush()
    client.track("")
    assert told == ["buffer_full", "invalid"]


def test_on_reject_may_track_from_the_worker(make: Make) -> None:
    """What it tracks is delivered, although the worker itself is inside of the call."""
    transport = RecordingTransport([REFUSED])

    def note(event: dict[str, Any], _: str) -> None:
        client.track("refused", {"event_id": event["event_id"]})

    client = make(transport=transport, flush_interval=60, on_reject=note)
    event_id = client.track("click")
    client.flush()
    client.flush()
    assert [event["event_data"] for event in transport.events] == [{"event_id": event_id}]


def test_another_thread_is_told_meanwhile(make: Make) -> None:
    """While a function is busy in one thread, losses of another thread are told all the same."""
    told: list[str] = []
    inside, may_end = threading.Event(), threading.Event()

    def note(reason: str, _: int) -> None:
        told.append(reason)
        if reason == "invalid":
            inside.set()
            may_end.wait(10)

    client = make(transport=RecordingTransport(), max_event_bytes=10, flush_interval=60, on_drop=note)
    thread = threading.Thread(target=client.track, args=("",))
    thread.start()
    assert inside.wait(10)
    client.track("click")
    may_end.set()
    thread.join()
    assert told == ["invalid", "too_large"]


@pytest.mark.parametrize("method", ["flush", "close"])
def test_a_function_may_flush_or_close(make: Make, method: str) -> None:
    """Called from the worker itself, flush() and close() return at their deadline and stop nothing for good."""
    called = threading.Event()

    def end(*_: object) -> None:
        getattr(client, method)(timeout=0.2)
        called.set()

    client = make(transport=RecordingTransport([REFUSED]), flush_interval=0.001, on_reject=end)
    client.track("click")
    assert called.wait(10)
    client.close(timeout=5)
    assert (client.stats().dropped, client.stats().pending) == ({"refused": 1}, 0)


# The log


def test_a_subject_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Of many lines about the same thing there is one a minute; other things have lines of their own."""
    clock = Clock()
    hooks = new_hooks(clock)
    for _ in range(180):
        hooks.refused("invalid")
        hooks.refused("too_large")
        hooks.damaged(1)
        hooks.set_aside(batch_of({"event_id": "e"}), "HTTP 413")
        clock.sleep(1)
    assert len(caplog.records) == 4 * 3


def test_no_contents_and_no_key_in_the_log(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, the log has neither what events hold nor the write key."""
    caplog.set_level("DEBUG")
    verdict = {"index": 0, "code": "x", "message": "wrong"}
    outcomes = [REFUSED, Outcome(fate="stored", rejected=(verdict,)), Outcome(fate="again"), Outcome(fate="doubtful")]
    client = make(
        transport=RecordingTransport(outcomes),
        write_key="hush-key",
        flush_interval=60,
        retry_cap=0.01,
        max_event_bytes=300,
        on_drop=fail,
        on_reject=fail,
    )
    for number in range(5):
        client.track("hush-type", {"hush-name": "hush-value"}, user_id="hush-user", session_id=f"hush-session-{number}")
        client.flush()
    client.track("hush" * 20)
    client.track("click", user_id="hush" * 100)
    client.track("hush-type", {str(number): "hush" for number in range(100)})
    client.close()
    assert len(caplog.records) > 4
    assert "hush" not in caplog.text


def test_a_traceback_of_the_hosts_does_not_tell_of_the_event(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """When on_drop fails its own traceback is logged, with its own causes, but not what was wrong with the event."""

    def fail_twice(*_: object) -> None:
        try:
            fail()
        except ZeroDivisionError:
            raise KeyError("the second")  # noqa: B904

    client = make(transport=RecordingTransport(), on_drop=fail_twice)
    client.track("hush" * 20)
    assert "the host's" in caplog.text
    assert "the second" in caplog.text
    assert "hush" not in caplog.text


# Samples


def test_a_key_is_always_in_the_sample_or_never() -> None:
    """The share of keys is as asked for, the same ones each time, and a larger share holds a smaller one."""
    keys = [f"session-{number}" for number in range(10_000)]
    tenth = {key for key in keys if is_sampled(key, 0.1)}
    half = {key for key in keys if is_sampled(key, 0.5)}
    assert tenth < half
    assert 900 < len(tenth) < 1100
    assert 4800 < len(half) < 5200
    assert all(is_sampled(key, 1.0) for key in keys)
    assert not any(is_sampled(key, 0.0) for key in keys)


def test_a_key_of_any_text_is_sampled() -> None:
    """A session id that is no valid Unicode is no error."""
    assert is_sampled("\ud800", 1.0)
