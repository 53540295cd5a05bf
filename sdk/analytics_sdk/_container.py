"""Containers that wait to be read, and how much of them may be."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ._form import NONE, Form, marker


class Container(msgspec.Struct, gc=False):  # nothing that it refers to refers to it
    """A container that waits for its turn.

    Attributes:
        rank: How many values there are if all containers on the way to this one's parts are as these; the fewer, the
            earlier its turn.
        depth: In how many others it is.
        form: How it is read.
        value: The container.
        length: How many parts it has; maxsize if it cannot be trusted with that.
        out: What becomes of it.
        home: What that is in.
        name: And where.
        above: The container that it is in.
    """

    rank: int
    depth: int
    form: Form
    value: Any
    length: int
    out: Any
    home: Any
    name: Any
    above: Container | None

    def holds(self, value: Any) -> bool:
        """Whether it is this container, or one that it is in."""
        container: Container | None = self
        while container is not None:
            if container.value is value:
                return True
            container = container.above
        return False


ROOT: Final = Container(1, -1, Form(NONE, marker), None, 0, None, None, None, None)


class Allowance:
    """How much may be read: no event of this size has more.

    One container gets eight ninths of what is left, so that there is always some for what lies deeper. As there are
    nine eighths of `most` in the beginning, all of what fits is read, however it is spread: with r read,
    8/9 * (9/8 * most - r) >= most - r.

    Args:
        most: What an event has room for.

    Attributes:
        left: What is left of it.
    """

    def __init__(self, most: int) -> None:
        self.left = most * 9 // 8

    def share(self) -> int:
        """What one container may have."""
        return max(self.left * 8 // 9, 0)
