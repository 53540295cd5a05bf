"""The description of the API and the application say the same."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import msgspec
import pytest

from analytics_collector import reader, records
from analytics_collector.app import create_app
from analytics_collector.batch import KINDS
from analytics_collector.config import Settings
from tests.programs import ROOT

DOCUMENT: dict[str, Any] = json.loads((files("analytics_collector") / "openapi.json").read_text("utf-8"))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS: dict[str, Any] = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}


def test_every_route_is_described_and_the_reverse() -> None:
    """The document has exactly the paths and methods that the application answers."""
    app = create_app(Settings(database_url="postgresql://"))
    routes = {
        f"{method} {rule.rule.replace('<id:', '{').replace('>', '}')}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert set(OPERATIONS) == routes


def test_it_is_served_without_a_key() -> None:
    """Anybody may read what the API is."""
    response = create_app(Settings(database_url="postgresql://")).test_client().get("/openapi.json")
    assert (response.status_code, response.mimetype, response.json) == (200, "application/json", DOCUMENT)


def test_it_is_of_this_version() -> None:
    """The document carries the version of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert DOCUMENT["info"]["version"] == project["version"]


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_every_operation_explains_itself(operation: dict[str, Any]) -> None:
    """Each operation has a name for programs, words for people, a tag, a lock, and an example of every error."""
    assert {"operationId", "summary", "description", "tags", "security", "responses"} <= operation.keys()
    for parameter in map(resolved, operation.get("parameters", [])):
        assert parameter["description"] != ""
    for status, response in operation["responses"].items():
        (content,) = resolved(response)["content"].values()
        assert resolved(response)["description"] != ""
        assert status == "200" or content["example"].keys() == {"code", "message", "detail"}


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    """Every component is referred to, and every reference has its component."""
    components = {
        f"#/components/{kind}/{name}"
        for kind, found in DOCUMENT["components"].items()
        for name in found
        if kind != "securitySchemes"
    }
    assert set(references(DOCUMENT)) == components


@pytest.mark.parametrize(
    ("schema", "record"),
    [("Event", records.EventRecord), ("Session", records.SessionRecord), ("User", records.UserRecord)],
)
def test_records_have_the_fields_described(schema: str, record: type[msgspec.Struct]) -> None:
    """The fields of a record, and which of them are required, are those that the collector reads."""
    fields = msgspec.structs.fields(record)
    assert SCHEMAS[schema]["properties"].keys() == {field.name for field in fields}
    assert SCHEMAS[schema]["required"] == [field.name for field in fields if field.required]


def test_the_figures_are_those_of_the_code() -> None:
    """Reasons, kinds of records and page sizes are the ones that the collector knows."""
    rejected = SCHEMAS["Rejected"]["properties"]
    assert tuple(rejected["code"]["enum"]) == records.REASONS
    assert set(rejected["record"]["enum"]) == set(KINDS)
    limit = DOCUMENT["components"]["parameters"]["Limit"]["schema"]
    assert (limit["maximum"], limit["default"]) == (reader.MAX_PAGE, reader.DEFAULT_PAGE)
    assert str(Settings().max_body_bytes // 2**20) + " MiB" in OPERATIONS["POST /v1/events"]["description"]


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to, or the part itself."""
    found: Any = DOCUMENT
    for name in part.get("$ref", "").split("/")[1:]:
        found = found[name]
    return found if "$ref" in part else part


def references(part: Any) -> Iterator[str]:
    """All references below a part."""
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)
