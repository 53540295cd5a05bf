"""Random histories of everything that can happen to the tables: after each step Postgres is as the reference says.

Where requests come at once, it is as the reference says for one of the orders in which they can have been taken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from analytics_collector import housekeeping, profiles, rejects
from analytics_collector.batch import KINDS
from analytics_collector.committer import Committer
from analytics_collector.config import Settings
from analytics_collector.rejects import Outcome, Replay, Selection
from tests.collector.batches import NOON
from tests.collector.orders import Answer, Search
from tests.collector.reference import Batch, Entry, Reference, app_user
from tests.collector.stored import stored
from tests.collector.strategies import batches, requests_at_once
from tests.collector.world import NOW, WRITERS, Post, World, make_tables, month_of, months_from, world
from tests.programs import run_collector

pytestmark = pytest.mark.usefixtures("no_deadlocks")

NEXT_YEAR = NOW + timedelta(days=500)
IN_PLACE = """
    SELECT DISTINCT to_char(created_at, 'YYYY_MM'), substr(tableoid::regclass::text, length('analytics_event_') + 1)
    FROM analytics_event
"""
BACKENDS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'analytics-collector' AND datname = current_database()
        AND state <> 'idle' AND query LIKE '%analytics_%'
"""
DAMAGES = [
    f"{damage} WHERE user_id = ANY(%s)"
    for damage in (
        "DELETE FROM analytics_useranalyticsprofile",
        "UPDATE analytics_useranalyticsprofile SET total_events = total_events + 1",
        "UPDATE analytics_useranalyticsprofile SET total_sessions = total_sessions + 1",
        "UPDATE analytics_useranalyticsprofile SET last_seen = COALESCE(last_seen, now()) + interval '1 s'",
    )
]
MOST_BROKEN = 5  # times in a row


class Histories(RuleBasedStateMachine):
    """Everything that can happen, in any order.

    What a rule draws never depends on the tables, so that a history can be run again though threads are in it.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.begin_anew()
        self.reference = Reference(app_users=world.app_users)
        self.months = set(months_from(NOW))
        self.sent: list[Batch] = []

    # Requests

    @rule(batch=batches())
    def send(self, batch: Batch) -> None:
        """A request's verdict and its rows are those of its records, one by one."""
        self.sent.append(batch)
        fates, since = self.reference.take(batch.entries(), NOW), datetime.now(UTC)
        assert self.world.together(batch) == Answer.of(fates)
        self.date(since)

    @precondition(lambda self: self.sent)
    @rule(number=st.integers(0, 99))
    def send_again(self, number: int) -> None:
        """A request may come again at any time."""
        self.send(self.sent[number % len(self.sent)])

    @rule(told=requests_at_once(), apart=st.booleans())
    def send_at_once(self, told: list[Batch], apart: bool) -> None:
        """Requests at once, some of them the same, are taken in some order."""
        self.at_once(told, apart=apart)

    @rule(told=st.lists(batches(bad=False), min_size=2, max_size=WRITERS), apart=st.booleans())
    def send_while_connections_break(self, told: list[Batch], apart: bool) -> None:
        """Nobody notices when backends die, but that what was stored at the first try is a duplicate at the second."""
        told = [attrs.evolve(batch, users=()) for batch in told]
        times = iter(range(MOST_BROKEN))
        self.at_once(
            told, apart=apart, beside=lambda: next(times, None) is None or self.break_connections(), unsure=True
        )

    @rule(told=requests_at_once())
    def send_during_a_comparison(self, told: list[Batch]) -> None:
        """Profiles are exact at every moment, also in the midst of it."""
        self.at_once(told, beside=self.find_nothing_wrong)

    @rule(told=requests_at_once())
    def send_during_a_rebuild(self, told: list[Batch]) -> None:
        """There is nothing to mend at any moment."""
        self.at_once(told, beside=self.find_nothing_to_mend)

    @rule(told=requests_at_once(), past=st.integers(0, 30))
    def send_while_partitions_are_made(self, told: list[Batch], past: int) -> None:
        """Rows find their partitions while those are made and DEFAULT is emptied."""
        now = NOW - timedelta(days=30 * past)
        self.at_once(told, beside=lambda: self.job("make_partitions", now))
        self.at_once(told, beside=lambda: self.job("empty_default"))

    @rule(told=requests_at_once(most=5), minutes=st.sampled_from([-40, 1, 5, 59]))
    def send_while_idle_sessions_end(self, told: list[Batch], minutes: int) -> None:
        """A session that ends while requests come for it ends before, in between or after them."""
        before, idle = NOON + timedelta(minutes=minutes), timedelta(minutes=1)
        settings = {"session_idle_seconds": idle.seconds}
        self.at_once(told, beside=lambda: self.job("end_idle_sessions", before + idle, **settings), rested=before)

    def break_connections(self) -> None:
        """Terminate the backends that are in a transaction."""
        self.world.connection.execute(BACKENDS)

    # Housekeeping

    @rule(minutes=st.sampled_from([-39, -4, 1, 6, 3000]), idle=st.sampled_from([60, 1800]))
    def end_idle_sessions(self, minutes: int, idle: int) -> None:
        """Sessions in which nothing happens any more end with their last event."""
        now = NOON + timedelta(minutes=minutes)
        self.job("end_idle_sessions", now, session_idle_seconds=idle)
        self.reference.end_idle(now - timedelta(seconds=idle))

    @rule(days=st.sampled_from([15, 40, 70, 365, 10_000]))
    def forget_what_is_old(self, days: int) -> None:
        """Months that are wholly past retention go, with their sessions, and profiles count what is left."""
        self.job("drop_old_partitions", retention_days=days)
        before = (NOW - timedelta(days=days)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        self.reference.forget(before)
        self.months = {month for month in self.months if month >= month_of(before)}

    @rule(past=st.integers(0, 30))
    def make_partitions(self, past: int) -> None:
        """Months get partitions, unless DEFAULT has rows of them."""
        now = NOW - timedelta(days=30 * past)
        self.job("make_partitions", now)
        self.months |= set(months_from(now)) - self.in_default()

    @rule()
    def empty_default(self) -> None:
        """Months of which DEFAULT has rows get partitions, unless they are long past or to come."""
        self.job("empty_default")
        latest, ago = months_from(NOW)[-1], f"{NOW.year - 10:04}_{NOW.month:02}"
        self.months |= {month for month in self.in_default() if ago <= month <= latest}

    @rule(days=st.sampled_from([1, 60]))
    def trim_rejects(self, days: int) -> None:
        """Rejects are kept for as long as they shall be."""
        self.job("trim_rejects", NOW + timedelta(days=30), reject_retention_days=days)
        if days == 1:
            self.reference.rejects.clear()

    # Commands

    @rule(later=st.booleans())
    def replay(self, later: bool) -> None:
        """What is good by now is stored, what is not stays with its present reason."""
        now = NEXT_YEAR if later else NOW
        entries, since = self.rejected(), datetime.now(UTC)
        self.reference.rejects.clear()
        fates = self.reference.take(entries, now)
        answer = Answer.of(fates)
        database = self.world.database
        replay = Replay(database, Committer(database), judge=lambda reject, _: rejects.judge(reject, now))
        outcome = sum(replay.run(Selection(), NEXT_YEAR, 1000), Outcome())
        assert (outcome.read, outcome.duplicates, outcome.refused) == (len(entries), answer.duplicates, answer.rejected)
        self.date(since)

    @rule(number=st.integers(0, 99), damage=st.sampled_from(DAMAGES))
    def rebuild(self, number: int, damage: str) -> None:
        """A profile that is wrong is found, and mended."""
        connection = self.world.connection
        query = "SELECT user_id FROM analytics_useranalyticsprofile ORDER BY user_id"
        user_ids = [user_id for (user_id,) in connection.execute(query)]
        wrong = user_ids[number % len(user_ids) :][:1] if user_ids else []
        connection.execute(damage.encode(), [wrong])
        assert [profile.user_id for profile in profiles.verify(connection)] == wrong
        assert profiles.rebuild(connection) == len(wrong)

    @precondition(lambda self: self.reference.app_users is not None)
    @rule(user_id=st.sampled_from([2, 3]))
    def sign_up(self, user_id: int) -> None:
        """The app gets a user."""
        assert self.reference.app_users is not None
        self.world.connection.execute("INSERT INTO auth_user VALUES (%s) ON CONFLICT DO NOTHING", [user_id])
        self.reference.app_users |= {user_id}

    # What must hold

    @invariant()
    def is_as_the_reference_says(self) -> None:
        """Events, sessions, users, rejects, profiles; and every event is in its partition."""
        found, found_profiles = stored(self.world.connection)
        assert found == self.reference
        assert found_profiles == self.reference.profiles()
        assert self.world.months() == self.months
        for month, partition in self.world.connection.execute(IN_PLACE):
            assert partition == (month if month in self.months else "default")

    def date(self, since: datetime) -> None:
        """See when sessions arrived of which nothing but this is known."""
        self.reference.date(stored(self.world.connection)[0], since, datetime.now(UTC))

    def in_default(self) -> set[str]:
        """Months that have events but no partition."""
        return {month_of(created_at) for _, created_at in self.reference.events} - self.months

    def job(self, name: str, now: datetime = NOW, **settings: int) -> None:
        """Run a job of housekeeping."""
        (job,) = (job for job in housekeeping.JOBS if job.name == name)
        done = housekeeping.run(self.world.connection, job, Settings(database_url="unused", **settings), now)
        assert done is not None
        assert not done.failed, done.outcome

    def rejected(self) -> list[Entry]:
        """All rejects, in the order in which they are replayed."""
        rows = self.world.connection.execute(
            "SELECT kind, convert_from(record, 'UTF8')::json FROM analytics_reject"
            " ORDER BY received_at, array_position(%s, kind), reject_id",
            [list(KINDS)],
        )
        return [(kind, record) for kind, record in rows]

    def find_nothing_wrong(self) -> None:
        """Compare the profiles."""
        assert profiles.verify(self.world.connection) == []

    def find_nothing_to_mend(self) -> None:
        """Mend the profiles."""
        assert profiles.rebuild(self.world.connection) == 0

    def at_once(
        self,
        told: Sequence[Batch],
        *,
        apart: bool = True,
        beside: Callable[[], object] = lambda: None,
        unsure: bool = False,
        rested: datetime | None = None,
    ) -> None:
        """Send requests at the same moment; something else goes on beside them, again and again.

        Args:
            told: The requests.
            apart: Whether they go to workers of their own, or are one worker's group.
            beside: What else goes on.
            unsure: Whether a COMMIT may go unheard, and so what is new be counted as a duplicate.
            rested: Sessions without an event since then may have been ended, if that is what goes on beside.
        """
        told = [self.of_known_users(batch) for batch in told]
        self.sent += told
        since = datetime.now(UTC)
        answers = self.post_all(told, apart, beside)
        until = datetime.now(UTC)
        found, _ = stored(self.world.connection)
        search = Search(found, since, until, rested)
        for batch, answer in zip(told, answers, strict=True):
            assert answer.accepted + answer.duplicates + sum(answer.rejected.values()) == len(batch.entries())
        after = search.run(self.reference, told, [None] * len(told) if unsure else answers)
        assert after is not None, "no order of the requests ends like this"
        self.reference = after
        self.months = self.months_now()

    def post_all(self, told: Sequence[Batch], apart: bool, beside: Callable[[], object]) -> list[Answer]:
        """Send them, and see to it that the work beside them has begun before and goes on until the end."""
        gate = threading.Barrier(len(told) + 1)
        posts = self.world.apart if apart else [self.world.together] * WRITERS

        def start(way: Post, batch: Batch) -> Answer:
            gate.wait(30)
            return way(batch)

        going: list[Future[Answer]] = [
            self.world.threads.submit(start, way, batch) for way, batch in zip(posts, told, strict=False)
        ]
        try:
            gate.wait(30)
            beside()
            while not all(future.done() for future in going):
                beside()
        finally:
            wait(going)  # the next history begins without them
        return [future.result() for future in going]

    def of_known_users(self, batch: Batch) -> Batch:
        """Without those whom the app does not have: which of their records are refused depends on their neighbours."""
        known = self.reference.app_users
        if known is None:
            return batch
        fine = [record for _, record in batch.entries() if app_user(record.get("user_id")) in {None, *known}]
        return Batch(*([one for one in part if one in fine] for part in (batch.sessions, batch.users, batch.events)))

    def months_now(self) -> set[str]:
        """The months that have a partition by now: none has lost it."""
        found = self.world.months()
        assert found >= self.months
        return found


def run_histories(world: World, examples: int, steps: int) -> None:
    """Try so many histories of so many steps."""
    how = hypothesis_settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    run_state_machine_as_test(lambda: Histories(world), settings=how)


@pytest.fixture(params=[None, frozenset({1})], ids=["", "app-users"])
def here(request: pytest.FixtureRequest, new_database: Callable[[], str]) -> Iterator[World]:
    """Workers in this process; with and without the app's own table of users."""
    with world(make_tables(new_database(), request.param), app_users=request.param) as found:
        yield found


@pytest.fixture
def behind_gunicorn(new_database: Callable[[], str]) -> Iterator[World]:
    """Four workers in processes of their own."""
    dsn = make_tables(new_database())
    with run_collector(dsn, workers=4) as collector, world(dsn, url=collector.url) as found:
        yield found


def test_any_history(here: World) -> None:
    """Whatever comes, in whatever order and from up to eight writers at once, the tables are as the reference says."""
    run_histories(here, examples=7, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_long_history(here: World) -> None:
    """Thousands of steps are no different."""
    run_histories(here, examples=100, steps=50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_history_behind_gunicorn(behind_gunicorn: World) -> None:
    """Nor does it matter that the workers are processes that know nothing of each other."""
    run_histories(behind_gunicorn, examples=50, steps=50)
