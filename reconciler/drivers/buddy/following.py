"""What an execution is like now, what it hands on, and what its actions said.

Facts: the provider's API documentation of executions and action executions. ``SKIPPED`` is a run that had nothing to do (its
conditions were not met, and nobody wanted it to be otherwise): it passed. ``NOT_EXECUTED`` is one that never ran: it failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.buddy.api import Item
from reconciler.drivers.buddy.payload import execution_id
from reconciler.drivers.buddy.runs import ENDED
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.executions import LogLines, Result, Run, RunReport, RunStatus
from reconciler.model.values import canonical_json

_RESULT = {
    "SUCCESSFUL": Result.PASSED,
    "SKIPPED": Result.PASSED,
    "FAILED": Result.FAILED,
    "NOT_EXECUTED": Result.FAILED,
    "TERMINATED": Result.CANCELLED,
}
_WAITS = {
    "WAITING_FOR_APPLY": "for an approval",
    "WAITING_FOR_VARIABLES": "for variables",
    "WAITING_FOR_SETTABLE_VARIABLES": "for variables",
    "WAITING_FOR_VT_SESSION": "for a session of visual tests",
}
_QUEUED = frozenset({"ENQUEUED", "INITIAL"})
_NOT_BEGUN = frozenset({"ENQUEUED", "INITIAL", "NOT_EXECUTED", "SKIPPED"})


async def execution_of(api: Api, path: str) -> Item:
    """Return the execution at ``path``; raises `NotFound`."""
    found = (await api.request("GET", path)).json()
    if not isinstance(found, Mapping) or execution_id(found) != path.rpartition("/")[2]:
        raise ProviderProtocolError(f"GET {path}: not the execution that was asked for", request=f"GET {path}")
    return found


def status_of(item: Item) -> str:
    """Return the status of an execution, or of one of its actions, as the provider says it."""
    value = item.get("status")
    return value.upper() if isinstance(value, str) else ""


async def report_of(api: Api, path: str, execution: Item, run: Run) -> RunReport:
    """Return what ``execution`` is like; a status that is not known counts as running."""
    status = status_of(execution)
    result = _RESULT.get(status)
    if result is not None:
        outputs, error = await _handed_on(api, path, execution)
        message = error or {"FAILED": "an action failed", "NOT_EXECUTED": "nothing was run"}.get(status, "")
        return RunReport(run, RunStatus.FINISHED, result, status, "" if result is Result.PASSED else message, outputs)
    if status in _WAITS or status.startswith("WAITING_"):
        return RunReport(run, RunStatus.WAITING, conclusion=status, message=_waits(execution, status))
    return RunReport(run, RunStatus.QUEUED if status in _QUEUED else RunStatus.RUNNING, conclusion=status)


def _waits(execution: Item, status: str) -> str:
    """Return what the run waits for, and at which action."""
    what = _WAITS.get(status, status.removeprefix("WAITING_").replace("_", " ").lower())
    names = [action_name(one) for one in actions_of(execution) if status_of(one).startswith("WAITING_")]
    return f"waits at Buddy {what}" + (f": {', '.join(names[:3])}" if names else "")


async def _handed_on(api: Api, path: str, execution: Item) -> tuple[dict[str, Any], str]:
    """Return the variables that the actions put out, the last of equal names, and the first error that one told.

    Encrypted values are left out: what is handed on is shown to everybody who may see the execution.
    """
    outputs: dict[str, Any] = {}
    error = ""
    for action in actions_of(execution):
        if status_of(action) in _NOT_BEGUN:
            continue
        shown = await _action(api, path, action)
        told = shown.get("error_message")
        error = error or (f"{action_name(action)}: {' '.join(told.split())[:300]}" if isinstance(told, str) and told else "")
        variables = shown.get("outputted_variables")
        for one in variables if isinstance(variables, list) else ():
            if isinstance(one, Mapping) and isinstance(one.get("key"), str) and not one.get("encrypted"):
                outputs[one["key"]] = one.get("value")
    return outputs, error


async def logs_of(api: Api, path: str, execution: Item, cursor: str) -> LogLines:
    """Return what the actions said after ``cursor`` (JSON, ``{action execution: lines handed on, or null once read to its end}``)."""
    positions, lines = _positions(cursor), []
    done = status_of(execution) in ENDED
    for action in actions_of(execution):
        key = str(action["action_execution_id"])
        at = positions.get(key, 0)
        if at is None or (status_of(action) in _NOT_BEGUN and not done):
            continue
        said = _lines(await _action(api, path, action)) if status_of(action) not in _NOT_BEGUN else []
        lines += [f"[{action_name(action)}] {line}" for line in said[at:]]
        positions[key] = None if status_of(action) in ENDED or done else max(at, len(said))
    return LogLines(tuple(lines), canonical_json(positions).decode(), done)


def actions_of(execution: Item) -> list[Item]:
    """Return the executions of actions, in their order; those without an id are no more than a plan."""
    rows = execution.get("action_executions")
    found = [one for one in rows if isinstance(one, Mapping)] if isinstance(rows, list) else []
    return [one for one in found if isinstance(one.get("action_execution_id"), str | int) and one["action_execution_id"]]


def action_name(action: Item) -> str:
    """Return what people call an action."""
    inner = action.get("action")
    return str(inner.get("name") or inner.get("id") or "action") if isinstance(inner, Mapping) else "action"


async def _action(api: Api, path: str, action: Item) -> Item:
    """Return an action's execution with its log; nothing where it is not there (any more)."""
    place = f"{path}/action_executions/{quote(str(action['action_execution_id']), safe='')}"
    try:
        found = (await api.request("GET", place)).json()
    except NotFound:
        return {}
    if not isinstance(found, Mapping):
        raise ProviderProtocolError(f"GET {place}: not an object", request=f"GET {place}")
    return found


def _lines(action: Item) -> list[str]:
    """Return the log of an action by line; an entry may hold several."""
    log = action.get("log")
    entries = [one for one in log if isinstance(one, str)] if isinstance(log, list) else []
    return [line for entry in entries for line in (entry.splitlines() or [""])]


def _positions(cursor: str) -> dict[str, int | None]:
    try:
        found = orjson.loads(cursor) if cursor else {}
    except orjson.JSONDecodeError:
        found = {}
    if not isinstance(found, dict):
        return {}
    return {key: at for key, at in found.items() if at is None or (isinstance(at, int) and at >= 0)}
