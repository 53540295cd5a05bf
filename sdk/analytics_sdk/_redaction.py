"""Which properties are nobody's business: their names say so, and their values are not kept.

Names are compared without case and without what separates words, so that `apiKey`, `api-key` and `API_KEY` are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

REDACTED: Final = "<redacted>"

DEFAULT_REDACT: Final = (
    "*password*",
    "*passwd*",
    "passphrase",
    "pwd",
    "*secret*",
    "token",
    "*_token",
    "*api_key*",
    "*private_key*",
    "*authorization*",
    "cookie",
    "set_cookie",
    "*credit_card*",
    "*card_number*",
    "cvv",
    "cvc",
    "ssn",
    "*social_security*",
    "iban",
)

_MOST_REMEMBERED: Final = 10_000  # names; a host that makes up names must not fill memory with them


class Redaction:
    """Tells names of properties that are to be redacted.

    Args:
        patterns: Shell patterns of names: `*` is anything, `?` one character.

    Attributes:
        harmless: Names that were looked at and may be kept; a set, so that `issuperset` decides for a whole dict.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        import fnmatch  # not needed by a process that only imports us

        translated = "|".join(fnmatch.translate(_squeezed(pattern)) for pattern in patterns)
        self._pattern = re.compile(translated or "(?!)")  # of none: nothing
        self.harmless: set[str] = set()

    def is_secret(self, name: str) -> bool:
        """Whether the value of a property of this name is not to be kept."""
        if name in self.harmless:
            return False
        if self._pattern.match(_squeezed(name)):
            return True
        if len(self.harmless) < _MOST_REMEMBERED and type(name) is str:
            self.harmless.add(name)
        return False


def _squeezed(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "").replace(".", "")
