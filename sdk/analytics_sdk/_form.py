"""What a form is: how values of one type are made storable; and how to ask a type without waking its values.

Types are asked by `type()` and their `__mro__` only. `isinstance` and `hasattr` ask the value for its `__class__` and
its attributes, and that wakes lazy objects: inside of `track()`, a database query.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

SCALAR: Final = "scalar"  # `read(value)` gives a text, a number, a truth value, None or Later
OTHER: Final = "other"  # `read(value)` gives a value in its place, which is looked at anew
ARRAY: Final = "array"  # `read(value, most)` gives a list of at most so many parts
OBJECT: Final = "object"  # `read(value, most)` gives a list of at most so many pairs of key and part
NONE: Final = "none"  # there is none

ELLIPSIS: Final = "…"  # stands where something is missing

UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")  # in Postgres, and in UTF-8

_LONGEST_NAME: Final = 100  # characters of a type's name


class Form(msgspec.Struct, frozen=True):
    """How values of a type are made storable.

    Attributes:
        verb: What `read` gives.
        read: Reads a value.
        length: The number of its parts, if the type can be trusted with it.
        aliases: Other names of its properties, by the names under which they are stored.
    """

    verb: str
    read: Callable[..., Any]
    length: Callable[[Any], int] | None = None
    aliases: Mapping[str, tuple[str, ...]] = {}


class Marker:
    """Stands in the place of a value that must not be asked."""

    def __init__(self, text: str) -> None:
        self.text = text


class Later(msgspec.Struct, frozen=True):
    """A text that is long and not made yet: much of it may never be needed.

    Attributes:
        size: About how many bytes it has.
        whole: Makes it.
        begin: Makes its first so many characters; None if a part of it says nothing.
        marker: What stands for it when it is left out, or what says how long it was.
    """

    size: int
    whole: Callable[[], str]
    begin: Callable[[int], str] | None
    marker: str


def is_storable(text: str) -> bool:
    """Whether Postgres and UTF-8 have all of its characters: not NUL, and no half of a surrogate pair."""
    return "\0" not in text and (text.isascii() or not UNSTORABLE.search(text))


def storable(text: str) -> str:
    """The text with U+FFFD, the replacement character, where Postgres or UTF-8 has none."""
    return text if is_storable(text) else UNSTORABLE.sub("\ufffd", text)


def marker(value: Any) -> str:
    """What stands for a value that has no form: the name of its type, which is all that is asked of it."""
    return f"<{name_of(type(value))}>"


_name_of: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
_mro_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_module_of: Final[Callable[[type], Any]] = type.__dict__["__module__"].__get__
_qualname_of: Final[Callable[[type], str]] = type.__dict__["__qualname__"].__get__
_dict_of: Final[Callable[[type], Mapping[str, Any]]] = type.__dict__["__dict__"].__get__


def name_of(kind: type) -> str:
    """A type's name, whatever its metaclass says."""
    return storable(_name_of(kind)[:_LONGEST_NAME])


def family(kind: type) -> tuple[type, ...]:
    """A type and what it inherits from, whatever its metaclass says."""
    return _mro_of(kind)


def full_name(kind: type) -> str:
    """A type's module and name, as in "decimal.Decimal"."""
    return f"{_module_of(kind)}.{_qualname_of(kind)}"


def attribute(kind: type, name: str) -> Any:
    """An attribute of a class as it stands there, without asking metaclass or descriptors; None if there is none."""
    return next((_dict_of(base)[name] for base in _mro_of(kind) if name in _dict_of(base)), None)
