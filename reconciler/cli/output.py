"""What a user reads: results on stdout, all other text on stderr, colours only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from reconciler.cli import sink

if TYPE_CHECKING:
    from reconciler.model.errors import Problem

FORMAT_VERSION = 1


def colour(stream: TextIO) -> bool:
    """Whether ``stream`` gets colours: a terminal, and NO_COLOR (https://no-color.org) not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


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
    """Print a line of progress to stderr."""
    sink.err(text)


def show_error(error: Exception) -> None:
    """Print the error, its place, its reason and the next step; never a traceback or a secret."""
    from reconciler.model.errors import ConfigError, ManifestError, ReconcilerError  # not for `version`, which has no error

    if isinstance(error, ManifestError):
        for problem in error.problems:
            for line in problem_lines(problem):
                say(line)
    if not isinstance(error, ReconcilerError):
        say(f"reconciler: RC9001: {type(error).__name__}: internal error. Set RECONCILER_DEBUG=1 for the traceback.")
        return
    place = f"{error.location}: " if error.location is not None else ""
    say(f"reconciler: {place}{error.code}: {error.message}")
    for line in error.details if isinstance(error, ConfigError) else ():
        say(f"  {line}")
    if error.hint:
        say(f"  {error.hint}")


def problem_lines(problem: Problem) -> list[str]:
    """Return ``file:line:col: error RC1042: message (at /pointer)``, and the hint as a line of its own."""
    pointer = f" (at {problem.pointer})" if problem.pointer else ""
    line = f"{problem.location}: {problem.severity.value} {problem.code}: {problem.message}{pointer}"
    return [line, f"    {problem.hint}"] if problem.hint else [line]


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
