"""The splitter: cuts a body into its records whatever nonsense they hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_collector.exceptions import TooLargeError
from analytics_collector.protocols.splitter import Pieces, split

SPACE = st.text(" \t\r\n", max_size=3).map(str.encode)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def encoded(document: Any, indent: int | None, ensure_ascii: bool) -> bytes:
    """A document as Python's encoder writes it, NaN and all."""
    return json.dumps(document, indent=indent, ensure_ascii=ensure_ascii).encode(errors="replace")


DOCUMENTS = st.builds(encoded, JSON, st.sampled_from([None, 2]), st.booleans())

# Brackets that match and quotes in pairs; between them whatever comes, but no comma outside of brackets.
WORD = st.sampled_from([b"NaN", b"-", b"1e400", b":", b"x", b"\\", b"\xff", b"'", b"/*", b"\0", b"{}", b"[]"])
QUOTED = st.text().map(json.dumps).map(str.encode) | st.sampled_from([rb'"\""', rb'"\\"', rb'"[{,"', b'"\n"'])
GARBAGE = st.recursive(
    WORD | QUOTED,
    lambda inner: (
        st.lists(inner, min_size=1).map(b"".join)
        | st.lists(inner).map(lambda parts: b"[" + b",".join(parts) + b"]")
        | st.lists(inner).map(lambda parts: b"{" + b" ,".join(parts) + b"}")
    ),
    max_leaves=20,
)

RECORDS = st.lists(DOCUMENTS | GARBAGE, max_size=10)


def array(records: list[bytes], space: bytes) -> bytes:
    """Records as an array, with space around each."""
    return b"[" + b",".join(space + record + space for record in records) + b"]"


@settings(deadline=None)
@given(RECORDS, RECORDS, SPACE)
def test_it_cuts_exactly_the_records(events: list[bytes], sessions: list[bytes], space: bytes) -> None:
    """Whatever the records hold, as long as their brackets match, each comes out as it was, in its array."""
    between = space + b"," + space
    fields = [b'"events":' + array(events, space), b'"sessions":' + array(sessions, space), b'"sent_at":"now"']
    pieces = split(space + b"{" + between.join(fields) + b"}" + space, 10_000)
    assert pieces is not None
    assert pieces.arrays == {"events": events, "sessions": sessions}
    assert json.loads(pieces.frame) == {"events": [], "sessions": [], "sent_at": "now"}


@settings(deadline=None)
@given(st.binary() | st.text('{}[]",:\\ \n\0eé').map(str.encode))
def test_it_never_raises(body: bytes) -> None:
    """Any bytes are either cut or not."""
    pieces = split(body, 10_000)
    assert pieces is None or isinstance(pieces, Pieces)


@settings(deadline=None)
@given(RECORDS, st.data())
def test_a_torn_body_is_never_cut(events: list[bytes], data: st.DataObject) -> None:
    """A body that ends before its last bracket is not cut: half a record is none."""
    body = b'{"events":' + array(events, b"") + b"}"
    assert split(body[: data.draw(st.integers(0, len(body) - 1))], 10_000) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[[]]",
        b'"events"',
        b'{"events":[}]',
        b'{"events":[]}}',
        b'{"events":[]}{"events":[]}',
        b'{"events":[],"events":[]}',
        b'{"events":["]}',
        b'{"events":[1}',
        b"{[1]}",
    ],
)
def test_what_is_no_object_of_arrays_is_not_cut(body: bytes) -> None:
    """Brackets that do not match, two arrays of one name or none, and text that goes on are not guessed at."""
    assert split(body, 10_000) is None


def test_what_is_no_array_stays_in_the_frame() -> None:
    """An object or a value in the place of an array is not cut, whatever is in it."""
    pieces = split(b'{"sent_at":{"a":[1,2],"b":{}},"events":[1,NaN],"users":{}}', 2)
    assert pieces == Pieces(b'{"sent_at":{"a":[1,2],"b":{}},"events":[],"users":{}}', {"events": [b"1", b"NaN"]})


def test_a_name_may_be_escaped() -> None:
    """An array is known by its name, however that is written; two of the same name are not cut."""
    pieces = split(rb'{"\u0065vents":[1]}', 1)
    assert pieces is not None
    assert pieces.arrays == {"events": [b"1"]}
    assert split(rb'{"\u0065vents":[],"events":[]}', 0) is None


def test_it_stops_at_too_many_records() -> None:
    """Of a body with too many records no more than that many are cut, whatever follows."""
    assert split(b'{"events":[1,2,3],"sessions":[4]}', 4) is not None
    with pytest.raises(TooLargeError, match="too many records"):
        split(b'{"events":[1,2],"sessions":[3,4,', 3)
