"""Takes the host's values apart and makes each part storable by itself: any Python value in, plain values out.

A value that JSON has no form for becomes a marker such as "<Circle>", and is counted; it never costs the event, nor
its neighbours. docs/encoding.md has the whole table.

How much is read has a bound, which follows from the size that an event may have: so does the time, whatever is handed
in, be it ten million numbers, things that hold each other, or a mapping without an end. What stands beside something
huge is read before it. What was not read is counted; _cut.py says in the event how much it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from itertools import chain
from sys import get_int_max_str_digits, maxsize
from typing import Any, Final

from ._container import ROOT, Allowance, Container
from ._flat import flat_size, kinds_of
from ._form import ELLIPSIS, NONE, OBJECT, OTHER, SCALAR, Form, Later, Marker, marker
from ._forms import form_of
from ._key import name_of_key, parts_of_key
from ._redaction import REDACTED, Redaction

MAX_DEPTH: Final = 50  # levels; the collector takes 100

_MOST_STEPS: Final = 20  # from a value to another one in its place
_MOST_DIGITS: Final = 4300
_MOST_INTEGER: Final = 10**_MOST_DIGITS
_TEXT: Final = frozenset({str})
_EFFORT_OF_CONTAINER: Final = 3  # entries of a list cost as much time
_EFFORT_OF_NAME: Final = 2
_SMALL: Final = 64  # entries

Convert = Callable[[Any], Any]


class Cleaner:
    """Cleans the values of one record.

    Args:
        redaction: Which names' values are not kept.
        convert: The host's function for its own types, or None.
        max_bytes: Largest record.

    Attributes:
        altered: Values that became a marker so far.
        size: A lower bound for the bytes of what was read.
        missing: How many entries of a container were not read, by the id of what came of it; -1 if nobody knows.
    """

    def __init__(self, redaction: Redaction, convert: Convert | None, max_bytes: int) -> None:
        self.altered = 0
        self.size = 0
        self.missing: dict[int, int] = {}
        self._redaction = redaction
        self._convert = convert
        self._most_of_foreign = max_bytes // 16
        self._entries = Allowance(max_bytes // 2)  # as "1," is the shortest
        self._effort = Allowance(max_bytes // 4)
        self._too_large = _too_large()
        self._turn = 0
        self._waiting: list[tuple[int, int, Container]] = []

    def clean(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The same values in plain parts, by the same names."""
        plain: dict[str, Any] = {}
        for name, value in values.items():
            plain[name] = self._plain(value, plain, name, ROOT)
        while self._waiting:
            container = heappop(self._waiting)[2]
            try:
                self._read(container)
            except Exception:  # noqa: BLE001  # an iterator of the host's raised
                if container.home[container.name] is container.out:
                    container.home[container.name] = self._failed(container.value, container.above)
        return plain

    def _failed(self, value: Any, above: Container | None) -> Any:
        """What stands for a value that raised; the data of an event are an object all the same."""
        text = self._alter(marker(value))
        return {ELLIPSIS: text} if above is ROOT else text

    def _read(self, container: Container) -> None:
        form, out, is_known = container.form, container.out, container.length < maxsize
        most = self._entries.share() if is_known else min(self._entries.share(), self._most_of_foreign)
        parts = form.read(container.value, most + 1)
        found = len(parts)
        del parts[most:]
        self._entries.left -= len(parts)
        if form.verb is OBJECT:
            self._fill_object(out, parts, container)
        elif (size := flat_size(parts)) >= 0:
            out += parts
            self.size += size
        elif not self._fill_rows(out, parts, container):
            self._fill_array(out, parts, container)
        if len(parts) < found:
            self.altered += 1
            self.missing[id(out)] = container.length - len(parts) if is_known else -1

    def _fill_rows(self, out: list[Any], parts: list[Any], container: Container) -> bool:
        """Fill in lists, or dicts, in all of which nothing needs care; False if it is not so. All loops are C's."""
        kind = type(parts[0])
        if (kind is not dict and kind is not list) or kinds_of(parts) != {kind} or container.depth + 2 >= MAX_DEPTH:
            return False
        if flat_size(_values(parts[0])) < 0:
            return False
        count, share = sum(map(len, parts)), self._entries.share()
        if count > share:
            kept = len(parts) * share // count
            if kept < _SMALL:
                return False
            self._entries.left += len(parts) - kept
            del parts[kept:]
        rows: list[Any] = [part.copy() for part in parts]
        size = flat_size(list(chain.from_iterable(map(_values, rows))))
        if size < 0 or (kind is dict and not self._are_harmless(rows)):
            return False
        self._count_flat(sum(map(len, rows)), size)
        out += rows
        return True

    def _are_harmless(self, rows: list[dict[Any, Any]]) -> bool:
        """Whether the names in all dicts may be kept: those of the first are judged, and most have the same ones."""
        names = list(chain.from_iterable(rows))
        if kinds_of(names) != _TEXT:
            return False
        return all(map(self._redaction.is_harmless, rows[0])) and self._redaction.harmless.issuperset(names)

    def _fill_array(self, out: list[Any], parts: list[Any], container: Container) -> None:
        least = self._effort.left - self._effort.share()
        for index, part in enumerate(parts):
            if self._effort.left <= least:
                del parts[index:]
                break
            self._effort.left -= 1
            out.append(self._plain(part, out, index, container))

    def _fill_object(self, out: dict[str, Any], pairs: list[Any], container: Container) -> None:
        least = self._effort.left - self._effort.share()
        for index, (key, part) in enumerate(pairs):
            if self._effort.left <= least:
                del pairs[index:]
                break
            self._effort.left -= 1
            name, is_secret = self._named(key, container.form)
            if name in out:
                self.altered += 1
                if name is not key:  # what was a text all along keeps its place
                    continue
            out[name] = REDACTED if is_secret else self._plain(part, out, name, container)

    def _count_flat(self, count: int, size: int) -> None:
        self._entries.left -= count
        self.size += size

    def _plain(self, value: Any, home: Any, name: Any, above: Container) -> Any:
        """A value in its plain form; what has parts is still empty and waits for its turn."""
        kind = type(value)
        if kind is str:
            self.size += len(value)
            return value
        if kind is bool or value is None:
            return value
        try:
            if kind is dict or kind is list:
                return self._container(form_of(kind), value, home, name, above)
            return self._in_steps(value, home, name, above)
        except Exception:  # noqa: BLE001  # whatever the host's types do when they are looked at
            return self._failed(value, above)

    def _in_steps(self, value: Any, home: Any, name: Any, above: Container) -> Any:
        self._effort.left -= 1
        for _ in range(_MOST_STEPS):
            form = form_of(type(value))
            if form.verb is SCALAR:
                return self._scalar(form.read(value), value)
            if form.verb is OTHER:
                value = form.read(value)
            elif form.verb is not NONE:
                return self._container(form, value, home, name, above)
            else:
                other = value if self._convert is None or type(value) is Marker else self._convert(value)
                if other is value:
                    return self._alter(form.read(value))
                value = other
        return self._alter(marker(value))

    def _scalar(self, plain: Any, value: Any) -> Any:
        kind = type(plain)
        if kind is float:
            return plain if plain - plain == 0 else self._alter(None)
        if kind is int:
            self.size += plain.bit_length() * 3 // 10
            return plain if abs(plain) < self._too_large else self._alter(marker(value))
        if kind is str:
            self.size += len(plain)
            return plain
        if kind is Later:
            self.size += plain.size
            self._effort.left -= _EFFORT_OF_CONTAINER
            return plain
        return plain if plain is None or kind is bool else self._alter(marker(value))

    def _container(self, form: Form, value: Any, home: Any, name: Any, above: Container) -> Any:
        if above.depth + 1 >= MAX_DEPTH:
            return self._alter("<too deep>")
        if above.holds(value):
            return self._alter(marker(value))
        length = maxsize if form.length is None else form.length(value)
        if length <= _SMALL and (copy := self._small_copy(value)) is not None:
            return copy
        if self._effort.left <= 0:
            return self._alter("<too much>")
        self._effort.left -= _EFFORT_OF_CONTAINER
        out: Any = {} if form.verb is OBJECT else []
        self._turn += 1
        rank = above.rank * (min(length, self._most_of_foreign) or 1)
        waits = Container(rank, above.depth + 1, form, value, length, out, home, name, above)
        heappush(self._waiting, (rank, self._turn, waits))
        return out

    def _small_copy(self, value: Any) -> Any:
        """A copy of a small list or dict in which nothing needs care; None of any other."""
        if type(value) is not dict and type(value) is not list:
            return None
        copy = value.copy()
        size = flat_size(_values(copy))
        if size < 0 or (type(copy) is dict and not self._has_harmless_names(copy)):
            return None
        self._count_flat(len(copy), size)
        self._effort.left -= 1 + len(copy) // 8  # the loops are C's
        return copy

    def _has_harmless_names(self, values: dict[Any, Any]) -> bool:
        """Whether all names are known as such; a subclass of str may say that it equals them."""
        return kinds_of(values) <= _TEXT and self._redaction.harmless.issuperset(values)

    def _named(self, key: Any, form: Form) -> tuple[str, bool]:
        """A key as it is stored, and whether it is one of a secret."""
        if type(key) is str and not form.aliases:
            if key in self._redaction.harmless:
                return key, False
            self._effort.left -= _EFFORT_OF_NAME
            if self._redaction.is_harmless(key):
                return key, False
        name, says_less = name_of_key(key)
        self.altered += says_less
        self.size += len(name)
        self._effort.left -= len(name) // _SMALL
        names = (name, *form.aliases.get(name, ()), *parts_of_key(key))
        return name, any(map(self._redaction.is_secret, names))

    def _alter(self, text: str | None) -> str | None:
        self.altered += 1
        return text


def _values(parts: Any) -> Any:
    return parts.values() if type(parts) is dict else parts


def _too_large() -> int:
    """The first integer that is not written: Python itself has a limit, too."""
    most = get_int_max_str_digits()
    return 10**most if 0 < most < _MOST_DIGITS else _MOST_INTEGER
