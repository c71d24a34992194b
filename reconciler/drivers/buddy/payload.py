"""A webhook's payload: which event it is, its execution and its time; and payloads built from the API. Pure.

The payload is documented by a sample only: workspace, invoker, project, ``current_date``, and an execution or the pushed commits. No
field is documented to name the event, so it is named by what happened; a run that succeeded or failed has two names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.drivers.buddy.api import ENDED, BuddyExecution, epoch_of, word_of
from reconciler.drivers.buddy.spec import EVENTS
from reconciler.drivers.wire import matches
from reconciler.model.values import JsonObject, JsonValue

STARTED, FINISHED, PUSH = "EXECUTION_STARTED", "EXECUTION_FINISHED", "PUSH"
_BY_STATUS = {"SUCCESSFUL": "EXECUTION_SUCCESSFUL", "FAILED": "EXECUTION_FAILED"}
_NAMING = ("event", "event_type")
_PUSHED = ("push", "commits", "head_commit", "repository", "revision", "to_revision", "branch", "ref", "tag")
_SHOWN = (
    "id", "url", "html_url", "status", "start_date", "finish_date", "triggeredOn", "triggered_on", "priority", "refresh",
    "clear_cache", "comment", "environment", "branch", "tag", "pull_request", "from_revision", "to_revision", "creator", "pipeline",
)  # fmt: skip
"""Fields that a payload built from an API answer takes: no variables, no logs."""


@dataclass(frozen=True, slots=True)
class ExecutionEvent:
    """An event: ``types`` are its names, the likeliest first; ``identity`` is empty if nothing tells two of them apart."""

    types: tuple[str, ...]
    identity: str
    at: float | None


def event_of(payload: Mapping[str, Any]) -> ExecutionEvent | None:
    """Return the event of ``payload``; None if it is about neither an execution nor a push."""
    named = next((word for word in (word_of(payload.get(key)) for key in _NAMING) if word), "")
    named = named if named in EVENTS else ""
    sent_at = epoch_of(payload.get("current_date"))
    execution = matches(payload.get("execution"), BuddyExecution)
    if execution is not None and named != PUSH:
        return _of_execution(execution, named, sent_at)
    if named == PUSH or (payload.get("execution") is None and any(payload.get(key) is not None for key in _PUSHED)):
        return ExecutionEvent((PUSH,), "", sent_at)
    return None


def _of_execution(execution: BuddyExecution, named: str, sent_at: float | None) -> ExecutionEvent:
    status = word_of(execution.status)
    ended = named != STARTED if named else (status in ENDED or (not status and execution.finish_date is not None))
    at = epoch_of(execution.finish_date if ended else execution.start_date)
    at = at if at is not None else sent_at  # only its time tells a retry from the run that it repeats
    names = tuple(name for name in (FINISHED, _BY_STATUS.get(status, "")) if name) if ended else (STARTED,)
    types = (named, *(name for name in names if name != named)) if named else names
    return ExecutionEvent(types, _identity(execution, ended=ended, at=at), at)


def _identity(execution: BuddyExecution, *, ended: bool, at: float | None) -> str:
    """Return the identity of an event: a retry is the same execution, and ends at another time."""
    return f"execution:{execution.number}:{'finished' if ended else 'started'}" + (f":{int(at)}" if at is not None else "")


def events_of(execution: BuddyExecution, requested: Collection[str]) -> list[ExecutionEvent]:
    """Return the events of ``execution`` that a source with the ``requested`` event types should have received."""
    events: list[ExecutionEvent] = []
    status = word_of(execution.status)
    started, finished = epoch_of(execution.start_date), epoch_of(execution.finish_date)
    if started is not None and STARTED in requested:
        events.append(ExecutionEvent((STARTED,), _identity(execution, ended=False, at=started), started))
    types = tuple(name for name in (FINISHED, _BY_STATUS.get(status, "")) if name in requested)
    if status in ENDED and finished is not None and types:
        events.append(ExecutionEvent(types, _identity(execution, ended=True, at=finished), finished))
    return events


def payload_of(detail: JsonObject, execution: Mapping[str, JsonValue]) -> JsonObject:
    """Return the payload that a webhook would have brought; what the API does not show is null."""
    shown = {key: execution.get(key) for key in _SHOWN}
    if not isinstance(shown["pipeline"], dict):
        shown["pipeline"] = {"id": detail["pipeline"], "name": detail.get("pipeline_name")}
    return {
        "workspace": {**dict.fromkeys(("url", "html_url", "id", "name")), "domain": detail["workspace"]},
        "invoker": execution.get("creator"),
        "project": {**dict.fromkeys(("url", "html_url", "display_name", "status")), "name": detail["project"]},
        "current_date": execution.get("finish_date") or execution.get("start_date"),
        "execution": shown,
    }
