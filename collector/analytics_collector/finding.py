"""What the doctor says: one line for each thing it looked at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

Status = Literal["ok", "warn", "fail", "skip"]

_HIDDEN: Final = "***"
_LONGEST: Final = 300  # characters


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's report.

    Attributes:
        status: "fail" makes the exit code 1. "skip" could not be looked at.
        check: What was looked at.
        what: How it is.
        advice: What to do about it; may be empty.
    """

    status: Status
    check: str
    what: str
    advice: str = ""


def report(findings: Sequence[Finding]) -> str:
    """Findings for people to read: a line for each, and the sum of it."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines = [f"{finding.status:<4}  {finding.check:<{width}}  {_sentence(finding)}" for finding in findings]
    count = Counter(finding.status for finding in findings)
    told = [f"{count['ok']} ok", *(f"{count[status]} {status}" for status in ("warn", "fail", "skip") if count[status])]
    return "\n".join([*lines, "", ", ".join(told)])


def _sentence(finding: Finding) -> str:
    return f"{finding.what}  ({finding.advice})" if finding.advice else finding.what


def cleaned(finding: Finding) -> Finding:
    """A finding that can be shown: on one line, without passwords and control characters."""
    return Finding(finding.status, finding.check, _clean(finding.what), _clean(finding.advice))


def _clean(text: str) -> str:
    text = re.sub(r"//[^/\s]*@", f"//{_HIDDEN}@", text)
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def duration(seconds: float) -> str:
    """A length of time, roughly."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def size(count: int) -> str:
    """A number of bytes."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} bytes"
