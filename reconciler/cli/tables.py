"""Aligned tables for people, and the colours of their words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from reconciler.cli.output import colour
from reconciler.cli.sink import Ink, out
from reconciler.model.printable import plain
from reconciler.model.resources import ResourceId
from reconciler.model.views import ItemView

WIDEST = 160
COLOURS: Mapping[str, str] = {
    "True": "32",
    "False": "31",
    "Unknown": "33",
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
"""Final states of an item."""


def painter() -> Callable[[str, str], Ink]:
    """Return a function that colours text, or leaves it plain where stdout is not a terminal."""
    on = colour(sys.stdout)
    return lambda code, text: Ink(code if on else "", text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, none: str) -> None:
    """Print ``rows`` under ``head``; the last column takes the rest of the line. Without rows, print ``none``."""
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
    """Print a title, and below it one aligned line for each text that is not empty."""
    out(title)
    shown = [(name, text) for name, text in rows if text]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        out(f"  {name:{width}}  {text}")


def values(pairs: Mapping[str, object]) -> str:
    """Return ``name=value`` pairs; texts as they are, the rest as JSON."""
    import orjson

    return ", ".join(
        f"{name}={value if isinstance(value, str) else orjson.dumps(value).decode()}" for name, value in pairs.items()
    )


def waits_for(item: ItemView) -> str:
    """Return why an item waits; never empty."""
    reasons = [f"{item.reason or 'new'}: {item.message or 'not checked yet'}"]
    if item.not_before:
        reasons.append(f"not before {item.not_before}")
    if item.approvals:
        reasons.append("approved by " + ", ".join(approval.by for approval in item.approvals))
    return "; ".join(reasons)


def name_of(path: str) -> str:
    """Return ``KIND/NAME[@CANVAS]`` for the path of a resource; a text of another form stays the same."""
    return str(ResourceId.from_path(path)) if path.count("/") == 2 else path


def short_revision(revision: str) -> str:
    """Return ``main@01234567`` for ``main@sha1:0123456789…``; a text of another form stays the same."""
    source, separator, digest = revision.partition(":")
    return f"{source.rpartition('@')[0]}@{digest[:8]}" if separator and "@" in source else revision


def reason_of(reason: str, message: str) -> str:
    """Return ``reason: message``; either may be empty."""
    return f"{reason}: {message}".strip(": ")
