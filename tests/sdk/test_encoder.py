"""The encoder: whatever comes in, JSON comes out that Postgres can store."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import gc
import ipaddress
import json
import logging
import pathlib
import re
import sys
import threading
import time
import uuid
from array import array
from collections import ChainMap, OrderedDict, UserDict, UserString, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from analytics_collector import records
from analytics_sdk import EventError, _event, _forms
from analytics_sdk._cleaner import MAX_DEPTH
from analytics_sdk._encoder import Encoder
from tests.sdk.garbage import HUGE, MAKERS, Leaf, Node, Text, anything, circle, deep

ID = "0190a0b0-0000-7000-8000-000000000000"
NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


class Number(enum.IntEnum):
    """An Enum that is a number."""

    ONE = 1


class Word(str, enum.Enum):  # noqa: UP042  # what code from before 3.11 has
    """An Enum that is a text."""

    YES = "yes"


class Point(Struct):
    """Of msgspec."""

    x: int
    y: Any = None


@dataclasses.dataclass
class Circle:
    """A dataclass."""

    radius: float


class Price(decimal.Decimal):
    """A subclass, as many libraries have them."""


class Moment(dt.datetime):
    """A subclass, as pandas, pendulum and freezegun have them."""


class Numpy64:
    """What numpy's scalars look like from outside."""

    def item(self) -> int:
        """The plain value."""
        return 7


Numpy64.__module__, Numpy64.__qualname__ = "numpy", "generic"


class Opaque:
    """Of the host's own."""


class Sulky:
    """Of the host's own, and hard to convert."""


class Box(Struct):
    """A record that holds any value."""

    event_data: Any


def encode(value: Any, encoder: Encoder | None = None) -> bytes:
    """The JSON of one value."""
    text = (encoder or Encoder(max_bytes=1_000_000)).encode(Box(value), value)
    assert text.startswith(b'{"event_data":')
    return text[len(b'{"event_data":') : -1]


def read(text: bytes) -> Any:
    """JSON as strict readers read it: NaN is an error."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text.decode(), parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, "x", True, None]}, {"a": [1, 2.5, "x", True, None]}),
        (decimal.Decimal("9.990"), "9.990"),
        (dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC), "2026-01-31T12:00:00Z"),
        (dt.datetime(2026, 1, 31, 12), "2026-01-31T12:00:00Z"),  # noqa: DTZ001
        (dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))), "2026-01-31T12:00:00+02:00"),
        (dt.timedelta(minutes=1.5), 90.0),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        ({3, 1, 2}, [1, 2, 3]),
        (dt.date(2026, 1, 31), "2026-01-31"),
        (dt.time(12, 30), "12:30:00"),
        (uuid.UUID(ID), ID),
        (Number.ONE, 1),
        (Word.YES, "yes"),
        (b"\xff", "/w=="),
        (bytearray(b"\xff"), "/w=="),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (frozenset({1}), [1]),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.values(), [1]),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (Point(1), {"x": 1, "y": None}),
        (Circle(1.5), {"radius": 1.5}),
        (Leaf("x"), {"value": "x"}),
        (Text("safe"), "safe"),
        (Price("9.990"), "9.990"),
        (Moment(2026, 1, 31, 12, tzinfo=dt.UTC), "2026-01-31T12:00:00Z"),
        ([Price("1.0"), "\0"], ["1.0", "\ufffd"]),
        (Numpy64(), 7),
        (2**70, 2**70),
        (float("nan"), None),
        (float("inf"), None),
        ("\ud800", "\ufffd"),
        ("a\0b", "a\ufffdb"),
        ("\\u0000", "\\u0000"),
        ({"a\0": "\udfff"}, {"a\ufffd": "\ufffd"}),
        ({1: 1, 1.5: 2, (3, 4): 5}, {"1": 1, "1.5": 2, "(3, 4)": 5}),
        ({None: 1, True: 2}, {"None": 1, "True": 2}),
        (object(), "<object>"),
        ([10**5000], ["<int>"]),
        ([1, object(), 10**5000, "\0"], [1, "<object>", "<int>", "\ufffd"]),
        ({"node": Node(object()), "ok": 1}, {"node": {"other": "<object>"}, "ok": 1}),
    ],
)
def test_each_value_has_a_form(value: Any, expected: Any) -> None:
    """A value of this type becomes this JSON."""
    assert read(encode(value)) == expected


def test_a_value_is_the_same_beside_a_bad_one() -> None:
    """The slow way, which a bad neighbour makes necessary, comes to the same as the fast one."""
    values = [decimal.Decimal("1.0"), NOW, Point(1, {2}), Circle(1.5), Leaf([b"x"]), Number.ONE, Text("x"), {1: 2}]
    assert read(encode([*values, "\0"]))[:-1] == read(encode(values))


@pytest.mark.parametrize("make", [lambda parts: (part for part in parts), iter, reversed, enumerate])
def test_what_can_be_read_only_once_is_left_to_the_host(make: Callable[[list[str]], Iterable[Any]]) -> None:
    """Generators and iterators become a marker, and still have all they had."""
    value = make(["a", "b"])
    assert read(encode({"value": value}))["value"].startswith("<")
    assert len(list(value)) == 2


@pytest.mark.parametrize("levels", [10, MAX_DEPTH, 99, 150, 500, 5000])
def test_depth_is_bounded(levels: int) -> None:
    """However deep a value is, the collector takes its event."""
    record = records.event(line({"deep": deep(levels), "ok": 1}), NOW)
    assert read(bytes(record.event_data))["ok"] == 1


def test_brackets_in_texts_are_not_depth() -> None:
    """Texts full of brackets, and long flat lists, stay as they are."""
    value = {"text": "[{" * 200 + '\\"[', "list": [{"a": [1]}] * 200}
    assert read(encode(value)) == value


def test_what_holds_itself_comes_to_an_end() -> None:
    """A cycle becomes a marker where it closes, and takes no time."""
    began = time.thread_time()
    assert read(encode(circle())) == ["<list>", "<list>"]
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("name", MAKERS)
def test_the_collector_takes_every_poison(name: str) -> None:
    """An event with this value, or with a user, a session or an address like it, is either taken or not made."""
    data = {"before": 1, "bad": MAKERS[name](), "after": 2}
    record = records.event(line(data), NOW)
    stored = read(bytes(record.event_data))
    assert (list(stored), stored["before"], stored["after"]) == (["before", "bad", "after"], 1, 2)


@settings(max_examples=300, deadline=None)
@given(anything)
@example({"a": "\\\0"})
@example({"a": "\\\\u0000"})
def test_the_collector_takes_whatever_comes_out(value: Any) -> None:
    """The collector's reader of events accepts every event that the SDK makes, and what stands beside is untouched."""
    text = line({"before": 1, "value": value, "after": {"deep": [1, "x"]}})
    record = records.event(text, NOW)
    stored = read(bytes(record.event_data))
    assert (stored["before"], stored["after"]) == (1, {"deep": [1, "x"]})
    assert len(text) <= 256 * 1024


def with_ids(encoder: Encoder, event_type: str, session_id: str, user_id: str, data: Any) -> bytes:
    """An event that has all of them."""
    return encoder.event(ID, event_type, NOW, session_id, user_id, None, data)


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(), min_size=1, max_size=50),
    st.text(st.characters(), min_size=1, max_size=64),
    st.text(st.characters(), min_size=1, max_size=255),
    anything,
    st.sampled_from([2_000, 256 * 1024]),
)
def test_ids_arrive_as_they_are_or_not_at_all(
    event_type: str, session_id: str, user_id: str, value: Any, size: int
) -> None:
    """Whatever stands beside them, ids and types are exactly those that were given; what cannot be stored is not."""
    ids = (event_type, session_id, user_id)
    data = {"value": value, "long": "x" * 1000}
    if re.search("[\0\ud800-\udfff]", "".join(ids)):
        with pytest.raises(EventError, match="NUL") as caught:
            with_ids(Encoder(max_bytes=size), *ids, data)
        assert caught.value.reason == "invalid"
    else:
        text = with_ids(Encoder(max_bytes=size), *ids, data)
        record = records.event(text, NOW)
        assert (record.event_type, record.session_id, record.user_id) == ids
        assert len(text) <= size


def test_ids_are_never_cut() -> None:
    """Beside texts that have to be cut, a user's id that is long is whole."""
    encoder = Encoder()
    user_id, session_id = "u" * 255, "s" * 64
    record = records.event(with_ids(encoder, "t" * 50, session_id, user_id, {"texts": ["x" * 150] * 2000}), NOW)
    assert (record.event_type, record.session_id, record.user_id) == ("t" * 50, session_id, user_id)
    assert encoder.altered == 1


def test_what_a_visitor_sends_his_session_is_cut() -> None:
    """Of the headers of strangers, the beginnings are stored, and the ids whole."""
    user_id, session_id = "u" * 255, "s" * 64
    encoder = Encoder(max_bytes=4000)
    text = encoder.session(session_id, user_id=user_id, user_agent="a" * 10**6, referrer="r" * 10**6)
    record = records.session(text, NOW)
    assert (record.session_id, record.user_id) == (session_id, user_id)
    assert record.user_agent.startswith("aaa")
    assert record.user_agent.endswith("… <1000000 characters>")
    assert record.referrer.startswith("rrr")
    assert len(text) <= 4000


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
scalars = st.none() | st.booleans() | st.integers() | texts | st.floats(allow_nan=False, allow_infinity=False)


plain = st.recursive(scalars, lambda parts: st.lists(parts) | st.dictionaries(texts, parts), max_leaves=20)


@settings(deadline=None)
@given(plain)
def test_what_json_knows_arrives_as_it_is(value: Any) -> None:
    """Plain JSON comes out equal."""
    assert read(encode(value)) == value


@settings(deadline=None)
@given(
    st.dictionaries(texts, plain | st.decimals(allow_nan=False) | st.dates() | st.uuids() | st.lists(st.lists(scalars)))
)
def test_with_and_without_care_it_is_the_same(value: Any) -> None:
    """What needs no care is the same bytes when it is encoded with it."""
    encoder = Encoder(max_bytes=1_000_000)
    assert encoder._encode_with_care(Box(value)) == msgspec.json.encode(Box(value))
    assert encoder.altered == 0


def line(event_data: Any, event_type: str = "click") -> bytes:
    """An event's bytes."""
    return Encoder().event(ID, event_type, NOW, None, None, None, event_data)


def test_a_struct_of_the_hosts_own_can_be_the_data() -> None:
    """Mappings, dataclasses, attrs classes and Structs are objects; what they hold is made storable too."""
    for data in (Leaf("\0"), Node("\0"), Point("\0"), UserDict(value="\0")):  # type: ignore[arg-type]
        stored = read(bytes(records.event(line(data), NOW).event_data))
        assert "\ufffd" in stored.values()
    assert attrs.asdict(Leaf("\0")) == {"value": "\0"}


@pytest.mark.parametrize(
    ("data", "altered"),
    [
        ({"a": 1, "b": None, "c": 1.5}, 0),
        ({"a": float("nan"), "b": None}, 1),
        ({"a": [{"b": float("inf")}, float("nan")]}, 2),
        ({"a": object(), "b": "x\0", "c": 10**5000}, 3),
        ({"a": dt.timedelta(1), "b": b"x", "c": {1}, "d": (1, 2)}, 0),
    ],
    ids=["plain", "NaN", "nested", "markers", "forms"],
)
def test_what_could_not_be_kept_is_counted(data: dict[str, Any], altered: int) -> None:
    """Every value that became a marker, null or another text is counted, and no other."""
    encoder = Encoder()
    encode(data, encoder)
    assert encoder.altered == altered


@pytest.mark.parametrize("nested", [False, True])
def test_long_texts_are_cut_to_fit(nested: bool) -> None:
    """A text of 5 MB is cut, with its length at its end, and its neighbours are whole."""
    encoder = Encoder(max_bytes=100_000)
    data = {"long": "x" * 5_000_000, "short": "y" * 1000}
    stored = read(encode({"in": data} if nested else data, encoder))
    found = stored["in"] if nested else stored
    assert found["short"] == data["short"]
    assert found["long"].startswith("xxx")
    assert found["long"].endswith("… <5000000 characters>")
    assert encoder.altered == 1


def test_what_is_too_large_all_the_same_is_refused() -> None:
    """An event without room for any data is not accepted, and the error says which bound it passes."""
    with pytest.raises(EventError, match="max_event_bytes=300") as caught:
        with_ids(Encoder(max_bytes=300), "click", "s", "u" * 200, {"text": "x" * 1000})
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    "wide",
    [list(range(60_000)), ["x" * 200] * 3000, ["x" * 1000] * 5000, [{"a": 1, "b": "x" * 50}] * 10_000, [[1]] * 100_000],
    ids=["numbers", "texts", "long texts", "rows", "lists"],
)
def test_wide_lists_are_cut(wide: list[Any]) -> None:
    """A list keeps its beginning and says how many are missing; what stands beside it is whole."""
    encoder = Encoder()
    text = encode({"wide": wide, "user": {"plan": "pro", "tags": ["a"]}}, encoder)
    stored = read(text)
    *kept, last = stored["wide"]
    assert kept == wide[: len(kept)]
    assert last == f"… <{len(wide) - len(kept)} more>"
    assert stored["user"] == {"plan": "pro", "tags": ["a"]}
    assert encoder.altered == 1
    assert 128 * 1024 < len(text) <= 256 * 1024


@pytest.mark.parametrize("count", [10_000, 1_000_000])
def test_wide_objects_are_cut(count: int) -> None:
    """An object keeps its smallest values and says how many are missing."""
    wide = {f"key number {number}": "a value of some length" for number in range(count)} | {"the last": 1}
    encoder = Encoder()
    text = encode(wide if count == 10_000 else {"wide": wide}, encoder)
    stored = read(text) if count == 10_000 else read(text)["wide"]
    missing = stored.pop("…")
    assert missing == f"<{len(wide) - len(stored)} more>"
    assert stored.items() <= wide.items()
    assert ("the last" in stored) == (count == 10_000)
    assert encoder.altered == 1
    assert 128 * 1024 < len(text) <= 256 * 1024


def test_the_largest_is_cut_first() -> None:
    """Of several large values, those are cut that are larger than their share, and no other."""
    data = {"small": "s" * 1000, "medium": "m" * 30_000, "large": "l" * 90_000, "rows": list(range(100_000))}
    encoder = Encoder(max_bytes=100_000)
    stored = read(encode(data, encoder))
    assert (stored["small"], stored["medium"]) == (data["small"], data["medium"])
    assert 25_000 < len(stored["large"]) < 40_000
    assert stored["rows"][:3] == [0, 1, 2]
    assert encoder.altered == 2


def encoding_it(value: Any) -> tuple[Encoder, bytes, float]:
    """Encode an event with such a value between others: the encoder, the text, and the seconds of CPU that it took."""
    data = {"before": 1, "bad": value, "after": {"deep": {"er": [1, 2]}}}
    record = _event.Event(ID, "click", NOW, event_data=data)
    encoder = Encoder()
    began = time.thread_time()
    text = encoder._encode_with_care(record)
    return encoder, text, time.thread_time() - began


@pytest.mark.parametrize("name", HUGE)
def test_the_time_is_bounded(name: str) -> None:
    """Whatever is handed in, encoding takes time in proportion to the size of an event; its neighbours are whole."""
    for _ in range(3):  # one try may meet a busy machine
        *_, plain = encoding_it(list(range(60_000)))
        encoder, text, took = encoding_it(HUGE[name]())
        if took < 25 * plain:
            break
    assert took < 25 * plain  # most take as long, an endless mapping five times that; without a bound it is a hundred
    stored = read(text)["event_data"]
    assert list(stored) == ["before", "bad", "after"]
    assert (stored["before"], stored["after"]) == (1, {"deep": {"er": [1, 2]}})
    assert len(text) <= 256 * 1024
    assert encoder.altered > 0


def test_the_hosts_own_function_is_asked_first() -> None:
    """`encoder=` gives a type its form, at any depth; what it leaves as it is or fails at becomes a marker."""

    def plain(value: Any) -> Any:
        if isinstance(value, Opaque):
            return {"opaque": {1}}
        if isinstance(value, Sulky):
            raise ValueError  # noqa: TRY004
        return value

    encoder = Encoder(convert=plain)
    stored = read(encode({"a": [Opaque()], "b": Sulky(), "c": object(), "d": dt.date(2026, 1, 31)}, encoder))
    assert stored == {"a": [{"opaque": [1]}], "b": "<Sulky>", "c": "<object>", "d": "2026-01-31"}
    assert encoder.altered == 2


def test_naive_datetimes_warn_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says once in a process that a datetime had no zone."""
    monkeypatch.setattr(_forms, "_has_warned", False)
    with caplog.at_level(logging.WARNING, "analytics_sdk"):
        for _ in range(3):
            encode({"at": dt.datetime(2026, 1, 31)})  # noqa: DTZ001
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_what_is_encoded_is_a_snapshot() -> None:
    """Bytes that were made do not change with the dict, nor with the next encoding."""
    encoder = Encoder()
    data: dict[str, Any] = {"a": [1]}
    first = encode(data, encoder)
    data["a"].append(2)
    encode({"b": 3}, encoder)
    assert read(first) == {"a": [1]}


def test_encoding_in_many_threads() -> None:
    """Threads that share an encoder do not get each other's bytes."""
    encoder = Encoder()

    def work(number: int) -> bool:
        return all(read(encode({"n": number, "i": i}, encoder)) == {"n": number, "i": i} for i in range(500))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


# What the types of hosts do when they are looked at


class Meta(type):
    """A metaclass that answers nothing."""

    def __instancecheck__(cls, value: object) -> bool:
        raise RuntimeError("instance?")

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)

    def __hash__(cls) -> int:
        raise RuntimeError("hash")


class Hostile(metaclass=Meta):
    """Raises whatever is asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Impostor:
    """Says that it is a dict."""

    @property
    def __class__(self) -> Any:
        raise AssertionError("asked for its class")


class Liar(Sequence[int]):
    """Has a length that is none, and raises in the middle."""

    def __len__(self) -> int:
        return -5

    def __getitem__(self, index: Any) -> int:
        if index == 2:
            raise RuntimeError("in the middle")
        return int(index)


class Unequal:
    """Raises when it is compared or hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("equal?")


class Unspoken(str):
    """Its text is no text."""

    __slots__ = ()

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Greedy:
    """Takes the rest of the stack, or of memory."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __fspath__(self) -> str:
        raise self.error


class Zone(dt.tzinfo):
    """A zone that does not know its offset."""

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        """Raises."""
        raise LookupError("no offset")


@dataclasses.dataclass
class Unset:
    """A field of it was deleted."""

    gone: int = dataclasses.field(init=False)
    kept: int = 1


class Lazy(list[int]):
    """A list that reads itself in its own way."""

    def __iter__(self) -> Any:
        return iter([7])


class Own(dict[str, int]):
    """A dict that lists itself in its own way."""

    def items(self) -> Any:
        """Something else."""
        return [("own", 7)]


@pytest.mark.parametrize(
    ("value", "expected", "altered"),
    [
        (Liar(), "<Liar>", 1),
        (Unspoken("text"), "text", 0),
        ({Unspoken("key"): 1}, {"key": 1}, 0),
        (Greedy(RecursionError), "<Greedy>", 1),
        (Greedy(MemoryError), "<Greedy>", 1),
        (dt.datetime(2026, 1, 31, tzinfo=Zone()), "<datetime>", 1),
        (dt.time(12, tzinfo=Zone()), "<time>", 1),
        (dt.time(12, tzinfo=dt.UTC), "12:00:00+00:00", 0),
        (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14))), "0001-01-01T00:00:00+14:00", 0),
        (Unset(), {"gone": "<AttributeError>", "kept": 1}, 1),
        (Lazy([1, 2]), [7], 0),
        (Own(a=1), {"own": 7}, 0),
        (UserString("text"), "text", 0),
        (ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}, 0),
        (OrderedDict(a=1).keys(), ["a"], 0),
        (MappingProxyType({"a": 1}), {"a": 1}, 0),
        (array("i", [1, 2]), [1, 2], 0),
        (memoryview(b"abcd")[::2], "YWM=", 0),
        (fractions.Fraction(1, 3), "1/3", 0),
        (1 + 2j, "(1+2j)", 0),
        (decimal.Decimal("sNaN"), "sNaN", 0),
        (decimal.Decimal("-Infinity"), "-Infinity", 0),
        (decimal.Decimal("1E+400"), "1E+400", 0),
        (ipaddress.ip_address("::1"), "::1", 0),
        ([-(10**4299)], [-(10**4299)], 0),
        ([10**4300], ["<int>"], 1),
        (True, True, 0),
        (int, "<type>", 1),
        ({1: "a", "1": "b"}, {"1": "b"}, 1),
        ({"1": "b", 1: "a"}, {"1": "b"}, 1),
        ({"a\0": 1, "a\ufffd": 2}, {"a\ufffd": 2}, 2),
        ({b"name": 1, Word.YES: 2, dt.date(2026, 1, 31): 3}, {"name": 1, "yes": 2, "2026-01-31": 3}, 0),
        ({uuid.UUID(ID): 1, decimal.Decimal("1.0"): 2}, {ID: 1, "1.0": 2}, 0),
        ({("a", (1, b"b")): 1}, {"('a', (1, 'b'))": 1}, 1),
        ({frozenset(): 1, "k" * 2000: 2}, {"<frozenset>": 1, f"{'k' * 1000}… <2000 characters>": 2}, 2),
        ({"a": Struct}, {"a": "<StructMeta>"}, 1),
    ],
)
def test_what_is_odd_has_a_form_too(value: Any, expected: Any, altered: int) -> None:
    """Whatever a value does or is, it becomes this JSON, its neighbours stay, and it is counted."""
    encoder = Encoder()
    assert read(encode({"before": 1, "value": value, "after": [2]}, encoder)) == {
        "before": 1,
        "value": expected,
        "after": [2],
    }
    assert encoder.altered == altered


@pytest.mark.parametrize("name", ["Hostile", "Impostor", "Unequal"])
def test_what_answers_nothing_is_not_asked(name: str) -> None:
    """Objects that raise whatever is asked of them, or of their class, become markers."""
    made = {"Hostile": Hostile, "Impostor": Impostor, "Unequal": Unequal}
    encoder = Encoder()
    stored = read(encode({"before": 1, "value": [made[name]()], "after": 2}, encoder))
    assert stored == {"before": 1, "value": [f"<{name}>"], "after": 2}
    assert encoder.altered == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_process_passes_through(error: type[BaseException]) -> None:
    """Ctrl-C and exit() are no matter of values."""
    with pytest.raises(error):
        encode([Greedy(error)])


@contextlib.contextmanager
def letting_others_in() -> Iterator[None]:
    """Collect garbage all the time, and let other threads run whenever it is; what is there already is left alone."""

    def pause(*_: Any) -> None:
        time.sleep(0)

    before, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(pause)
    gc.freeze()
    gc.set_threshold(5)
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*before)
        gc.unfreeze()
        gc.callbacks.remove(pause)


@pytest.mark.parametrize(("around", "times"), [(contextlib.nullcontext, 500), (letting_others_in, 100)])
def test_dicts_that_change_meanwhile(around: Callable[[], AbstractContextManager[None]], times: int) -> None:
    """Another thread that changes what is encoded costs nothing but its own values."""
    shared: dict[Any, Any] = {"at": NOW, "list": [{1}, "x"]}
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number += 1
            shared[f"key {number % 50}"] = {number: [number]}
            shared["list"].append({number})
            shared.pop(f"key {(number + 25) % 50}", None)
            del shared["list"][5:]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with around():
            for _ in range(times):
                stored = read(encode({"shared": shared, "beside": [1, {2}]}))
                assert stored["beside"] == [1, [2]]
                assert stored["shared"]["at"] == "2026-01-31T12:00:00Z"
    finally:
        done.set()
        thread.join()


def test_where_the_stack_ends() -> None:
    """A host that has used up the stack gets no exception, and JSON."""

    def deeper() -> bytes:
        try:
            return deeper()
        except RecursionError:
            return encode({"at": NOW, "value": deep(20)})

    assert type(read(deeper())) is dict


def test_data_that_cannot_be_read_cost_no_event() -> None:
    """What is an object by its type and raises is an object in the event, too."""

    class Failing(Own):
        def items(self) -> Any:
            raise RuntimeError("no items")

    text = line(Failing(a=1))
    assert read(bytes(records.event(text, NOW).event_data)) == {"…": "<Failing>"}


def test_classes_without_number_do_not_fill_memory() -> None:
    """What is known of types has a bound."""
    for number in range(3000):
        encode([type(f"Made{number}", (), {})()])
    assert len(_forms._known) <= _forms._MOST_REMEMBERED
    assert read(encode([dt.date(2026, 1, 31), {1}])) == ["2026-01-31", [1]]


def test_the_hosts_function_cannot_go_on_for_ever() -> None:
    """An `encoder=` that makes ever new values comes to an end, with a marker."""

    def again(value: Any) -> Any:
        return [Opaque(), Opaque()] if type(value) is Opaque else Opaque()

    encoder = Encoder(convert=again)
    assert read(encode({"a": object(), "b": 1}, encoder))["b"] == 1
    assert read(encode({"a": object()}, Encoder(convert=lambda _: object()))) == {"a": "<object>"}
