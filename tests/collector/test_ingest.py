"""`POST /v1/events`: who may come in, which bodies are refused whole, which records alone, and what is stored."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import psycopg
import pytest
from flask.testing import FlaskClient

from analytics_collector import ingest, keys, migrate
from analytics_collector.app import create_app
from analytics_collector.config import Settings
from analytics_collector.exceptions import TooLargeError
from analytics_collector.ingest import inflate
from analytics_collector.protocols import native
from tests.conftest import ADMIN_KEY, READ_KEY, WRITE_KEY
from tests.programs import Collector, wait_until

WRITE = {"Authorization": f"Bearer {WRITE_KEY}"}
READ = {"Authorization": f"Bearer {READ_KEY}"}
LIMIT = 8 * 1024 * 1024  # bytes, the default of ANALYTICS_MAX_BODY_BYTES
ID = "0190a0b0-0000-7000-8000-000000000000"


def event(**fields: object) -> dict[str, Any]:
    """A good event, but for the fields given."""
    good = {"event_id": str(uuid.uuid4()), "event_type": "click", "created_at": "2026-01-31T12:00:00Z"}
    return good | {"session_id": "s"} | fields


def raw_event(more: str = "", *, created_at: str = "2026-01-31T12:00:00Z") -> bytes:
    """The text of one event with a known id, ending in more fields: what no encoder would write."""
    return f'{{"event_id":"{ID}","event_type":"click","created_at":"{created_at}"{more}}}'.encode()


def batch(records: Iterable[bytes], array: str = "events") -> bytes:
    """A request body of records that are text already."""
    return b'{"%s":[%s]}' % (array.encode(), b",".join(records))


def ago(**delta: float) -> str:
    """A time before now, as the wire has it."""
    return (datetime.now(UTC) - timedelta(**delta)).isoformat()


# Who may come in


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {WRITE_KEY}",
        WRITE_KEY,
        "Bearer a-key-nobody-has-made",
        f"Bearer {WRITE_KEY}x",
        f"Bearer {READ_KEY}",
        "Bearer k\xe9y",
    ],
)
def test_a_key_that_does_not_open_is_answered_401(door: FlaskClient, authorization: str | None) -> None:
    """No key, a wrong key, another scheme or a key of another kind is refused and told how to ask."""
    headers = {} if authorization is None else {"Authorization": authorization}
    response = door.post("/v1/events", json={"events": [event()]}, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="analytics-collector"'
    assert (response.json.keys(), response.json["code"]) == ({"code", "message", "detail"}, "unauthorized")


@pytest.mark.parametrize("authorization", [f"Bearer {WRITE_KEY}", f"bearer  {WRITE_KEY} ", f"Bearer {ADMIN_KEY}"])
def test_a_write_or_admin_key_opens(door: FlaskClient, authorization: str) -> None:
    """A write key and an admin key may write, whatever the case of the scheme."""
    response = door.post("/v1/events", json={"events": [event()]}, headers={"Authorization": authorization})
    assert response.json["accepted"] == 1


# Bodies refused whole


BAD_BODIES = [
    (b"", "The body is not JSON"),
    (b"{", "The body is not JSON"),
    (b"hello", "The body is not JSON"),
    (b"event_type=click&user_id=1", "The body is not JSON"),
    (b'{"events":[]} and more', "The body is not JSON"),
    (b'{"events":[NaN]} and more', "The body is not JSON"),
    (b'x{"events":[NaN]}', "The body is not JSON"),
    (b'{"events":[NaN],}', "The body is not JSON"),
    (b'{"events":[NaN],"events":[]}', "The body is not JSON"),
    (b'{"events":[NaN],"sent_at":NaN}', "The body is not JSON"),
    (rb'{"\u0065vents":[NaN],"events":[]}', "The body is not JSON"),
    (b'{"events":[' + raw_event()[:-1], "The body is not JSON"),
    (b"\xff\xfe{}", "The body is not UTF-8"),
    (b'{"sent_at":"\xe9","events":[]}', "The body is not UTF-8"),
    (b'{"\xe9":[],"events":[]}', "The body is not UTF-8"),
    (b"[]", "The body has the wrong shape"),
    (b"null", "The body has the wrong shape"),
    (b'{"events":{}}', "The body has the wrong shape"),
    (b'{"events":null}', "The body has the wrong shape"),
    (b'{"event":[]}', "The body has the wrong shape"),
    (b'{"events":[],"api_key":"x"}', "The body has the wrong shape"),
    (b'{"events":[NaN],"api_key":"x"}', "The body has the wrong shape"),
]


@pytest.mark.parametrize(("body", "message"), BAD_BODIES)
def test_a_body_of_the_wrong_form_is_answered_400(door: FlaskClient, body: bytes, message: str) -> None:
    """What is no JSON object of our arrays, in UTF-8, is refused as a whole, and the answer says what is wrong."""
    response = door.post("/v1/events", data=body, headers=WRITE)
    assert (response.status_code, response.json["code"], response.json["message"]) == (400, "malformed", message)
    assert response.json["detail"] != ""


def test_what_is_refused_as_a_whole_leaves_nothing(client: FlaskClient, connection: psycopg.Connection) -> None:
    """No record of a request that is answered 400 or 401 is stored, not even as a reject."""
    bodies = [body for body, _ in BAD_BODIES]
    statuses = {client.post("/v1/events", data=body, headers=WRITE).status_code for body in bodies}
    statuses.add(client.post("/v1/events", json={"events": [event(), {}]}, headers=READ).status_code)
    assert statuses == {400, 401}
    assert (rows(connection), rows(connection, "analytics_reject")) == (0, 0)


@pytest.mark.parametrize("body", [b"{}", b'{"events":[]}', b'{"sent_at":"whenever","sessions":[],"users":[]}'])
def test_an_empty_batch_is_fine(door: FlaskClient, body: bytes) -> None:
    """A batch without records is answered like any other."""
    response = door.post("/v1/events", data=body, headers=WRITE)
    assert (response.status_code, response.json) == (200, {"accepted": 0, "duplicates": 0, "rejected": []})


def with_length(size: int) -> dict[str, Any]:
    """A body sent with Content-Length."""
    return {"body": b"0" * size}


def chunked(size: int) -> dict[str, Any]:
    """A body sent in chunks, its length unknown before its end."""
    return {"body": (b"0" * 65536 for _ in range(size // 65536)), "encode_chunked": True}


@pytest.mark.parametrize("form", [with_length, chunked])
@pytest.mark.parametrize("keep_alive", ["keep-alive", "close"])
def test_a_body_over_the_limit_is_answered_413(
    collector: Collector, form: Callable[[int], dict[str, Any]], keep_alive: str
) -> None:
    """Over a real socket, a body one chunk too long gets a readable 413, with Content-Length and chunked."""
    status, answer = post(collector, headers={"Connection": keep_alive}, **form(LIMIT + 65536))
    assert (status, answer["code"]) == (413, "too_large")
    assert str(LIMIT) in answer["detail"]


def test_a_chunked_body_is_read(collector: Collector) -> None:
    """Over a real socket, a batch sent in chunks is stored like any other."""
    whole = batch(json.dumps(event()).encode() for _ in range(3))
    status, answer = post(collector, body=iter([whole[:50], whole[50:]]), headers={}, encode_chunked=True)
    assert (status, answer) == (200, {"accepted": 3, "duplicates": 0, "rejected": []})


@pytest.mark.parametrize("body", [b"2\r\n{}??", b"2\r\n{}\r\nmany\r\n", b"-1\r\n"])
def test_torn_chunks_are_answered_400(collector: Collector, body: bytes) -> None:
    """Over a real socket, chunks that are not what they say are the sender's fault, not ours."""
    headers = {"Transfer-Encoding": "chunked", "Connection": "close"}
    status, answer = post(collector, body=body, headers=headers)
    assert (status, answer["message"]) == (400, "The body is torn")


def test_a_gzip_bomb_is_answered_413(door: FlaskClient) -> None:
    """A small body that inflates beyond the limit is refused."""
    response = door.post("/v1/events", data=gzip.compress(b" " * (LIMIT + 1)), headers=WRITE)
    assert (response.status_code, response.json["code"]) == (413, "too_large")


def test_a_gzip_bomb_is_never_inflated_whole() -> None:
    """Inflating stops at the limit, so a bomb of 64 MB costs no more memory than the limit allows."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024), compresslevel=1)
    tracemalloc.start()
    with pytest.raises(TooLargeError):
        inflate(bomb, 1024 * 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


WHOLE = gzip.compress(b'{"events":[]}')


@pytest.mark.parametrize(
    "body",
    [WHOLE[:2], WHOLE[:-1], WHOLE[:-12], WHOLE + b"x", WHOLE + WHOLE, b"\x1f\x8bnot gzip"],
    ids=["the magic alone", "a byte short", "torn", "with more behind", "two members", "the magic and other things"],
)
def test_torn_gzip_is_answered_400(door: FlaskClient, body: bytes) -> None:
    """Gzip that ends early, goes on, or was none is refused as a whole."""
    response = door.post("/v1/events", data=body, headers=WRITE)
    assert (response.status_code, response.json["code"]) == (400, "malformed")
    assert response.json["message"] == "The body is no valid gzip"


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize("content_encoding", [None, "gzip", "deflate"])
def test_headers_that_lie_change_nothing(
    door: FlaskClient, compress: Callable[[bytes], bytes], content_type: str | None, content_encoding: str | None
) -> None:
    """The bytes tell whether they are gzip; Content-Type and Content-Encoding are not looked at."""
    named = {"Content-Type": content_type, "Content-Encoding": content_encoding}
    headers = WRITE | {name: value for name, value in named.items() if value is not None}
    response = door.post("/v1/events", data=compress(json.dumps({"events": [event()]}).encode()), headers=headers)
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json == {"accepted": 1, "duplicates": 0, "rejected": []}


# Records refused alone

DEEPEST = '{"a":%s}' % ("[" * 99 + "]" * 99)  # braces
AHEAD = (datetime.now(UTC) + timedelta(days=1)).isoformat()

BAD_EVENTS = {
    "no event_id": (b'{"event_type":"click","created_at":"2026-01-31T12:00:00Z"}', "missing_field"),
    "no event_type": (b'{"event_id":"%s","created_at":"2026-01-31T12:00:00Z"}' % ID.encode(), "missing_field"),
    "no created_at": (b'{"event_id":"%s","event_type":"click"}' % ID.encode(), "missing_field"),
    "nothing": (b"{}", "missing_field"),
    "empty event_type": (raw_event(',"event_type":""'), "invalid_field"),
    "long event_type": (raw_event(f',"event_type":"{"x" * 51}"'), "invalid_field"),
    "long session_id": (raw_event(f',"session_id":"{"x" * 65}"'), "invalid_field"),
    "long user_id": (raw_event(f',"user_id":"{"x" * 256}"'), "invalid_field"),
    "empty user_id": (raw_event(',"user_id":""'), "invalid_field"),
    "user_id no id": (raw_event(',"user_id":1.5'), "invalid_field"),
    "user_id true": (raw_event(',"user_id":true'), "invalid_field"),
    "event_type number": (raw_event(',"event_type":5'), "invalid_field"),
    "naive time": (raw_event(created_at="2026-01-31T12:00:00"), "invalid_field"),
    "no time": (raw_event(created_at="yesterday"), "invalid_field"),
    "date only": (raw_event(created_at="2026-01-31"), "invalid_field"),
    "before the year 1": (raw_event(created_at="0001-01-01T00:00:00+05:00"), "invalid_field"),
    "bad UUID": (raw_event(',"event_id":"1234"'), "invalid_field"),
    "UUID and newline": (raw_event(rf',"event_id":"{ID}\n"'), "invalid_field"),
    "bad address": (raw_event(',"ip_address":"1.2.3.256"'), "invalid_field"),
    "network": (raw_event(',"ip_address":"10.0.0.0/8"'), "invalid_field"),
    "scoped address": (raw_event(',"ip_address":"fe80::1%eth0"'), "invalid_field"),
    "unknown field": (raw_event(',"colour":"red"'), "invalid_field"),
    "data array": (raw_event(',"event_data":[1]'), "invalid_field"),
    "data text": (raw_event(',"event_data":"x"'), "invalid_field"),
    "data null": (raw_event(',"event_data":null'), "invalid_field"),
    "data number": (raw_event(',"event_data":1'), "invalid_field"),
    "1e400": (raw_event(',"event_data":{"a":1e400}'), "invalid_field"),
    "-1e400": (raw_event(',"event_data":{"a":[-1e400]}'), "invalid_field"),
    "NUL in value": (raw_event(r',"event_data":{"a":"x\u0000y"}'), "nul_character"),
    "NUL in key": (raw_event(r',"event_data":{"x\u0000y":1}'), "nul_character"),
    "NUL after backslash": (raw_event(r',"event_data":{"a":"\\\u0000"}'), "nul_character"),
    "NUL in event_type": (raw_event(r',"event_type":"\u0000"'), "nul_character"),
    "NUL in user_id": (raw_event(r',"user_id":"a\u0000"'), "nul_character"),
    "NUL in session_id": (raw_event(r',"session_id":"a\u0000"'), "nul_character"),
    "bare NUL": (raw_event(',"event_data":{"a":"\0"}'), "invalid_json"),
    "bare newline": (raw_event(',"event_data":{"a":"\n"}'), "invalid_json"),
    "first half of a pair": (raw_event(r',"event_data":{"a":"\ud83d"}'), "invalid_json"),
    "second half of a pair": (raw_event(r',"event_data":{"a":"\ude00 x"}'), "invalid_json"),
    "half of a pair in key": (raw_event(r',"event_data":{"\uD800":1}'), "invalid_json"),
    "half of a pair in session_id": (raw_event(r',"session_id":"\udfff"'), "invalid_json"),
    "Latin-1": (raw_event(',"event_data":{"a":"?"}').replace(b"?", b"\xe9"), "invalid_json"),
    "Latin-1 in event_type": (raw_event(',"event_type":"?"').replace(b"?", b"\xe9"), "invalid_json"),
    "Latin-1 in event_id": (b'{"event_id":"\xe9"}', "invalid_json"),
    "NaN": (raw_event(',"event_data":{"a":NaN}'), "invalid_json"),
    "Infinity": (raw_event(',"event_data":{"a":Infinity}'), "invalid_json"),
    "-Infinity": (raw_event(',"event_data":{"a":[-Infinity]}'), "invalid_json"),
    "comma too many": (raw_event(',"event_data":{"a":1,}'), "invalid_json"),
    "two in one": (raw_event() + b" " + raw_event(), "invalid_json"),
    "a word": (b"undefined", "invalid_json"),
    "null": (b"null", "invalid_field"),
    "text": (b'"click"', "invalid_field"),
    "array": (b"[1,2]", "invalid_field"),
    "101 levels": (raw_event(f',"event_data":{DEEPEST.replace("[", "[[", 1).replace("]", "]]", 1)}'), "too_deep"),
    "10,000 levels": (raw_event(',"event_data":{"a":%s}' % ("[" * 9999 + "]" * 9999)), "too_deep"),
    "too small": (raw_event(',"event_data":{"a":1e-99999}'), "database_refused"),
    "too exact": (raw_event(f',"event_data":{{"a":0.{"1" * 20000}}}'), "database_refused"),
    "clock ahead": (raw_event(created_at=AHEAD), "clock_ahead"),
    "the year 9999": (raw_event(created_at="9999-12-31T23:59:59-12:00"), "clock_ahead"),
}


@pytest.mark.parametrize(("bad", "code"), BAD_EVENTS.values(), ids=BAD_EVENTS.keys())
def test_a_bad_event_costs_none_of_its_499_neighbours(
    client: FlaskClient, connection: psycopg.Connection, bad: bytes, code: str
) -> None:
    """A bad event in the middle of a batch is refused with its reason and kept byte for byte; the rest is stored."""
    good = [json.dumps(event()).encode() for _ in range(499)]
    response = client.post("/v1/events", data=batch([*good[:250], bad, *good[250:]]), headers=WRITE)
    assert response.status_code == 200
    answer = response.json
    [rejected] = answer.pop("rejected")
    assert (answer, rejected["record"]) == ({"accepted": 499, "duplicates": 0}, "event")
    assert (rejected["index"], rejected["code"]) == (250, code)
    assert rejected["message"] != ""
    assert rows(connection) == 499
    assert kept(connection) == [("event", code, rejected["message"], bad, "tests-write")]


BAD_SESSIONS = {
    "no session_id": (b"{}", "missing_field"),
    "empty session_id": (b'{"session_id":""}', "invalid_field"),
    "long session_id": (b'{"session_id":"%s"}' % (b"x" * 65), "invalid_field"),
    "naive start": (b'{"session_id":"a","started_at":"2026-01-31T12:00:00"}', "invalid_field"),
    "start before the year 1": (b'{"session_id":"a","started_at":"0001-01-01T00:00:00+01:00"}', "invalid_field"),
    "unknown field": (b'{"session_id":"a","event_type":"click"}', "invalid_field"),
    "NUL in user_agent": (rb'{"session_id":"a","user_agent":"\u0000"}', "nul_character"),
    "half of a pair in referrer": (rb'{"session_id":"a","referrer":"\ud800"}', "invalid_json"),
    "end ahead": (b'{"session_id":"a","ended_at":"%s"}' % AHEAD.encode(), "clock_ahead"),
    "deep nonsense": (b'{"session_id":%s}' % (b"[" * 9999 + b"]" * 9999), "invalid_field"),
}


@pytest.mark.parametrize(("bad", "code"), BAD_SESSIONS.values(), ids=BAD_SESSIONS.keys())
def test_a_bad_session_costs_none_of_its_neighbours(
    client: FlaskClient, connection: psycopg.Connection, bad: bytes, code: str
) -> None:
    """A bad session record is refused with its reason and kept; other sessions and all events are stored."""
    good = [b'{"session_id":"one"}', b'{"session_id":"two"}']
    body = b'{"events":[%s],"sessions":[%s]}' % (raw_event(), b",".join([good[0], bad, good[1]]))
    answer = client.post("/v1/events", data=body, headers=WRITE).json
    [rejected] = answer.pop("rejected")
    assert answer == {"accepted": 3, "duplicates": 0}
    assert (rejected["record"], rejected["index"], rejected["code"]) == ("session", 1, code)
    assert (rows(connection), rows(connection, "analytics_session")) == (1, 2)
    assert kept(connection) == [("session", code, rejected["message"], bad, "tests-write")]


def test_a_bad_user_record_costs_none_of_its_neighbours(client: FlaskClient, connection: psycopg.Connection) -> None:
    """Traits that are no object are refused and kept; the user record beside them is applied."""
    good = b'{"user_id":"ada","traits":{"plan":"pro"},"updated_at":"2026-01-31T12:00:00Z"}'
    bad = b'{"user_id":"bob","traits":[],"updated_at":"2026-01-31T12:00:00Z"}'
    answer = client.post("/v1/events", data=batch([bad, good], "users"), headers=WRITE).json
    [rejected] = answer.pop("rejected")
    assert answer == {"accepted": 1, "duplicates": 0}
    assert (rejected["record"], rejected["index"], rejected["code"]) == ("user", 0, "invalid_field")
    assert connection.execute("SELECT external_id, traits FROM analytics_user").fetchall() == [("ada", {"plan": "pro"})]


def test_a_reject_names_its_event_whenever_the_id_can_be_read(client: FlaskClient) -> None:
    """The verdict on a bad event has its event_id even if the rest of it is no JSON, and null if it has none."""
    records = [raw_event(',"event_data":NaN'), raw_event(',"session_id":5'), b"{}"]
    rejected = client.post("/v1/events", data=batch(records), headers=WRITE).json["rejected"]
    assert [reject["event_id"] for reject in rejected] == [ID, ID, None]


def test_a_verdict_is_not_larger_than_its_record(client: FlaskClient) -> None:
    """What is said of a bad value has a bound, however long the value is."""
    records = [raw_event(f',"ip_address":"{"x" * 100_000}"'), raw_event(f',"{"x" * 100_000}":1')]
    rejected = client.post("/v1/events", data=batch(records), headers=WRITE).json["rejected"]
    assert [len(reject["message"]) <= 1000 for reject in rejected] == [True, True]


def test_a_bad_record_sent_again_is_kept_once(client: FlaskClient, connection: psycopg.Connection) -> None:
    """A retry of a batch neither stores its good records nor keeps its bad ones a second time."""
    body = batch([raw_event(), b"{}", b"{}", raw_event(',"event_data":{"a":NaN}')])
    first, second = (client.post("/v1/events", data=body, headers=WRITE).json for _ in range(2))
    assert (first["accepted"], first["duplicates"], len(first["rejected"])) == (1, 0, 3)
    assert (second["accepted"], second["duplicates"], second["rejected"]) == (0, 1, first["rejected"])
    assert sorted(record for *_, record, _ in kept(connection)) == [raw_event(',"event_data":{"a":NaN}'), b"{}"]


def test_the_verdict_adds_up(client: FlaskClient, connection: psycopg.Connection) -> None:
    """Accepted, duplicates and rejected count every record of a batch, of whatever kind, exactly once."""
    twice = event()
    client.post("/v1/events", json={"events": [stored := event()]}, headers=WRITE)
    events = [event(), twice, stored, {}, twice, event(event_data=5)]
    sessions = [{"session_id": "a"}, {"session_id": "a"}, {}]
    users = [{"user_id": 1, "traits": {}, "updated_at": "2026-01-31T12:00:00Z"}, None]
    body = {"sent_at": None, "events": events, "sessions": sessions, "users": users}
    answer = client.post("/v1/events", json=body, headers=WRITE).json
    assert (answer["accepted"], answer["duplicates"], len(answer["rejected"])) == (2 + 2 + 1, 2, 2 + 1 + 1)
    assert answer["accepted"] + answer["duplicates"] + len(answer["rejected"]) == len(events + sessions + users)
    assert rows(connection) == 3


def test_a_clock_nine_minutes_ahead_is_fine(client: FlaskClient, connection: psycopg.Connection) -> None:
    """A sender's clock may be some minutes ahead; its time is kept as it is."""
    created_at = ago(minutes=-9)
    assert client.post("/v1/events", json={"events": [event(created_at=created_at)]}, headers=WRITE).json["accepted"]
    assert stored_times(connection) == [datetime.fromisoformat(created_at)]


@pytest.mark.parametrize("created_at", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"])
def test_history_is_welcome(client: FlaskClient, connection: psycopg.Connection, created_at: str) -> None:
    """An event of long ago is stored, and read again, with its own time."""
    response = client.post("/v1/events", json={"events": [event(created_at=created_at, user_id=1)]}, headers=WRITE)
    assert response.json["accepted"] == 1
    assert stored_times(connection) == [datetime.fromisoformat(created_at)]
    assert client.get("/v1/events", headers=READ).json["events"][0]["created_at"] == created_at
    assert client.get("/v1/profiles/1", headers=READ).json["first_seen"] == created_at


# What is stored is what was sent

TEXTS = {
    "unicode": "żółć 漢字 😀 e\u0301 \u202e",
    "newlines": "a\nb\r\nc\u2028d\u0085",
    "tabs": "\ta\t",
    "controls": "\x01\x1f\x7f",
    "backslash": "\\",
    "end of copy": "\\.",
    "null of copy": "\\N",
    "backslash at the end": "a\\",
    "quotes": "\"'`$$",
    "braces": "{},[]:",
    "SQL": "'); DROP TABLE analytics_event; -- %s %(a)s",
    "looks like NUL": "\\u0000",
    "looks like half a pair": "\\ud800",
    "looks like NaN": "NaN",
    "spaces": "  a  ",
}


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_texts_are_stored_exactly(
    client: FlaskClient, connection: psycopg.Connection, text: str, ensure_ascii: bool
) -> None:
    """Any text survives in every column that takes one, whichever way JSON writes it."""
    sent = {
        "events": [event(event_type=text, session_id=text, user_id=text, event_data={text: [text]})],
        "sessions": [{"session_id": text, "user_agent": text, "referrer": text}],
    }
    body = json.dumps(sent, ensure_ascii=ensure_ascii).encode()
    assert client.post("/v1/events", data=body, headers=WRITE).json["accepted"] == 2
    columns = "event_type, e.session_id, external_id, event_data, s.session_id, user_agent, referrer"
    tables = "analytics_event e JOIN analytics_session s USING (user_id) JOIN analytics_user u ON u.id = user_id"
    [row] = connection.execute(f"SELECT {columns} FROM {tables}").fetchall()
    assert row == (text, text, text, {text: [text]}, text, text, text)
    assert client.get("/v1/events", headers=READ).json["events"][0]["event_data"] == {text: [text]}


NUMBERS = ["9.99", "0.1", "1.10", "0.1000000000000000000000000000000000001", "-0.5", "9" * 100, "-9223372036854775809"]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_stored_exactly(client: FlaskClient, connection: psycopg.Connection, number: str) -> None:
    """Money and large integers keep every digit: they never pass through a float."""
    data = batch([raw_event(f',"event_data":{{"amount":{number}}}')])
    assert client.post("/v1/events", data=data, headers=WRITE).json["accepted"] == 1
    assert connection.execute("SELECT event_data->>'amount' FROM analytics_event").fetchall() == [(number,)]
    page = json.loads(client.get("/v1/events", headers=READ).data, parse_float=Decimal, parse_int=Decimal)
    assert page["events"][0]["event_data"]["amount"] == Decimal(number)


@pytest.mark.parametrize("data", [DEEPEST, "{}", '{"a":{"b":[{},[],null,true,false,""]}}', '{"":1}'])
def test_any_object_is_stored(client: FlaskClient, connection: psycopg.Connection, data: str) -> None:
    """Every JSON object of up to 100 levels comes out as it went in."""
    body = batch([raw_event(f',"event_data":{data}')])
    assert client.post("/v1/events", data=body, headers=WRITE).json["accepted"] == 1
    assert connection.execute("SELECT event_data FROM analytics_event").fetchall() == [(json.loads(data),)]


def test_optional_fields_may_be_null_or_absent(client: FlaskClient, connection: psycopg.Connection) -> None:
    """An event needs an id, a type and a time; for the rest, null and absent are the same."""
    absent = {name: value for name, value in event().items() if name != "session_id"}
    null = event(session_id=None, user_id=None, ip_address=None)
    assert client.post("/v1/events", json={"events": [absent, null]}, headers=WRITE).json["accepted"] == 2
    columns = "user_id, session_id, event_data, ip_address"
    found = connection.execute(f"SELECT {columns} FROM analytics_event").fetchall()
    assert found == [(None, "", {}, None)] * 2


# While Postgres is away


@pytest.fixture
def fragile(new_database: Callable[[], str], server: Any) -> Iterator[tuple[FlaskClient, Callable[[bool], None], str]]:
    """A collector over a database of its own, and a switch that closes that database to everybody."""
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as opened:
        migrate.apply(opened)
        keys.register(opened, "fragile", "write", WRITE_KEY)
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]

    def switch(on: bool) -> None:
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {on}")
            if not on:
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    app = create_app(Settings(database_url=dsn, database_patience_seconds=1))
    with closing(app.extensions["analytics_collector"].database):
        yield app.test_client(), switch, dsn


def test_a_database_that_went_away_is_answered_503(
    fragile: tuple[FlaskClient, Callable[[bool], None], str],
) -> None:
    """While Postgres is away the answer is 503 with Retry-After; the same batch sent again is stored once."""
    client, switch, dsn = fragile
    before, during = {"events": [event()]}, {"events": [event(), event()]}
    assert client.post("/v1/events", json=before, headers=WRITE).status_code == 200
    switch(False)
    away = client.post("/v1/events", json=during, headers=WRITE)
    assert (away.status_code, away.headers["Retry-After"], away.json["code"]) == (503, "1", "unavailable")
    switch(True)

    def send_again() -> bool:
        return client.post("/v1/events", json=during, headers=WRITE).status_code == 200

    wait_until(send_again, what="the collector finding Postgres again")
    with psycopg.connect(dsn) as opened:
        assert rows(opened) == 3


def test_a_connection_lost_in_the_middle_costs_nothing(client: FlaskClient, connection: psycopg.Connection) -> None:
    """If Postgres ends the connection while a batch is being written, the collector writes it again, once."""
    assert client.post("/v1/events", json={"events": [event()]}, headers=WRITE).status_code == 200
    with psycopg.connect(connection.info.dsn) as blocker, ThreadPoolExecutor() as pool:
        blocker.execute("LOCK TABLE analytics_event IN ACCESS EXCLUSIVE MODE")
        answer = pool.submit(client.post, "/v1/events", json={"events": [event(), event()]}, headers=WRITE)
        terminate = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = %s"
        )
        wait_until(lambda: connection.execute(terminate, ["analytics-collector"]).fetchall(), what="the write waiting")
        blocker.rollback()
        assert answer.result(10).json == {"accepted": 2, "duplicates": 0, "rejected": []}
    assert rows(connection) == 3


def test_one_batch_from_many_sides_is_stored_once(collector: Collector, connection: psycopg.Connection) -> None:
    """The same batch posted 16 times by 8 threads to four gunicorn workers is one row an event, and one accept."""
    body = batch(json.dumps(event(user_id=n % 7, session_id=f"s{n % 11}")).encode() for n in range(100))
    together = threading.Barrier(8)

    def send(_: int) -> tuple[int, int]:
        together.wait()
        answers = [post(collector, body=body, headers={}) for _ in range(2)]
        assert [status for status, _ in answers] == [200, 200]
        return sum(answer["accepted"] for _, answer in answers), sum(answer["duplicates"] for _, answer in answers)

    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(send, range(8)))
    assert sum(accepted for accepted, _ in verdicts) == 100
    assert sum(duplicates for _, duplicates in verdicts) == 1500
    assert rows(connection) == 100
    profiles = connection.execute("SELECT user_id, total_events FROM analytics_useranalyticsprofile ORDER BY 1")
    assert profiles.fetchall() == [(0, 15), (1, 15), *((user_id, 14) for user_id in range(2, 7))]


# Helpers


def post(collector: Collector, *, headers: dict[str, str], **request: Any) -> tuple[int, dict[str, Any]]:
    """Send a request over a socket of its own; the status and the answer."""
    address = urlsplit(collector.url)
    with closing(http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)) as opened:
        opened.request("POST", "/v1/events", headers={**WRITE, **headers}, **request)
        response = opened.getresponse()
        return response.status, json.loads(response.read())


def rows(connection: psycopg.Connection, table: str = "analytics_event") -> int:
    """How many rows a table has."""
    return connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]


def kept(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    """What was refused and kept."""
    return connection.execute("SELECT kind, code, message, record, key_name FROM analytics_reject").fetchall()


def stored_times(connection: psycopg.Connection) -> list[datetime]:
    """The times of all events."""
    return [row[0] for row in connection.execute("SELECT created_at FROM analytics_event")]


def test_too_many_records(client: FlaskClient, connection: psycopg.Connection) -> None:
    """A few bytes each can be a million verdicts: a body of more than 10,000 records is too large."""
    response = client.post("/v1/events", data=b'{"events":[%s]}' % b",".join([b"1"] * 10_001), headers=WRITE)
    assert (response.status_code, response.json["code"]) == (413, "too_large")
    assert connection.execute("SELECT count(*) FROM analytics_reject").fetchone() == (0,)


@pytest.mark.parametrize("sent_at", ['"now"', "7", "null", "[1, 2]", '{"a": [{}, 1]}'])
@pytest.mark.parametrize("name", ["events", r"\u0065vents"])
def test_what_else_a_body_says_costs_no_record(client: FlaskClient, sent_at: str, name: str) -> None:
    """Beside a record that is no JSON, the good ones are stored whatever `sent_at` is and however names are written."""
    text = f'{{"sent_at": {sent_at}, "{name}": [{json.dumps(event())}, NaN, {json.dumps(event())}]}}'
    answer = client.post("/v1/events", data=text.encode(), headers=WRITE).json
    assert (answer["accepted"], [reject["code"] for reject in answer["rejected"]]) == (2, ["invalid_json"])


def test_an_array_that_comes_twice(client: FlaskClient, connection: psycopg.Connection) -> None:
    """JSON would let the second array take the place of the first; no record is lost that way."""
    body = b'{"events":[%s],"events":[%s]}' % (json.dumps(event()).encode(), json.dumps(event()).encode())
    response = client.post("/v1/events", data=body, headers=WRITE)
    assert (response.status_code, response.json["code"]) == (400, "malformed")
    escaped = client.post("/v1/events", data=body.replace(b'"events"', rb'"\u0065vents"', 1), headers=WRITE)
    assert (escaped.status_code, escaped.json["message"]) == (400, "The body has an array twice")
    quoting = json.dumps(event(event_data={"events": 1, "more": {"events": 2}})).encode()
    assert client.post("/v1/events", data=b'{"events":[%s]}' % quoting, headers=WRITE).json["accepted"] == 1


def test_a_body_is_cut_apart_once() -> None:
    """However many records of a good body are refused later, it is read for them a single time."""
    batch = native.parse(json.dumps({"events": [event(), event()]}).encode(), datetime.now(UTC))
    assert batch.arrays() is batch.arrays()


def test_one_body_at_a_time_is_read_record_by_record() -> None:
    """What takes many times its size in memory waits for its turn; a body that is good does not."""
    good, turn = json.dumps(event()).encode(), threading.Lock()
    done = threading.Event()

    def read(body: bytes) -> None:
        native.parse(body, datetime.now(UTC), turn)
        done.set()

    with turn:
        read(b'{"events":[%s]}' % good)
        done.clear()
        reading = threading.Thread(target=read, args=(b'{"events":[%s,NaN]}' % good,), daemon=True)
        reading.start()
        assert not done.wait(0.2)
    assert done.wait(10)
    reading.join(10)


def test_a_small_bad_body_waits_for_no_large_one(client: FlaskClient) -> None:
    """What one thread serves many of waits for nobody's megabytes; a large one that waits too long comes again."""
    small, large = b'{"events":[NaN]}', b'{"events":[NaN,"%s"]}' % (b"x" * 100_000)
    with ingest._turn:
        assert client.post("/v1/events", data=small, headers=WRITE).json["rejected"][0]["code"] == "invalid_json"
        with mock.patch.object(ingest, "_PATIENCE", 0.01):
            refused = client.post("/v1/events", data=large, headers=WRITE)
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert client.post("/v1/events", data=large, headers=WRITE).status_code == 200


@pytest.mark.parametrize("depth", range(960, 1000, 2))
def test_no_depth_is_a_bug(client: FlaskClient, depth: int) -> None:
    """However deep what a body says beside its records is, it is taken or refused."""
    body = b'{"sent_at":{"a":%s},"users":[],"\\u0065vents":[]}' % (b"[" * depth + b"]" * depth)
    assert client.post("/v1/events", data=body, headers=WRITE).status_code in (200, 400)
