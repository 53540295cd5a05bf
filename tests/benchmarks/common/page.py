"""The page of the documentation that tables are written into, each program's between two lines of its own."""

from __future__ import annotations

from pathlib import Path


def write(page: Path, program: str, text: str) -> None:
    """Replace what a program wrote before.

    Raises:
        ValueError: The page has no place for it.
    """
    begin, end = f"<!-- {program}: written by the program -->\n", f"<!-- {program}: end -->\n"
    before, first, rest = page.read_text().partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"{page} lacks the lines {begin.strip()} and {end.strip()}")
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}")
