"""Values that no JSON encoder likes: what hosts pass by mistake, and what they pass on from strangers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import threading
import uuid
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
from hypothesis import strategies as st


class Broken:
    """Raises whatever is done with it; but tells its class, as the tests' own tools ask for that."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Broken
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class Classless:
    """Does not even tell its class."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class BrokenSequence:
    """Says that it is a collection, and raises when it is read."""

    def __len__(self) -> int:
        return 3

    def __contains__(self, part: object) -> bool:
        return False

    def __iter__(self) -> Any:
        raise RuntimeError("no parts")


class BrokenNumber(int):
    """An integer that nobody can print."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Text(str):
    """What template engines use for text that is safe."""

    __slots__ = ()


class Paint(enum.Enum):
    """Values that are no JSON."""

    RED = object()


@dataclasses.dataclass
class Node:
    """Can refer to itself."""

    other: Any


@attrs.define
class Leaf:
    """Of attrs."""

    value: Any


class Struct(msgspec.Struct):
    """Of msgspec."""

    value: Any


def circle() -> Any:
    """A list that holds itself twice: 2^50 paths down to the depth limit."""
    round_about: list[Any] = []
    round_about += [round_about, round_about]
    return round_about


def node_circle() -> Any:
    """Two objects that hold each other."""
    node = Node(None)
    node.other = [Leaf(node), node]
    return node


def deep(levels: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


MAKERS: dict[str, Callable[[], Any]] = {
    "broken": Broken,
    "classless": Classless,
    "broken sequence": BrokenSequence,
    "broken number": lambda: BrokenNumber(7),
    "broken key": lambda: {Broken(): 1},
    "safe text": lambda: Text("safe"),
    "paint": lambda: Paint.RED,
    "object": object,
    "type": lambda: int,
    "function": lambda: deep,
    "generator": lambda: (part for part in "abc"),
    "endless": itertools.count,
    "lock": threading.Lock,
    "circle": circle,
    "node circle": node_circle,
    "deep": lambda: deep(150),
    "very deep": lambda: deep(5000),
    "broken leaf": lambda: Leaf(Broken()),
    "broken struct": lambda: Struct(Broken()),
    "broken node": lambda: Node(Broken()),
    "lone surrogate": lambda: "\ud800",
    "lone surrogate key": lambda: {"\udfff": 1},
    "NUL": lambda: "\0",
    "NUL key": lambda: {"a\0": 1},
    "escaped backslash": lambda: "\\u0000",
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("-inf"),
    "NaN key": lambda: {float("nan"): 1},
    "decimal NaN": lambda: decimal.Decimal("sNaN"),
    "huge decimal": lambda: decimal.Decimal("1e400"),
    "big integer": lambda: 2**64,
    "huge integer": lambda: 10**5000,
    "complex": lambda: 1j,
    "bytes": lambda: b"\xff\x00",
    "bytearray": lambda: bytearray(b"\xff"),
    "memoryview": lambda: memoryview(b"\xff"),
    "mixed set": lambda: {1, "a", None},
    "tuple key": lambda: {(1, 2): 3},
    "other keys": lambda: {None: 1, True: 2, 3: 4, 1.5: 6},
    "timedelta": lambda: dt.timedelta(days=-1.5),
    "naive": lambda: dt.datetime(2026, 1, 1),  # noqa: DTZ001
    "zone": lambda: dt.UTC,
    "uuid": uuid.uuid4,
    "error": lambda: ValueError("\ud800"),
}

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
plain |= st.decimals() | st.datetimes() | st.dates() | st.times() | st.timedeltas() | st.uuids()
"""Values of the standard types, of any content."""

nasty = st.sampled_from(sorted(MAKERS.keys() - {"classless"})).map(lambda name: MAKERS[name]())

anything = st.recursive(
    plain | st.text(st.characters()) | nasty,
    lambda parts: st.lists(parts) | st.dictionaries(st.text(st.characters()), parts) | st.builds(Leaf, parts),
    max_leaves=10,
)
"""Any of it, in containers of it."""
