"""Numbered, verified steps of the demo with their times, and waiting for conditions."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from reconciler.cli.sink import flush, out
from reconciler.cli.tables import painter

T = TypeVar("T")
PATIENCE_S = 60.0
"""Longest wait for one condition, generous for a busy machine."""


class StepFailed(Exception):
    """A step that failed."""


class Script:
    """Runs steps, prints each with its time, and stops at the first failure."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._number = 0

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[list[str]]:
        """Run one step; entries of the yielded list are printed with it."""
        self._number += 1
        began = time.monotonic()
        notes: list[str] = []
        try:
            yield notes
        except Exception as error:
            self._line("✗", "31", text, began, [*notes, str(error) or type(error).__name__])
            raise
        self._line("✓", "32", text, began, notes)

    def _line(self, mark: str, code: str, text: str, began: float, notes: list[str]) -> None:
        head = f" {self._number:2} {time.monotonic() - began:6.2f} s  "
        note = "; ".join(notes)
        line = f"{head}{text}" + (f"  ({note})" if note else "")
        width = shutil.get_terminal_size().columns - len(mark)
        if not sys.stdout.isatty() or len(line) <= width:
            out(painter()(code, mark), line)
        else:
            indent = " " * len(head)
            rows = textwrap.wrap(text, width - len(head), break_long_words=False)
            rows += textwrap.wrap(note, width - len(head), break_long_words=False) if note else []
            out(painter()(code, mark), head + rows[0])
            for row in rows[1:]:
                out(f" {indent}{row}")
        flush()

    def total(self) -> float:
        """Return the elapsed time in seconds."""
        return time.monotonic() - self._started


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
