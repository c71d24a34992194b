"""Which field of a manifest a drifted attribute comes from, so that a drift can be accepted into Git."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from reconciler.cli.edit import EditableDocument, child, scalar
from reconciler.engine.masking import is_hidden
from reconciler.model.plan import Change
from reconciler.model.resources import Kind, Resource


def accept(document: EditableDocument, resource: Resource, changes: Iterable[Change]) -> list[str]:
    """Write the observed values of ``changes`` into ``document``; returns the pointers that have no place in the manifest."""
    left: list[str] = []
    for change in changes:
        for field in change.fields:
            if field.sensitive or is_hidden(field.before) or not _write(document, resource, field.path, field.before):
                left.append(field.path)
    return left


def _write(document: EditableDocument, resource: Resource, pointer: str, value: Any) -> bool:
    if resource.id.kind == Kind.BUDDY_INTEGRATION.value:
        return _set(document, pointer.split("/")[1:], value)
    if pointer == "/events" and isinstance(value, list | tuple):
        _events(document, [str(one) for one in value])
        return True
    return False


def _events(document: EditableDocument, observed: list[str]) -> None:
    """Keep the entries (with their filters and comments) that are still there, drop the others, add what is new."""
    entries = child(document.spec(), "events")
    if not isinstance(entries, yaml.SequenceNode) or not entries.value:
        document.set(document.spec(), "events", [{"type": one} for one in observed])
        return
    document.merge(entries, observed, _type_of, _entry_like(document.before, entries))


def _type_of(entry: yaml.Node) -> str:
    found = child(entry, "type")
    return str(found.value) if found is not None else ""


def _entry_like(text: str, entries: yaml.SequenceNode) -> Any:
    """Return what writes an entry the way the list spells those that name a type and nothing else."""
    for entry in reversed(entries.value):
        found = child(entry, "type")
        if isinstance(found, yaml.ScalarNode) and len(entry.value) == 1:
            start, end = found.start_mark.index, found.end_mark.index
            before, after = text[entry.start_mark.index : start], text[end : entry.end_mark.index] if entry.flow_style else ""
            if "\n" not in before + after and "#" not in before + after:
                return lambda name: before + scalar(name, found.style) + after
    return lambda name: f"{{type: {scalar(name)}}}" if entries.flow_style else f"type: {scalar(name)}"


def _set(document: EditableDocument, path: list[str], value: Any) -> bool:
    node: yaml.Node | None = document.spec()
    for part in path[:-1]:
        node = child(node, part) if node is not None else None
    if not isinstance(node, yaml.MappingNode):
        return False
    there = child(node, path[-1])
    if there is not None and child(there, "valueFrom") is not None:
        return False
    if value is None:
        document.remove(node, path[-1])
    else:
        document.set(node, path[-1], list(value) if isinstance(value, tuple) else value)
    return True
