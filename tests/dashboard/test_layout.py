"""The drawing of the graph: whatever the graph is, it is bounded, stable, and nothing lies on anything else."""

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.server.dashboard.layout import GAP_Y, HEIGHT, MARGIN, MAX_COLUMNS, WIDTH, Drawing, Node, draw, without_circles

NAMES = [f"n{number}" for number in range(30)]
NODES = st.lists(st.builds(Node, st.sampled_from(NAMES), st.integers(0, 3), st.integers(0, 8)), unique_by=lambda node: node.id)
EDGES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=80)
ROWS = st.integers(2, 9)


def _columns(drawing: Drawing) -> dict[int, list[str]]:
    columns: dict[int, list[str]] = {}
    for place in drawing.nodes:
        columns.setdefault(place.x, []).append(place.id)
    return columns


@settings(deadline=None, max_examples=150)
@given(NODES, EDGES, ROWS)
def test_nothing_overlaps_and_everything_is_inside(nodes: list[Node], edges: list[tuple[str, str]], rows: int) -> None:
    drawing = draw(nodes, edges, max_rows=rows)
    for one, other in combinations(drawing.nodes, 2):
        assert abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT + GAP_Y
    for place in drawing.nodes:
        assert MARGIN <= place.x <= drawing.width - MARGIN - WIDTH
        assert MARGIN <= place.y <= drawing.height - MARGIN - HEIGHT


@settings(deadline=None, max_examples=150)
@given(NODES, EDGES, ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(
    nodes: list[Node], edges: list[tuple[str, str]], rows: int, random: object
) -> None:
    first = draw(nodes, edges, max_rows=rows)
    random.shuffle(nodes)  # type: ignore[attr-defined]
    random.shuffle(edges)  # type: ignore[attr-defined]
    assert draw(nodes, edges, max_rows=rows) == first


@settings(deadline=None, max_examples=150)
@given(NODES, EDGES, ROWS)
def test_every_node_is_drawn_or_counted_and_the_worst_are_drawn(
    nodes: list[Node], edges: list[tuple[str, str]], rows: int
) -> None:
    drawing = draw(nodes, edges, max_rows=rows)
    shown = {place.id for place in drawing.nodes if not place.more}
    assert len(shown) + sum(place.more for place in drawing.nodes) == len(nodes)
    assert all(len(names) <= rows for names in _columns(drawing).values())
    if not any(place.more for place in drawing.nodes):
        assert shown == {node.id for node in nodes}
    flat = draw([Node(node.id, 0, node.rank) for node in nodes], [], max_rows=rows)
    drawn = {place.id for place in flat.nodes if not place.more}
    ranks = {node.id: node.rank for node in nodes}
    left = set(ranks) - drawn
    assert not left or max(ranks[name] for name in drawn) <= min(ranks[name] for name in left)


@settings(deadline=None, max_examples=150)
@given(NODES, EDGES)
def test_what_leads_to_something_stands_left_of_it_unless_they_are_in_a_circle(
    nodes: list[Node], edges: list[tuple[str, str]]
) -> None:
    known = {node.id for node in nodes}
    inside = sorted({edge for edge in edges if set(edge) <= known and edge[0] != edge[1]})
    straight = without_circles(sorted(known), inside)
    assert set(straight) <= set(inside)
    places = {place.id: place for place in draw(nodes, straight, max_rows=len(NAMES)).nodes}
    if max((place.column for place in places.values()), default=0) < MAX_COLUMNS - 1:
        assert all(places[source].x < places[target].x for source, target in straight)


def test_a_chain_of_a_thousand_and_a_circle_of_a_thousand_end_soon() -> None:
    names = [f"n{number:04}" for number in range(1_000)]
    chain = list(pairwise(names))
    for edges in (chain, [*chain, (names[-1], names[0])], [(name, name) for name in names]):
        drawing = draw([Node(name) for name in names], edges)
        assert len(drawing.nodes) <= MAX_COLUMNS * 14


def test_neighbours_stand_beside_each_other() -> None:
    """Two chains whose names would cross: the sweeps untangle them."""
    nodes = [Node("a", 0), Node("b", 0), Node("x", 1), Node("y", 1)]
    places = {place.id: place.y for place in draw(nodes, [("a", "y"), ("b", "x")]).nodes}
    assert (places["a"] < places["b"]) == (places["y"] < places["x"])
