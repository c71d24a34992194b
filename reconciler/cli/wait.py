"""``--wait``: follow queued items until they have finished. The exit code is 0 only if all passed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from reconciler.cli.daemon_client import act
from reconciler.cli.options import WaitOptions
from reconciler.cli.output import emit_json, say
from reconciler.cli.progress import Bar
from reconciler.cli.sink import out
from reconciler.cli.tables import ENDED, waits_for
from reconciler.config.settings import Config
from reconciler.model.exit_codes import EXIT_OK, EXIT_PARTIAL
from reconciler.model.views import EventDetail, ExecutionDetail, ExecutionView, ItemView

POLL_S = 0.5


class WaitedItem(ItemView, frozen=True):
    """An item with its newest execution."""

    execution: ExecutionView | None

    @property
    def passed(self) -> bool:
        """Whether the item has ended, and its execution passed."""
        return self.state == "done" and self.execution is not None and self.execution.result == "passed"

    @property
    def progress(self) -> str:
        """What the item waits for, or the state of its execution."""
        execution = self.execution
        if self.state == "queued":
            return waits_for(self)
        if self.state == "discarded" or execution is None:
            return f"{self.state} ({self.reason}) {self.message}".rstrip()
        why = f" ({execution.reason}: {execution.message})" if execution.message else ""
        return f"{execution.result or execution.state}{why} {execution.url}".rstrip()


Items = Callable[[], Sequence[WaitedItem] | None]
"""Returns the queued items, or None while they are not known yet."""


def wait_for_event(config: Config, event_id: str, options: WaitOptions) -> int:
    """Follow all items of an event, but not the events that their stages cause."""

    def items() -> list[WaitedItem] | None:
        event = act(config, {"verb": "event", "id": event_id}, EventDetail).view
        if event.state == "pending":
            return None
        for row in event.rejected_by:
            rejections.setdefault(row.target, f"{row.target} rejected it: {row.reason}: {row.message}")
        return [_item(config, item.id) for item in event.items]

    rejections: dict[str, str] = {}
    return _wait(items, options, {"event": event_id}, rejections)


def wait_for_item(config: Config, item_id: str, options: WaitOptions) -> int:
    """Follow one item."""
    return _wait(lambda: [_item(config, item_id)], options, {"item": item_id}, {})


def _item(config: Config, item_id: str) -> WaitedItem:
    detail = act(config, {"verb": "execution", "id": item_id}, ExecutionDetail).view
    return WaitedItem(**msgspec.structs.asdict(detail.item), execution=detail.executions[-1] if detail.executions else None)


def _wait(items: Items, options: WaitOptions, named: Mapping[str, str], rejections: Mapping[str, str]) -> int:
    deadline = time.monotonic() + options.timeout
    shown: dict[str, str] = {}
    bar = Bar("waiting")
    try:
        while True:
            queued = items()
            for item in queued or ():
                if shown.get(item.id) != item.progress and options.output == "text":
                    bar.clear()
                    say(f"{item.id} {item.stage}: {item.progress}")
                shown[item.id] = item.progress
            bar.draw()
            ended = queued is not None and all(item.state in ENDED for item in queued)
            if ended or time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
    finally:
        bar.clear()
    for line in rejections.values():
        say(line)
    return _verdict(queued or (), options, named)


def _verdict(items: Sequence[WaitedItem], options: WaitOptions, named: Mapping[str, str]) -> int:
    good = bool(items) and all(item.passed for item in items)
    if options.output == "json":
        emit_json({**named, "passed": good, "items": [msgspec.to_builtins(item) for item in items]})
    elif not items:
        out("nothing was queued")
    else:
        for item in items:
            out(f"{item.id} {item.stage}: {item.progress}")
        if any(item.state not in ENDED for item in items):
            say(f"not finished within {options.timeout:g} s; it continues: see `reconciler executions`")
    return EXIT_OK if good else EXIT_PARTIAL
