"""The documentation is true: its code runs, its tables are complete, its links lead somewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from analytics_collector.config import Settings
from analytics_sdk import _config
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
def test_code_in_the_documentation_runs(block: str, collector: Collector, tmp_path: Path) -> None:
    """Every Python block of every page runs as it stands, without a warning and with nothing lost at its end."""
    environment = {"ANALYTICS_URL": collector.url, "ANALYTICS_WRITE_KEY": WRITE_KEY, "ANALYTICS_READ_KEY": READ_KEY}
    code = block.replace("http://127.0.0.1:8000", collector.url).replace("write_...", WRITE_KEY)
    code = code.replace("/tmp/shop-spool", str(tmp_path / "spool"))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", (DJANGO if "django" in code else "") + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (run.returncode, run.stderr) == (0, "")


COLLECTOR_DEFAULTS = {field.name: field.default for field in attrs.fields(Settings)}


@pytest.mark.parametrize("defaults", [COLLECTOR_DEFAULTS, _config.DEFAULTS], ids=["collector", "SDK"])
def test_every_setting_is_documented(defaults: Mapping[str, object]) -> None:
    """docs/configuration.md has a row for every setting that a variable can have, with its default."""
    rows = {
        match[1]: match[2].strip().strip("`")
        for match in re.finditer(
            r"^\| `ANALYTICS_(\w+)` \|([^|]*)\|", (ROOT / "docs/configuration.md").read_text(), re.M
        )
    }
    for name, default in defaults.items():
        if default is not None and not isinstance(default, tuple):
            text = "" if default is attrs.NOTHING else str(default).lower().removesuffix(".0")
            assert rows[name.upper()] == text, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page exists."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
