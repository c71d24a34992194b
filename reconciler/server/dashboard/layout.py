"""Layered layout of a small graph: columns by the longest path, rows by two barycentre sweeps. Pure and deterministic.

The size of the drawing is bounded: each column keeps the nodes that come first by their rank, and counts the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MAX_ROWS = 14
MAX_COLUMNS = 24
WIDTH, HEIGHT = 190, 46
"""Size of a node."""
GAP_X, GAP_Y = 64, 18
MARGIN = 12
SWEEPS = 2


@dataclass(frozen=True, slots=True)
class Node:
    """A node before the layout. ``column`` is the first column that it may stand in; the lowest ``rank`` is kept first."""

    id: str
    column: int = 0
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A node with its corner. ``more``: not a node, but so many of its column that are not drawn."""

    id: str
    x: int
    y: int
    column: int
    more: int = 0


@dataclass(frozen=True, slots=True)
class Curve:
    """An edge from right side to left side, as the ``d`` of an SVG path."""

    source: str
    target: str
    path: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """The whole drawing, in the pixels of its own view box."""

    nodes: tuple[Placed, ...]
    curves: tuple[Curve, ...]
    width: int
    height: int


def draw(nodes: Sequence[Node], edges: Iterable[tuple[str, str]], *, max_rows: int = MAX_ROWS) -> Drawing:
    """Return the drawing. Edges to unknown nodes, and from a node to itself, are left out; the order of the input does not matter."""
    by_id = {node.id: node for node in sorted(nodes, key=lambda node: node.id)}
    known = sorted({edge for edge in edges if edge[0] in by_id and edge[1] in by_id and edge[0] != edge[1]})
    column_of = _columns(by_id, without_circles(list(by_id), known))
    kept, more = _bounded(by_id, column_of, max_rows)
    inside = [(source, target) for source, target in known if source in column_of and source in kept and target in kept]
    rows = _ordered(kept, by_id, column_of, inside)
    return _placed(rows, more, inside)


def without_circles(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return ``edges`` without those that close a circle (the back edges of a depth-first search)."""
    targets: defaultdict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        targets[source].append(target)
    done: set[str] = set()
    straight: list[tuple[str, str]] = []
    for start in names:
        if start in done:
            continue
        path, stack = {start}, [(start, iter(targets[start]))]
        while stack:
            name, following = stack[-1]
            reached = next(following, None)
            if reached is None:
                stack.pop()
                path.discard(name)
                done.add(name)
            elif reached not in path:
                straight.append((name, reached))
                if reached not in done:
                    path.add(reached)
                    stack.append((reached, iter(targets[reached])))
    return straight


def _columns(nodes: Mapping[str, Node], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the column of each node: one after the last of those that lead to it, and not before its own first one."""
    targets: defaultdict[str, list[str]] = defaultdict(list)
    open_edges = dict.fromkeys(nodes, 0)
    for source, target in edges:
        targets[source].append(target)
        open_edges[target] += 1
    column = {name: min(node.column, MAX_COLUMNS - 1) for name, node in nodes.items()}
    ready = [name for name, count in open_edges.items() if count == 0]
    while ready:
        name = ready.pop()
        for target in targets[name]:
            column[target] = min(MAX_COLUMNS - 1, max(column[target], column[name] + 1))
            open_edges[target] -= 1
            if open_edges[target] == 0:
                ready.append(target)
    return column


def _bounded(nodes: Mapping[str, Node], column_of: Mapping[str, int], max_rows: int) -> tuple[set[str], dict[int, int]]:
    """Return the nodes that are drawn, and by column how many are not."""
    columns: defaultdict[int, list[str]] = defaultdict(list)
    for name in sorted(nodes, key=lambda name: (nodes[name].rank, name)):
        columns[column_of[name]].append(name)
    kept: set[str] = set()
    more: dict[int, int] = {}
    for column, names in columns.items():
        fits = len(names) if len(names) <= max_rows else max_rows - 1
        kept.update(names[:fits])
        if len(names) > fits:
            more[column] = len(names) - fits
    return kept, more


def _ordered(
    kept: Iterable[str], nodes: Mapping[str, Node], column_of: Mapping[str, int], edges: Sequence[tuple[str, str]]
) -> dict[int, list[str]]:
    """Return the nodes of each column from top to bottom: first by rank, then near what they are connected to."""
    rows: defaultdict[int, list[str]] = defaultdict(list)
    for name in sorted(kept, key=lambda name: (nodes[name].rank, name)):
        rows[column_of[name]].append(name)
    before: defaultdict[str, list[str]] = defaultdict(list)
    after: defaultdict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        after[source].append(target)
        before[target].append(source)
    for _ in range(SWEEPS):
        for neighbours, columns in ((before, sorted(rows)), (after, sorted(rows, reverse=True))):
            place = {name: row / len(names) for names in rows.values() for row, name in enumerate(names)}
            for column in columns:
                rows[column].sort(key=lambda name: (_mean(neighbours[name], place, place[name]), place[name], name))
                place.update({name: row / len(rows[column]) for row, name in enumerate(rows[column])})
    return dict(rows)


def _mean(names: Sequence[str], place: Mapping[str, float], own: float) -> float:
    return sum(place[name] for name in names) / len(names) if names else own


def _placed(rows: Mapping[int, Sequence[str]], more: Mapping[int, int], edges: Sequence[tuple[str, str]]) -> Drawing:
    used = sorted({*rows, *more})
    height_of = {column: len(rows.get(column, ())) + (column in more) for column in used}
    tallest = max(height_of.values(), default=0)
    placed: dict[str, Placed] = {}
    rest: list[Placed] = []
    for number, column in enumerate(used):  # an empty column is not drawn
        x = MARGIN + number * (WIDTH + GAP_X)
        top = MARGIN + (tallest - height_of[column]) * (HEIGHT + GAP_Y) // 2
        for row, name in enumerate(rows.get(column, ())):
            placed[name] = Placed(name, x, top + row * (HEIGHT + GAP_Y), number)
        if column in more:
            y = top + len(rows.get(column, ())) * (HEIGHT + GAP_Y)
            rest.append(Placed(f"more-{number}", x, y, number, more[column]))
    curves = tuple(Curve(source, target, _curve(placed[source], placed[target])) for source, target in edges)
    width = 2 * MARGIN + max(0, len(used) * (WIDTH + GAP_X) - GAP_X)
    height = 2 * MARGIN + max(0, tallest * (HEIGHT + GAP_Y) - GAP_Y)
    return Drawing((*placed.values(), *rest), curves, width, height)


def _curve(source: Placed, target: Placed) -> str:
    x1, y1 = source.x + WIDTH, source.y + HEIGHT // 2
    x2, y2 = target.x, target.y + HEIGHT // 2
    bend = max(GAP_X // 2, abs(x2 - x1) // 2) if x2 > x1 else GAP_X
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
