"""The documentation is true: its code runs, its tables are complete, its links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

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


DJANGO = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"])
django.setup()
"""


@pytest.mark.parametrize("block", BLOCKS)
def test_code_in_the_documentation_runs(block: str, collector: Collector) -> None:
    """Every Python block of every page runs as it stands, without a warning and with nothing lost at its end."""
    environment = {"ANALYTICS_URL": collector.url, "ANALYTICS_WRITE_KEY": WRITE_KEY, "ANALYTICS_READ_KEY": READ_KEY}
    code = block.replace("http://127.0.0.1:8000", collector.url).replace("write_...", WRITE_KEY)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", (DJANGO if "django" in code else "") + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (run.returncode, run.stderr) == (0, "")


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
