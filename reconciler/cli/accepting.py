"""Which field of a manifest a drifted attribute comes from, so that a drift can be accepted into Git."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reconciler.cli.edit import EditableDocument
from reconciler.engine.foreign import is_hidden
from reconciler.model.plan import Change
from reconciler.model.resources import Kind, Resource


def accept(document: EditableDocument, resource: Resource, changes: Iterable[Change]) -> list[str]:
    """Write the observed values of ``changes`` into ``document``; returns the pointers that have no place in the manifest."""
    left: list[str] = []
    for change in changes:
        for field in change.fields:
            if field.sensitive or is_hidden(field.before) or not _write(document.data["spec"], resource, field.path, field.before):
                left.append(field.path)
    return left


def _write(spec: Any, resource: Resource, pointer: str, value: Any) -> bool:
    if resource.id.kind == Kind.BUDDY_INTEGRATION.value:
        return _set(spec, pointer.split("/")[1:], value)
    if pointer == "/events" and isinstance(value, list | tuple):
        _events(spec, [str(one) for one in value])
        return True
    return False


def _events(spec: Any, observed: list[str]) -> None:
    """Keep the entries (with their filters and comments) that are still there, drop the others, add what is new."""
    entries = spec.get("events")
    if entries is None:
        spec["events"] = [{"type": one} for one in observed]
        return
    for index in range(len(entries) - 1, -1, -1):
        if entries[index]["type"] not in observed:
            del entries[index]
    known = {entry["type"] for entry in entries}
    for one in observed:
        if one not in known:
            entries.append({"type": one})


def _set(node: Any, path: list[str], value: Any) -> bool:
    for part in path[:-1]:
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    if not isinstance(node, dict) or (isinstance(node.get(path[-1]), dict) and "valueFrom" in node[path[-1]]):
        return False
    node[path[-1]] = list(value) if isinstance(value, tuple) else value
    return True
