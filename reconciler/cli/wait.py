"""``--wait``: follow what was queued to its end. Done only if all of it passed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler.cli.daemon_client import act
from reconciler.cli.output import emit_json, say
from reconciler.cli.sink import out
from reconciler.cli.tables import ENDED, waits_for
from reconciler.config.settings import Config
from reconciler.model.exit_codes import EXIT_OK, EXIT_PARTIAL

LOOK_S = 0.5

Items = Callable[[], list[Mapping[str, Any]] | None]
"""Returns what was queued, None while it is not known yet."""


def wait_for_event(config: Config, event_id: str, options: argparse.Namespace) -> int:
    """Follow everything that an event is queued as; not what comes after those stages."""

    def items() -> list[Mapping[str, Any]] | None:
        event = act(config, {"verb": "event", "id": event_id})
        if event["state"] == "pending":
            return None
        for one in event["rejectedBy"]:
            rejections.setdefault(one["target"], f"{one['target']} did not take it: {one['reason']}: {one['message']}")
        return [_item(config, one["id"]) for one in event["items"]]

    rejections: dict[str, str] = {}
    return _wait(items, options, {"event": event_id}, rejections)


def wait_for_item(config: Config, item_id: str, options: argparse.Namespace) -> int:
    """Follow one item."""
    return _wait(lambda: [_item(config, item_id)], options, {"item": item_id}, {})


def _item(config: Config, item_id: str) -> Mapping[str, Any]:
    found = act(config, {"verb": "execution", "id": item_id})
    newest = found["executions"][-1] if found["executions"] else None
    return {**found["item"], "execution": newest}


def _wait(items: Items, options: argparse.Namespace, named: Mapping[str, str], rejections: Mapping[str, str]) -> int:
    deadline = time.monotonic() + options.timeout
    shown: dict[str, str] = {}
    while True:
        found = items()
        for one in found or ():
            line = f"{one['id']} {one['stage']}: {_where(one)}"
            if shown.get(one["id"]) != line and options.output == "text":
                say(line)
            shown[one["id"]] = line
        late = time.monotonic() >= deadline
        if (found is not None and all(one["state"] in ENDED for one in found)) or late:
            break
        time.sleep(LOOK_S)
    for line in rejections.values():
        say(line)
    return _verdict(found or [], options, named)


def _where(item: Mapping[str, Any]) -> str:
    execution = item["execution"]
    if item["state"] == "queued":
        return waits_for(item)
    if item["state"] == "discarded" or execution is None:
        return f"{item['state']} ({item['reason']}) {item['message']}".rstrip()
    why = f" ({execution['reason']}: {execution['message']})" if execution["message"] else ""
    return f"{execution['result'] or execution['state']}{why} {execution['url']}".rstrip()


def passed(item: Mapping[str, Any]) -> bool:
    """Whether an item has ended, and well."""
    return item["state"] == "done" and item["execution"] is not None and item["execution"]["result"] == "passed"


def _verdict(found: Sequence[Mapping[str, Any]], options: argparse.Namespace, named: Mapping[str, str]) -> int:
    good = bool(found) and all(passed(one) for one in found)
    if options.output == "json":
        emit_json({**named, "passed": good, "items": list(found)})
    elif not found:
        out("nothing was queued")
    else:
        for one in found:
            out(f"{one['id']} {one['stage']}: {_where(one)}")
        if any(one["state"] not in ENDED for one in found):
            say(f"not within {options.timeout:g} s; it goes on: see `reconciler executions`")
    return EXIT_OK if good else EXIT_PARTIAL
