"""Changed manifests. Stages, filters, schedules and connections have no remote object, but determine what runs."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from reconciler.drivers.specs import OBJECT_KINDS
from reconciler.model.json import escape
from reconciler.model.plan import Action, FieldChange, ResourceChange
from reconciler.model.resources import Kind, Lifecycle, Resource, ResourceId
from reconciler.model.values import JsonObject, JsonValue, digest_of

_LITERALS = ("/data/", "/local/")
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
    if old is None:
        return ResourceChange(new.id, Action.CREATE, _fields({}, {**_leaves(new), **_labels(new)}), new.spec_digest, new.location)
    outside = _outside_the_spec(old, new)
    if old.spec_digest == new.spec_digest:
        if not outside:
            return None
        digest = digest_of([new.spec_digest, [[change.path, change.after] for change in outside]])
        return ResourceChange(new.id, Action.UPDATE, outside, digest, new.location)
    fields = (*outside, *_fields(_leaves(old), _leaves(new)))
    return ResourceChange(
        new.id, Action.UPDATE, tuple(sorted(fields, key=lambda change: change.path)), new.spec_digest, new.location
    )


def _outside_the_spec(old: Resource, new: Resource) -> tuple[FieldChange, ...]:
    """Return the differences that decide what a resource does without a change of its spec.

    Labels decide which Notifications report it. A reference reads as before and has another target when a resource of the same
    name appears in its own canvas, which precedes the one in ``default``: a stage then acts for another Integration.
    """
    return (*_fields(_labels(old), _labels(new)), *_retargeted(old, new))


def _labels(resource: Resource) -> dict[str, JsonValue | _Hidden]:
    return {f"/metadata/labels/{escape(name)}": value for name, value in resource.labels.items()}


def _retargeted(old: Resource, new: Resource) -> Iterator[FieldChange]:
    before = {(target.kind, target.name): target for target in old.references}
    for target in sorted(set(new.references)):
        former = before.get((target.kind, target.name))
        if former is not None and former not in new.references:
            yield FieldChange(f"/references/{target.kind}/{target.name}", f"{former}", f"{target}")


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A value that is compared and never shown: a literal in a Secret, which trials allow."""

    value: JsonValue = field(repr=False)


def _fields(before: Mapping[str, JsonValue | _Hidden], after: Mapping[str, JsonValue | _Hidden]) -> tuple[FieldChange, ...]:
    paths = [path for path in sorted(before.keys() | after.keys()) if path not in before or before[path] != after.get(path)]
    return tuple(_field(path, before.get(path), after.get(path)) for path in paths)


def _field(path: str, before: JsonValue | _Hidden, after: JsonValue | _Hidden) -> FieldChange:
    if isinstance(before, _Hidden) or isinstance(after, _Hidden):
        return FieldChange(path, None, None, sensitive=True)
    return FieldChange(path, before, after)


def _leaves(resource: Resource) -> dict[str, JsonValue | _Hidden]:
    """Return the spec's values by JSON pointer; lists of plain values stay whole, references read as one value."""
    leaves: dict[str, JsonValue | _Hidden] = dict(_walk(resource.spec, ""))
    declared = _declared(resource.lifecycle)
    if declared:
        leaves.update(_walk(declared, "/lifecycle"))
    if resource.id.kind == Kind.SECRET.value and resource.spec.get("provider") == "local":
        return {path: _hidden(value) if path.startswith(_LITERALS) else value for path, value in leaves.items()}
    return leaves


def _hidden(value: JsonValue | _Hidden) -> _Hidden:
    return value if isinstance(value, _Hidden) else _Hidden(value)


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
