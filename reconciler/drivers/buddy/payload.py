"""What a webhook's payload says: which event it is, what it is about and when; and one made of what the API shows. Pure.

The payload is documented by a sample only: workspace, invoker, project, ``current_date``, and an execution or what was pushed.
No field is documented to name the event. So it is named by what happened; a run that ended well or badly has two names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.drivers.buddy.api import ENDED, epoch_of
from reconciler.drivers.buddy.spec import EVENTS
from reconciler.model.values import JsonObject

STARTED, FINISHED, PUSH = "EXECUTION_STARTED", "EXECUTION_FINISHED", "PUSH"
_BY_STATUS = {"SUCCESSFUL": "EXECUTION_SUCCESSFUL", "FAILED": "EXECUTION_FAILED"}
_NAMING = ("event", "event_type")
_PUSHED = ("push", "commits", "head_commit", "repository", "revision", "to_revision", "branch", "ref", "tag")
_SHOWN = (
    "id", "url", "html_url", "status", "start_date", "finish_date", "triggeredOn", "triggered_on", "priority", "refresh",
    "clear_cache", "comment", "environment", "branch", "tag", "pull_request", "from_revision", "to_revision", "creator", "pipeline",
)  # fmt: skip
"""What a payload made of an API answer takes from it: no variables, no logs."""


@dataclass(frozen=True, slots=True)
class ExecutionEvent:
    """What happened: ``types`` are its names, the likeliest first; ``identity`` is empty where nothing tells one from another."""

    types: tuple[str, ...]
    identity: str
    at: float | None


def occasion_of(payload: Mapping[str, Any]) -> ExecutionEvent | None:
    """Return what ``payload`` tells; None where it tells neither of an execution nor of a push."""
    named = next((str(payload[key]).upper() for key in _NAMING if isinstance(payload.get(key), str)), "")
    named = named if named in EVENTS else ""
    execution = payload.get("execution")
    told_at = epoch_of(payload.get("current_date"))
    if isinstance(execution, Mapping) and named != PUSH:
        found = _of_execution(execution, named, told_at)
        if found is not None:
            return found
    if named == PUSH or (execution is None and any(payload.get(key) is not None for key in _PUSHED)):
        return ExecutionEvent((PUSH,), "", told_at)
    return None


def _of_execution(execution: Mapping[str, Any], named: str, told_at: float | None) -> ExecutionEvent | None:
    number = execution_id(execution)
    if not number:
        return None
    status = str(execution.get("status") or "").upper()
    ended = named != STARTED if named else (status in ENDED or (not status and execution.get("finish_date") is not None))
    at = epoch_of(execution.get("finish_date" if ended else "start_date"))
    names = (FINISHED, *(_BY_STATUS[one] for one in (status,) if one in _BY_STATUS)) if ended else (STARTED,)
    types = (named, *(name for name in names if name != named)) if named else names
    at = at if at is not None else told_at  # a retry is told from what it repeats by its time alone
    return ExecutionEvent(types, identity_of(number, ended=ended, at=at), at)


def identity_of(execution: str, *, ended: bool, at: float | None) -> str:
    """Return what tells one occasion from another: a retry is the same execution, and ends at another time."""
    return f"execution:{execution}:{'finished' if ended else 'started'}" + (f":{int(at)}" if at is not None else "")


def execution_id(execution: Mapping[str, Any]) -> str:
    """Return the number of an execution as text; empty without one."""
    value = execution.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else ""


def occasions_of(execution: Mapping[str, Any], wanted: Collection[str]) -> list[ExecutionEvent]:
    """Return what a source that asks for ``wanted`` should have been told of ``execution``, with the names it asked for."""
    number, status = execution_id(execution), str(execution.get("status") or "").upper()
    found: list[ExecutionEvent] = []
    if not number:
        return found
    started, finished = (epoch_of(execution.get(key)) for key in ("start_date", "finish_date"))
    if started is not None and STARTED in wanted:
        found.append(ExecutionEvent((STARTED,), identity_of(number, ended=False, at=started), started))
    types = tuple(name for name in (FINISHED, _BY_STATUS.get(status, "")) if name in wanted)
    if status in ENDED and finished is not None and types:
        found.append(ExecutionEvent(types, identity_of(number, ended=True, at=finished), finished))
    return found


def payload_of(detail: JsonObject, execution: Mapping[str, Any]) -> JsonObject:
    """Return the payload that a webhook would have brought; what the API does not tell is null."""
    workspace, project = detail["workspace"], detail["project"]
    shown = {key: execution.get(key) for key in _SHOWN}
    if not isinstance(shown["pipeline"], Mapping):
        shown["pipeline"] = {"id": detail["pipeline"], "name": detail.get("pipeline_name")}
    return {
        "workspace": {**dict.fromkeys(("url", "html_url", "id", "name")), "domain": workspace},
        "invoker": execution.get("creator"),
        "project": {**dict.fromkeys(("url", "html_url", "display_name", "status")), "name": project},
        "current_date": execution.get("finish_date") or execution.get("start_date"),
        "execution": shown,
    }
