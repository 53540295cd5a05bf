"""Stand-in until the real one is here."""

from __future__ import annotations

DEFAULT_REDACT = ("*password*",)


class Redaction:
    """Stand-in."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.patterns = patterns
