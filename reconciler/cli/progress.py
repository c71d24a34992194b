"""Progress on a terminal: a bar below the output for all that takes longer than a second, and each change as it is applied.

Progress is written to stderr. Without a terminal there is no bar, and each change is one line when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from reconciler.cli.ages import span
from reconciler.cli.output import animated, say
from reconciler.cli.sink import live, terminal_size
from reconciler.cli.widths import width_of
from reconciler.model.printable import plain

if TYPE_CHECKING:
    from reconciler.engine.apply import Step
    from reconciler.model.plan import Change

T = TypeVar("T")
DELAY_S = 1.0
"""Work that ends sooner shows no bar."""
TICK_S = 0.1
_CELLS = 20
_RUNNING = {
    "create": "creating",
    "update": "updating",
    "replace": "replacing",
    "delete": "deleting",
    "adopt": "taking over",
    "remark": "re-marking",
}


class Bar:
    """One line at the end of the output. ``total``: the number of parts; 0 if it is not known. ``after``: what follows them."""

    def __init__(self, label: str, total: int = 0, *, after: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.label = label
        self.total = total
        self.after = after
        self.done = 0
        self.running: dict[str, str] = {}
        """What is under way, oldest first: a key, and the text to show."""
        self._clock = clock
        self._began = clock()
        self._shown = False
        self._animated = animated()

    def line(self, columns: int) -> str:
        """Return the bar as text."""
        elapsed = span(self._clock() - self._began)
        if not self.total or (self.after and self.done >= self.total):
            return f"{self.after if self.total else self.label}… {elapsed}"
        filled = min(_CELLS, _CELLS * self.done // self.total)
        text = f"{self.label} [{'#' * filled}{'-' * (_CELLS - filled)}] {self.done}/{self.total}  {elapsed}"
        more = f" and {len(self.running) - 1} more" if len(self.running) > 1 else ""
        doing = f"  {next(iter(self.running.values()))}{more}" if self.running else ""
        return text + doing if width_of(plain(text + doing)) < columns else text

    def draw(self, early: str = "") -> None:
        """Show the bar, if the work has taken longer than a second; before that, the text ``early``."""
        size = terminal_size("stderr") if self._animated else None
        if size is None:
            return
        text = self.line(size.columns) if self._clock() - self._began >= DELAY_S else early
        if text:
            live(text, columns=size.columns)
            self._shown = True

    def clear(self) -> None:
        """Remove the bar: other lines can be written then."""
        if self._shown:
            size = terminal_size("stderr")
            live("", columns=size.columns if size is not None else 80)
            self._shown = False


@contextlib.asynccontextmanager
async def progress(label: str, total: int = 0, *, after: str = "") -> AsyncIterator[Bar]:
    """Show a bar while the body runs."""
    bar = Bar(label, total, after=after)

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            bar.draw()

    task = asyncio.create_task(tick())
    try:
        yield bar
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        bar.clear()


@contextlib.contextmanager
def waiting(label: str) -> Iterator[None]:
    """Show a bar while the body blocks. The body prints nothing."""
    bar, stop = Bar(label), threading.Event()

    def tick() -> None:
        while not stop.wait(TICK_S):
            bar.draw()

    if not animated():
        yield
        return
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        bar.clear()


async def gathered(label: str, work: Iterable[tuple[str, Awaitable[T]]]) -> list[T]:
    """Return the results of ``work`` (name, awaitable), all awaited at once under a bar."""
    parts = list(work)
    async with progress(label, len(parts)) as bar:

        async def counted(name: str, part: Awaitable[T]) -> T:
            bar.running[name] = name
            try:
                return await part
            finally:
                bar.running.pop(name, None)
                bar.done += 1

        return await asyncio.gather(*(counted(name, part) for name, part in parts))


class LiveChanges:
    """Shows changes as they are applied: one line each, with its result and how long it took."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def begin(self, change: Change) -> None:
        """Show on a terminal that a call begins."""
        self._bar.running[change.address] = doing = f"{_doing(change)} {change.resource}"
        self._bar.draw(early=f"  {doing}…")

    def end(self, step: Step) -> None:
        """Print the result of a call."""
        self._bar.running.pop(step.change.address, None)
        self._bar.done += 1
        self._bar.clear()
        say(step_line(step))
        self._bar.draw()


def step_line(step: Step) -> str:
    """Return the line of one change: what was done to which object, its result and its time. `apply` shows errors at its end."""
    from reconciler.planning.render.words import SYMBOLS

    change = step.change
    end = "done" if step.error is None else "failed"
    note = f" ({step.error.code})" if step.error is not None else f" (id {step.external_id})" if step.external_id else ""
    what = f"{SYMBOLS[change.action]} {change.resource} {change.scope}"
    return plain(f"  {what}: {_doing(change)}… {end} after {step.duration_ms / 1000:.1f} s{note}")


def _doing(change: Change) -> str:
    return _RUNNING.get(change.action.value, change.action.value)
