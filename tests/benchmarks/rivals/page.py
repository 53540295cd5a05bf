"""The page of the documentation that the tables are written into."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BEGIN: Final = "<!-- The rest is written by the program. -->\n"


def write(page: Path, text: str) -> None:
    """Replace what the program wrote before.

    Raises:
        ValueError: The page has no place for it.
    """
    before, marker, _ = page.read_text().partition(BEGIN)
    if not marker:
        raise ValueError(f"{page} has no line {BEGIN.strip()}")
    page.write_text(f"{before}{marker}\n{text.rstrip()}\n")
