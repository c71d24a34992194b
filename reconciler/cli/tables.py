"""Tables and fields for people: as wide as the terminal, and colours that say the state."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.cli.output import colour
from reconciler.cli.sink import Ink, out, terminal_size
from reconciler.cli.widths import cut, pad, width_of, wrap
from reconciler.model.printable import plain
from reconciler.model.resources import ResourceId
from reconciler.model.views import ItemView

MOST_COLUMNS = 400
"""Longest cell where nothing limits the line: a file or a pipe."""
MOST_TEXT = 20_000
"""Most characters of a text that is wrapped."""
MOST_LINES = 6
"""Most lines of one cell on a terminal."""
LEAST_COLUMNS = 24
"""A last column that is narrower moves below its row."""
_INDENT = 4
_GAP = 2
COLOURS: Mapping[str, str] = {
    "True": "32",
    "False": "31",
    "Unknown": "33",
    "passed": "32",
    "processed": "32",
    "done": "32",
    "failed": "31",
    "rejected": "31",
    "refused": "31",
    "quarantined": "31",
    "cancelled": "33",
    "discarded": "33",
    "unknown": "33",
    "yes": "32",
    "no": "31",
    "over": "31",
    "Suspended": "33",
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


def columns(stream: str = "stdout") -> int | None:
    """Return the width of the terminal on ``stream``; None for a file or a pipe, whose lines may have any length."""
    size = terminal_size(stream)
    return max(20, size.columns) if size is not None else None


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, none: str) -> None:
    """Print ``rows`` under ``head``. On a terminal, cells that do not fit continue below their row. Without rows, print ``none``."""
    if not rows:
        prefixed("", none)
        return
    cells = [[cut(plain(" ".join(cell[:MOST_TEXT].split())), MOST_COLUMNS) for cell in row] for row in rows]
    widths = [max(width_of(row[i]) for row in [head, *cells]) for i in range(len(head))]
    longest = max((width_of(word) for row in cells for word in row[-1].split()), default=0)
    layout = _layout(widths, columns(), longest)
    for line in layout:
        _print_line([(head[i], "") for i in line.indexes], line)
    for row in cells:
        for line in layout:
            _print_line([(row[i], COLOURS.get(row[i], "")) for i in line.indexes], line)


@dataclass(frozen=True, slots=True)
class _Line:
    """The columns of a table that share a line. ``widths``: of these columns. The last column may wrap; None: it takes any width."""

    indexes: tuple[int, ...]
    indent: int
    widths: tuple[int | None, ...]


def _layout(widths: Sequence[int], limit: int | None, longest: int) -> list[_Line]:
    """Return the lines of one row: as few as fit into ``limit`` columns. ``longest``: width of the longest word of the last column."""
    last = len(widths) - 1
    if limit is None:
        return [_Line(tuple(range(len(widths))), 0, (*widths[:last], None))]
    lines: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(widths):
        needed = min(width, max(LEAST_COLUMNS, min(longest, limit - _INDENT))) if index == last else width
        if lines[-1] and used + needed > limit:
            lines.append([])
            used = _INDENT
        lines[-1].append(index)
        used += width + _GAP
    layout = []
    for number, indexes in enumerate(lines):
        indent = _INDENT if number else 0
        before = sum(widths[i] + _GAP for i in indexes[:-1])
        room = max(limit - indent - before, 2)
        layout.append(_Line(tuple(indexes), indent, (*(widths[i] for i in indexes[:-1]), min(widths[indexes[-1]], room))))
    return layout


def _print_line(cells: Sequence[tuple[str, str]], line: _Line) -> None:
    """Print the cells (text, colour) of one line of a row; the last cell wraps."""
    if line.indent and not any(text for text, _ in cells):
        return
    paint = painter()
    start: list[str | Ink] = [" " * line.indent]
    column = line.indent
    for (text, code), width in zip(cells[:-1], line.widths[:-1], strict=True):
        start += [paint(code, text), " " * ((width or 0) - width_of(text) + _GAP)]
        column += (width or 0) + _GAP
    text, code = cells[-1]
    room = line.widths[-1]
    first, *more = [text] if room is None else wrap(text, room, lines=MOST_LINES)
    out(*start, paint(code, first))
    for part in more:
        out(" " * column, paint(code, part))


def fields(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a title, and below it one aligned line for each text that is not empty; on a terminal, long texts wrap."""
    out(title)
    shown = [(name, text) for name, text in rows if text]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        prefixed(f"  {name:{width}}  ", text)


def prefixed(prefix: str, text: str, code: str = "") -> None:
    """Print ``text`` behind ``prefix``; on a terminal it wraps at words, below its own beginning."""
    paint, limit, start = painter(), columns(), width_of(plain(prefix))
    shown = plain(text[:MOST_TEXT])
    if limit is None or start + width_of(shown) <= limit:
        out(prefix, paint(code, text))
        return
    longest = max(map(width_of, shown.split()), default=0)
    if limit - start < LEAST_COLUMNS or limit - start < longest <= limit - _INDENT:
        for line in wrap(plain(prefix.rstrip()), limit):
            out(line)
        for line in wrap(shown, limit - _INDENT):
            out(" " * _INDENT, paint(code, line))
        return
    first, *more = wrap(shown, limit - start)
    out(prefix, paint(code, first))
    for part in more:
        out(" " * start, paint(code, part))


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


def counted(number: int, noun: str) -> str:
    """Return ``1 file`` or ``2 files``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def name_of(path: str) -> str:
    """Return ``KIND/NAME[@CANVAS]`` for the path of a resource; a text of another form stays the same."""
    return str(ResourceId.from_path(path)) if path.count("/") == 2 else path


def object_name(address: str) -> str:
    """Return ``EventSource/web PROVIDER/repository-webhook[acme/web]`` for the address of an object."""
    resource, _, place = address.partition("#")
    return f"{name_of(resource)} {place}".rstrip()


def place_of(address: str, resource: str) -> str:
    """Return the address of an object of ``resource`` (a path) without the resource: ``PROVIDER/repository-webhook[acme/web]``."""
    return address.removeprefix(f"{resource}#")


def short_revision(revision: str) -> str:
    """Return ``main@01234567`` for ``main@sha1:0123456789…``; a text of another form stays the same."""
    source, separator, digest = revision.partition(":")
    return f"{source.rpartition('@')[0]}@{digest[:8]}" if separator and "@" in source else revision


def reason_of(reason: str, message: str) -> str:
    """Return ``reason: message``; either may be empty."""
    return f"{reason}: {message}".strip(": ")


__all__ = [
    "COLOURS",
    "ENDED",
    "columns",
    "counted",
    "fields",
    "name_of",
    "object_name",
    "pad",
    "painter",
    "place_of",
    "prefixed",
    "reason_of",
    "short_revision",
    "table",
    "values",
    "waits_for",
]
