"""Many writers at once, over HTTP into four processes: every event once, every profile exact."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

import pytest

from analytics_collector import profiles
from analytics_collector.db import Connection
from tests.collector.batches import Answer, Fields, at, body, event, post
from tests.programs import Collector

THREADS = 8


pytestmark = pytest.mark.usefixtures("no_deadlocks")


def post_all(collector: Collector, bodies: Iterable[bytes]) -> list[Answer]:
    """Post bodies from eight threads; every one of them must be answered 200."""
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(partial(post, collector.url), bodies))
    assert {200} == {answer.status for answer in answers}
    assert not any(answer.json["rejected"] for answer in answers)
    return answers


def at_once(work: Callable[[int], Answer]) -> list[Answer]:
    """Call `work` in eight threads that start at the same moment."""
    barrier = threading.Barrier(THREADS)

    def start(thread: int) -> Answer:
        barrier.wait(30)
        return work(thread)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(start, range(THREADS)))


def overlapping(records: list[Fields], size: int, seed: int) -> list[list[Fields]]:
    """Cut records into batches twice, so that each is in two of them, in changing order; half of them backwards."""
    chance = random.Random(seed)
    batches = []
    for _ in range(2):
        chance.shuffle(records)
        batches += [records[start : start + size] for start in range(0, len(records), size)]
    chance.shuffle(batches)
    return [
        sorted(batch, key=lambda record: record["session_id"], reverse=index % 2 == 0)
        for index, batch in enumerate(batches)
    ]


def totals(connection: Connection) -> dict[int, tuple[int, int]]:
    """Sessions and events of each user, as the profiles say."""
    rows = connection.execute("SELECT user_id, total_sessions, total_events FROM analytics_useranalyticsprofile")
    return {user_id: (sessions, events) for user_id, sessions, events in rows}


def test_the_same_batch_fifty_times(collector: Collector, connection: Connection) -> None:
    """The same batch posted 50 times by 8 threads to 4 workers gives one row per event and exact profiles."""
    events = [event(n, f"s{n % 10}", n % 5 + 1 if n % 3 else None, created_at=at(n / 9)) for n in range(200)]
    answers = post_all(collector, [body(events=events)] * 50)
    assert tuple(sum(answer.json[key] for answer in answers) for key in ("accepted", "duplicates")) == (200, 49 * 200)
    assert connection.execute("SELECT count(*) FROM analytics_event").fetchone() == (200,)
    # The sessions s0 to s9 are of the users 1 to 5 in turn, and so are the anonymous events in them.
    assert totals(connection) == dict.fromkeys(range(1, 6), (2, 40))
    assert profiles.verify(connection) == []


def test_claims_from_all_sides(collector: Collector, connection: Connection) -> None:
    """Anonymous events and logins of the same sessions, in crossing batches, end up as one owner's."""
    sessions = range(100)
    anonymous = [event(f"{s} anonymous {n}", f"s{s}", created_at=at(n)) for s in sessions for n in range(8)]
    logins = [event(f"{s} login {n}", f"s{s}", s + 1, event_type="login") for s in sessions for n in range(3)]
    post_all(collector, [body(events=batch) for batch in overlapping(anonymous + logins, 20, seed=1)])
    rows = connection.execute("SELECT event_id::text, session_id, user_id FROM analytics_event").fetchall()
    assert Counter(rows) == Counter(
        (record["event_id"], record["session_id"], int(record["session_id"][1:]) + 1) for record in anonymous + logins
    )
    assert totals(connection) == {s + 1: (1, 11) for s in sessions}
    assert profiles.verify(connection) == []


def test_rivals_in_the_same_sessions(collector: Collector, connection: Connection) -> None:
    """Of users who log in to a session at once one gets it, with all its anonymous events and for good."""
    names = [f"s{n}" for n in range(100)]
    anonymous = [event(f"{name} anonymous {n}", name) for name in names for n in range(8)]
    logins = [event(f"{name} login {user}", name, user) for name in names for user in (1, 2, 3)]
    post_all(collector, [body(events=batch) for batch in overlapping(anonymous + logins, 20, seed=2)])
    owners = dict(connection.execute("SELECT session_id, user_id FROM analytics_session"))
    assert owners.keys() == set(names)
    assert set(owners.values()) <= {1, 2, 3}
    rows = connection.execute("SELECT event_id::text, user_id FROM analytics_event").fetchall()
    assert Counter(rows) == Counter(
        (record["event_id"], record["user_id"] or owners[record["session_id"]]) for record in anonymous + logins
    )
    assert profiles.verify(connection) == []


def test_the_same_users_and_events_without_sessions(collector: Collector, connection: Connection) -> None:
    """Batches that share no session but all their users, and half of their events, never wait in a circle."""
    rounds, users = 5, 1000

    def send(thread: int, number: int) -> Answer:
        shared = [event(f"shared {number} {n}", user_id=n) for n in range(users)]
        own = [event(f"{thread} {number} {n}", user_id=n) for n in range(users)]
        return post(collector.url, body(events=random.Random(thread).sample(shared + own, 2 * users)))

    for number in range(rounds):
        assert [answer.status for answer in at_once(partial(send, number=number))] == [200] * THREADS
    assert totals(connection) == dict.fromkeys(range(users), (0, rounds * (1 + THREADS)))
    assert profiles.verify(connection) == []


def test_new_users_seen_by_eight_writers_at_once(collector: Collector, connection: Connection) -> None:
    """String ids that eight writers see first at the same moment, in any order, get one number each."""
    rounds = [[f"user {number} {n}" for n in range(2000)] for number in range(4)]

    def greet(thread: int, names: list[str]) -> Answer:
        shuffled = random.Random(thread).sample(names, len(names))
        return post(collector.url, body(events=[event(f"{name} {thread}", f"{name}'s", name) for name in shuffled]))

    for names in rounds:
        assert [answer.status for answer in at_once(partial(greet, names=names))] == [200] * THREADS
    numbers = connection.execute("SELECT external_id, id FROM analytics_user").fetchall()
    assert sorted(name for name, _ in numbers) == sorted(name for names in rounds for name in names)
    assert totals(connection) == {number: (1, THREADS) for _, number in numbers}
    assert profiles.verify(connection) == []


def test_traits_from_all_sides(collector: Collector, connection: Connection) -> None:
    """Traits of the same users from eight writers at once, in any order, are merged without a loss."""
    names: list[int | str] = [*range(100), *(f"user {n}" for n in range(100))]

    def describe(thread: int) -> Answer:
        said = {"traits": {f"said by {thread}": True}, "updated_at": at(thread)}
        shuffled = random.Random(thread).sample(names, len(names))
        return post(collector.url, body(users=[{"user_id": name, **said} for name in shuffled]))

    assert [answer.status for answer in at_once(describe)] == [200] * THREADS
    merged = {f"said by {thread}": True for thread in range(THREADS)}
    rows = connection.execute("SELECT COALESCE(external_id, id::text), traits FROM analytics_user").fetchall()
    assert dict(rows) == {str(name): merged for name in names}


def test_refused_records_from_all_sides(collector: Collector, connection: Connection) -> None:
    """The same bad records, in the requests of eight writers and in any order, are kept once."""
    bad = [event(n, created_at="yesterday") for n in range(2000)]

    def complain(thread: int) -> Answer:
        return post(collector.url, body(events=random.Random(thread).sample(bad, len(bad))))

    assert [(answer.status, len(answer.json["rejected"])) for answer in at_once(complain)] == [(200, 2000)] * THREADS
    assert connection.execute("SELECT count(*) FROM analytics_reject").fetchone() == (2000,)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_thousand_events(
    collector: Collector, connection: Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    """200,000 events in shuffled overlapping batches, from 8 threads to 4 workers: each once, profiles exact."""
    users, visits, length = 500, 10_000, 20
    events = [
        event(f"{visit} {n}", f"session {visit}", visit % users + 1 if n == 7 else None, created_at=at(n / 60))
        for visit in range(visits)
        for n in range(length)
    ]
    batches = overlapping(events, 500, seed=3)
    began = time.monotonic()
    accepted = duplicates = 0
    with ThreadPoolExecutor(THREADS) as threads:
        waiting = [threads.submit(post, collector.url, body(events=batch)) for batch in batches]
        for done, future in enumerate(as_completed(waiting), 1):
            answer = future.result()
            assert answer.status == 200, answer.json
            accepted, duplicates = accepted + answer.json["accepted"], duplicates + answer.json["duplicates"]
            if done % 50 == 0:
                with capfd.disabled():
                    print(f"{done}/{len(batches)} batches, {accepted} events, {time.monotonic() - began:.0f} s")
    assert (len(events), len(events)) == (accepted, duplicates)
    assert (len(events), len(events)) == connection.execute(
        "SELECT count(*), count(DISTINCT event_id) FROM analytics_event"
    ).fetchone()
    assert totals(connection) == {user + 1: (visits // users, visits // users * length) for user in range(users)}
    assert profiles.verify(connection) == []
