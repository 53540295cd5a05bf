"""What the writer makes of records, rule by rule; test_histories has them all together."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from analytics_collector import profiles, writer
from analytics_collector.committer import Committer
from analytics_collector.config import Settings
from analytics_collector.db import Connection, Database
from tests.collector.batches import Fields, at, commit, event, event_id
from tests.collector.reference import Batch, Profile, Reference, Session, moment
from tests.collector.stored import stored


@pytest.fixture
def committer(settings: Settings) -> Iterator[Committer]:
    """A committer of this process, over the clean database."""
    with contextlib.closing(Database(settings.database_url)) as database:
        yield Committer(database)


def owners(connection: Connection) -> dict[str, int | None]:
    """Whose each session is."""
    return dict(connection.execute("SELECT session_id, user_id FROM analytics_session"))


def users_of_events(connection: Connection, *names: str) -> list[int | None]:
    """Whose these events are."""
    found = dict(connection.execute("SELECT event_id::text, user_id FROM analytics_event"))
    return [found[event_id(name)] for name in names]


def test_an_event_is_one_row(committer: Committer, connection: Connection) -> None:
    """Every field of an event arrives in its column."""
    data = {"amount": 9.99, "text": 'a "quote", a \\ and a tab\t', "ключ": ["值", None, {"n": 10**30}]}
    sent = event("e", "s", 7, event_type="purchase", event_data=data, ip_address="2001:db8::1")
    commit(committer, events=[sent])
    row = connection.execute(
        "SELECT event_id::text, user_id, session_id, event_type, event_data, created_at, host(ip_address)"
        " FROM analytics_event"
    ).fetchone()
    assert (event_id("e"), 7, "s", "purchase", data, moment(at(0)), "2001:db8::1") == row


@pytest.mark.parametrize("together", [1, writer.FEW, 2 * writer.FEW])
def test_when_it_was_received_is_kept_of_what_came_late(
    committer: Committer, connection: Connection, together: int
) -> None:
    """Of an event that came within a minute `received_at` is null, else the moment, in whichever way it is stored."""
    began = datetime.now(UTC)
    ages = {"at once": 0, "slow clock": 50, "late": 70, "last year": 31_536_000, "fast clock": -70}
    moments = {name: (began - timedelta(seconds=age)).isoformat() for name, age in ages.items()}
    events = [event(name, f"session {name}", created_at=moment) for name, moment in moments.items()]
    events += [event(n, "padding") for n in range(writer.FEW)]
    for first in range(0, len(events), together):
        commit(committer, events=events[first : first + together])
    found = dict(connection.execute("SELECT event_id::text, received_at FROM analytics_event").fetchall())
    received = {name: found[event_id(name)] for name in ages}
    assert [name for name, moment in received.items() if moment is None] == ["at once", "slow clock"]
    assert all(began <= moment <= datetime.now(UTC) for moment in received.values() if moment is not None)


def test_sent_again_it_is_a_duplicate(committer: Committer, connection: Connection) -> None:
    """The same events again, in the same batch or a later one, are counted as duplicates and change nothing."""
    events = [event(n, "s", 7) for n in range(3)]
    verdicts = [commit(committer, events=[*events, *events]), commit(committer, events=events)]
    assert [(verdict.accepted, verdict.duplicates) for verdict in verdicts] == [(3, 3), (0, 3)]
    _, found = stored(connection)
    assert {7: Profile(1, 3, moment(at(0)), moment(at(0)))} == found


def test_a_retry_that_names_another_session_is_a_duplicate(committer: Committer, connection: Connection) -> None:
    """An event stays where it was stored first, whatever session a later copy is said to belong to."""
    commit(committer, events=[event("e", "first", 7)])
    verdict = commit(committer, events=[event("e", "second", 8)])
    assert verdict.duplicates == 1
    assert connection.execute("SELECT session_id, user_id FROM analytics_event").fetchall() == [("first", 7)]
    assert profiles.verify(connection) == []


def test_a_login_claims_the_anonymous_session(committer: Committer, connection: Connection) -> None:
    """The first user seen in a session owns it and the anonymous events that it already had."""
    commit(committer, events=[event("before", "s"), event("elsewhere", "other")])
    commit(committer, events=[event("login", "s", 7, event_type="login", created_at=at(1))])
    assert owners(connection) == {"s": 7, "other": None}
    assert users_of_events(connection, "before", "login", "elsewhere") == [7, 7, None]
    assert {7: Profile(1, 2, moment(at(0)), moment(at(1)))} == stored(connection)[1]


@pytest.mark.parametrize("known", [False, True])
def test_a_login_claims_what_stands_beside_it(committer: Committer, connection: Connection, known: bool) -> None:
    """Anonymous events of the batch that brings the login are its user's too, in a new session or a known one."""
    commit(committer, sessions=[{"session_id": "s"}] * known)
    commit(committer, events=[event("before", "s"), event("login", "s", 7), event("after", "s")])
    assert users_of_events(connection, "before", "login", "after") == [7, 7, 7]
    assert profiles.verify(connection) == []


def test_a_session_record_claims(committer: Committer, connection: Connection) -> None:
    """Identifying a session by a record of its own does what a login event does."""
    commit(committer, events=[event("before", "s")])
    commit(committer, sessions=[{"session_id": "s", "user_id": 7}])
    assert users_of_events(connection, "before") == [7]
    assert profiles.verify(connection) == []


def test_a_late_anonymous_event_is_the_owners(committer: Committer, connection: Connection) -> None:
    """An anonymous event that arrives after the claim belongs to the session's owner, however old it is."""
    commit(committer, events=[event("login", "s", 7, created_at=at(10))])
    commit(committer, events=[event("late", "s", created_at=at(-10))])
    assert users_of_events(connection, "late") == [7]
    assert {7: Profile(1, 2, moment(at(-10)), moment(at(10)))} == stored(connection)[1]


def test_a_second_user_never_takes_the_session(committer: Committer, connection: Connection) -> None:
    """The session and its anonymous events stay with the first user; the second one's events carry his own id."""
    commit(committer, events=[event("anonymous", "s"), event("first", "s", 7)])
    commit(committer, events=[event("second", "s", 8), event("anonymous later", "s")])
    assert owners(connection) == {"s": 7}
    assert users_of_events(connection, "anonymous", "first", "second", "anonymous later") == [7, 7, 8, 7]
    _, found = stored(connection)
    assert [(found[user].total_sessions, found[user].total_events) for user in (7, 8)] == [(1, 3), (0, 1)]


def test_events_without_a_session_make_none(committer: Committer, connection: Connection) -> None:
    """An event of no session is stored and counted, and no anonymous one of them is ever adopted."""
    commit(committer, events=[event("anonymous"), event("known", user_id=7), event("null", None, 7)])
    assert owners(connection) == {}
    assert users_of_events(connection, "anonymous", "known", "null") == [None, 7, 7]
    assert {7: Profile(0, 2, moment(at(0)), moment(at(0)))} == stored(connection)[1]


#: Records of a session itself, and the users of its events at minute 5.
_BEFORE: list[tuple[list[Fields], list[int | None]]] = [
    ([], []),
    ([], [None]),
    ([], [1]),
    ([], [1, None, 2]),
    ([{"started_at": at(4)}], []),
    ([{"started_at": at(4), "user_id": 1, "user_agent": "curl", "referrer": "https://a.example/"}], []),
    ([{"ended_at": at(4)}], []),
    ([{"ended_at": at(4)}], [None]),
    ([{"ended_at": at(8), "user_id": 1}], [1]),
]


def test_an_event_alone_is_told_no_less(committer: Committer, connection: Connection) -> None:
    """A single event, which is stored in a quicker way, leaves what the reference says, whatever there was before."""
    reference = Reference()
    cases = itertools.product(_BEFORE, [None, 1, 2, 3], [("new", 3), ("new", 6), ("event 0", 5), ("elsewhere", 5)])
    for n, ((sessions, users), user, (name, minute)) in enumerate(cases):
        told = [{"session_id": f"s{n}", **record, "user_id": _nth(n, record.get("user_id"))} for record in sessions]
        seen = [event(f"{n} event {i}", f"s{n}", _nth(n, one), created_at=at(5)) for i, one in enumerate(users)]
        elsewhere = event(f"{n} elsewhere", f"other {n}", _nth(n, 3), created_at=at(5))
        alone = event(f"{n} {name}", f"s{n}", _nth(n, user), created_at=at(minute))
        for batch in (Batch(told, events=[*seen, elsewhere]), Batch(events=[alone])):
            fates = reference.take(batch.entries(), datetime.now(UTC))
            verdict = commit(committer, sessions=list(batch.sessions), events=list(batch.events))
            assert fates.count("accepted") == verdict.accepted, (n, fates)
    found, found_profiles = stored(connection)
    assert reference == found
    assert reference.profiles() == found_profiles


def _nth(n: int, user: int | None) -> int | None:
    """One of ten users who are only here in the nth case."""
    return None if user is None else 10 * n + user


def test_a_session_spans_its_events(committer: Committer, connection: Connection) -> None:
    """It started with its earliest known moment and is active until something says that it ended."""
    commit(committer, events=[event(1, "s", created_at=at(5)), event(2, "s", created_at=at(9))])
    commit(committer, sessions=[{"session_id": "s", "started_at": at(4)}], events=[event(3, "s", created_at=at(6))])
    assert Session(None, moment(at(4)), None, moment(at(9))) == stored(connection)[0].sessions["s"]


def test_a_session_that_ended_ends_later_with_a_later_event(committer: Committer, connection: Connection) -> None:
    """No event of a session lies after its end, whichever of the two arrives first."""
    end = {"session_id": "s", "ended_at": at(10)}
    commit(committer, sessions=[end], events=[event(1, "s", created_at=at(12))])
    commit(committer, events=[event(2, "t", created_at=at(12))])
    commit(committer, sessions=[{**end, "session_id": "t"}], events=[event(3, "s", created_at=at(15))])
    found = stored(connection)[0].sessions
    assert [moment(at(15)), moment(at(12))] == [found["s"].ended_at, found["t"].ended_at]


def test_what_a_session_said_of_itself_stays(committer: Committer, connection: Connection) -> None:
    """The first user agent and referrer that are not empty are kept."""
    said = [{}, {"user_agent": "one", "referrer": ""}, {"user_agent": "two", "referrer": "https://a.example/"}]
    for words in said:
        commit(committer, sessions=[{"session_id": "s", **words}])
    session = stored(connection)[0].sessions["s"]
    assert (session.user_agent, session.referrer) == ("one", "https://a.example/")


def test_a_session_without_any_time_starts_on_arrival(committer: Committer, connection: Connection) -> None:
    """Nothing but an id makes a session that starts now; an event of it corrects that."""
    before = datetime.now(UTC)
    commit(committer, sessions=[{"session_id": "s"}])
    started_at = stored(connection)[0].sessions["s"].started_at
    assert started_at is not None
    assert before <= started_at <= datetime.now(UTC)
    commit(committer, events=[event("e", "s", created_at=at(-1))])
    assert moment(at(-1)) == stored(connection)[0].sessions["s"].started_at


@pytest.mark.parametrize("number", [0, 42, 2**31, 2**48 - 1])
def test_integers_are_the_apps_own_ids(committer: Committer, connection: Connection, number: int) -> None:
    """An integer below 2^48 is stored as it is, sent as a number or as a string."""
    commit(committer, events=[event("number", user_id=number), event("string", user_id=str(number))])
    assert [number, number] == users_of_events(connection, "number", "string")


@pytest.mark.parametrize("name", ["ann@example.com", "007", "-1", str(2**48), "9" * 200, "Ünï 🐘", "a'b\\c", " 42"])
def test_other_ids_get_a_number(committer: Committer, connection: Connection, name: str) -> None:
    """Any other id gets one number from 2^48 up and keeps it."""
    commit(committer, events=[event("first", user_id=name)])
    commit(committer, events=[event("second", user_id=name)])
    one, other = users_of_events(connection, "first", "second")
    assert one == other >= 2**48
    assert [(name,)] == connection.execute("SELECT external_id FROM analytics_user").fetchall()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("at_once", [True, False])
def test_traits_merge_in_any_order(
    committer: Committer, connection: Connection, order: tuple[int, ...], at_once: bool
) -> None:
    """Traits merge key by key; of one key said twice the newer record wins, in whatever order they arrive."""
    said = [
        {"user_id": "ann", "traits": {"plan": "free", "city": "Oslo"}, "updated_at": at(0)},
        {"user_id": "ann", "traits": {"plan": "pro"}, "updated_at": at(1)},
        {"user_id": "ann", "traits": {"seats": 3}, "updated_at": at(2)},
    ]
    sent = [said[index] for index in order]
    for batch in [sent] if at_once else [[record] for record in sent]:
        commit(committer, users=batch)
    rows = connection.execute("SELECT external_id, traits FROM analytics_user").fetchall()
    assert rows == [("ann", {"plan": "pro", "city": "Oslo", "seats": 3})]


def test_traits_of_an_integer_user_make_no_profile(committer: Committer, connection: Connection) -> None:
    """Traits are no sign of life: whoever has nothing else has no profile."""
    commit(committer, users=[{"user_id": 42, "traits": {"plan": "pro"}, "updated_at": at(0)}])
    assert connection.execute("SELECT id, traits FROM analytics_user").fetchall() == [(42, {"plan": "pro"})]
    assert stored(connection)[1] == {}
