"""The tracking plan: what it says against an event, what is said of a wrong plan, and both over HTTP."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from analytics_collector import plan as plans
from analytics_collector import records
from analytics_collector.app import create_app
from analytics_collector.batch import Batch, read
from analytics_collector.cli import main
from analytics_collector.collector import Collector
from analytics_collector.committer import Committer
from analytics_collector.config import Settings
from analytics_collector.exceptions import ConfigError
from analytics_collector.gate import OTHER_TYPES, PAUSE, Gate
from tests.collector.batches import commit, event
from tests.collector.operating import samples
from tests.conftest import READ_KEY, WRITE_KEY
from tests.programs import running

PLAN = r"""
unknown = "reject"

[events.page_view]
description = "A page was shown"

[events.purchase.schema]
required = ["amount"]
additionalProperties = false

[events.purchase.schema.properties]
amount = { type = "number", minimum = 0 }
mail = { type = "string", format = "email" }
items = { type = "array", items = { properties = { n = { type = "integer" } } } }
code = { pattern = '^[A-Z]+$' }
"""
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """A file with the plan of the tests."""
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


# What it says against an event


@pytest.mark.parametrize(
    ("event_type", "data", "complaint"),
    [
        ("page_view", "{}", None),
        ("page_view", '{"anything":[1,{}]}', None),
        ("purchase", '{"amount":9.99,"mail":"ada@example.org","items":[{"n":1}],"code":"ABC"}', None),
        ("purchase", "{}", ("invalid_data", 'event_data: "amount" is a required property')),
        ("purchase", '{"amount":"9.99"}', ("invalid_data", 'event_data.amount: the value is not of type "number"')),
        ("purchase", '{"amount":-1}', ("invalid_data", "event_data.amount: the value is less than the minimum of 0")),
        (
            "purchase",
            '{"amount":1,"more":2}',
            ("invalid_data", "event_data: Additional properties are not allowed ('more' was unexpected)"),
        ),
        ("purchase", '{"amount":1,"mail":"x"}', ("invalid_data", 'event_data.mail: the value is not a "email"')),
        (
            "purchase",
            '{"amount":1,"items":[{"n":1},{"n":1.5}]}',
            ("invalid_data", 'event_data.items[1].n: the value is not of type "integer"'),
        ),
        ("logout", "{}", ("unknown_event", "event_type 'logout' is not in the tracking plan")),
    ],
)
def test_an_event_against_the_plan(event_type: str, data: str, complaint: plans.Complaint | None) -> None:
    """What is as planned passes; otherwise the answer is a code, and where it is wrong by which rule."""
    assert plans.parse(PLAN).judge(event_type, data.encode()) == complaint


def test_other_types_may_be_allowed() -> None:
    """Unless the plan says otherwise, events of other types pass, and so does everything without a plan."""
    assert plans.parse(PLAN.replace('unknown = "reject"', "")).judge("logout", b"{}") is None
    assert plans.parse("").judge("logout", b"{}") is None


@pytest.mark.parametrize("name", ["s" * 20000, "\N{SNOWMAN}" * 5000])
def test_a_message_is_short_and_repeats_no_value(name: str) -> None:
    """However long the names in an event are, the message is bounded; a value is never part of it."""
    complaint = plans.parse(PLAN).judge("purchase", json.dumps({"amount": 1, name: 1}).encode())
    assert complaint is not None
    assert len(complaint[1]) <= 300
    complaint = plans.parse(PLAN).judge("purchase", b'{"amount":1,"code":"secret"}')
    assert complaint == ("invalid_data", 'event_data.code: the value does not match "^[A-Z]+$"')


def test_no_pattern_can_be_made_slow() -> None:
    """The text that a backtracking engine would be busy with for years is judged within a second."""
    plan = plans.parse("[events.x.schema]\nproperties = { a = { pattern = '^(a+)+$' } }")
    started = time.process_time()
    complaint = plan.judge("x", json.dumps({"a": "a" * 50_000 + "!"}).encode())
    assert (complaint is not None, time.process_time() - started < 1) == (True, True)


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["amount", "mail", "items", "code", "more"]), Json))
def test_whatever_ingestion_lets_in_can_be_judged(data: dict[str, Any]) -> None:
    """Judging never raises, and says of a number without company what one would say oneself."""
    raw = json.dumps(event("x", event_type="purchase", event_data=data)).encode()
    batch = read({"event": [raw]}, datetime.now(UTC))
    for item in batch.items:
        complaint = plans.parse(PLAN).judge("purchase", bytes(item.record.event_data))
        assert complaint is None or complaint[0] in records.REASONS
        if data.keys() == {"amount"}:
            amount = data["amount"]
            good = isinstance(amount, int | float) and not isinstance(amount, bool) and amount >= 0
            assert (complaint is None) == good


def test_judging_costs_a_fraction_of_reading_the_plan() -> None:
    """A schema is compiled once: to judge an event by it costs a tenth of reading the plan at most."""
    plan = plans.parse(PLAN)
    data = json.dumps({"amount": 1, "code": "ABC", "items": [{"n": n} for n in range(10)]}).encode()
    started = time.process_time()
    for _ in range(500):
        assert plan.judge("purchase", data) is None
    judging = time.process_time() - started
    for _ in range(500):
        plans.parse(PLAN)
    assert judging < (time.process_time() - started - judging) / 10


# A plan that is wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unknown = ", "is no TOML: Invalid value (at"),
        ("[events.a]\n[events.a]\n", "is no TOML: Cannot declare ('events', 'a') twice (at line 2, column 10)"),
        ('unknown = "drop"', 'is wrong: unknown must be "allow" or "reject", not \'drop\''),
        ("[event.a]", "is wrong: event is not known here; there may be events and unknown"),
        ("events = 5", "is wrong: events must be a table, not 5"),
        ("[events]\na = 5", "is wrong: events.a must be a table, not 5"),
        ("[events.a.shema]", "is wrong: events.a.shema is not known here; there may be description and schema"),
        ("[events.a]\ndescription = 5", "is wrong: events.a.description must be text"),
        (f"[events.{'x' * 51}]", "has 51 characters; an event type has 1 to 50"),
        ('[events.a.schema]\ntype = "strin"', "is wrong: events.a.schema.type is no JSON Schema: "),
        (
            "[events.a.schema.properties.b]\npattern = '('",
            'is wrong: events.a.schema.properties.b.pattern is no JSON Schema: the value is not a "regex"',
        ),
        ('[events.a.schema]\n"$ref" = "https://example.org/x"', "Retrieval is disabled"),
        ('[events.a.schema]\n"$ref" = "file:///etc/passwd"', "Retrieval is disabled"),
        ("[events.a.schema]\nconst = 2026-01-31", "events.a.schema.const is 2026-01-31, which JSON does not have"),
        ("[events.a.schema]\nenum = [1, inf]", "events.a.schema.enum.1 is inf, which JSON does not have"),
    ],
)
def test_a_wrong_plan_is_told_with_file_place_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    """The error has the file, the line or the key, what is wrong there, and where to read on."""
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        create_app(Settings(database_url="postgresql://", plan=str(path)))
    assert f"The tracking plan {path} " in str(error.value)
    assert said in str(error.value)
    assert "docs/tracking-plan.md" in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A path that leads nowhere, or to what is no text, is told."""
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory\. Mend ANALYTICS_PLAN"):
        plans.load(tmp_path / "none.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no TOML"):
        plans.load(tmp_path / "binary")


def test_the_mode_is_one_of_two() -> None:
    """A mode that is none is refused with the two there are."""
    with pytest.raises(ConfigError, match="ANALYTICS_PLAN_MODE must be reject or flag, not 'warn'"):
        Settings.from_env({"ANALYTICS_PLAN_MODE": "warn"})


def test_gunicorn_does_not_start_on_a_wrong_plan(tmp_path: Path, dsn: str) -> None:
    """A collector with a plan that is wrong ends with a sentence, and does not serve without it."""
    (tmp_path / "plan.toml").write_text("[event.a]")
    environ = {
        "ANALYTICS_DATABASE_URL": dsn,
        "ANALYTICS_PLAN": str(tmp_path / "plan.toml"),
        "ANALYTICS_BIND": "127.0.0.1:0",
    }
    with running([sys.executable, "-m", "analytics_collector", "serve"], environ, stderr=-1) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "event is not known here" in said


def test_schemas_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without jsonschema-rs a plan of names works, and one with schemas says what to install."""
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    assert plans.parse("[events.a]").judge("a", b"{}") is None
    with pytest.raises(ConfigError, match=r"pip install 'analytics-sdk\[plan\]'"):
        plans.parse(PLAN)


# The gate


def batch(*events: dict[str, Any], sessions: tuple[dict[str, Any], ...] = ()) -> Batch:
    """Judged records."""
    raws = [[json.dumps(record).encode() for record in kind] for kind in (sessions, events)]
    return read({"session": raws[0], "event": raws[1]}, datetime.now(UTC))


def test_rejecting_costs_no_neighbour() -> None:
    """What is not as planned becomes a reject at its place, among those that were refused before it."""
    gate = Gate(plans.parse(PLAN))
    good, bad = event(1), event(2, event_type="purchase")
    screened = gate.screen(
        batch(good, {**good, "created_at": 5}, bad, event(3, event_type="x"), sessions=({"session_id": "s"}, {})), NOW
    )
    assert [(item.kind, item.index) for item in screened.items] == [("session", 0), ("event", 0)]
    assert [(reject.kind, reject.index, reject.code) for reject in screened.rejects] == [
        ("session", 1, "missing_field"),
        ("event", 1, "invalid_field"),
        ("event", 2, "invalid_data"),
        ("event", 3, "unknown_event"),
    ]
    assert screened.rejects[2].event_id == bad["event_id"]
    assert json.loads(screened.rejects[2].raw) == bad


def test_flagging_changes_nothing_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """In the other mode all pass, each is counted, and the log says so once a minute with all since then."""
    gate = Gate(plans.parse(PLAN), is_strict=False)
    bad = batch(event(2, event_type="purchase"), *(event(name, event_type=f"made up {name}") for name in range(50)))
    with caplog.at_level(logging.WARNING):
        assert gate.screen(bad, NOW) is bad
        for _ in range(3):
            gate.screen(bad, NOW + PAUSE / 2)
        assert len(caplog.messages) == 1
        gate.screen(bad, NOW + PAUSE)
    assert gate.flagged == {("purchase", "invalid_data"): 5, (OTHER_TYPES, "unknown_event"): 250}
    assert f"{OTHER_TYPES} unknown_event 200, purchase invalid_data 4" in caplog.messages[1]


@pytest.fixture
def planned(dsn: str, plan_file: Path, request: pytest.FixtureRequest) -> Iterator[FlaskClient]:
    """The application with the plan, in the mode that the test asks for."""
    app = create_app(Settings(database_url=dsn, plan=str(plan_file), plan_mode=request.param))
    collector: Collector = app.extensions["analytics_collector"]
    with closing(collector.database):
        yield app.test_client()


EVENTS = [event(1), event(2, event_type="purchase"), event(3, event_type="x")]


def post(client: FlaskClient) -> Any:
    """Send the events; the answer."""
    return client.post("/v1/events", json={"events": EVENTS}, headers={"Authorization": f"Bearer {WRITE_KEY}"}).json


@pytest.mark.parametrize("planned", ["reject"], indirect=True)
def test_over_http_what_is_rejected_is_replayed_under_another_plan(
    planned: FlaskClient, connection: psycopg.Connection, dsn: str, plan_file: Path
) -> None:
    """The answer names what is not as planned; it is kept, refused again by that plan, and stored by a wider one."""
    answer = post(planned)
    assert (answer["accepted"], [row["code"] for row in answer["rejected"]]) == (1, ["invalid_data", "unknown_event"])
    assert answer["rejected"][1]["message"] == "event_type 'x' is not in the tracking plan"
    environ = {"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_PLAN": str(plan_file)}
    again = json.loads(CliRunner().invoke(main, ["replay", "--json"], env=environ).stdout)
    assert (again["stored"], again["refused"]) == (0, {"invalid_data": 1, "unknown_event": 1})
    plan_file.write_text(PLAN + "[events.x]")
    again = json.loads(CliRunner().invoke(main, ["replay", "--json"], env=environ).stdout)
    assert (again["stored"], again["refused"]) == (1, {"invalid_data": 1})
    assert connection.execute("SELECT code FROM analytics_reject").fetchall() == [("invalid_data",)]


@pytest.mark.parametrize("planned", ["flag"], indirect=True)
def test_over_http_what_is_flagged_is_stored(planned: FlaskClient, connection: psycopg.Connection) -> None:
    """The answer is as without a plan; the application knows how many there were, and `/metrics` of which types."""
    read = {"Authorization": f"Bearer {READ_KEY}"}
    before = samples(planned.get("/metrics", headers=read).text, "analytics_events_flagged_total")
    assert post(planned) == {"accepted": 3, "duplicates": 0, "rejected": []}
    assert connection.execute("SELECT count(*) FROM analytics_event").fetchall() == [(3,)]
    gate = planned.application.extensions["analytics_collector"].gate
    assert gate.flagged.total() == 2
    after = samples(planned.get("/metrics", headers=read).text, "analytics_events_flagged_total")
    more = {labels: count - before.get(labels, 0) for labels, count in after.items()}
    assert {("invalid_data", "purchase"): 1, ("unknown_event", OTHER_TYPES): 1}.items() <= more.items()


# plan check


def check(*arguments: str, dsn: str = "") -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["plan", "check", *arguments], env={"ANALYTICS_DATABASE_URL": dsn})


def test_plan_check_says_whether_a_file_is_right(plan_file: Path) -> None:
    """Without a database, the command knows whether a file is a plan."""
    said = check(str(plan_file))
    assert (said.exit_code, said.output) == (0, f"{plan_file} is a tracking plan of 2 event types; others: reject.\n")
    plan_file.write_text("[event.a]")
    said = check(str(plan_file))
    assert (said.exit_code, "Error: The tracking plan" in said.output) == (1, True)


def test_plan_check_judges_what_is_stored(plan_file: Path, dsn: str) -> None:
    """Against the database, the newest events are judged, and those that would fail are counted by type."""
    ancient = (datetime.now(UTC) - timedelta(days=60)).isoformat()
    with closing(Collector(Settings(database_url=dsn)).database) as database:
        commit(
            Committer(database),
            events=[
                *(event(name) for name in range(3)),
                *(event(f"bad {n}", event_type="purchase", event_data={"amount": n - 1}) for n in range(2)),
                *(event(f"unknown {n}", event_type="x") for n in range(4)),
                event("ancient", event_type="x", created_at=ancient),
            ],
        )
    said = json.loads(check(str(plan_file), "--against-database", "--json", dsn=dsn).stdout)
    assert said == {
        "event_types": 2,
        "events": 9,
        "types": [
            {"event_type": "x", "ok": 0, "unknown_event": 4, "invalid_data": 0},
            {"event_type": "purchase", "ok": 1, "unknown_event": 0, "invalid_data": 1},
            {"event_type": "page_view", "ok": 3, "unknown_event": 0, "invalid_data": 0},
        ],
    }
    said = check(str(plan_file), "--against-database", dsn=dsn)
    assert (said.exit_code, said.output.splitlines()[-1]) == (1, "5 of the newest 9 events would fail it.")
    assert (
        check(str(plan_file), "--against-database", "--days", "90", "--last", "10", dsn=dsn).output.splitlines()[-1]
        == "6 of the newest 10 events would fail it."
    )
