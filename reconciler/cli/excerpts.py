"""Problems of manifests for people: place, code and message, the source line with a caret, and the form to write.

A source line is untrusted, and may contain a secret that somebody wrote into a manifest: it is bounded, escaped and redacted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reconciler.cli.sink import err, out
from reconciler.cli.tables import columns
from reconciler.cli.widths import ELLIPSIS, width_of, wrap
from reconciler.model.errors import Problem
from reconciler.model.printable import plain

PIPE_COLUMNS = 160
"""Width of a source line where no terminal limits it."""
_TAB = 8
_LEAST = 40
_MASK = "***"
_NAMED = re.compile(
    r"(?i)((?:token|secret|passw|passphrase|credential|authorization|(?:private|api|access|signing|license)[-_]?key)[\w-]{0,40}[\"']?\s*:\s*)"
    r"(?![{\[|>&*!\s])(\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^,}\]#]+)"
)
"""A value beside a name that sounds like a secret."""
_LONG = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/=_-]{32,}(?![./A-Za-z0-9+=_-])")
"""A long run of characters as in keys and tokens."""
_WORD = re.compile(r"\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s,:\]}{\[#]+")


def show_problems(problems: Iterable[Problem], stream: str = "stdout") -> None:
    """Print ``problems`` to ``stream`` (stdout or stderr)."""
    write, limit = (out, columns()) if stream == "stdout" else (err, columns(stream))
    for problem in problems:
        for line in problem_lines(problem, limit):
            write(line)


def problem_lines(problem: Problem, limit: int | None = None) -> list[str]:
    """Return ``file:line:col: error RC1042: message (at /pointer)``, the source line with a caret, and the hint.

    ``limit``: columns of the terminal; None for a file or a pipe.
    """
    pointer = f" (at {problem.pointer})" if problem.pointer else ""
    head = f"{problem.location}: {problem.severity.value} {problem.code}: {problem.message}{pointer}"
    lines = _wrapped(head, limit, "", "    ")
    lines += excerpt(problem.text, problem.location.line, problem.location.column, limit or PIPE_COLUMNS)
    return lines + (_wrapped(problem.hint, limit, "    ", "    ") if problem.hint else [])


def _wrapped(text: str, limit: int | None, first: str, rest: str) -> list[str]:
    if limit is None:
        return [first + text]
    begin, *more = wrap(plain(text), limit - len(rest))
    return [first + begin, *(rest + part for part in more)]


def excerpt(text: str, line: int, column: int, limit: int) -> list[str]:
    """Return the source line ``text`` and a caret below ``column`` (from 1; 0: unknown), in at most ``limit`` columns."""
    if not text.strip() or not line:
        return []
    shown, at = _redacted(text, max(column - 1, 0))
    gutter = f"{line:>6} | "
    cells = _cells(shown)
    at = min(at, len(cells))
    word = _WORD.match(shown, at)
    end = max(min(word.end() if word is not None else at + 1, len(cells)), at + 1)
    source, caret = _window(cells, at, end, max(limit - len(gutter), _LEAST))
    lines = [f"{gutter}{source}"]
    return [*lines, f"{'':{len(gutter) - 2}}| {caret}"] if column else lines


def _redacted(text: str, at: int) -> tuple[str, int]:
    """Return ``text`` without secrets, and the place of ``at`` in it: where the mask begins, if it is behind that."""
    from reconciler.credentials.redact import Redactor

    masked = _NAMED.sub(lambda match: match[1] + _MASK + " " * (len(match[2]) - len(match[2].rstrip())), Redactor().redact(text))
    masked = _LONG.sub(_MASK, masked)
    same = next((i for i, (a, b) in enumerate(zip(text, masked, strict=False)) if a != b), min(len(text), len(masked)))
    return masked, at if masked == text else min(at, same)


def _cells(text: str) -> list[str]:
    """Return each character as it is shown: tabs as spaces, everything without a shape escaped."""
    cells, column = [], 0
    for character in text:
        shown = " " * (_TAB - column % _TAB) if character == "\t" else plain(character)
        cells.append(shown)
        column += width_of(shown)
    return cells


def _window(cells: Sequence[str], at: int, end: int, room: int) -> tuple[str, str]:
    """Return the part of a line around the caret that fits into ``room`` columns, and the caret's line."""
    widths = [width_of(cell) for cell in cells]
    first, last = 0, len(cells)
    if sum(widths) > room:
        first = at
        before = room // 2
        while first > 0 and before - widths[first - 1] >= 0:
            first -= 1
            before -= widths[first]
        used = 0
        last = first
        while last < len(cells) and used + widths[last] <= room - 2:
            used += widths[last]
            last += 1
    head, tail = (ELLIPSIS if first else ""), (ELLIPSIS if last < len(cells) else "")
    start = len(head) + sum(widths[first:at])
    length = max(1, sum(widths[at : min(end, last)]))
    return head + "".join(cells[first:last]) + tail, " " * start + "^" * length


__all__ = ["excerpt", "problem_lines", "show_problems"]
