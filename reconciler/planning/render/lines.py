"""The details of an entry as lines, for the renderers for people. A line has a mark: ``+`` new, ``-`` lost, ``~`` changed, space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from reconciler.planning.render.document import Detail, PlanEntry
from reconciler.planning.render.values import excerpts, wrapped
from reconciler.planning.render.words import SYMBOLS

MOST_DETAILS = 200
"""Values of one entry that a person is shown; the rest is counted. The JSON document has all of them."""
MOST_LINES = 4
"""Lines of one value."""


class DetailLine(NamedTuple):
    mark: str
    text: str
    indent: int = 0


def heading(entry: PlanEntry) -> list[str]:
    """Return the parts ``+ create EventSource/payments``, ``provider/webhook[acme] #12``, ``[blocked: DeletePercent]``; some empty."""
    number = f"#{entry.external_id}" if entry.external_id else ""
    state = f"[{entry.state}]" if entry.state else ""
    return [f"{SYMBOLS[entry.action]} {entry.action.value} {entry.title}", f"{entry.place} {number}".strip(), state]


def detail_lines(details: Iterable[Detail], width: int, *, sides: bool = False) -> Iterator[DetailLine]:
    """Yield the lines of ``details`` in at most ``width`` characters. ``sides``: old and new of a change always have a line each."""
    details = tuple(details)
    for detail in details[:MOST_DETAILS]:
        yield from _detail(detail, width, sides)
    if len(details) > MOST_DETAILS:
        yield DetailLine(" ", f"… and {len(details) - MOST_DETAILS} more values")


def _detail(detail: Detail, width: int, sides: bool) -> Iterator[DetailLine]:
    name = _fitting(detail.name, width - 2)
    if detail.changed:
        yield from _change(name, detail.before or "", detail.after or "", width, sides)
        return
    mark = " " if detail.before is not None and detail.after is not None else "-" if detail.after is None else "+"
    value = detail.after if detail.after is not None else detail.before or ""
    if len(name) + 2 + len(value) <= width:
        yield DetailLine(mark, f"{name}: {value}")
        return
    yield DetailLine(mark, f"{name}:")
    below = mark if sides else " "
    yield from (DetailLine(below, part, 2) for part in wrapped(value, width - 2, MOST_LINES))


def _fitting(name: str, width: int) -> str:
    """Return a pointer in at most ``width`` characters. Its end is kept: pointers of one manifest begin alike."""
    if len(name) <= width:
        return name
    kept = max(width - len(f"(+{len(name)})…"), 1)
    return f"(+{len(name) - kept})…{name[-kept:]}"


def _change(name: str, before: str, after: str, width: int, sides: bool) -> Iterator[DetailLine]:
    text = f"{name}: {before} → {after}"
    if len(text) <= width and not sides:
        yield DetailLine("~", text)
        return
    if sides and len(name) + 2 + max(len(before), len(after)) <= width:
        yield DetailLine("-", f"{name}: {before}")
        yield DetailLine("+", f"{name}: {after}")
        return
    room = max(width - 4, 20)
    old, new = excerpts(before, after, room * (MOST_LINES - 1))
    yield DetailLine(" " if sides else "~", f"{name}:")
    yield from (DetailLine("-", part, 2) for part in wrapped(old, room, MOST_LINES))
    yield from (DetailLine("+", part, 2) for part in wrapped(new, room, MOST_LINES))
