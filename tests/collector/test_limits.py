"""How much a key may send: the rate, the day, and what a sender hears who has sent too much."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analytics_sdk
from analytics_collector import keys, limits
from analytics_collector.db import Database
from analytics_collector.exceptions import TooManyRequestsError
from analytics_collector.keys import Key
from analytics_collector.limits import Bucket
from analytics_collector.meter import Meter
from tests import programs
from tests.collector.batches import event
from tests.programs import Collector, free_port, wait_until

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def later(seconds: float) -> datetime:
    """So many seconds after `NOW`."""
    return NOW + timedelta(seconds=seconds)


# The bucket

Visits = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5000)), max_size=60)


@given(st.floats(0.1, 5000), Visits)
def test_over_time_no_more_than_the_rate_comes_through(rate: float, visits: list[tuple[float, int]]) -> None:
    """Whoever comes with however much: before each who is let in, at most the rate has come through, and one second."""
    bucket, now, through = Bucket.full(rate, 0), 0.0, 0
    for pause, records in visits:
        now += pause
        if bucket.wait(now) == 0:
            assert through <= rate * now + rate + 1e-3
            bucket.take(records, now)
            through += records


@given(st.floats(0.1, 5000), st.integers(1, 10_000))
def test_who_waits_as_long_as_told_is_let_in(rate: float, records: int) -> None:
    """The wait is enough, and half of it is not."""
    bucket = Bucket.full(rate, 0)
    bucket.take(records + round(rate), 0)
    wait = bucket.wait(0)
    assert wait > 0
    assert attrs.evolve(bucket).wait(wait / 2) > 0
    assert bucket.wait(wait) == 0


def test_a_clock_that_is_set_back_lets_nobody_wait_for_it() -> None:
    """After the clock was set back by a day, the bucket fills from there on."""
    bucket = Bucket.full(10, 86_400)
    bucket.take(20, 86_400)
    assert bucket.wait(0) == pytest.approx(1.05)
    assert bucket.wait(2) == 0


def test_waits_are_whole_seconds_and_bounded() -> None:
    """Retry-After is at least a second and at most an hour; a day ends at midnight in UTC."""
    assert [limits.retry_after(wait) for wait in (0.01, 1.2, 9e9)] == [1, 2, 3600]
    assert limits.until_tomorrow(datetime.fromisoformat("2026-01-31T23:59:30-01:00")) == 23 * 3600 + 30


# The meter


@pytest.fixture
def database(registry: psycopg.Connection) -> Iterator[Database]:
    """The door to it."""
    with closing(Database(registry.info.dsn, patience=0.5)) as opened:
        yield opened


def key(**limits: int) -> Key:
    """A key with these limits."""
    return Key("web", "write", b"", NOW, None, **limits)


def is_let_in(meter: Meter, key: Key, now: datetime = NOW) -> bool:
    """May it send something?"""
    try:
        meter.check(key, now)
    except TooManyRequestsError:
        return False
    return True


def counted(registry: psycopg.Connection) -> list[tuple[Any, ...]]:
    """What Postgres knows of the days."""
    return registry.execute("SELECT key_name, day::text, events FROM analytics_quota ORDER BY day").fetchall()


def test_each_worker_has_its_share_of_the_rate(database: Database) -> None:
    """Of 100 a second one of four workers lets 25 through, and more a second later; and a new limit begins anew."""
    meter = Meter(database, workers=4)
    meter.charge(key(rate=100), 25, NOW)
    assert not is_let_in(meter, key(rate=100))
    assert is_let_in(meter, key(rate=100), later(1))
    assert is_let_in(meter, key(rate=1000))


def test_workers_know_of_each_other_within_a_second(database: Database, registry: psycopg.Connection) -> None:
    """What one worker counts, another knows a second later; and too much by no more than that."""
    one, other, web = Meter(database), Meter(database), key(daily=100)
    assert (is_let_in(one, web), is_let_in(other, web)) == (True, True)
    one.charge(web, 99, later(0.1))
    other.charge(web, 99, later(0.2))
    assert (is_let_in(one, web, later(0.9)), is_let_in(other, web, later(0.9))) == (True, False)
    assert not is_let_in(one, web, later(1.2))
    assert counted(registry) == [("web", "2026-01-31", 198)]
    with pytest.raises(TooManyRequestsError) as error:
        one.check(web, later(2.5))
    assert error.value.retry_after == 3600


def test_the_next_day_begins_with_nothing(database: Database, registry: psycopg.Connection) -> None:
    """At midnight in UTC a key may send again, and a limit that is raised lets it in at once."""
    meter = Meter(database)
    meter.charge(key(daily=10), 10, NOW)
    assert not is_let_in(meter, key(daily=10))
    assert is_let_in(meter, key(daily=11))
    assert is_let_in(meter, key(daily=10), NOW + timedelta(days=1))
    assert counted(registry)[0] == ("web", "2026-01-31", 10)


def test_a_new_worker_knows_what_was_sent_today(database: Database) -> None:
    """A process that has just begun asks before it lets the first one in."""
    Meter(database).charge(key(daily=10), 10, NOW)
    assert not is_let_in(Meter(database), key(daily=10))


def test_without_postgres_nobody_is_refused_and_nothing_forgotten(registry: psycopg.Connection) -> None:
    """While Postgres is away this is not what stops a sender; what was counted meanwhile is brought there later."""
    nowhere = f"host=127.0.0.1 port={free_port()}"
    with closing(Database(nowhere, patience=0.2)) as away, closing(Database(registry.info.dsn)) as back:
        meter = Meter(away)
        meter.charge(key(daily=10), 7, NOW)
        assert is_let_in(meter, key(daily=10))
        meter._database = back
        assert is_let_in(meter, key(daily=10), later(5))
    assert counted(registry) == [("web", "2026-01-31", 7)]


def test_without_limits_nothing_is_asked() -> None:
    """A key without limits, or with a rate alone, costs no query."""
    with closing(Database(f"host=127.0.0.1 port={free_port()}", patience=60)) as away:
        meter = Meter(away)
        for unlimited in (key(), key(rate=10)):
            meter.charge(unlimited, 5, NOW)
            assert is_let_in(meter, unlimited)
        assert meter._database._pool is None


def test_one_request_alone_is_counted_at_once(database: Database, registry: psycopg.Connection) -> None:
    """What comes after a silence is in Postgres before its answer; what follows within a second, a second later."""
    meter = Meter(database)
    for moment, known in ((0, 5), (60, 10), (60.5, 10), (61.2, 20)):
        assert is_let_in(meter, key(daily=100), later(moment))
        meter.charge(key(daily=100), 5, later(moment + 0.01))
        assert counted(registry) == [("web", "2026-01-31", known)]


# Over HTTP


@pytest.fixture(scope="module")
def running(migrated_dsn: str) -> Iterator[Collector]:
    """A real collector with two workers, which reads the keys every second."""
    with programs.run_collector(migrated_dsn, ANALYTICS_KEY_REFRESH_SECONDS="1") as collector:
        yield collector


@pytest.fixture
def collector(running: Collector, dsn: str) -> Collector:
    """That collector, over the clean database."""
    return running


@pytest.fixture
def shared(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection to the clean database, in which keys that the test makes are gone at its end."""
    yield connection
    connection.execute("DELETE FROM analytics_key WHERE name NOT LIKE 'tests-%'")
    connection.execute("DELETE FROM analytics_quota")


def is_unknown(answer: tuple[int, Any, str | None]) -> bool:
    """Has the worker that answered not heard of the key yet?"""
    return answer[0] == 401 and answer[1]["message"] == "The key is wrong or revoked"


def make_key(collector: Collector, shared: psycopg.Connection, kind: keys.KeyKind, **limits: int) -> str:
    """A key named after its kind that opens both workers: a new one does within the fifth of a second."""
    made = keys.create(shared, f"{kind} of {sorted(limits)}", kind, **limits)
    wait_until(lambda: not any(is_unknown(post(collector, made, 0)) for _ in range(8)), what="the key opening")
    return made


def post(collector: Collector, key: str, number: int, name: object = "") -> tuple[int, Any, str | None]:
    """Send so many events: status, answer and Retry-After."""
    body = json.dumps({"events": [event(f"{name} {n}") for n in range(number)]}).encode()
    request = urllib.request.Request(f"{collector.url}/v1/events", body, {"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response), None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers["Retry-After"]


def test_a_rate_over_http(collector: Collector, shared: psycopg.Connection) -> None:
    """Eight threads that send all they can get through no more than the rate, and hear when to come again."""
    rate, batch, threads = 400, 20, 8
    written = make_key(collector, shared, "write", rate=rate)
    free = make_key(collector, shared, "write")
    began = time.monotonic()
    until = began + 1.2

    def send(thread: int) -> list[tuple[int, Any, str | None]]:
        answers = []
        while time.monotonic() < until:
            answers.append(post(collector, written, batch, f"{thread} {len(answers)}"))
        return answers

    with ThreadPoolExecutor(threads) as pool:
        answers = [answer for found in pool.map(send, range(threads)) for answer in found]
    elapsed = time.monotonic() - began
    stored = sum(answer["accepted"] for status, answer, _ in answers if status == 200)
    refused = [(answer["code"], retry_after) for status, answer, retry_after in answers if status == 429]
    assert rate <= stored <= rate * elapsed + rate + threads * batch
    assert {status for status, _, _ in answers} == {200, 429}
    assert set(refused) == {("too_many_requests", "1")}
    assert post(collector, free, 1)[0] == 200


def test_a_day_over_http(collector: Collector, shared: psycopg.Connection) -> None:
    """A key that has sent its day's share is told so by every worker, until the limit is raised, without a restart."""
    written = make_key(collector, shared, "write", daily=100)
    assert [post(collector, written, 60, name)[0] for name in range(2)] == [200, 200]
    wait_until(lambda: [post(collector, written, 1)[0] for _ in range(8)] == [429] * 8, what="the workers knowing")
    answers = [post(collector, written, 1) for _ in range(20)]  # one worker of four may still have to learn it
    answer = next(answer for answer in answers if answer[0] == 429)
    assert 1 <= int(answer[2] or 0) <= 3600
    assert "100 records a day" in answer[1]["detail"]
    wait_until(lambda: post(collector, written, 1)[0] == 429 and counted(shared)[0][2] >= 100, what="all counted")
    assert shared.execute("SELECT count(*) <= 200 FROM analytics_event").fetchall() == [(True,)]
    keys.limit(shared, "write of ['daily']", daily=10_000)
    wait_until(lambda: [post(collector, written, 1)[0] for _ in range(8)] == [200] * 8, what="the limit being raised")


def test_reads_count_as_one(collector: Collector, shared: psycopg.Connection) -> None:
    """A read key has limits as well: a request is one."""
    read = make_key(collector, shared, "read", daily=5)
    request = urllib.request.Request(f"{collector.url}/v1/events", headers={"Authorization": f"Bearer {read}"})

    def status() -> int:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    statuses = [status() for _ in range(5)]
    assert statuses[0] == 200
    wait_until(lambda: status() == 429, what="the limit")


def test_the_sdk_waits_and_loses_nothing(collector: Collector, shared: psycopg.Connection) -> None:
    """A client that tracks more than its key may send at once comes again when it was told to, and all arrive once."""
    written = make_key(collector, shared, "write", rate=400)
    client = analytics_sdk.Client(collector.url, write_key=written, max_batch_events=100, retry_cap=1)
    for number in range(1000):
        client.track("click", {"n": number}, user_id=1)
    report = client.flush(timeout=60)
    client.close()
    assert report.pending == 0
    rows = shared.execute("SELECT count(*), count(DISTINCT event_data) FROM analytics_event").fetchall()
    assert rows == [(1000, 1000)]
