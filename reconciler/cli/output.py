"""What a user reads: results on stdout, all other text on stderr, colours only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from reconciler.cli import sink
from reconciler.cli.widths import width_of, wrap
from reconciler.model.printable import plain

if TYPE_CHECKING:
    from reconciler.model.errors import Problem

FORMAT_VERSION = 1
CONTINUED = 2
"""Columns by which the second line of a message is indented."""


def colour(stream: TextIO) -> bool:
    """Whether ``stream`` gets colours: a terminal, and NO_COLOR (https://no-color.org) not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def animated() -> bool:
    """Whether stderr shows progress that changes in place: a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def emit_json(document: Mapping[str, object]) -> None:
    """Print one JSON document with ``formatVersion`` to stdout."""
    whole = {"formatVersion": FORMAT_VERSION, **document}
    try:
        import orjson

        text = orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE, default=str).decode()
    except TypeError:  # half of a surrogate pair: orjson refuses it, JSON can write it
        text = json.dumps(whole, indent=2, default=str) + "\n"
    sink.json_document(text)


def say(text: str) -> None:
    """Print a line of progress to stderr; on a terminal it wraps at words."""
    size = sink.terminal_size("stderr")
    shown = plain(text)
    if size is None or width_of(shown) <= size.columns:
        sink.err(text)
        return
    indent = " " * (len(shown) - len(shown.lstrip()))
    first, *more = wrap(shown, size.columns - len(indent) - CONTINUED)
    sink.err(indent + first)
    for part in more:
        sink.err(indent + " " * CONTINUED + part)


def problem_row(problem: Problem) -> Mapping[str, object]:
    """Return a read error for JSON output."""
    return {"code": problem.code, "message": problem.message, "hint": problem.hint}


def agreed(question: str, *, yes: bool, refusal: str, instead: str = "--yes") -> bool:
    """Whether the user agrees: with ``--yes``, or on the terminal. If not, print ``refusal`` and the options to use ``instead``."""
    if yes:
        return True
    if not sys.stdin.isatty():
        say(f"{refusal}; there is no terminal to ask on: use {instead}")
        return False
    sink.err(f"{question} [y/N]", end=" ")
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    say(refusal)
    return False
