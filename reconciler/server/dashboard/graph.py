"""The graph of the manifests in force: integration → source → group or stage → stage, with the state of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.engine.revision import ActiveRevision
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.specs import CONNECTION_KINDS
from reconciler.model.status_document import ResourceRow
from reconciler.server.dashboard.layout import Curve, Drawing, Node, Placed, draw
from reconciler.server.dashboard.words import UNKNOWN, State, state_of

_COLUMNS = {
    Kind.INTEGRATION.value: 0,
    Kind.EVENT_SOURCE.value: 1,
    Kind.CONNECTION_GROUP.value: 2,
    Kind.STAGE.value: 2,
}


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node of the drawing, with what it shows."""

    place: Placed
    resource: ResourceId
    state: State


@dataclass(frozen=True, slots=True)
class GraphRow:
    """A row of the table that says the same as the drawing."""

    resource: ResourceId
    state: State
    sources: tuple[ResourceId, ...]
    targets: tuple[ResourceId, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The drawing, and the table."""

    drawing: Drawing
    nodes: tuple[GraphNode, ...]
    rest: tuple[Placed, ...]
    curves: tuple[Curve, ...]
    rows: tuple[GraphRow, ...]


def graph_of(active: ActiveRevision, rows: Iterable[ResourceRow], *, canvas: str = "") -> Graph:
    """Return the graph; ``canvas``: of this canvas only, with the integrations that it uses."""
    states = {ResourceId(row.kind, row.canvas, row.name): state_of(row) for row in rows}
    edges = edges_of(active.resources)
    drawn = {identity for identity in active.resources if identity.kind in _COLUMNS}
    drawn |= {identity for identity in states if identity.kind in _COLUMNS}
    if canvas:
        inside = {identity for identity in drawn if identity.canvas == canvas}
        drawn = inside | {source for source, target in edges if target in inside}
    nodes = [Node(i.path, _COLUMNS[i.kind], states.get(i, UNKNOWN).rank) for i in drawn]
    drawing = draw(nodes, [(source.path, target.path) for source, target in edges])
    known = {identity.path: identity for identity in drawn}
    shown = tuple(
        GraphNode(place, known[place.id], states.get(known[place.id], UNKNOWN)) for place in drawing.nodes if not place.more
    )
    rest = tuple(place for place in drawing.nodes if place.more)
    return Graph(drawing, shown, rest, drawing.curves, _table(drawn, edges, states))


def edges_of(resources: Mapping[ResourceId, Resource]) -> list[tuple[ResourceId, ResourceId]]:
    """Return what leads to what: an integration to the sources that use it, and everything whose events a stage or group takes."""
    edges: set[tuple[ResourceId, ResourceId]] = set()
    for identity, resource in resources.items():
        if identity.kind == Kind.EVENT_SOURCE.value:
            edges |= {(ref, identity) for ref in resource.references if ref.kind == Kind.INTEGRATION.value}
        for row in resource.spec.get("connections") or ():
            kind = CONNECTION_KINDS.get(str(row.get("type", "")))
            if kind is not None:
                edges.add((ResourceId(kind.value, identity.canvas, str(row.get("name"))), identity))
    return sorted(edges)


def _table(
    drawn: set[ResourceId], edges: Iterable[tuple[ResourceId, ResourceId]], states: Mapping[ResourceId, State]
) -> tuple[GraphRow, ...]:
    before: dict[ResourceId, list[ResourceId]] = {}
    after: dict[ResourceId, list[ResourceId]] = {}
    for source, target in edges:
        before.setdefault(target, []).append(source)
        after.setdefault(source, []).append(target)
    rows = [GraphRow(i, states.get(i, UNKNOWN), tuple(before.get(i, ())), tuple(after.get(i, ()))) for i in drawn]
    return tuple(sorted(rows, key=lambda row: (row.state.rank, _COLUMNS[row.resource.kind], row.resource)))
