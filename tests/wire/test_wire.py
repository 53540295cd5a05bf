"""The wire: the golden files are what the SDK sends and what the collector reads, byte for byte."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from flask.testing import FlaskClient

from analytics_collector import records
from analytics_collector.protocols import native
from analytics_collector.records import EventRecord, Record, SessionRecord, UserRecord
from analytics_sdk import _event
from tests.conftest import WRITE_KEY
from tests.wire.cases import CASES, GOLDEN, NOW, path_of

DOCUMENT = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text()


def fields(record: Record) -> dict[str, Any]:
    """A record's fields, with raw JSON as text."""
    found = msgspec.structs.asdict(record)
    return {name: bytes(value).decode() if isinstance(value, msgspec.Raw) else value for name, value in found.items()}


def test_every_golden_file_has_a_case() -> None:
    """There are as many files as cases, by the same names."""
    assert sorted(GOLDEN.iterdir()) == sorted(map(path_of, CASES))


@pytest.mark.parametrize("name", CASES)
def test_the_sdk_sends_exactly_these_bytes(name: str) -> None:
    """The SDK makes the golden file's bytes of the case's calls."""
    assert CASES[name].body().decode() == path_of(name).read_text()


@pytest.mark.parametrize("name", CASES)
def test_the_collector_reads_exactly_these_records(name: str) -> None:
    """The collector reads the golden file's bytes as the case's records, and refuses none."""
    batch = native.parse(path_of(name).read_bytes(), NOW)
    assert batch.rejects == ()
    assert [fields(item.record) for item in batch.items] == [fields(record) for record in CASES[name].records]


@pytest.mark.parametrize("name", CASES)
def test_the_collector_stores_each_golden_file_once(
    client: FlaskClient, connection: psycopg.Connection, name: str
) -> None:
    """Posted twice, every record has a verdict both times, and the second time no event is new."""
    body = path_of(name).read_bytes()
    count = sum(map(len, json.loads(body).values()))
    headers = {"Authorization": f"Bearer {WRITE_KEY}"}
    first, second = (client.post("/v1/events", data=body, headers=headers).get_json() for _ in range(2))
    stored = connection.execute("SELECT count(*) FROM analytics_event").fetchall()[0][0]
    for answer in (first, second):
        assert answer["accepted"] + answer["duplicates"] + len(answer["rejected"]) == count
    assert second["duplicates"] == first["duplicates"] + stored


# docs/wire-format.md


@pytest.mark.parametrize("record", [EventRecord, SessionRecord, UserRecord])
def test_every_field_is_documented(record: type[Record]) -> None:
    """The document has a row for every field of every record, and none for a field that does not exist."""
    table = re.search(rf"### {record.__name__.removesuffix('Record')}s\n(.*?)\n##", DOCUMENT, re.DOTALL | re.IGNORECASE)
    assert table is not None
    assert re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE) == [
        field.name for field in msgspec.structs.fields(record)
    ]


def test_every_code_is_documented() -> None:
    """The document has a row for every code with which a record can be refused."""
    table = re.search(r"## Records that are refused\n(.*?)\n## ", DOCUMENT, re.DOTALL)
    assert table is not None
    assert re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE) == list(records.REASONS)


@pytest.mark.parametrize(
    "fact",
    [
        f"{_event.MAX_EVENT_TYPE} characters",
        f"{_event.MAX_SESSION_ID} characters",
        f"{_event.MAX_USER_ID} characters",
        f"{records.MAX_DEPTH} levels",
        f"{records.MAX_CLOCK_AHEAD.seconds // 60} minutes",
    ],
)
def test_the_limits_are_documented(fact: str) -> None:
    """The document tells the limits that the code has."""
    assert fact in DOCUMENT


def test_the_documents_example_is_stored(client: FlaskClient) -> None:
    """The request that the document shows is answered as the document shows."""
    request, answer = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)[:2]
    response = client.post("/v1/events", data=request, headers={"Authorization": f"Bearer {WRITE_KEY}"})
    assert (response.status_code, response.get_json()) == (200, json.loads(answer))
