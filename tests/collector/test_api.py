"""The reads: profiles, sessions and events, their filters, and pages that neither skip nor repeat."""

from __future__ import annotations

import base64
import json
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from flask.testing import FlaskClient
from psycopg.sql import SQL, Composed

from analytics_collector import reader
from analytics_collector.sql import load
from tests.conftest import ADMIN_KEY, READ_KEY, WRITE_KEY
from tests.programs import Collector

WRITE = {"Authorization": f"Bearer {WRITE_KEY}"}
READ = {"Authorization": f"Bearer {READ_KEY}"}

AWKWARD_IDS = ["a/b", "/a", "//a", "a/", "..", "a%2Fb", "100%", "a b+c", "ü😀", "a?b#c&d=e", "a\nb", "\t", "007", "*"]


def event(name: str, day: int = 1, **fields: object) -> dict[str, Any]:
    """An event that is known by its type."""
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": name,
        "created_at": f"2026-01-{day:02d}T12:00:00Z",
        "event_data": {"name": name},
        **fields,
    }


def send(client: FlaskClient, **records: list[dict[str, Any]]) -> None:
    """Store records, all of which must be accepted."""
    answer = client.post("/v1/events", json=records, headers=WRITE).json
    assert answer == {"accepted": sum(map(len, records.values())), "duplicates": 0, "rejected": []}


def get(client: FlaskClient, path: str, **parameters: object) -> Any:
    """Read, which must succeed."""
    response = client.get(path, query_string=parameters, headers=READ)
    assert (response.status_code, response.mimetype) == (200, "application/json"), response.text
    return json.loads(response.data)


# Who may come in


@pytest.mark.parametrize(
    "path", ["/v1/profiles/1", "/v1/profiles?user_id=1", "/v1/sessions", "/v1/sessions/s", "/v1/events"]
)
def test_reading_needs_a_read_key(door: FlaskClient, path: str) -> None:
    """Without a key, with a wrong one or with a write key nothing is shown, not even whether it is there."""
    for headers in ({}, {"Authorization": "Bearer nobody-made-this-key"}, WRITE):
        response = door.get(path, headers=headers)
        assert (response.status_code, response.json["code"]) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    for key in (READ_KEY, ADMIN_KEY):
        assert door.get(path, headers={"Authorization": f"Bearer {key}"}).status_code in (200, 404)


# Profiles


def test_a_profile_shows_what_was_just_written(client: FlaskClient) -> None:
    """Read your writes: the profile counts the user's sessions and events, first and last as soon as they are sent."""
    send(client, events=[event("a", 3, user_id=42, session_id="s"), event("b", 1, user_id=42), event("c", 2)])
    assert get(client, "/v1/profiles/42") == {
        "user_id": 42,
        "total_sessions": 1,
        "total_events": 2,
        "first_seen": "2026-01-01T12:00:00Z",
        "last_seen": "2026-01-03T12:00:00Z",
        "traits": {},
    }


def test_a_profile_shows_traits(client: FlaskClient) -> None:
    """What the app said of a user stands beside the figures, digit by digit."""
    traits = {"plan": "pro", "seats": 3, "name": "Ada \\ \u0141"}
    user = {"user_id": "ada", "traits": traits, "updated_at": "2026-01-01T12:00:00Z"}
    send(client, events=[event("a", user_id="ada")], users=[user])
    assert get(client, "/v1/profiles/ada")["traits"] == traits


def test_a_user_never_seen_is_answered_404(client: FlaskClient) -> None:
    """There is no profile of a user without events and sessions, and the answer names the user."""
    user = {"user_id": 7, "traits": {"plan": "pro"}, "updated_at": "2026-01-01T12:00:00Z"}
    send(client, events=[event("a")], users=[user])
    for user_id in ("7", "8", "nobody", "9" * 30, "-1"):
        response = client.get(f"/v1/profiles/{user_id}", headers=READ)
        assert (response.status_code, response.json["code"]) == (404, "not_found")
        assert user_id in response.json["message"]


def test_several_profiles_come_in_the_order_asked(client: FlaskClient) -> None:
    """Many users in one request: each found one once, in the order asked; users never seen are left out."""
    send(client, events=[event("a", user_id=user_id) for user_id in (1, 2, "ada", 2**60)])
    asked = [2, "nobody", "ada", 1, 3, "2", 2**60]
    found = get(client, "/v1/profiles", user_id=asked)["profiles"]
    assert [profile["user_id"] for profile in found] == [2, "ada", 1, 2**60]


def test_a_hundred_profiles_at_most(door: FlaskClient) -> None:
    """One request asks for 1 to 100 users; more or none is refused with that figure."""
    assert get(door, "/v1/profiles", user_id=[f"nobody {number}" for number in range(100)]) == {"profiles": []}
    for asked in ([], list(range(101))):
        response = door.get("/v1/profiles", query_string={"user_id": asked}, headers=READ)
        assert (response.status_code, response.json["message"]) == (400, "Ask for 1 to 100 users")


@pytest.mark.parametrize("user_id", [0, 42, 2**48 - 1, 2**48, 2**63, 2**70, -5, "ada", "9a", "-", *AWKWARD_IDS])
def test_a_user_is_shown_under_the_id_that_the_app_used(client: FlaskClient, user_id: int | str) -> None:
    """Any id, of whatever type and characters, can be looked up and comes back everywhere as it was sent."""
    send(client, events=[event("a", user_id=user_id, session_id="s"), event("b", user_id="somebody else")])
    in_path = get(client, f"/v1/profiles/{quote(str(user_id), safe='')}")
    [in_query] = get(client, "/v1/profiles", user_id=user_id)["profiles"]
    [session] = get(client, "/v1/sessions", user_id=user_id)["sessions"]
    [row] = get(client, "/v1/events", user_id=user_id)["events"]
    assert [shown["user_id"] for shown in (in_path, in_query, session, row)] == [user_id] * 4


def test_awkward_ids_survive_real_http(collector: Collector) -> None:
    """Over a real socket, ids with slashes, percent signs and other alphabets find their profile."""
    body = json.dumps({"events": [event("a", user_id=user_id) for user_id in AWKWARD_IDS]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{collector.url}/v1/events", body, WRITE)) as response:
        assert json.load(response)["accepted"] == len(AWKWARD_IDS)
    for user_id in AWKWARD_IDS:
        request = urllib.request.Request(f"{collector.url}/v1/profiles/{quote(user_id, safe='')}", headers=READ)
        with urllib.request.urlopen(request) as response:
            assert json.load(response)["user_id"] == user_id


# Sessions


@pytest.fixture
def visits(client: FlaskClient) -> FlaskClient:
    """Four sessions: two of user 1, one of ada, one of nobody; two have ended."""
    sessions = [
        {"session_id": "one", "user_id": 1, "started_at": "2026-01-01T12:00:00Z", "ended_at": "2026-01-01T12:00:01.5Z"},
        {"session_id": "two", "user_id": 1, "started_at": "2026-01-02T12:00:00Z"},
        {"session_id": "ada", "user_id": "ada", "started_at": "2026-01-03T12:00:00Z", "user_agent": "Lynx"},
        {"session_id": "x/y", "started_at": "2026-01-04T12:00:00+02:00", "ended_at": "2026-01-04T12:00:00Z"},
    ]
    send(client, sessions=sessions)
    return client


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["x/y", "ada", "two", "one"]),
        ({"active": "true"}, ["ada", "two"]),
        ({"active": "false"}, ["x/y", "one"]),
        ({"user_id": 1}, ["two", "one"]),
        ({"user_id": "ada"}, ["ada"]),
        ({"user_id": "nobody"}, []),
        ({"user_id": 1, "active": "true"}, ["two"]),
        ({"since": "2026-01-02T12:00:00Z"}, ["x/y", "ada", "two"]),
        ({"until": "2026-01-02T12:00:00Z"}, ["one"]),
        ({"since": "2026-01-02T12:00:00Z", "until": "2026-01-03T12:00:00.000001Z"}, ["ada", "two"]),
        ({"since": "2026-01-04T12:00:00+02:00"}, ["x/y"]),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-03T00:00:00Z", "active": "true", "user_id": 1}, ["two"]),
        ({"since": "2026-01-02T00:00:00Z", "active": "false", "user_id": 1}, []),
        ({"limit": 1}, ["x/y"]),
    ],
)
def test_sessions_are_filtered(visits: FlaskClient, filters: dict[str, object], expected: list[str]) -> None:
    """Filters of sessions narrow together, `until` excludes its moment, and the newest comes first."""
    found = get(visits, "/v1/sessions", **filters)["sessions"]
    assert [session["session_id"] for session in found] == expected


def test_one_session_shows_all_of_it(visits: FlaskClient) -> None:
    """A session by its id, with its duration in seconds; an active one has none."""
    assert get(visits, "/v1/sessions/one") == {
        "session_id": "one",
        "user_id": 1,
        "started_at": "2026-01-01T12:00:00Z",
        "ended_at": "2026-01-01T12:00:01.500000Z",
        "duration": 1.5,
        "last_event_at": None,
        "user_agent": "",
        "referrer": "",
    }
    ada = get(visits, "/v1/sessions/ada")
    assert (ada["user_id"], ada["ended_at"], ada["duration"], ada["user_agent"]) == ("ada", None, None, "Lynx")
    assert get(visits, "/v1/sessions/x%2Fy")["duration"] == 7200


def test_an_unknown_session_is_answered_404(visits: FlaskClient) -> None:
    """A session that is not there is named in the answer."""
    response = visits.get("/v1/sessions/three", headers=READ)
    assert (response.status_code, response.json["message"]) == (404, "There is no session three")


# Events


@pytest.fixture
def clicks(client: FlaskClient) -> FlaskClient:
    """Five events of two users and nobody, in three sessions."""
    events = [
        event("page_view", 1, user_id=1, session_id="one"),
        event("click", 2, user_id=1, session_id="one"),
        event("click", 3, user_id="ada", session_id="two"),
        event("purchase", 4, user_id=1, session_id="three"),
        event("page_view", 5),
    ]
    send(client, events=events)
    return client


@pytest.mark.parametrize(
    ("filters", "days"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"user_id": 1}, [4, 2, 1]),
        ({"user_id": "ada"}, [3]),
        ({"user_id": "nobody"}, []),
        ({"session_id": "one"}, [2, 1]),
        ({"session_id": "four"}, []),
        ({"event_type": "click"}, [3, 2]),
        ({"event_type": "Click"}, []),
        ({"since": "2026-01-03T12:00:00Z"}, [5, 4, 3]),
        ({"until": "2026-01-03T12:00:00Z"}, [2, 1]),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-04T00:00:00Z"}, [3, 2]),
        ({"since": "2026-01-03T14:00:00.000001+02:00"}, [5, 4]),
        ({"user_id": 1, "event_type": "click"}, [2]),
        ({"user_id": 1, "session_id": "two"}, []),
        ({"session_id": "one", "event_type": "page_view", "user_id": 1, "until": "2026-01-02T00:00:00Z"}, [1]),
        ({"user_id": 1, "limit": 2}, [4, 2]),
    ],
)
def test_events_are_filtered(clicks: FlaskClient, filters: dict[str, object], days: list[int]) -> None:
    """Filters of events narrow together, `until` excludes its moment, and the newest comes first."""
    found = get(clicks, "/v1/events", **filters)["events"]
    assert [int(row["created_at"][8:10]) for row in found] == days


def test_an_event_shows_all_of_it(client: FlaskClient) -> None:
    """An event comes back with every column, and an old one with when it was received."""
    sent = event("click", user_id=1, session_id="s", ip_address="2001:DB8::1", event_data={"b": [1.10, None]})
    send(client, events=[sent])
    [row] = get(client, "/v1/events")["events"]
    assert row.pop("received_at").endswith("Z")
    assert row == sent | {"ip_address": "2001:db8::1"}


# Bad parameters


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ("/v1/events?limit=0", "it is 1 to 1000 rows"),
        ("/v1/events?limit=1001", "it is 1 to 1000 rows"),
        ("/v1/events?limit=-1", "it is 1 to 1000 rows"),
        ("/v1/events?limit=ten", "it is 1 to 1000 rows"),
        ("/v1/events?limit=", "it is 1 to 1000 rows"),
        ("/v1/events?limit=1e2", "it is 1 to 1000 rows"),
        ("/v1/events?limit=" + "9" * 5000, "it is 1 to 1000 rows"),
        ("/v1/sessions?limit=0", "it is 1 to 1000 rows"),
        ("/v1/events?since=yesterday", "2026-01-31T12:00:00Z"),
        ("/v1/events?since=2026-01-01T00:00:00", "lacks a time zone"),
        ("/v1/events?until=2026-01-01T00:00:00+01:00", "write + as %2B"),
        ("/v1/events?until=99999-01-01T00:00:00Z", "2026-01-31T12:00:00Z"),
        ("/v1/sessions?since=1700000000", "2026-01-31T12:00:00Z"),
        ("/v1/sessions?active=1", "it is true or false"),
        ("/v1/sessions?active=", "it is true or false"),
        ("/v1/events?user_id=", "not empty"),
        ("/v1/events?event_type=%00", "no NUL character"),
        ("/v1/sessions/a%00b", "no NUL character"),
        ("/v1/profiles/%00", "no NUL character"),
        ("/v1/profiles?user_id=1&user_id=", "not empty"),
        ("/v1/profiles?id=1", "there are: user_id"),
        ("/v1/sessions?event_type=click", "there are: active, cursor, limit, since, until, user_id"),
        ("/v1/events?type=click", "there are: cursor, event_type, limit, session_id, since, until, user_id"),
    ],
)
def test_a_bad_parameter_is_answered_400(door: FlaskClient, query: str, allowed: str) -> None:
    """A parameter that is unknown or makes no sense is refused with what is allowed."""
    response = door.get(query, headers=READ)
    assert (response.status_code, response.json["code"]) == (400, "malformed")
    assert allowed in response.json["detail"]


# Pages


def pages(client: FlaskClient, path: str, between: Callable[[], object], **parameters: object) -> list[list[Any]]:
    """Every page, from the first to the last, with something happening between them."""
    found = [get(client, path, **parameters)]
    while found[-1]["next_cursor"]:
        between()
        found.append(get(client, path, cursor=found[-1]["next_cursor"], **parameters))
    [name] = found[0].keys() - {"next_cursor"}
    return [page[name] for page in found]


def test_pages_of_events_neither_skip_nor_repeat(client: FlaskClient) -> None:
    """Every event that was there at the first page is on exactly one page, while others come in, some as old."""
    days = [1, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5, 6]
    there = [event("there", day, user_id=1) for day in days]
    send(client, events=there)

    def come_in() -> None:
        send(client, events=[event("new", day, user_id=1) for day in (1, 3, 5, 31)])

    found = pages(client, "/v1/events", come_in, user_id=1, limit=4)
    rows = [row for page in found for row in page]
    assert len({row["event_id"] for row in rows}) == len(rows)
    assert {row["event_id"] for row in rows if row["event_type"] == "there"} == {row["event_id"] for row in there}
    assert rows == sorted(rows, key=lambda row: (row["created_at"], row["event_id"]), reverse=True)
    assert {len(page) for page in found[:-1]} == {4}


def test_pages_of_sessions_neither_skip_nor_repeat(client: FlaskClient) -> None:
    """Every session that was there at the first page is on exactly one page, equal starts or not."""
    days = [1, 1, 1, 1, 1, 2, 3, 3, 3, 4]
    send(client, sessions=[session(f"there {number}", day) for number, day in enumerate(days)])
    fresh = iter(range(1000))

    def come_in() -> None:
        send(client, sessions=[session(f"new {next(fresh)} ü'\"\\", day) for day in (1, 3, 31)])

    found = pages(client, "/v1/sessions", come_in, active="true", limit=3)
    names = [row["session_id"] for page in found for row in page]
    assert len(set(names)) == len(names)
    assert {name for name in names if name.startswith("there")} == {f"there {number}" for number in range(10)}


@pytest.mark.parametrize("path", ["/v1/events", "/v1/sessions"])
def test_the_last_page_says_so(client: FlaskClient, path: str) -> None:
    """A page that ends with the last row has no cursor, even if it is full; so has an empty one."""
    assert get(client, path)["next_cursor"] is None
    send(client, events=[event("a", day, session_id=f"s{day}") for day in range(1, 7)])
    assert [len(page) for page in pages(client, path, lambda: None, limit=3)] == [3, 3]


def session(name: str, day: int) -> dict[str, Any]:
    """A session that starts on a day of January."""
    return {"session_id": name, "started_at": f"2026-01-{day:02d}T12:00:00Z"}


def sealed(text: str) -> str:
    """A cursor as somebody might forge it."""
    return base64.urlsafe_b64encode(text.encode()).decode()


FORGED = [
    "",
    "x",
    "ü",
    "%%%",
    sealed("null"),
    sealed("[]"),
    sealed('["2026-01-01T00:00:00Z","x"]'),
    sealed('["reader.events","2026-01-01T00:00:00Z","x"]'),
    sealed('["reader.events","2026-01-01T00:00:00","0190a0b0-0000-7000-8000-000000000000"]'),
    sealed('["reader.events","now","0190a0b0-0000-7000-8000-000000000000"]'),
    sealed(r'["reader.sessions","2026-01-01T00:00:00Z","a\u0000"]'),
    sealed("[" * 100_000),
]


@pytest.mark.parametrize("cursor", FORGED)
@pytest.mark.parametrize("path", ["/v1/events", "/v1/sessions"])
def test_a_garbled_cursor_is_answered_400(door: FlaskClient, path: str, cursor: str) -> None:
    """A cursor that we did not make is refused, with where to get one."""
    response = door.get(path, query_string={"cursor": cursor}, headers=READ)
    assert (response.status_code, response.json["message"]) == (400, "The cursor is none of ours")
    assert "next_cursor" in response.json["detail"]


def test_a_cursor_of_another_list_is_answered_400(client: FlaskClient) -> None:
    """A cursor pages through the list that it came from, and no other; torn or swapped ones are refused."""
    send(client, events=[event("a", session_id="0190a0b0-0000-7000-8000-000000000000"), event("b", session_id="s")])
    cursors = {path: get(client, path, limit=1)["next_cursor"] for path in ("/v1/events", "/v1/sessions")}
    for path, foreign in (("/v1/events", cursors["/v1/sessions"]), ("/v1/sessions", cursors["/v1/events"])):
        for cursor in (foreign, cursors[path][:-8], cursors[path][4:]):
            assert client.get(path, query_string={"cursor": cursor}, headers=READ).status_code == 400


# What it costs


class RecordingCursor(psycopg.Cursor):
    """Notes the statements of its connection."""

    statements: list[tuple[Any, Any]] = []  # noqa: RUF012  # emptied before each use

    def execute(self, query: Any, params: Any = None, **options: Any) -> RecordingCursor:
        """Note the statement, then run it."""
        self.statements.append((query, params))
        return super().execute(query, params, **options)


@pytest.fixture
def crowded(connection: psycopg.Connection) -> psycopg.Connection:
    """A database with 20,000 events in 2,000 sessions of 200 users, and fresh statistics; statements are noted."""
    fill(connection)
    connection.execute("ANALYZE analytics_event_default, analytics_session, analytics_useranalyticsprofile")
    connection.cursor_factory = RecordingCursor
    return connection


def fill(connection: psycopg.Connection) -> None:
    """Store them."""
    connection.execute(
        "INSERT INTO analytics_event (user_id, session_id, event_type, created_at)"
        " SELECT n % 200, 's' || n % 2000, 'click', timestamptz '2020-01-01Z' + n * interval '1 minute'"
        " FROM generate_series(1, 20000) AS n"
    )
    connection.execute(
        "INSERT INTO analytics_session (session_id, user_id, started_at)"
        " SELECT 's' || n, n % 200, timestamptz '2020-01-01Z' + n * interval '1 minute'"
        " FROM generate_series(0, 1999) AS n ON CONFLICT DO NOTHING"
    )
    connection.execute(
        "INSERT INTO analytics_useranalyticsprofile (user_id) SELECT generate_series(0, 1999) ON CONFLICT DO NOTHING"
    )


@pytest.mark.parametrize(
    ("read", "index"),
    [
        (lambda c: reader.profiles(c, [42]), "useranalyticsprofile_pkey"),
        (lambda c: reader.sessions(c, {"session_id": "s42"}, 1, None), "session_pkey"),
        (lambda c: reader.sessions(c, {"user_id": 42}, 100, None), "session_user_id_started_at"),
        (lambda c: reader.events(c, {"user_id": 42}, 100, None), "default_user_id_created_at"),
        (lambda c: reader.events(c, {"session_id": "s42"}, 100, None), "default_session_id"),
        (lambda c: reader.events(c, {"session_id": "s42", "event_type": "click"}, 9, None), "default_session_id"),
    ],
)
def test_a_lookup_goes_through_an_index(
    crowded: psycopg.Connection, read: Callable[[psycopg.Connection], object], index: str
) -> None:
    """However many rows there are, a user's and a session's are found through an index."""
    RecordingCursor.statements.clear()
    read(crowded)
    query, parameters = RecordingCursor.statements[-1]
    text = query.as_string(crowded) if isinstance(query, Composed) else query
    [[[plan]]] = crowded.execute(SQL("EXPLAIN (FORMAT JSON) ") + SQL(text), parameters).fetchall()
    big = {"analytics_event_default", "analytics_session", "analytics_useranalyticsprofile"}
    scans = [node for node in nodes(plan["Plan"]) if node.get("Relation Name") in big]
    assert [node["Node Type"] for node in scans if node["Node Type"] == "Seq Scan"] == []
    assert any(index in node.get("Index Name", "") for node in nodes(plan["Plan"]))


def test_seeing_a_user_again_goes_through_indexes(crowded: psycopg.Connection) -> None:
    """Nor does counting a user anew walk through all rows."""
    crowded.execute("SET enable_seqscan = off")  # 20,000 rows are few enough to look at each
    parameters = {"user_ids": [42], "before": datetime(2020, 1, 2, tzinfo=UTC)}
    statement = f"EXPLAIN (FORMAT JSON) {load('retention.see_again')}"
    [[[plan]]] = crowded.execute(statement.encode(), parameters).fetchall()
    crowded.execute("RESET enable_seqscan")
    big = {"analytics_event_default", "analytics_session", "analytics_useranalyticsprofile"}
    scans = [node for node in nodes(plan["Plan"]) if node.get("Relation Name") in big]
    assert scans
    assert [node["Relation Name"] for node in scans if node["Node Type"] == "Seq Scan"] == []


def test_a_claim_goes_through_indexes(connection: psycopg.Connection) -> None:
    """A claim walks through no table either, though its plan was made when there were few rows."""
    walked = (
        "SELECT sum(seq_scan) FROM pg_stat_xact_user_tables"  # of this backend, and not yet added to those of all
        " WHERE relname IN ('analytics_event_default', 'analytics_session', 'analytics_useranalyticsprofile')"
    )

    def write(session: int, user_id: int | None) -> int:
        told = {"session_id": f"s{session}", "user_id": user_id, "user_agent": "", "referrer": ""}
        connection.execute("SELECT pg_stat_force_next_flush()")
        with connection.transaction():
            connection.execute(load("writer.write"), {"sessions": json.dumps([told]), "events": "[]"}).fetchall()
            return int((connection.execute(walked).fetchone() or (0,))[0])

    for session in range(20):
        write(session, None)
        write(session, 7)
        connection.execute("ANALYZE analytics_event_default, analytics_session")
    fill(connection)
    for table in ("analytics_session", "analytics_event"):
        connection.execute(f"UPDATE {table} SET user_id = NULL WHERE session_id ~ '^s100[0-9]$'".encode())
    assert [write(session, 7) for session in range(1000, 1010)] == [0] * 10
    claimed = connection.execute(
        "SELECT count(*) FROM analytics_event WHERE user_id = 7 AND session_id ~ '^s100[0-9]$'"
    )
    assert claimed.fetchone() == (100,)


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """All nodes of a plan."""
    return [plan, *(node for inner in plan.get("Plans", []) for node in nodes(inner))]
