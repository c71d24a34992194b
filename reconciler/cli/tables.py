"""Aligned tables for people, and the colours of their words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler.cli.output import colour

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


def painter() -> Callable[[str, str], str]:
    """Return what colours a text: nothing is, where stdout is no terminal."""
    on = colour(sys.stdout)
    return lambda code, text: f"\x1b[{code}m{text}\x1b[0m" if on and code else text


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, none: str) -> None:
    """Print ``rows`` under ``head``, the last column as wide as it likes; ``none`` is said where there is no row."""
    if not rows:
        print(none)
        return
    paint = painter()
    last = len(head) - 1
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(last)]
    print("  ".join([*(f"{head[i]:{widths[i]}}" for i in range(last)), head[last]]))
    for row in rows:
        cells = [paint(COLOURS.get(row[i], ""), f"{row[i]:{widths[i]}}") for i in range(last)]
        print("  ".join([*cells, short(row[last])]).rstrip())


def short(text: str, width: int = WIDEST) -> str:
    """Return a line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def fields(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a title and below it what is known, one aligned line each; what is empty is left out."""
    print(title)
    shown = [(name, text) for name, text in rows if text]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        print(f"  {name:{width}}  {text}")


def values(found: Mapping[str, Any]) -> str:
    """Return ``name=value`` pairs; texts as they are, the rest as JSON."""
    import orjson

    return ", ".join(f"{name}={one if isinstance(one, str) else orjson.dumps(one).decode()}" for name, one in found.items())
