"""Tells, in loops that are C's, whether all of many values are plain: texts, usual numbers, truth values and None."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

_FLAT: Final = frozenset({str, int, float, bool, type(None)})
_NUMBERS: Final = frozenset({int, float, bool})
_LARGE: Final = 2**64


def kinds_of(parts: Iterable[Any]) -> set[type]:
    """The types of values; none if there is one among them that cannot be told, as its metaclass does not hash."""
    try:
        return set(map(type, parts))
    except Exception:  # noqa: BLE001
        return set()


def flat_size(parts: Collection[Any]) -> int:
    """A lower bound for the bytes of plain values; -1 if one of them needs care."""
    kinds = kinds_of(parts)
    if not kinds <= _FLAT or (not kinds and parts):
        return -1
    size = 2 * len(parts)
    if str in kinds:
        size += sum(map(len, parts if len(kinds) == 1 else _of(str, parts)))
    if kinds.isdisjoint(_NUMBERS):
        return size
    return size if are_usual(parts if kinds <= _NUMBERS else [part for part in parts if type(part) in _NUMBERS]) else -1


def are_numbers(parts: Collection[Any]) -> bool:
    """Whether all are numbers, finite and of a usual size."""
    return _NUMBERS.issuperset(kinds_of(parts)) and are_usual(parts)


def are_usual(numbers: Collection[Any]) -> bool:
    """Whether all numbers are finite and of a usual size."""
    total = sum(numbers)
    return bool(max(map(abs, numbers)) < _LARGE and total - total == 0)


def _of(kind: type, parts: Iterable[Any]) -> list[Any]:
    return [part for part in parts if type(part) is kind]
