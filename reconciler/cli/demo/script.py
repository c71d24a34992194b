"""Numbered, verified steps of the demo with their times, and waiting for conditions."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from reconciler.cli.sink import Ink, flush, out, terminal_size
from reconciler.cli.tables import painter
from reconciler.cli.widths import wrap

T = TypeVar("T")
PATIENCE_S = 60.0
"""Longest wait for one condition, generous for a busy machine."""
COLUMNS = 80
"""Width of the lines where stdout is not a terminal."""
LEAST_COLUMNS = 40
_HEAD = 15
"""Columns before the text of a step."""


class StepFailed(Exception):
    """A step that failed."""


class Notes:
    """What a step shows below its text."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        """(prefix, text): a text is wrapped, and each of its lines begins with the prefix."""

    def add(self, *texts: str) -> None:
        """Show texts, each on lines of its own."""
        self.lines += [("", text) for text in texts]

    def quote(self, *texts: str) -> None:
        """Show lines of a message as somebody else wrote them."""
        self.lines += [("| ", text) for text in texts]


class Script:
    """Runs steps, prints each with its time, and stops at the first failure."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._number = 0
        self._pass, self._fail = _marks()

    def part(self, title: str) -> None:
        """Begin a part of the demo."""
        out("")
        out(painter()("1", title))
        flush()

    @contextlib.contextmanager
    def step(self, text: str, *commands: str) -> Iterator[Notes]:
        """Run one step, and print it with its notes. ``commands``: what shows the same, or does it, in a terminal."""
        self._number += 1
        began = time.monotonic()
        notes = Notes()
        try:
            yield notes
        except Exception as error:
            self._print(painter()("31", self._fail), text, began)
            _indented(notes.lines)
            _indented([("", str(error) or type(error).__name__)])
            raise
        self._print(painter()("32", self._pass), text, began)
        _indented(notes.lines)
        for command in commands:
            out(" " * _HEAD, painter()("36", f"$ {command}"))
        flush()

    def _print(self, mark: Ink, text: str, began: float) -> None:
        first, *more = wrap(text, _columns() - _HEAD)
        out(mark, f" {self._number:2} {time.monotonic() - began:6.2f} s ", first)
        for line in more:
            out(" " * _HEAD + line)
        flush()

    def total(self) -> float:
        """Return the elapsed time in seconds."""
        return time.monotonic() - self._started


def _indented(lines: list[tuple[str, str]]) -> None:
    width = _columns() - _HEAD
    for prefix, text in lines:
        first, *more = wrap(text, width - 2 * len(prefix))
        out(" " * _HEAD + prefix + first)
        for line in more:
            out(" " * _HEAD + prefix + " " * len(prefix) + line)


def _columns() -> int:
    size = terminal_size()
    return max(size.columns if size is not None else COLUMNS, LEAST_COLUMNS)


def _marks() -> tuple[str, str]:
    """Return the marks of a step that succeeded and of one that failed."""
    try:
        "✓✗".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "+", "x"
    return "✓", "✗"


def wait_for(what: str, check: Callable[[], T | None], *, every_s: float = 0.05) -> T:
    """Return the first true result of ``check``. Raises `StepFailed` after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        result = check()
        if result:
            return result
        time.sleep(every_s)
    raise StepFailed(f"not seen within {PATIENCE_S:.0f} s: {what}")


def expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001  reads as a sentence
    """Raise `StepFailed` with the text ``otherwise`` unless ``holds``."""
    if not holds:
        raise StepFailed(otherwise)
