"""Django's models, unmodified, over the collector's tables, with `auth_user` beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from django.db import connections, models, transaction

from analytics_collector import embedded, migrate, profiles
from analytics_collector.batch import Reject
from analytics_collector.committer import Committer
from analytics_collector.db import Database
from tests import django_app
from tests.collector.batches import NOON, at, commit, event
from tests.django_app.models import AnalyticsEvent, AnalyticsSession, User, UserAnalyticsProfile

ANN, BOB, NEW = 1, 2, 3  # users; NEW has not been seen


@pytest.fixture(scope="module")
def django_dsn(server: embedded.Server) -> Iterator[str]:
    """A database that Django migrated, then we: two users and a passer-by have been there."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("CREATE DATABASE django")
        dsn = psycopg.conninfo.make_conninfo(server.dsn, dbname="django")
        django_app.migrate(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            migrate.apply(connection)
            migrate.use_user_table(connection, "auth_user")
        User.objects.bulk_create(User(id=number, username=f"user {number}") for number in (ANN, BOB, NEW))
        assert visit(dsn) == ()
        yield dsn
        connections.close_all()
        admin.execute("DROP DATABASE django WITH (FORCE)")


def visit(dsn: str) -> tuple[Reject, ...]:
    """Write what the tests read, as the collector does; returns what was refused."""
    words = {"user_agent": "curl", "referrer": "https://x.example/"}
    sessions = [
        {"session_id": "a1", "started_at": at(0), "ended_at": at(30), **words},
        {"session_id": "a2", "started_at": at(60), "user_id": ANN},
        {"session_id": "b1", "started_at": at(5), "user_id": BOB},
    ]
    events = [
        event(1, "a1", event_data={"path": "/", "tags": ["new", "mobile"]}, ip_address="192.0.2.7"),
        event(2, "a1", ANN, event_type="login", created_at=at(10)),
        event(3, "a2", created_at=at(61), event_data={"path": "/cart", "query": {"page": 2}}),
        event(4, "b1", BOB, event_type="purchase", created_at=at(6), event_data={"amount": 9.5}),
        event(5, "nobody's", created_at=at(7)),
    ]
    with contextlib.closing(Database(dsn)) as database:
        return commit(Committer(database), sessions=sessions, events=events).rejected


@pytest.fixture(autouse=True)
def rolled_back(django_dsn: str) -> Iterator[None]:
    """Each test sees the visits and leaves no trace; no connection stays open."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
    connections.close_all()


def session_ids(rows: models.QuerySet[AnalyticsSession] | models.QuerySet[AnalyticsEvent]) -> list[str]:
    """The session ids of rows, sorted."""
    return sorted(row.session_id for row in rows)


def test_the_sessions_manager() -> None:
    """`active_sessions()` and `for_user()` find what the collector wrote."""
    assert session_ids(AnalyticsSession.objects.active_sessions()) == ["a2", "b1", "nobody's"]
    assert session_ids(AnalyticsSession.objects.for_user(ANN)) == ["a1", "a2"]


def test_the_events_manager() -> None:
    """`for_session()`, `by_type()` and `in_date_range()` find what the collector wrote."""
    assert session_ids(AnalyticsEvent.objects.for_session("a1")) == ["a1", "a1"]
    assert session_ids(AnalyticsEvent.objects.by_type("purchase")) == ["b1"]
    hour = AnalyticsEvent.objects.in_date_range(NOON + timedelta(minutes=6), NOON + timedelta(minutes=10))
    assert session_ids(hour) == ["a1", "b1", "nobody's"]


def test_a_session() -> None:
    """A session's `duration`, user and words are those that were sent; the login gave it to its user."""
    ended, active = (AnalyticsSession.objects.get(session_id=name) for name in ("a1", "a2"))
    assert (timedelta(minutes=30), None) == (ended.duration, active.duration)
    assert (User.objects.get(id=ANN), "curl", "https://x.example/") == (ended.user, ended.user_agent, ended.referrer)


@pytest.mark.parametrize(
    "condition",
    [
        {"event_data__path": "/cart"},
        {"event_data__query__page": 2},
        {"event_data__query__page__gte": 2},
        {"event_data__has_key": "query"},
        {"event_data__contains": {"query": {"page": 2}}},
    ],
)
def test_json_filters(condition: dict[str, object]) -> None:
    """Django's questions to JSON find the event that answers them."""
    assert session_ids(AnalyticsEvent.objects.filter(**condition)) == ["a2"]


def test_an_event() -> None:
    """An event's data, address, time and user read as they were sent, the user by the claim."""
    found = AnalyticsEvent.objects.get(event_data__tags__contains=["mobile"])
    assert (found.event_data, found.ip_address) == ({"path": "/", "tags": ["new", "mobile"]}, "192.0.2.7")
    assert (found.created_at, found.user_id) == (NOON, ANN)


def test_the_profile_of_a_user() -> None:
    """`user.analytics_profile` says what the rows say; a user not seen has none."""
    profile = User.objects.get(id=ANN).analytics_profile
    assert (profile.total_sessions, profile.total_events) == (2, 3)
    assert (NOON, NOON + timedelta(minutes=61)) == (profile.first_seen, profile.last_seen)
    assert not UserAnalyticsProfile.objects.filter(user_id=NEW).exists()


def test_update_stats_changes_no_profile() -> None:
    """Counting anew, as the app has always done, finds every profile as the collector left it."""
    before = list(UserAnalyticsProfile.objects.order_by("user_id").values())
    assert [profile["user_id"] for profile in before] == [ANN, BOB]
    for profile in UserAnalyticsProfile.objects.all():
        profile.update_stats()
    assert before == list(UserAnalyticsProfile.objects.order_by("user_id").values())


def test_rows_that_the_app_makes() -> None:
    """The app can still make rows of its own, with ids of their own, and `update_stats()` counts them."""
    user = User.objects.get(id=NEW)
    AnalyticsSession.objects.create(session_id="n1", user=user)
    created = [
        AnalyticsEvent.objects.create(user=user, session_id="n1", event_type="signup", event_data={"n": n})
        for n in range(2)
    ]
    profile = UserAnalyticsProfile.objects.create(user=user)
    profile.update_stats()
    profile.refresh_from_db()
    assert (1, 2, created[0].created_at) == (profile.total_sessions, profile.total_events, profile.first_seen)
    assert len(set(AnalyticsEvent.objects.values_list("id", flat=True))) == AnalyticsEvent.objects.count() == 7


@pytest.mark.parametrize("model", [AnalyticsEvent, AnalyticsSession, UserAnalyticsProfile])
def test_rows_by_id(model: type[models.Model]) -> None:
    """A row that the collector wrote is got, saved and deleted by its id."""
    row = model._default_manager.filter(user_id=ANN).first()
    assert row is not None
    row.user_id = NEW
    row.save()
    assert model._default_manager.get(pk=row.pk).user_id == NEW
    assert (1, {f"analytics.{model.__name__}": 1}) == row.delete()
    assert not model._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", [AnalyticsEvent, AnalyticsSession, UserAnalyticsProfile])
def test_a_row_by_id_is_found_by_an_index(model: type[models.Model]) -> None:
    """With many rows, none of these is a walk through the whole table."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "Seq Scan" not in model._default_manager.filter(pk=1).explain()


def test_deleting_a_user() -> None:
    """Django deletes a user as its models say: the profile goes, sessions and events stay without a user."""
    User.objects.get(id=ANN).delete()
    assert list(UserAnalyticsProfile.objects.values_list("user_id", flat=True)) == [BOB]
    assert AnalyticsEvent.objects.filter(user=None).exclude(session_id="nobody's").count() == 3


def test_every_profile_is_exact(django_dsn: str) -> None:
    """`verify` finds nothing to mend."""
    with psycopg.connect(django_dsn) as connection:
        assert profiles.verify(connection) == []
