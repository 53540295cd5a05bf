"""Which properties are nobody's business: their names say so, and their values are not kept.

Names are compared without case and without what separates words, so that `apiKey`, `api-key` and `API_KEY` are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ._form import is_storable

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
_LONGEST_REMEMBERED: Final = 250  # characters
_IN_THE_MIDDLE: Final = re.compile(r"\*[^*?\[]+\*")  # patterns that are told without a regular expression: it is slower


class Redaction:
    """Tells names of properties that are to be redacted.

    Args:
        patterns: Shell patterns of names: `*` is anything, `?` one character.

    Attributes:
        harmless: Names that were looked at and may be kept; a set, so that `issuperset` decides for a whole dict.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        import fnmatch  # not needed by a process that only imports us

        squeezed = [_squeezed(pattern) for pattern in patterns]
        self._words = [pattern[1:-1] for pattern in squeezed if _IN_THE_MIDDLE.fullmatch(pattern)]
        others = [fnmatch.translate(pattern) for pattern in squeezed if not _IN_THE_MIDDLE.fullmatch(pattern)]
        self._pattern = re.compile("|".join(others) or "(?!)")  # of none: nothing
        self.harmless: set[str] = set()

    def is_harmless(self, name: str) -> bool:
        """Whether a property of this name may be kept, and is remembered as such."""
        if len(name) > _LONGEST_REMEMBERED:
            return False
        return name in self.harmless or (not self.is_secret(name) and name in self.harmless)

    def is_secret(self, name: str) -> bool:
        """Whether the value of a property of this name is not to be kept."""
        if name in self.harmless:
            return False
        squeezed = _squeezed(name)
        if any(word in squeezed for word in self._words) or self._pattern.match(squeezed):
            return True
        if len(self.harmless) < _MOST_REMEMBERED and _can_be_remembered(name):
            self.harmless.add(name)
        return False


def _can_be_remembered(name: str) -> bool:
    """Whether a dict with this name needs no second look: it can be stored as it is, and takes little memory."""
    return type(name) is str and len(name) <= _LONGEST_REMEMBERED and is_storable(name)


def _squeezed(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "").replace(".", "")
