"""What becomes of the keys of mappings, which in JSON are texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ._form import OTHER, SCALAR, Later, family, marker, storable
from ._forms import form_of

_LONGEST: Final = 1000  # characters
_MOST_PARTS: Final = 20  # of a tuple
_MOST_STEPS: Final = 20  # from a key to what it is a key for


def name_of_key(key: Any) -> tuple[str, bool]:
    """A key as it is stored, and whether that says less than the key itself."""
    text = key if type(key) is str else str(_plain(key, 0))
    name = storable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… <{len(text)} characters>")
    return name, name != text or (type(key) is not str and (_is_tuple(key) or text == marker(key)))


def parts_of_key(key: Any) -> Iterator[str]:
    """The parts of a tuple, at any depth, as texts; none of any other key."""
    return _texts(_parts(key, 0) if _is_tuple(key) else ())


def _texts(parts: Iterable[Any]) -> Iterator[str]:
    for part in parts:
        if type(part) is tuple:
            yield from _texts(part)
        else:
            yield str(part)


def _plain(key: Any, depth: int) -> Any:
    """What a key is a text of; its marker if it has no form."""
    try:
        if depth == _MOST_STEPS:
            return marker(key)
        if _is_tuple(key):
            return tuple(_parts(key, depth + 1))
        if bytes in family(type(key)):
            return bytes.__getitem__(key, slice(_LONGEST + 1)).decode(errors="replace")
        form = form_of(type(key))
        if form.verb is OTHER:
            return _plain(form.read(key), depth + 1)
        return _beginning(form.read(key)) if form.verb is SCALAR else marker(key)
    except Exception:  # noqa: BLE001  # whatever the host's types do when they are looked at
        return marker(key)


def _parts(key: tuple[Any, ...], depth: int) -> list[Any]:
    return [_plain(part, depth) for part in tuple.__getitem__(key, slice(_MOST_PARTS))]


def _is_tuple(key: Any) -> bool:
    return tuple in family(type(key))


def _beginning(found: Any) -> Any:
    """The beginning of a text that was to be made later."""
    if type(found) is Later:
        return found.marker if found.begin is None else found.begin(_LONGEST + 1)
    return found
