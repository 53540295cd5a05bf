"""`POST /v1/events` of a real collector, asked whatever can be made up: structure-aware, and bytes at random.

What holds for any body at all is checked without a server too (`oracle`), and there guided by coverage (`guided`).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from analytics_collector.batch import Batch
from analytics_collector.exceptions import MalformedError
from analytics_collector.protocols import native
from analytics_collector.records import EventRecord
from tests.fuzz import bodies, oracle
from tests.fuzz.bodies import Record
from tests.fuzz.watched import MEBIBYTE, Sending, Watched, connect, watched_collector

LIMIT = 8 * MEBIBYTE  # the default of ANALYTICS_MAX_BODY_BYTES
NOW = datetime.now(UTC)


SECONDS = float(os.environ.get("TEST_FUZZ_SECONDS", "300"))
"""How long each of the slow ones goes on."""

SLOW = pytest.param(SECONDS, marks=[pytest.mark.slow, pytest.mark.timeout(SECONDS + 600)])
for_seconds = pytest.mark.parametrize("seconds", [2.0, SLOW])

ROUND = 40  # examples


def try_all(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], seconds: float) -> None:
    """Check examples for so long, one round of them at least."""
    size = ROUND if seconds < SECONDS else 10 * ROUND
    unhurried = settings(max_examples=size, suppress_health_check=list(HealthCheck))
    until, rounds = time.monotonic() + seconds, 0
    while rounds == 0 or time.monotonic() < until:
        unhurried(given(strategy)(check))()
        rounds += 1
    print(f"{rounds * size} examples")


@pytest.fixture(scope="module")
def watched(migrated_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A collector for all of these tests."""
    with watched_collector(migrated_dsn, tmp_path_factory.mktemp("fuzz") / "log") as running:
        yield running


# What is sent

LIES = {
    "Content-Type": st.sampled_from(
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "ü", ""]
    ),
    "Content-Encoding": st.sampled_from(["gzip", "br", "identity", "gzip, gzip", ""]),
    "X-Request-Id": st.text(st.characters(codec="latin-1", exclude_categories=["C"]), max_size=300).map(str.strip),
}
SENDINGS = st.builds(
    Sending,
    st.fixed_dictionaries({}, optional=LIES),
    st.lists(st.integers(0, 10**6), max_size=5).map(tuple),
)
RECORDS = bodies.good_records() | bodies.mutated_records() | bodies.byte_mutated_records()


def is_there(record: Record) -> bool:
    """Whether there is a record at all."""
    return bool(record.text.strip())


def stands_alone(record: Record) -> bool:
    """Whether it can be told from its neighbours."""
    return read_alone(record) is not None


BATCHES = st.one_of(
    st.lists(RECORDS.filter(stands_alone), max_size=12),
    st.lists(RECORDS.filter(stands_alone), min_size=3, max_size=12),
    st.lists(RECORDS.filter(is_there), max_size=12),
)


@st.composite
def any_bodies(draw: st.DrawFn) -> bytes:
    """A body that was good, and bytes of it others."""
    whole = oracle.body_of(bodies.arrays_of(draw(st.lists(bodies.good_records(), max_size=4))))
    return draw(bodies.spoiled(whole))


# What must hold


def read_alone(record: Record) -> Batch | None:
    """What it is without its neighbours; None if it cannot be told from them, as brackets or quotes do not match."""
    text = oracle.body_of({bodies.ARRAYS[record.kind]: [record.text]})
    try:
        batch = native.parse(text, NOW)
    except MalformedError:
        return None
    return batch if len(batch.items) + len(batch.rejects) == 1 else None


def check_batch(watched: Watched, records: list[Record], sent: tuple[Callable[[bytes], bytes], Sending]) -> None:
    """Every record has its verdict, and is where the verdict says, whatever its neighbours are."""
    wrap, sending = sent
    answer = watched.post(wrap(oracle.body_of(bodies.arrays_of(records))), sending)
    if None in map(read_alone, records):
        event(f"not all stand alone: {answer.status}")
        assert answer.status in (200, 400)
        return
    event("all stand alone")
    assert answer.status == 200, answer
    assert answer.json["accepted"] + answer.json["duplicates"] + len(answer.json["rejected"]) == len(records)
    places = {(reject["record"], reject["index"]) for reject in answer.json["rejected"]}
    assert len(places) == len(answer.json["rejected"])
    rejected = [record for place, record in bodies.placed(records) if place in places]
    check_rejected(watched, rejected)
    check_stored(watched, [record for place, record in bodies.placed(records) if place not in places])


def check_rejected(watched: Watched, rejected: list[Record]) -> None:
    """They were bad, and are kept as they arrived."""
    for record in rejected:
        assert not record.is_good, record
        assert watched.kept(record.kind, record.text.strip()) == record.text.strip()


def check_stored(watched: Watched, accepted: list[Record]) -> None:
    """Those that are events are rows, and say what was sent."""
    events = [record for record in accepted if record.kind == "event"]
    stored = watched.stored([event_id_of(record) for record in events])
    for record in events:
        row = stored[event_id_of(record)]
        assert not record.is_good or row == row_of(record)


def row_of(record: Record) -> tuple[str, Any]:
    """Type and data of a good event."""
    sent = json.loads(record.text)
    return sent["event_type"], sent.get("event_data", {})


def event_id_of(record: Record) -> str:
    """The id of an event that was taken."""
    batch = read_alone(record)
    assert batch is not None
    [item] = batch.items
    assert isinstance(item.record, EventRecord)
    return str(uuid.UUID(item.record.event_id))


@for_seconds
def test_one_bad_record_never_costs_a_good_one(watched: Watched, seconds: float) -> None:
    """Good records are stored as they are and refused ones kept as they are, whatever stands beside them."""
    strategy = st.tuples(BATCHES, st.tuples(bodies.WRAPPED, SENDINGS))
    with watched.unharmed():
        try_all(strategy, lambda drawn: check_batch(watched, *drawn), seconds)


@for_seconds
def test_any_bytes_are_answered(watched: Watched, seconds: float) -> None:
    """Bytes that nobody would send are answered as the wire says, and each record that is seen is counted."""

    def check(drawn: tuple[bytes, Sending]) -> None:
        answer = watched.post(*drawn)
        read = oracle.check(drawn[0], datetime.now(UTC))
        event(f"{answer.status}")
        assert (answer.status == 200) == (read is not None)
        if read is not None:
            counted = answer.json["accepted"] + answer.json["duplicates"] + len(answer.json["rejected"])
            assert counted == len(read.items) + len(read.rejects)

    with watched.unharmed():
        try_all(st.tuples(any_bodies(), SENDINGS), check, seconds)


@for_seconds
def test_two_ways_to_read_agree(seconds: float) -> None:
    """What is read all at once is what is read record by record, and each record has one verdict."""
    batches = BATCHES.map(lambda records: oracle.body_of(bodies.arrays_of(records)))

    def check(body: bytes) -> None:
        oracle.check(body, NOW)

    try_all(batches | any_bodies(), check, seconds)


CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=[path.name for path in CORPUS])
def test_the_corpus_is_read_both_ways(path: Path) -> None:
    """What the guided fuzzer starts from is read both ways alike; only an array named twice is refused as a whole."""
    batch = oracle.check(path.read_bytes(), NOW)
    assert (batch is None) == (path.name == "named_with_escapes")


# Bombs


def bomb(filling: bytes, size: int, head: bytes = b"", tail: bytes = b"") -> bytes:
    """A small body that inflates to so many bytes."""
    return gzip.compress(head + filling * ((size - len(head) - len(tail)) // len(filling)) + tail, 6, mtime=0)


BEYOND_THE_LIMIT = [bomb(b"\0", 200 * MEBIBYTE), bomb(b" ", LIMIT + 1), bomb(b"\x1f\x8b", 100 * MEBIBYTE)]


def hard_to_read(size: int) -> list[bytes]:
    """Bodies of so many bytes that are nothing but what is hardest to read."""
    return [
        bomb(b"[", size, b'{"events":['),
        bomb(b"[],", size, b'{"events":[{"event_data":{"a":[', b"0]}}]}"),
        bomb(b"[[]],", size, b'{"sent_at":[', b'0],"events":[1,NaN]}'),
        bomb(b'"', size, b'{"events":['),
        bomb(b":", size, b'{"events":[', b"]}"),
        bomb(b"\\", size, b'{"events":["'),
        bomb(b"0,", size, b'{"events":[', b"0]}"),
        bomb(b"x", size, b'{"events":[{"event_id":"', b'"}]}'),
        bomb(b"9", size, b'{"events":[{"user_id":', b"}]}"),
        bomb(b"x", size, b'{"events":[{"', b'":1}]}'),
    ]


def throw(watched: Watched, bombs: list[bytes]) -> set[int]:
    """Post all of them at the same time, each on a connection of its own; their statuses, 0 for one that was closed."""

    def post(body: bytes) -> int:
        with contextlib.closing(connect(watched.collector, timeout=900)) as connection:
            try:
                return attrs.evolve(watched, connection=connection).post(body).status
            except ConnectionError:  # when a worker has no room for another unfinished request, the oldest is closed
                return 0

    with ThreadPoolExecutor(len(bombs)) as pool:
        return set(pool.map(post, bombs))


def test_a_hundred_gzip_bombs_at_once(watched: Watched) -> None:
    """A hundred bodies that would inflate to gigabytes are refused, and memory stays within bounds."""
    with watched.unharmed():
        assert throw(watched, [BEYOND_THE_LIMIT[number % 3] for number in range(100)]) == {413}


LARGEST = pytest.param(LIMIT, 3, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])


@pytest.mark.parametrize(("size", "times"), [(MEBIBYTE // 2, 1), LARGEST])
def test_bombs_for_the_reader(watched: Watched, size: int, times: int) -> None:
    """Large bodies of what is hardest to read, all at once, are answered or turned away, within bounds of memory."""
    with watched.unharmed():
        assert throw(watched, hard_to_read(size) * times) <= {200, 400, 413, 503, *([0] if times > 1 else [])}
