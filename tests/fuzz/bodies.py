"""Bodies made up: batches with good records among mutated ones, and bytes that have been through the mill."""

from __future__ import annotations

import collections
import gzip
import json
import uuid
from typing import Any

import attrs
from hypothesis import strategies as st

TIMES = ["2026-01-31T12:00:00Z", "2026-02-01T00:00:00.123456+05:30", "1999-12-31T23:59:60Z", "0001-01-01T00:00:00Z"]
ARRAYS = {"event": "events", "session": "sessions", "user": "users"}


@attrs.frozen
class Record:
    """A record as text.

    Attributes:
        is_good: Whether it is sure to be stored when it is sent alone; of others the collector has to say it.
    """

    kind: str
    text: bytes
    is_good: bool = False


# Values

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["\x01", "\ufeff", "\U0010ffff", "\\u0000", "\\.", "\\N", "'", "%s", "e\u0301"]
)
GOOD_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
GOOD_IDS = GOOD_TEXTS | st.integers(0, 9) | st.integers(-(2**63), 2**63 - 1)
GOOD_DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | GOOD_TEXTS
    | st.floats(-1e9, 1e9).map(lambda f: round(f, 3)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(GOOD_TEXTS, inner, max_size=4),
    max_leaves=8,
)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.integers(1, 6000).map(lambda digits: "9" * digits),
    st.integers(1, 20_000).map(lambda digits: "0." + "1" * digits),
    st.tuples(st.sampled_from(["", "-"]), st.integers(0, 9), st.integers(-(10**12), 10**12)).map(
        lambda parts: "{}{}e{}".format(*parts)
    ),
    st.sampled_from(
        ["NaN", "-Infinity", "Infinity", "1e400", "1e308", "-0", "-0.0", "0x1f", "01", "1.", ".5", "+1", "1e"]
    ),
)
HALVES = st.sampled_from(
    ['"\\ud800"', '"\\udfffx"', '"\\uD83D\\u0041"', '"\\u0000"', '"\\\\u0000"', '"\\\\\\u0000"', '"\0"']
)
WORDS = st.sampled_from(
    ["undefined", "'x'", "", "null null", "{}{}", "[1,]", "/*x*/1", "\ufeff1", "true", "{1}", '"a" "b"']
)
TORN = st.sampled_from(["{", "]", "[]]", '"', ",", "[}", '"\\"'])
DEEP = st.builds(
    lambda levels, brackets: brackets[0] * levels + "1" + brackets[1] * levels,
    st.sampled_from([1, 99, 100, 101, 1000, 10_000]),
    st.sampled_from([("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")]),
)
TIME_WORDS = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(
        ["9999-12-31T23:59:59-14:00", "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59"]
    ),
    st.integers(0, 3000).map(lambda digits: f"2026-01-31T12:00:00.{'9' * digits}Z"),
)
INSIDE = NUMBERS | HALVES | DEEP | WORDS | TEXTS.map(json.dumps)
OBJECTS = st.one_of(
    INSIDE.map(lambda value: f'{{"a":{value}}}'),
    INSIDE.map(lambda value: f'{{"a":1,"b":[{value}, {{}}],"a":2}}'),
    HALVES.map(lambda text: f"{{{text}:{text}}}"),
    DEEP,
)
FITTING = {
    "event_data": OBJECTS,
    "traits": OBJECTS,
    "user_id": NUMBERS | HALVES | TEXTS.map(json.dumps),
    "ip_address": st.sampled_from(["1.2.3.4", "::1", "::ffff:1.2.3.4%1", "1.2.3.4/8", "1.2.3.04"]).map(json.dumps),
    **dict.fromkeys(["created_at", "updated_at", "started_at", "ended_at"], TIME_WORDS.map(json.dumps)),
}
ANY_VALUE = st.one_of(
    GOOD_DATA.map(json.dumps),
    TEXTS.map(json.dumps),
    st.integers(30, 300).map(lambda length: json.dumps("é" * length)),
    NUMBERS,
    HALVES,
    DEEP,
    WORDS,
    OBJECTS,
    TORN,
)

# Records


@st.composite
def good_records(draw: st.DrawFn) -> Record:
    """A record that is stored when it is sent alone."""
    kind = draw(st.sampled_from(["event", "event", "event", "session", "user"]))
    fields = {"event": good_event, "session": good_session, "user": good_user}[kind](draw)
    return Record(kind, json.dumps(fields, ensure_ascii=draw(st.booleans())).encode(), is_good=True)


def good_event(draw: st.DrawFn) -> dict[str, Any]:
    """An event's fields; no two have the same id."""
    fields = {
        "event_id": str(uuid.uuid4()),
        "event_type": draw(GOOD_TEXTS),
        "created_at": draw(st.sampled_from([TIMES[0], TIMES[1], TIMES[3]])),
    }
    more = {
        "session_id": GOOD_TEXTS | st.sampled_from(["", "s1", "s2", None]),
        "user_id": GOOD_IDS | st.none(),
        "event_data": st.dictionaries(GOOD_TEXTS, GOOD_DATA, max_size=4),
        "ip_address": st.ip_addresses().map(str) | st.none(),
    }
    return fields | draw(st.fixed_dictionaries({}, optional=more))


def good_session(draw: st.DrawFn) -> dict[str, Any]:
    """A session record's fields."""
    more = {
        "user_id": GOOD_IDS | st.none(),
        "started_at": st.sampled_from([TIMES[0], None]),
        "ended_at": st.sampled_from([TIMES[1], None]),
        "user_agent": GOOD_TEXTS | st.none(),
        "referrer": GOOD_TEXTS | st.none(),
    }
    return {"session_id": draw(GOOD_TEXTS)} | draw(st.fixed_dictionaries({}, optional=more))


def good_user(draw: st.DrawFn) -> dict[str, Any]:
    """A user record's fields."""
    traits = draw(st.dictionaries(GOOD_TEXTS, GOOD_DATA, max_size=4))
    return {"user_id": draw(GOOD_IDS), "traits": traits, "updated_at": TIMES[0]}


# What holds most comes most often.
FIELDS = {
    "event": ["event_id", "event_type", "created_at", "session_id", "user_id", "ip_address", *["event_data"] * 4],
    "session": ["session_id", "user_id", "started_at", "ended_at", "user_agent", "referrer"],
    "user": ["user_id", "updated_at", *["traits"] * 3],
}


@st.composite
def mutated_records(draw: st.DrawFn) -> Record:
    """A record of which one field or two are anything, or come twice, or are not there."""
    kind = draw(st.sampled_from(list(ARRAYS)))
    fields = {"event": good_event, "session": good_session, "user": good_user}[kind](draw)
    pairs = [(json.dumps(name), json.dumps(value)) for name, value in fields.items()]
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        pairs = mutated(draw, kind, pairs)
    return Record(kind, b"{%s}" % ",".join(f"{name}:{value}" for name, value in pairs).encode("utf-8", "surrogatepass"))


def mutated(draw: st.DrawFn, kind: str, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields with one of them mutated."""
    how = draw(st.sampled_from(["replace", "replace", "replace", "twice", "drop", "strange"]))
    field = draw(st.sampled_from(FIELDS[kind]))
    name, value = json.dumps(field), draw(FITTING.get(field, ANY_VALUE) | ANY_VALUE)
    if how == "drop":
        return [pair for pair in pairs if pair[0] != name]
    if how == "strange":
        name = draw(TEXTS.map(json.dumps) | HALVES | WORDS)
    others = pairs if how == "twice" else [pair for pair in pairs if pair[0] != name]
    place = draw(st.integers(0, len(others)))
    return [*others[:place], (name, value), *others[place:]]


@st.composite
def byte_mutated_records(draw: st.DrawFn) -> Record:
    """A record of which some bytes are others: other encodings, other structure."""
    good = draw(good_records())
    return Record(good.kind, draw(mangled(good.text)))


NASTY = [
    b"\xe9",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\xed\xa0\x80",
    b"\xc0\x80",
]


def mangled(whole: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes replaced, put in or taken out."""

    def mangle(cuts: list[tuple[int, int, bytes]]) -> bytes:
        text = whole
        for at, length, instead in cuts:
            place = at % (len(text) + 1)
            text = text[:place] + instead + text[place + length :]
        return text

    cut = st.tuples(st.integers(0, 100_000), st.integers(0, 3), st.sampled_from(NASTY) | st.binary(max_size=4))
    return st.lists(cut, min_size=1, max_size=4).map(mangle)


# Bodies


def arrays_of(records: list[Record]) -> dict[str, list[bytes]]:
    """The records in the arrays of their kinds, in order."""
    return {array: [record.text for record in records if record.kind == kind] for kind, array in ARRAYS.items()}


def placed(records: list[Record]) -> list[tuple[tuple[str, int], Record]]:
    """Each record behind its kind and its index in the array of that kind."""
    counts = collections.Counter[str]()
    found = []
    for record in records:
        found.append(((record.kind, counts[record.kind]), record))
        counts[record.kind] += 1
    return found


GZIPPED = st.builds(lambda level: lambda body: gzip.compress(body, level, mtime=0), st.sampled_from([0, 1, 9]))
WRAPPED = st.one_of(st.just(bytes), GZIPPED)


def spoiled(body: bytes) -> st.SearchStrategy[bytes]:
    """A body that is none any more, or is another."""
    squeezed = gzip.compress(body, mtime=0)
    return st.one_of(
        mangled(body),
        mangled(squeezed),
        st.just(gzip.compress(squeezed, mtime=0)),
        st.integers(0, 10_000).map(lambda end: body[: end % (len(body) + 1)]),
        st.integers(0, 10_000).map(lambda end: squeezed[: end % (len(squeezed) + 1)]),  # its length is never the same
        st.binary(min_size=1, max_size=20).map(lambda more: body + more),
        st.binary(min_size=1, max_size=20).map(lambda more: squeezed + more),
        st.just(b"\xef\xbb\xbf" + body),
        st.just(body.decode(errors="replace").encode("utf-16")),
        st.sampled_from([b'"events"', b"events"]).map(lambda name: body.replace(b'"sessions"', name)),
        st.just(body.replace(b'"sessions"', rb'"\u0065vents"')),
        st.sampled_from([1000, 10_000, 100_000]).map(lambda levels: b'{"events":[' + b"[" * levels),
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda noise: b"\x1f\x8b" + noise),
    )
