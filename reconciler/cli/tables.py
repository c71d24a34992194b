"""Aligned tables for people, and the colours of their words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler.cli.output import colour
from reconciler.cli.sink import Ink, out
from reconciler.model.printable import plain

WIDEST = 160
COLOURS: Mapping[str, str] = {
    "passed": "32",
    "processed": "32",
    "failed": "31",
    "rejected": "31",
    "quarantined": "31",
    "cancelled": "33",
    "discarded": "33",
    "running": "36",
    "starting": "36",
    "queued": "33",
    "pending": "33",
}

ENDED = frozenset({"done", "discarded"})
"""States of an item that nothing changes any more."""


def painter() -> Callable[[str, str], Ink]:
    """Return a function that colours text, or leaves it plain where stdout is not a terminal."""
    on = colour(sys.stdout)
    return lambda code, text: Ink(code if on else "", text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, none: str) -> None:
    """Print ``rows`` under ``head``, the last column without a width; print ``none`` without a row."""
    if not rows:
        out(none)
        return
    paint = painter()
    last = len(head) - 1
    lines = [[*(plain(cell) for cell in row[:last]), short(row[last])] for row in rows]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(last)]
    out("  ".join([*(f"{head[i]:{widths[i]}}" for i in range(last)), head[last]]))
    for line in lines:
        cells = [paint(COLOURS.get(line[i], ""), f"{line[i]:{widths[i]}}") for i in range(last)]
        out(*(part for cell in cells for part in (cell, "  ")), line[last])


def short(text: str, width: int = WIDEST) -> str:
    """Return a line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def fields(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a title and below it what is known, one aligned line each; what is empty is left out."""
    out(title)
    shown = [(name, text) for name, text in rows if text]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        out(f"  {name:{width}}  {text}")


def values(found: Mapping[str, Any]) -> str:
    """Return ``name=value`` pairs; texts as they are, the rest as JSON."""
    import orjson

    return ", ".join(f"{name}={one if isinstance(one, str) else orjson.dumps(one).decode()}" for name, one in found.items())


def waits_for(item: Mapping[str, Any]) -> str:
    """Return why an item waits; never empty."""
    votes = ", ".join(vote["by"] for vote in item["approvals"])
    words = [f"{item['reason'] or 'new'}: {item['message'] or 'not looked at yet'}"]
    words += [f"not before {item['notBefore']}"] if item["notBefore"] else []
    return "; ".join([*words, *([f"approved by {votes}"] if votes else [])])
