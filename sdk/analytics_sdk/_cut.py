"""Makes what is too large fit: the largest values are cut, the small ones beside them stay whole.

Where values share a room, each may have as much as the others, and what one leaves the larger ones get. A text keeps
its beginning. A list or an object whose entries would come out too short keeps some of them whole and says how many are
missing: a list its first ones, an object its smallest ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec

from ._flat import are_numbers, flat_size
from ._form import ELLIPSIS, Later, marker, storable

_LEAST: Final = 64  # bytes that any entry may have
_FEWEST: Final = 64  # entries that are shown before the entries themselves are cut
_MARK: Final = 30  # bytes that say how many are missing
_SMALL: Final = 2000  # bytes, or entries
_SAMPLE: Final = 200  # characters

_encode: Final = msgspec.json.Encoder().encode


class Cut:
    """Cuts one value to a size.

    Args:
        missing: How many entries of a container were left out before, by its id; -1 if nobody knows.

    Attributes:
        altered: What was cut so far, besides these containers.
    """

    def __init__(self, missing: Mapping[int, int]) -> None:
        self.altered = 0
        self._missing = missing
        self._sizes: dict[int, int] = {}
        self._incomplete: set[int] = set()

    def fit(self, part: Any, room: int) -> Any:
        """The value, in about so many bytes of JSON; it is not changed itself."""
        kind = type(part)
        if self._size(part) <= room and id(part) not in self._incomplete:
            return part
        if kind is dict:
            return self._object(part, room - _MARK)
        if kind is list:
            return self._array(part, room - _MARK)
        self.altered += 1
        if kind is str:
            return self._begin(lambda most: part[:most], len(part), part, room, f"<{len(part)} characters>")
        if kind is Later and part.begin is not None:
            return self._begin(part.begin, part.size, part, room, part.marker)
        return part.marker if kind is Later else marker(part)

    def _begin(self, begin: Any, count: int, part: Any, room: int, ending: str) -> str:
        """A text's beginning and what says how long it was."""
        most = (room - len(ending) - 6) * count // max(self._size(part), 1)
        return f"{begin(max(most, 0))}{ELLIPSIS} {ending}"

    def _array(self, parts: list[Any], room: int) -> list[Any]:
        sizes = self._sizes_of(parts)
        least = max(_LEAST, room // _FEWEST)
        kept = len(parts)
        if level_of(sizes, room) < least:
            kept = _count_within((min(size, least) for size in sizes), room)
        level = level_of(sizes[:kept], room)
        found = [self.fit(part, level) for part in parts[:kept]]
        left_out = self._left_out(parts, kept)
        return [*found, f"{ELLIPSIS} {left_out}"] if left_out else found

    def _object(self, parts: dict[str, Any], room: int) -> dict[str, Any]:
        names = list(parts)
        own = [_text_size(name) + 2 for name in names]
        sizes = [size + of_name for size, of_name in zip(self._sizes_of(list(parts.values())), own, strict=True)]
        least = max(_LEAST, room // _FEWEST)
        kept = set(range(len(names)))
        if level_of(sizes, room) < least:
            order = sorted(kept, key=sizes.__getitem__)
            kept = set(order[: _count_within((min(sizes[index], least) for index in order), room)])
        level = level_of([sizes[index] for index in kept], room)
        found = {name: self.fit(parts[name], level - own[index]) for index, name in enumerate(names) if index in kept}
        left_out = self._left_out(parts, len(kept))
        return {**found, ELLIPSIS: left_out} if left_out else found

    def _left_out(self, parts: Any, kept: int) -> str:
        """What says how many entries are missing; empty if none are."""
        before = self._missing.get(id(parts), 0)
        now = len(parts) - kept
        self.altered += now > 0 and before == 0
        if before < 0:
            return "<more>"
        return f"<{before + now} more>" if before + now else ""

    def _size(self, part: Any) -> int:
        """About how many bytes it has."""
        kind = type(part)
        if kind is str:
            return _text_size(part)
        if kind is dict or kind is list:
            if not part:
                return 2
            size = self._sizes.get(id(part))
            return self._measure(part) if size is None else size
        if kind is int:
            return int(part.bit_length() * 3 // 10 + 1)
        return part.size if kind is Later else len(_encode(part))

    def _measure(self, parts: Any) -> int:
        values: Any = parts.values() if type(parts) is dict else parts
        size = _flat_json_size(parts, values)
        if size < 0:
            size = int(sum(self._sizes_of(values))) + 2
            if type(parts) is dict:
                size += sum(map(_text_size, parts)) + 2 * len(parts)
        if id(parts) in self._missing:
            size += _MARK
            self._incomplete.add(id(parts))
        elif self._incomplete and not self._incomplete.isdisjoint(map(id, values)):
            self._incomplete.add(id(parts))
        self._sizes[id(parts)] = size
        return size

    def _sizes_of(self, parts: Sequence[Any]) -> list[float]:
        """The sizes of parts, each with its comma."""
        if type(parts) is list and len(parts) > _SMALL and are_numbers(parts):
            size = self._sizes.get(id(parts)) or len(_encode(parts))
            return [size / len(parts)] * len(parts)  # nobody looks at a hundred thousand numbers
        return [self._size(part) + 1 for part in parts]


def _flat_json_size(parts: Any, values: Any) -> int:
    """The size of what is small and holds nothing else; -1 of all others."""
    if len(parts) > _SMALL or not 0 <= flat_size(values) <= _SMALL:
        return -1
    try:
        return len(_encode(parts))
    except UnicodeEncodeError:
        return -1


def level_of(sizes: Sequence[float], room: int) -> int:
    """How large each may be at most, so that all of them fit."""
    waiting = len(sizes)
    left: float = room
    for size in sorted(sizes):
        if size * waiting > left:
            return max(int(left // waiting), 0)
        left -= size
        waiting -= 1
    return room


def _count_within(sizes: Iterable[float], room: int) -> int:
    """How many of them fit, from the first on."""
    count = 0
    for total in accumulate(sizes):
        if total > room:
            break
        count += 1
    return count


def _text_size(text: str) -> int:
    """About how many bytes a text has in JSON; of a long one, a part is measured."""
    if len(text) <= 32 and text.isascii():
        return len(text) + 2
    sample = storable(text[:_SAMPLE])
    return len(_encode(sample)) * len(text) // len(sample) + 1 if len(text) > _SAMPLE else len(_encode(sample))


def with_storable_texts(part: Any) -> tuple[Any, int]:
    """The value with each text as Postgres and UTF-8 can have it, and how many were not."""
    kind = type(part)
    if kind is str:
        stored = storable(part)
        return stored, stored != part
    if kind is list:
        found = [with_storable_texts(entry) for entry in part]
        return [entry for entry, _ in found], sum(count for _, count in found)
    if kind is dict:
        pairs = {name: with_storable_texts(entry) for name, entry in part.items()}
        return {name: entry for name, (entry, _) in pairs.items()}, sum(count for _, count in pairs.values())
    return part, 0
