"""A fast codec for resources: what the state keeps as the last valid spec, and what the parse cache holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from reconciler.model.resources import Lifecycle, Location, Resource, ResourceId
from reconciler.model.serialize import from_json, no_collection, to_json

_DEFAULT = Lifecycle()


def resource_to_json(resource: Resource) -> bytes:
    """Return ``resource`` as JSON bytes."""
    row: dict[str, Any] = {
        "id": [resource.id.kind, resource.id.canvas, resource.id.name],
        "spec": resource.spec,
        "at": [resource.location.file, resource.location.line, resource.location.column],
        "refs": [[r.kind, r.canvas, r.name] for r in resource.references],
        "digest": resource.spec_digest,
    }
    if resource.lifecycle != _DEFAULT:
        row["lifecycle"] = to_json(resource.lifecycle)
    if resource.labels:
        row["labels"] = resource.labels
    if resource.annotations:
        row["annotations"] = resource.annotations
    return orjson.dumps(row)


def resource_from_json(payload: bytes) -> Resource:
    """Return the resource of `resource_to_json`."""
    row = orjson.loads(payload)
    lifecycle = from_json(Lifecycle, row["lifecycle"]) if "lifecycle" in row else _DEFAULT
    return Resource(
        ResourceId(*row["id"]),
        row["spec"],
        Location(*row["at"]),
        lifecycle,
        row.get("labels") or {},
        row.get("annotations") or {},
        tuple(ResourceId(*ref) for ref in row["refs"]),
        row["digest"],
    )


def resources_from_json(payloads: Iterable[bytes]) -> list[Resource]:
    """Return the resources of many payloads (a whole state): 8 times quicker than one by one in a large process."""
    with no_collection():
        return [resource_from_json(payload) for payload in payloads]
