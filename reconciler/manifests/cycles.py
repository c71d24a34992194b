"""Cycles of a directed graph. Pure; linear in nodes and edges, without recursion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.model.resources import ResourceId

Graph = Mapping[ResourceId, Sequence[ResourceId]]


def find_cycles(graph: Graph) -> Iterator[list[ResourceId]]:
    """Yield cycles, each as its nodes in order; nothing for a graph without one."""
    done: set[ResourceId] = set()
    for start in sorted(graph):
        if start not in done:
            yield from _cycles_from(start, graph, done)


def _cycles_from(start: ResourceId, graph: Graph, done: set[ResourceId]) -> Iterator[list[ResourceId]]:
    path: dict[ResourceId, None] = {}
    stack: list[tuple[ResourceId, int]] = [(start, 0)]
    while stack:
        node, position = stack.pop()
        if position == 0:
            if node in done:
                continue
            path[node] = None
        following = graph.get(node, ())
        if position < len(following):
            stack.append((node, position + 1))
            target = following[position]
            if target in path:
                order = list(path)
                yield order[order.index(target) :]
            elif target not in done:
                stack.append((target, 0))
        else:
            done.add(node)
            del path[node]
