"""A small typed codec between the model's frozen dataclasses and JSON. One plan of conversion a class, made once."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import gc
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from reconciler.model.resources import DerivedKeyRef, SecretRef

T = TypeVar("T")
Convert = Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


_SCALARS = frozenset({str, int, float, bool, type(None)})
"""Exact types that are JSON already; asked before anything else, since most values are of these."""


def to_json(value: Any) -> Any:
    """Return ``value`` as JSON: dataclasses by field (defaults left out), enums by value, sets sorted, identities as objects."""
    kind: Any = type(value)
    if kind in _SCALARS:
        return value
    if kind is tuple or kind is list:
        return [item if type(item) in _SCALARS else to_json(item) for item in value]
    if hasattr(kind, "__dataclass_fields__"):
        return {
            name: item if type(item) in _SCALARS else to_json(item)
            for name, default in _defaults(kind)
            if (item := getattr(value, name)) is not default and item != default
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): item if type(item) in _SCALARS else to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(to_json(item) for item in value)
    return value


@cache
def _defaults(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    rows = []
    for field in dataclasses.fields(cls):
        default: Any = field.default
        make: Any = field.default_factory
        if default is dataclasses.MISSING:
            default = _NOTHING if make is dataclasses.MISSING else make()
        rows.append((field.name, default))
    return tuple(rows)


_NOTHING = object()


def from_json(cls: type[T], data: Any) -> T:
    """Return an instance of ``cls`` from what `to_json` made; unknown fields are ignored (a newer program wrote them)."""
    return typing.cast("T", _plan(typing.cast("Any", cls))(data))


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Keep the cyclic collector still while many values are made that all stay: reading 10,000 takes half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@cache
def _plan(kind: Any) -> Convert:
    origin = typing.get_origin(kind)
    if kind in (Any, object) or kind is type(None):
        return _same
    if isinstance(kind, typing.NewType):
        return _same
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast("type[Any]", kind))
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(kind))
    if origin is tuple:
        inner = typing.get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            item = _plan(inner[0])
            return tuple if item is _same else lambda value: tuple([item(one) for one in value])
        items = [_plan(one) for one in inner]
        return lambda value: tuple(convert(one) for convert, one in zip(items, value, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner_value = _plan(typing.get_args(kind)[1])
        return _same if inner_value is _same else lambda value: {key: inner_value(one) for key, one in value.items()}
    if origin is list:
        one_of = _plan(typing.get_args(kind)[0])
        return _same if one_of is _same else lambda value: [one_of(one) for one in value]
    if origin is frozenset:
        item = _plan(typing.get_args(kind)[0])
        return lambda value: frozenset(item(one) for one in value)
    return _same


def _union(parts: tuple[Any, ...]) -> Convert:
    some = [part for part in parts if part is not type(None)]
    if set(some) == {SecretRef, DerivedKeyRef}:
        secret, derived = _plan(SecretRef), _plan(DerivedKeyRef)
        return lambda value: None if value is None else secret(value) if "name" in value else derived(value)
    if len(some) == 1:
        inner = _plan(some[0])
        return _same if inner is _same else lambda value: None if value is None else inner(value)
    if any(_plan(part) is not _same for part in some):  # else a plain dict would come back in the place of a value
        raise TypeError(f"which of {' | '.join(map(str, some))} a stored value is cannot be told")
    return _same


def _dataclass(cls: type[Any]) -> Convert:
    hints = typing.get_type_hints(cls)
    converts = {field.name: _plan(hints[field.name]) for field in dataclasses.fields(cls)}
    nested = [(name, inner) for name, inner in converts.items() if inner is not _same]
    known = converts.keys()

    def convert(value: Any) -> Any:
        fields = dict(value) if value.keys() <= known else {name: item for name, item in value.items() if name in known}
        for name, inner in nested:
            if name in fields:
                fields[name] = inner(fields[name])
        return cls(**fields)

    return convert
