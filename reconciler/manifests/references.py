"""The references of one document to resources, as names: `load` resolves them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from reconciler.drivers.specs import SINKS
from reconciler.manifests.normalize import word
from reconciler.manifests.schema import NAME
from reconciler.model.json import Json, JsonMap, as_list, as_map, at, text_at
from reconciler.model.resources import Kind
from reconciler.model.specs import CONNECTION_KINDS

Reference: TypeAlias = tuple[str, str, str]
"""(kind, name, pointer)"""
_SECRET = Kind.SECRET.value
_INTEGRATIONS = (
    ("integration",),
    ("executor", "integration"),
    *(("sink", key, "integration") for key in SINKS),
)

CALLER = ("executor", "spec", "auth", "integration")
"""The Integration whose identity requests of a stage carry."""


def references_in(kind: str, spec: JsonMap) -> Iterator[Reference]:
    """Yield each reference in the canonical spec of a ``kind``."""
    for path in _INTEGRATIONS:
        name = text_at(spec, *path, "name") if path[0] in spec else None
        if name is not None:
            yield Kind.INTEGRATION.value, name, f"/spec/{'/'.join(path)}/name"
    caller = text_at(spec, *CALLER)
    if kind == Kind.STAGE.value and caller is not None:
        yield Kind.INTEGRATION.value, caller, f"/spec/{'/'.join(CALLER)}"
    if kind in {Kind.STAGE.value, Kind.CONNECTION_GROUP.value}:
        for number, connection in enumerate(as_list(spec.get("connections"))):
            source = as_map(connection)
            yield CONNECTION_KINDS[str(source["type"])].value, str(source["name"]), f"/spec/connections/{number}/name"
    if kind == _SECRET:
        store = str(spec.get("provider"))
        name = text_at(spec, store, "integration", "name")
        if name is not None:
            yield Kind.INTEGRATION.value, name, f"/spec/{store}/integration/name"
    yield from _secrets(spec, "/spec")


def _secrets(node: Json, pointer: str) -> Iterator[Reference]:
    # Types are compared, not tested with isinstance: this visits every value of every manifest.
    if type(node) is dict:
        name = text_at(node, "valueFrom", "secret", "name") if "valueFrom" in node else None
        if name is not None:
            yield _SECRET, name, f"{pointer}/valueFrom/secret/name"
            return
        for key, value in node.items():
            if type(value) is dict or type(value) is list:
                yield from _secrets(value, f"{pointer}/{key}")
    elif type(node) is list:
        for number, value in enumerate(node):
            if type(value) is dict or type(value) is list:
                yield from _secrets(value, f"{pointer}/{number}")


def readable_references(kind: str, spec: Json) -> Iterator[Reference]:
    """Yield the connections and integrations of a document that does not match its schema: their names are checked all the same."""
    for path in (("integration",), ("executor", "integration")):
        name = _name_of(at(spec, *path))
        if name is not None:
            yield Kind.INTEGRATION.value, name, f"/spec/{'/'.join(path)}/name"
    caller = text_at(spec, *CALLER)
    if kind == Kind.STAGE.value and caller is not None and NAME.fullmatch(caller):
        yield Kind.INTEGRATION.value, caller, f"/spec/{'/'.join(CALLER)}"
    if kind in {Kind.STAGE.value, Kind.CONNECTION_GROUP.value}:
        for index, connection in enumerate(as_list(at(spec, "connections"))):
            source, name = CONNECTION_KINDS.get(word(text_at(connection, "type") or "")), _name_of(connection)
            if source is not None and name is not None:
                yield source.value, name, f"/spec/connections/{index}/name"


def _name_of(reference: Json) -> str | None:
    name = text_at(reference, "name")
    return name if name is not None and NAME.fullmatch(name) else None


def key_beside(node: Json, pointer: str) -> str | None:
    """Return the ``key`` of the mapping whose ``name`` is at ``pointer``."""
    for part in pointer.split("/")[1:-1]:
        node = node[int(part)] if isinstance(node, list) else at(node, part)
    return text_at(node, "key")
