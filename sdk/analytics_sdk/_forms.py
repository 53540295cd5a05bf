"""The form of each type: a table for the standard ones, looked up by the type and what it inherits from.

Nothing of a value's own is called before its type is known. Only containers of the standard library and what inherits
from its abstract ones (Mapping, Sequence, Set) are read; `__len__` is asked only where it is not the host's.
"""

from __future__ import annotations

import collections
import enum
import logging
import os
from collections import abc
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final

import msgspec

from ._flat import kinds_of
from ._foreign import Rows, foreign_form, form_by_attributes
from ._form import ARRAY, NONE, OBJECT, OTHER, SCALAR, Form, Later, Marker, attribute, family, full_name, marker

logger = logging.getLogger("analytics_sdk")

_LONG: Final = 1000  # characters or bytes, from which a text is made only if it is needed
_MOST_REMEMBERED: Final = 1000  # types; a host that makes up classes must not fill memory with them

NO_FORM: Final = Form(NONE, marker)


def form_of(kind: type) -> Form:
    """The form of a type's values."""
    try:
        return _known[kind]
    except Exception:  # noqa: BLE001  # not known yet, or its metaclass does not even hash
        return _look_up(kind)


def aware(moment: datetime) -> datetime:
    """A moment with its offset; a naive one is taken as UTC, which the log says once."""
    global _has_warned
    if moment.utcoffset() is not None:
        return moment
    if not _has_warned:
        _has_warned = True
        logger.warning("A datetime without a time zone is taken as UTC; give it one, as in datetime.now(UTC).")
    return moment.replace(tzinfo=UTC)


_has_warned = False


def _look_up(kind: type) -> Form:
    try:
        form = _found(kind)
        if len(_known) >= _MOST_REMEMBERED:
            _known.clear()
            _known.update(_STANDARD)
        _known[kind] = form
    except Exception:  # noqa: BLE001  # its class or metaclass is the host's own
        return NO_FORM
    return form


def _found(kind: type) -> Form:
    bases = family(kind)
    if enum.Enum in bases:
        return Form(OTHER, lambda value: value.value)
    for base in bases:
        form = foreign_form(kind, base, full_name(base)) or _STANDARD.get(base)
        if form is not None:
            return _of_subclass(kind, base) or form
    return form_by_attributes(kind) or (_PATH if attribute(kind, "__fspath__") else NO_FORM)


def _of_subclass(kind: type, base: type) -> Form | None:
    """The form of a container whose class reads it in its own way."""
    method = _WAYS.get(base)
    if method is None or attribute(kind, method) is attribute(base, method):
        return None
    return _MAPPING if method == "items" else _SET if base in (set, frozenset) else _SEQUENCE


def _first(parts: Iterable[Any], most: int) -> list[Any]:
    return list(islice(parts, most))


def _first_in_order(parts: Any, most: int) -> list[Any]:
    """The parts of a set, in an order that is the same each time if they are of a type that has one."""
    found = list(islice(parts, most))
    if len(found) < most and kinds_of(found) in _IN_ORDER:
        found.sort()
    return found


_IN_ORDER: Final[tuple[set[type], ...]] = ({str}, {int}, {float}, {int, float}, {date}, {Decimal}, {bytes})


def _moment(value: datetime) -> str:
    text = aware(value).isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _own_text(value: str) -> str | Later:
    """The text of a subclass of str; what its `__str__` says is another matter."""
    length = str.__len__(value)
    if length <= _LONG:
        return str.__str__(value)
    size = length if str.isascii(value) else 3 * length
    begin = lambda most: str.__getitem__(value, slice(most))  # noqa: E731
    return Later(size, lambda: str.__str__(value), begin, f"<{length} characters>")


def _decimal(value: Decimal) -> str | Later:
    size = Decimal.__sizeof__(value)
    if size <= _LONG:
        return Decimal.__str__(value)
    return Later(size * 5 // 2, lambda: Decimal.__str__(value), None, marker(value))  # part of a number is another one


def _base64(value: Any) -> str | Later:
    count = memoryview(value).nbytes
    if count <= _LONG:
        return _in_base64(bytes(value))
    begin = lambda most: _in_base64(_first_bytes(value, most // 4 * 3))  # noqa: E731
    return Later(count * 4 // 3, lambda: _in_base64(_first_bytes(value, count)), begin, f"<{count} bytes>")


def _first_bytes(value: Any, most: int) -> bytes:
    """A copy, so that nothing holds on to a bytearray that its owner wants to grow."""
    return bytes(memoryview(value).cast("B")[:most])


def _in_base64(raw: bytes) -> str:
    return str(msgspec.to_builtins(raw))


def _path(value: Any) -> str:
    return os.fsdecode(os.fspath(value))


_BYTES: Final = Form(SCALAR, _base64)
_PATH: Final = Form(OTHER, _path)
_MAPPING: Final = Form(OBJECT, lambda value, most: _first(value.items(), most))
_SEQUENCE: Final = Form(ARRAY, _first)
_SET: Final = Form(ARRAY, _first_in_order)

_WAYS: Final[dict[type, str]] = {
    dict: "items",
    collections.OrderedDict: "items",
    **dict.fromkeys((list, tuple, set, frozenset, collections.deque), "__iter__"),
}


def _array(kind: Any) -> Form:
    return Form(ARRAY, lambda value, most: list(islice(kind.__iter__(value), most)), kind.__len__)


def _set(kind: Any) -> Form:
    return Form(ARRAY, lambda value, most: _first_in_order(kind.__iter__(value), most), kind.__len__)


def _pairs(value: dict[Any, Any], most: int) -> list[Any]:
    """The first pairs of a dict, all of one moment.

    Each is a new tuple, for which Python may collect garbage; in what that calls other threads run, and may change the
    dict. A copy is made in one step.
    """
    if dict.__len__(value) <= most:
        value = dict.copy(value)
    return list(islice(dict.items(value), most))


def _pairs_in_order(value: Any, most: int) -> list[Any]:
    return list(islice(collections.OrderedDict.items(value), most))


_DICTS: Final[tuple[Any, ...]] = ({}, collections.OrderedDict())
_VIEWS: Final[tuple[type, ...]] = tuple(
    type(view()) for made in _DICTS for view in (made.keys, made.values, made.items)
)
_ARRAYS: Final[tuple[type, ...]] = (list, tuple, collections.deque, range, *_VIEWS)

_STANDARD: Final[dict[type, Form]] = {
    **dict.fromkeys((type(None), bool), Form(SCALAR, lambda value: value)),
    str: Form(SCALAR, _own_text),
    int: Form(SCALAR, int.__int__),
    float: Form(SCALAR, float.__float__),
    Marker: Form(NONE, lambda value: value.text),
    Rows: Form(ARRAY, Rows.first, len),
    Decimal: Form(SCALAR, _decimal),
    complex: Form(SCALAR, complex.__str__),
    datetime: Form(SCALAR, _moment),
    **dict.fromkeys((date, time), Form(SCALAR, lambda value: value.isoformat())),
    timedelta: Form(SCALAR, lambda value: value.total_seconds()),
    **dict.fromkeys((bytes, bytearray, memoryview), _BYTES),
    **{kind: _array(kind) for kind in _ARRAYS},
    set: _set(set),
    frozenset: _set(frozenset),
    dict: Form(OBJECT, _pairs, dict.__len__),
    collections.OrderedDict: Form(OBJECT, _pairs_in_order, collections.OrderedDict.__len__),
    **dict.fromkeys((abc.Mapping, type(type.__dict__)), _MAPPING),
    **dict.fromkeys((abc.Sequence, abc.ValuesView), _SEQUENCE),
    abc.Set: _SET,
}
_known: dict[type, Form] = dict(_STANDARD)
