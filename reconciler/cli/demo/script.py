"""How the demo tells what it does: numbered steps with their times, each verified, and the waiting that belongs to it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from reconciler.cli.sink import flush, out
from reconciler.cli.tables import painter

PATIENCE_S = 60.0
"""Longest wait for one thing; a machine that is busy takes its time."""


class StepFailed(Exception):
    """A step that did not end as it should."""


class Script:
    """Runs steps, prints each with its time, and stops at the first that fails."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._number = 0

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[list[str]]:
        """Run one step; what is appended to the list is printed beside it."""
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
        shown = f"  ({'; '.join(notes)})" if notes else ""
        out(painter()(code, mark), f" {self._number:2} {time.monotonic() - began:6.2f} s  {text}{shown}")
        flush()

    def total(self) -> float:
        """Return how long it took so far, in seconds."""
        return time.monotonic() - self._started


def wait_for(what: str, check: Callable[[], Any], *, every_s: float = 0.05) -> Any:
    """Return what ``check`` returns once it is true; raises `StepFailed` when it stays false."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(every_s)
    raise StepFailed(f"not seen within {PATIENCE_S:.0f} s: {what}")


def expect(holds: bool, otherwise: str) -> None:
    """Raise `StepFailed` with ``otherwise`` unless it holds."""
    if not holds:
        raise StepFailed(otherwise)
