"""JSON from outside: requests, actions and states, checked and read by type."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Annotated, NoReturn, TypeGuard, cast

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1)]
"""A text that is not empty."""


class Identified(msgspec.Struct, frozen=True):
    """An object with a number as its id."""

    id: int


class Named(msgspec.Struct, frozen=True):
    """An object with a name."""

    name: Text


def fits(value: object, shape: object) -> bool:
    """Whether ``value`` has the ``shape``: any type that msgspec converts to."""
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError:
        return False
    return True


class MalformedJson(TypeError):
    """A value of the wrong JSON type, in a request, an action or a setting."""


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Whether ``value`` is a JSON object."""
    return isinstance(value, dict)


def json_object(value: object) -> dict[str, object]:
    """Return a JSON object, empty for null. Raises MalformedJson for anything else."""
    if value is None:
        return {}
    if not is_object(value):
        raise MalformedJson(f"{value!r} is not an object")
    return value


def json_objects(value: object) -> list[dict[str, object]]:
    """Return a list of JSON objects, empty for null. Raises MalformedJson for anything else."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise MalformedJson(f"{value!r} is not a list")
    return [json_object(item) for item in cast("list[object]", value)]


def texts(value: object) -> list[str]:
    """Return a list of texts, empty for null; other items become text. Raises MalformedJson for anything but a list."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise MalformedJson(f"{value!r} is not a list")
    return [str(item) for item in cast("list[object]", value)]


def number(value: object) -> float:
    """Return a number, or the number that a text spells. Raises MalformedJson for anything else."""
    try:
        return float(value) if isinstance(value, int | float | str) else _no_number(value)
    except ValueError:
        _no_number(value)


def whole(value: object) -> int:
    """Return a whole number, or the one that a text spells. Raises MalformedJson for anything else."""
    try:
        return int(value) if isinstance(value, int | float | str) else _no_number(value)
    except ValueError:
        _no_number(value)


def _no_number(value: object) -> NoReturn:
    raise MalformedJson(f"{value!r} is not a number")


def picked(row: Mapping[str, object], names: Iterable[str]) -> dict[str, object]:
    """Return the fields ``names`` of ``row``."""
    return {name: row[name] for name in names}


def fill(row: object, defaults: Mapping[str, object]) -> None:
    """Set the fields that an object of a state leaves out."""
    fields = cast("dict[str, object]", row)
    for name, value in defaults.items():
        fields.setdefault(name, copy.deepcopy(value))


def overwrite(row: object, fields: Mapping[str, object]) -> None:
    """Set ``fields`` of an object of a state."""
    cast("dict[str, object]", row).update(fields)


def merged(base: object, patch: object) -> object:
    """Return ``base`` with ``patch`` merged in: objects deeply, a None removes its key, all else is replaced."""
    if not is_object(base) or not is_object(patch):
        return copy.deepcopy(patch)
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def without(body: object, names: frozenset[str]) -> object:
    """Return ``body`` without every field of ``names``."""
    if is_object(body):
        return {key: without(value, names) for key, value in body.items() if key not in names}
    return [without(row, names) for row in body] if isinstance(body, list | tuple) else body
