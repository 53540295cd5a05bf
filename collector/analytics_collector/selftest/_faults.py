"""What can go wrong, and what does next. Pure: chance is passed in."""

from __future__ import annotations

import random
from collections.abc import Set
from typing import Final, Literal

Fault = Literal[
    "request lost",
    "answer lost",
    "commit lost",
    "commit unanswered",
    "connections cut",
    "worker killed",
    "master killed",
    "reload",
    "postgres killed",
]

FAULTS: Final[dict[Fault, int]] = {
    "request lost": 3,
    "answer lost": 3,
    "commit lost": 2,
    "commit unanswered": 2,
    "connections cut": 2,
    "worker killed": 4,
    "master killed": 1,
    "reload": 1,
    "postgres killed": 2,
}
"""Every fault, and how often it comes in a round of all of them."""

_SHORTEST: Final = 0.2  # seconds between two faults
_LONGEST: Final = 1.5


def deal(chance: random.Random, possible: Set[Fault]) -> list[Fault]:
    """A round of faults, in random order: first each one that is possible, then the frequent ones again."""
    firsts = [fault for fault in FAULTS if fault in possible]
    others = [fault for fault in firsts for _ in range(FAULTS[fault] - 1)]
    chance.shuffle(firsts)
    chance.shuffle(others)
    return firsts + others


def pause(chance: random.Random) -> float:
    """Seconds until the next fault."""
    return chance.uniform(_SHORTEST, _LONGEST)
