"""Values that no JSON encoder likes: what hosts pass by mistake, and what they pass on from strangers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import threading
import uuid
from array import array
from collections import UserDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
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


class Endless(Mapping[int, Any]):
    """A mapping whose items never end, and whose values neither."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, key: int) -> Any:
        return Endless()

    def __iter__(self) -> Iterator[int]:
        return itertools.count()


class Boundless(Sequence[Any]):
    """A sequence that says it is larger than the world, and holds more of that kind."""

    def __len__(self) -> int:
        return 10**18

    def __getitem__(self, index: Any) -> Any:
        return Boundless()


def laughs(width: int, levels: int = 49) -> Any:
    """The billion laughs: lists that hold the same list again and again."""
    value: Any = "lol"
    for _ in range(levels):
        value = [value] * width
    return value


def dict_laughs() -> Any:
    """The same of dicts."""
    value: Any = {}
    for _ in range(49):
        value = {"a": value, "b": value}
    return value


def acquaintances() -> Any:
    """Objects that all know each other."""
    nodes = [Node(None) for _ in range(12)]
    for node in nodes:
        node.other = list(nodes)
    return nodes


LONG = "x" * 5_000_000

HUGE: dict[str, Callable[[], Any]] = {
    "numbers": lambda: list(range(5_000_000)),
    "numbers again and again": lambda: [list(range(1_000_000))] * 1000,
    "set": lambda: set(range(1_000_000)),
    "range": lambda: range(10**15),
    "deque": lambda: deque(range(1_000_000)),
    "array": lambda: array("d", bytes(8_000_000)),
    "keys": lambda: {f"key{number}": number for number in range(1_000_000)},
    "keys that are no texts": lambda: {number: number for number in range(1_000_000)},
    "mapping": lambda: UserDict({number: number for number in range(100_000)}),
    "objects": lambda: [object()] * 1_000_000,
    "rows": lambda: [{"x": 1, "y": 2}] * 1_000_000,
    "rows with care": lambda: [{"x": dt.date(2026, 1, 31)}] * 1_000_000,
    "empty lists": lambda: [[]] * 1_000_000,
    "mixed": lambda: [1, "a", None, 2.5, {}] * 500_000,
    "NaN": lambda: [float("nan")] * 1_000_000,
    "text": lambda: "x" * 100_000_000,
    "text of others": lambda: "\N{PARTY POPPER}" * 10_000_000,
    "NULs": lambda: "\0" * 10_000_000,
    "half pairs": lambda: "\ud800" * 10_000_000,
    "texts": lambda: [LONG] * 100_000,
    "safe texts": lambda: [Text(LONG)] * 100_000,
    "control characters": lambda: ["\x01" * 300] * 3000,
    "long keys": lambda: [{LONG: object()}] * 100_000,
    "bytes": lambda: b"x" * 100_000_000,
    "bytes again and again": lambda: [b"x" * 5_000_000] * 100_000,
    "bytearray": lambda: bytearray(10_000_000),
    "integer": lambda: 10**100_000,
    "integers": lambda: [10**4200] * 100_000,
    "decimals": lambda: [decimal.Decimal(10**4000)] * 100_000,
    "endless mapping": Endless,
    "boundless sequence": Boundless,
    "laughs of 2": lambda: laughs(2),
    "laughs of 10": lambda: laughs(10),
    "laughs of 1000": lambda: laughs(1000),
    "laughs of dicts": dict_laughs,
    "acquaintances": acquaintances,
}
"""Values that are too large for any event, some of them without an end."""


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
