"""The stored form of the model's values: JSON, encoded and decoded by msgspec.

The state keeps one encoded value per row and reads rows that older versions wrote. A field without a value in the row gets its
default, and a field that the class does not have is ignored. So a new field needs a default, and a stored field keeps its name.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from reconciler.model.errors import StateError
from reconciler.model.resources import Lifecycle, Location, Resource, ResourceId
from reconciler.model.values import JsonObject

T = TypeVar("T")
encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
"""Return a value as JSON bytes. Raises TypeError for a value that JSON has no form for, and UnicodeEncodeError for half a surrogate pair."""

_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
_DEFAULT = Lifecycle()
_Path = tuple[str, str, str]


def decode(kind: type[T], payload: bytes) -> T:
    """Return the ``kind`` that `encode` stored. Raises `StateError` (RC7009) for a row that does not hold one."""
    try:
        decoder = _decoders.get(kind) or _decoders.setdefault(kind, msgspec.json.Decoder(kind))
        value: T = decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(kind, error) from None
    return value


def _damaged(kind: type[Any], error: Exception) -> StateError:
    # An error of msgspec names the field and the type, never the value.
    reason = str(error) if isinstance(error, msgspec.MsgspecError) else type(error).__name__
    return StateError(
        f"the database is damaged: a stored {kind.__name__} cannot be read: {reason}",
        code="RC7009",
        hint="Stop the program, run `reconciler doctor`, and restore the state from a backup.",
    )


class _StoredResource(msgspec.Struct, frozen=True, omit_defaults=True):
    """The short form of a `Resource`: identities and places as arrays."""

    id: _Path
    spec: dict[str, Any]
    at: tuple[str, int, int]
    refs: tuple[_Path, ...]
    digest: str
    lifecycle: Lifecycle = _DEFAULT
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    @classmethod
    def of(cls, resource: Resource) -> _StoredResource:
        place = resource.location
        return cls(
            _path(resource.id),
            dict(resource.spec),
            (place.file, place.line, place.column),
            tuple(_path(reference) for reference in resource.references),
            resource.spec_digest,
            _DEFAULT if resource.lifecycle == _DEFAULT else resource.lifecycle,  # defaults are recognised by identity
            dict(resource.labels),
            dict(resource.annotations),
        )

    def resource(self) -> Resource:
        return Resource(
            ResourceId(*self.id),
            self.spec,
            Location(*self.at),
            self.lifecycle,
            self.labels,
            self.annotations,
            tuple(ResourceId(*path) for path in self.refs),
            self.digest,
        )


def _path(identity: ResourceId) -> _Path:
    return identity.kind, identity.canvas, identity.name


def resource_to_json(resource: Resource) -> bytes:
    """Return ``resource`` as JSON bytes."""
    return encode(_StoredResource.of(resource))


def resource_from_json(payload: bytes) -> Resource:
    """Inverse of `resource_to_json`. Raises `StateError` (RC7009) for a damaged row."""
    return decode(_StoredResource, payload).resource()


def resources_from_json(payloads: Iterable[bytes]) -> list[Resource]:
    """Decode many resources (a whole state) with the garbage collector paused."""
    with gc_paused():
        return [resource_from_json(payload) for payload in payloads]


def to_json(value: object) -> JsonObject:
    """Return a value as the JSON object that `encode` writes, for embedding in another document."""
    built: JsonObject = msgspec.to_builtins(value)
    return built


def from_json(kind: type[T], data: object) -> T:
    """Inverse of `to_json`. Raises `msgspec.ValidationError`."""
    return msgspec.convert(data, kind)


@contextlib.contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector while many lasting values are created: decoding 50,000 rows takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
