"""What a person can do on a page: operations of the API, each with its button, its command, and what the page says afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.server.api.operations import HTTP_OPERATIONS, Operation
from reconciler.server.api.requests import Checks

_OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in HTTP_OPERATIONS}


@dataclass(frozen=True, slots=True)
class PageAction:
    """One operation on a page. ``command``: the same on the command line, with the names of its fields in braces."""

    operation: Operation
    checks: Checks
    label: str
    command: str
    done: str
    is_strong: bool = False
    """Whether it is what most people came for, or cannot be taken back."""

    def command_of(self, fields: Mapping[str, str]) -> str:
        """Return the command for these fields."""
        canvas = fields.get("canvas", "default")
        place = "" if canvas == "default" else f"@{canvas}"
        return self.command.format_map({"digest": "", **fields, "canvas": place})


def _action(name: str, label: str, command: str, done: str, *, is_strong: bool = False) -> tuple[str, PageAction]:
    operation = _OPERATIONS[name]
    return name, PageAction(operation, Checks(operation), label, command, done, is_strong)


_RESOURCE = "{kind}/{name}{canvas}"
ACTIONS: Mapping[str, PageAction] = dict(
    (
        _action("approve", "Approve", "reconciler approve {id} --digest {digest}", "Your approval is stored.", is_strong=True),
        _action(
            "approve_plan", "Approve these changes", "reconciler approve {digest}", "The changes are approved.", is_strong=True
        ),
        _action("cancel", "Cancel", "reconciler cancel {id}", "The cancellation is requested."),
        _action("rerun", "Run again", "reconciler rerun {id}", "It is queued again."),
        _action("replay", "Replay", "reconciler replay {id}", "The event is routed again."),
        _action("redeliver", "Recover missed deliveries", "reconciler redeliver {source}", "Missed deliveries were looked for."),
        _action("reconcile", "Reconcile now", f"reconciler reconcile {_RESOURCE}", "A reconcile is requested."),
        _action("suspend", "Suspend", f"reconciler suspend {_RESOURCE} --reason …", "Writes are suspended."),
        _action("resume", "Resume", f"reconciler resume {_RESOURCE}", "Writes are allowed again."),
    )
)
"""Actions by the name of their operation. A test compares the commands with the parser of the command line."""
