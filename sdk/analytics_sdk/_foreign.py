"""The forms of types that are not the standard library's own: found by their names, so that nothing is imported.

What may ask a database, wait, or be endless is never read: Django's models and QuerySets, SQLAlchemy's models, what is
lazy and has not been evaluated yet, and proxies such as werkzeug's LocalProxy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from ._form import ARRAY, NONE, OBJECT, OTHER, SCALAR, Form, Marker, attribute, marker

_NULL: Final = Form(SCALAR, lambda _: float("nan"))  # stored as null, and counted
_TEXT: Final = Form(SCALAR, str)
_NO_FORM: Final = Form(NONE, marker)
_FAST_KINDS: Final = "biuf"  # of numpy: what `tolist()` makes plain numbers of

_by_name: Final[Mapping[str, Callable[[type, type], Form]]] = {
    "array.array": lambda *_: Form(ARRAY, lambda value, most: value[:most].tolist(), len),
    "collections.UserString": lambda *_: Form(OTHER, lambda value: value.data),
    "fractions.Fraction": lambda *_: _TEXT,
    "ipaddress._IPAddressBase": lambda *_: _TEXT,
    "uuid.UUID": lambda *_: _TEXT,
    "django.core.paginator.Page": lambda *_: _NO_FORM,  # a Sequence that asks the database
    "django.db.models.base.Model": lambda *_: _NO_FORM,
    "django.utils.functional.LazyObject": lambda *_: Form(OTHER, _of_lazy_object),
    "django.utils.functional.Promise": lambda kind, _: _TEXT if attribute(kind, "casefold") else _NO_FORM,
    "numpy.complexfloating": lambda *_: Form(OTHER, complex),
    "numpy.datetime64": lambda *_: Form(SCALAR, _of_datetime64),
    "numpy.generic": lambda *_: Form(OTHER, lambda value: value.item()),
    "numpy.longdouble": lambda *_: Form(OTHER, float),
    "numpy.ma.MaskedArray": lambda *_: _NO_FORM,
    "numpy.ma.core.MaskedArray": lambda *_: _NO_FORM,
    "numpy.ndarray": lambda _, base: Form(OTHER, lambda value: Rows(value.view(base)) if value.ndim else value[()]),
    "numpy.timedelta64": lambda *_: Form(OTHER, lambda value: value / type(value)(1, "s")),
    "numpy.void": lambda *_: Form(OTHER, _of_void),
    "pandas._libs.missing.C_NAType": lambda *_: _NULL,
    "pandas._libs.tslibs.nattype._NaT": lambda *_: _NULL,
    "pydantic.main.BaseModel": lambda kind, _: _of_model(kind),
    "pydantic.networks._BaseUrl": lambda *_: _TEXT,
    "pydantic_core._pydantic_core.Url": lambda *_: _TEXT,
    "msgspec.Struct": lambda kind, _: _of_struct(kind),
}


class Rows:
    """One of numpy's arrays that has at least one dimension.

    Args:
        array: Of numpy's own class: the rows of a matrix would be matrices for ever.
    """

    def __init__(self, array: Any) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def first(self, most: int) -> list[Any]:
        """The first so many; if it has several dimensions, arrays."""
        if self._array.ndim == 1 and self._array.dtype.kind in _FAST_KINDS:
            return self._array[:most].tolist()  # type: ignore[no-any-return]
        return [self._array[index] for index in range(min(most, len(self)))]


def foreign_form(kind: type, base: type, name: str) -> Form | None:
    """The form of a type that inherits from the one of this name; None if the name is not known."""
    make = _by_name.get(name)
    return make(kind, base) if make else None


def form_by_attributes(kind: type) -> Form | None:
    """The form of attrs classes and dataclasses, which have no ancestor in common; None for all others."""
    if attribute(kind, "_sa_class_manager") is not None:
        return _NO_FORM  # a model of SQLAlchemy, whose attributes may ask the database
    if (fields := attribute(kind, "__attrs_attrs__")) is not None:
        return Form(OBJECT, partial(_pairs, [field.name for field in fields]))
    if attribute(kind, "__dataclass_fields__") is not None:
        import dataclasses  # the host has

        return Form(OBJECT, partial(_pairs, [field.name for field in dataclasses.fields(kind)]))
    return None


def field(value: Any, name: str) -> Any:
    """A field of an object; if it cannot be had, the name of the error."""
    try:
        return getattr(value, name)
    except Exception as error:  # noqa: BLE001  # a property or a descriptor is the host's code
        return Marker(marker(error))


def _pairs(names: list[str], value: Any, most: int) -> list[tuple[str, Any]]:
    return [(name, field(value, name)) for name in names[:most]]


def _of_lazy_object(value: Any) -> Any:
    """What Django's lazy object holds; as long as it holds nothing, it is not woken."""
    held = object.__getattribute__(value, "__dict__").get("_wrapped")
    return Marker(marker(value)) if held is None or type(held) is object else held


def _of_datetime64(value: Any) -> Any:
    """ISO 8601; numpy's moments are UTC."""
    text = str(value)
    return float("nan") if text == "NaT" else f"{text}Z" if "T" in text else text


def _of_void(value: Any) -> Any:
    """A row of numpy's structured arrays."""
    names = value.dtype.names
    return {name: value[name] for name in names} if names else value.item()


def _of_struct(kind: Any) -> Form:
    """As msgspec itself writes it: with its tag and its names, without what it leaves out."""
    names, stored, config = kind.__struct_fields__, kind.__struct_encode_fields__, kind.__struct_config__
    defaults = (msgspec.NODEFAULT,) * (len(names) - len(kind.__struct_defaults__)) + kind.__struct_defaults__
    tag = [(config.tag_field, config.tag)] if config.tag_field else []

    def pairs(value: Any, most: int) -> list[tuple[str, Any]]:
        found = [(name, field(value, own), default) for name, own, default in zip(stored, names, defaults, strict=True)]
        kept = [
            (name, part)
            for name, part, default in found
            if part is not msgspec.UNSET and not (config.omit_defaults and _is_default(part, default))
        ]
        return (tag + kept)[:most]

    if config.array_like:
        return Form(
            ARRAY, lambda value, most: ([config.tag] if tag else []) + [field(value, own) for own in names][:most]
        )
    return Form(OBJECT, pairs, aliases={name: (own,) for name, own in zip(stored, names, strict=True) if name != own})


def _is_default(part: Any, default: Any) -> bool:
    factory = getattr(default, "factory", None)
    return part is default or (factory is type(part) and factory in (list, dict, set) and not part)


def _of_model(kind: type) -> Form:
    """Pydantic's models: their fields; if a model has its own way to write them, what that gives.

    `model_dump()` copies all that a model holds, however large, so it is called only where it can make a difference.
    """
    if attribute(kind, "__pydantic_root_model__"):
        return Form(OTHER, lambda value: field(value, "root"))
    fields = attribute(kind, "__pydantic_fields__") or attribute(kind, "model_fields")
    if not isinstance(fields, dict) or _has_serializers(kind, fields):
        return Form(OTHER, lambda value: value.model_dump())
    names = [name for name, info in fields.items() if info.exclude is not True]

    def pairs(value: Any, most: int) -> list[tuple[str, Any]]:
        held = object.__getattribute__(value, "__dict__")
        extra = field(value, "__pydantic_extra__") or {}
        return [*((name, held[name]) for name in names if name in held), *extra.items()][:most]

    return Form(OBJECT, pairs, aliases={name: _aliases(fields[name]) for name in names})


def _has_serializers(kind: type, fields: Mapping[str, Any]) -> bool:
    own = attribute(kind, "__pydantic_decorators__")
    if own.field_serializers or own.model_serializers or own.computed_fields:
        return True
    return any("Serialize" in type(part).__name__ for info in fields.values() for part in info.metadata)


def _aliases(info: Any) -> tuple[str, ...]:
    names = (info.alias, info.serialization_alias, info.validation_alias)
    return tuple(name for name in names if type(name) is str)
