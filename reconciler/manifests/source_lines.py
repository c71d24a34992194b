"""The source lines of problems, for the people who fix them. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from reconciler.model.errors import Problem

MAX_LINES_SHOWN = 200
"""Problems that get their source line: more are not read at once."""
MAX_CHARACTERS = 4_000
"""A line is cut there: a file can be one line."""
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""The line breaks of YAML 1.1, by which the parser counts."""


def with_source_lines(problems: Iterable[Problem], files: Mapping[str, bytes]) -> tuple[Problem, ...]:
    """Return ``problems`` with the text of the line that each is about; ``files``: contents by path."""
    lines: dict[str, list[str]] = {}
    result: list[Problem] = []
    for number, problem in enumerate(problems):
        place = problem.location
        data = files.get(place.file)
        if data is None or not place.line or number >= MAX_LINES_SHOWN:
            result.append(problem)
            continue
        if place.file not in lines:
            lines[place.file] = _BREAK.split(data.decode("utf-8-sig", "replace"))
        known = lines[place.file]
        text = known[place.line - 1] if place.line <= len(known) else ""
        result.append(dataclasses.replace(problem, text=text[:MAX_CHARACTERS]) if place.column <= MAX_CHARACTERS else problem)
    return tuple(result)
