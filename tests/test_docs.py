"""The documentation is true: its code runs, its tables are complete, its links lead somewhere."""

import re
from pathlib import Path

import attrs
import psycopg
import pytest

import analytics_sdk
from analytics_collector.config import Settings
from analytics_sdk._config import Config
from tests.conftest import READ_KEY, WRITE_KEY
from tests.programs import ROOT, Collector

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_code_in_the_documentation_runs(
    block: str, collector: Collector, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block of every page runs as it stands, and what it tracked is in Postgres."""
    monkeypatch.setenv("ANALYTICS_URL", collector.url)
    monkeypatch.setenv("ANALYTICS_WRITE_KEY", WRITE_KEY)
    monkeypatch.setenv("ANALYTICS_READ_KEY", READ_KEY)
    block = block.replace("http://127.0.0.1:8000", collector.url).replace("write_...", WRITE_KEY)
    client = analytics_sdk.init()
    try:
        exec(compile(block, "documentation", "exec"), {"__name__": "documentation"})
    finally:
        report = analytics_sdk.close()
    assert report.pending == 0
    assert client.stats().rejected == 0


@pytest.mark.parametrize("value", [Settings, Config])
def test_every_setting_is_documented(value: type) -> None:
    """docs/configuration.md has a row for every attribute of the settings, with its default."""
    rows = {
        match[1]: match[2].strip().strip("`")
        for match in re.finditer(
            r"^\| `ANALYTICS_(\w+)` \|([^|]*)\|", (ROOT / "docs/configuration.md").read_text(), re.M
        )
    }
    for field in attrs.fields(value):
        assert field.name.upper() in rows
        default = "" if field.default in (attrs.NOTHING, "") else str(field.default).lower().removesuffix(".0")
        assert rows[field.name.upper()] == default, field.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page exists."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
