"""Changed manifests. Stages, filters, schedules and connections have no remote object, but determine what runs."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping

import msgspec

from reconciler.drivers.specs import OBJECT_KINDS
from reconciler.model.json import escape
from reconciler.model.plan import Action, FieldChange, ResourceChange
from reconciler.model.resources import Kind, Lifecycle, Resource, ResourceId
from reconciler.model.values import JsonObject, JsonValue

_ORDER = {Action.DELETE: 0, Action.UPDATE: 1, Action.CREATE: 2}


def resource_changes(before: Mapping[ResourceId, Resource], after: Mapping[ResourceId, Resource]) -> tuple[ResourceChange, ...]:
    """Return how the manifests ``after`` differ from ``before``, in a total order: deletes, updates, creates."""
    changes = [_changed(before.get(identity), resource) for identity, resource in after.items()]
    changes += [
        ResourceChange(identity, Action.DELETE, _fields(_leaves(old), {}), location=old.location)
        for identity, old in before.items()
        if identity not in after
    ]
    # The spec of a kind in OBJECT_KINDS is the body of one remote object, whose own change shows all of it.
    kept = [change for change in changes if change is not None and change.resource.kind not in OBJECT_KINDS]
    return tuple(sorted(kept, key=lambda change: (_ORDER[change.action], change.resource)))


def _changed(old: Resource | None, new: Resource) -> ResourceChange | None:
    if old is not None and old.spec_digest == new.spec_digest:
        return None
    action = Action.CREATE if old is None else Action.UPDATE
    fields = _fields({} if old is None else _leaves(old), _leaves(new))
    return ResourceChange(new.id, action, fields, new.spec_digest, new.location)


def _fields(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> tuple[FieldChange, ...]:
    paths = [path for path in sorted(before.keys() | after.keys()) if path not in before or before[path] != after.get(path)]
    return tuple(
        FieldChange(path, None, None, sensitive=True)
        if before.get(path) is _HIDDEN or after.get(path) is _HIDDEN
        else FieldChange(path, before.get(path), after.get(path))
        for path in paths
    )


class _Hidden(enum.Enum):
    VALUE = "hidden"


_HIDDEN = _Hidden.VALUE


def _leaves(resource: Resource) -> dict[str, JsonValue]:
    """Return the spec's values by JSON pointer; lists of plain values stay whole, references read as one value."""
    leaves = dict(_walk(resource.spec, ""))
    declared = _declared(resource.lifecycle)
    if declared:
        leaves.update(_walk(declared, "/lifecycle"))
    if resource.id.kind == Kind.SECRET.value and resource.spec.get("provider") == "local":
        return {path: _HIDDEN if path.startswith("/data/") else value for path, value in leaves.items()}
    return leaves


def _walk(value: JsonValue, path: str) -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, Mapping) and value:
        reference = _reference(value)
        if reference is not None:
            yield path, reference
            return
        for key, item in value.items():
            yield from _walk(item, f"{path}/{escape(key)}")
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}/{index}")
    elif path:
        yield path, list(value) if isinstance(value, tuple) else value


def _reference(value: Mapping[str, JsonValue]) -> str | None:
    """Return ``secret:NAME/KEY`` for ``{valueFrom: {secret: {name, key}}}``."""
    inner = value.get("valueFrom")
    secret = inner.get("secret") if isinstance(inner, Mapping) and len(value) == 1 else None
    return f"secret:{secret.get('name')}/{secret.get('key')}" if isinstance(secret, Mapping) else None


def _declared(lifecycle: Lifecycle) -> JsonObject:
    """Return the keys of the lifecycle that differ from their defaults."""
    plain = Lifecycle()
    names = [name for name in lifecycle.__struct_fields__ if getattr(lifecycle, name) != getattr(plain, name)]
    return {_camel(name): _plain(getattr(lifecycle, name)) for name in names}


def _camel(name: str) -> str:
    head, *rest = name.removesuffix("_s").removesuffix("_allowed").split("_")
    return head + "".join(part.title() for part in rest)


def _plain(value: object) -> JsonValue:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value
