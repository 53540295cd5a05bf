"""A table that reads well in a terminal and is Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Table:
    """A title, a sentence, and rows of cells.

    Attributes:
        title: Of the section.
        text: How it was measured and how to read it.
        header: The first cell is the contestant's.
        rows: What was found.
        absent: Who did not take part, and why.
    """

    title: str
    text: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        body = "\n".join(self._line(line, widths) for line in (self.header, rule, *self.rows))
        absent = "".join(f"\nNot run: {label}: {why}.\n" for label, why in self.absent.items())
        return f"### {self.title}\n\n{self.text}\n\n{body}\n{absent}"

    @staticmethod
    def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"
