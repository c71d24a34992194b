"""The executor: runs a pipeline, and finds its execution again by the comment.

A start is not idempotent, and its answer has the number at once. A retry at Buddy runs the same execution again: all attempts have
one number, and nothing shows which attempt it is. ``SKIPPED`` is a run that had nothing to do (its conditions were not met): it
passed. ``NOT_EXECUTED`` is one that never ran: it failed.
Facts: the provider's API documentation of executions and action executions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from reconciler.drivers.buddy import lookup
from reconciler.drivers.buddy.api import (
    ENDED,
    ActionExecution,
    BuddyExecution,
    Key,
    executions_path,
    executions_since,
    word_of,
    workspace_path,
)
from reconciler.drivers.common import decode_write
from reconciler.drivers.connection import Api
from reconciler.drivers.execution import LOOK_BACK_S, CountsNoAttempts, NoJobToken, read_log, require_commit
from reconciler.drivers.wire import decode, find, matches
from reconciler.model.errors import NotFound, ProviderProtocolError, ScopeGone, ValidationFailed
from reconciler.model.executions import LogLines, Result, Run, RunIntent, RunReport, RunStatus
from reconciler.model.values import JsonObject, JsonValue, text_of

VARIABLE = "RECONCILER_EXECUTION_ID"
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
Place = tuple[str, str, int]
"""Workspace, project, and id of the pipeline."""


class _OutputVariable(msgspec.Struct, frozen=True):
    key: str
    value: JsonValue = None
    encrypted: bool | None = None


class _ActionDetail(msgspec.Struct, frozen=True):
    """An action's execution with its log, as its own page shows it. Odd entries are left out, so their types are open."""

    error_message: str | None = None
    outputted_variables: JsonValue = None
    log: JsonValue = None

    @property
    def outputs(self) -> dict[str, JsonValue]:
        """The variables that it put out, without encrypted ones: everybody who may see the execution sees its outputs."""
        entries = (matches(entry, _OutputVariable) for entry in matches(self.outputted_variables, list) or ())
        return {entry.key: entry.value for entry in entries if entry is not None and not entry.encrypted}

    @property
    def lines(self) -> list[str]:
        """Its log by line; an entry may hold several."""
        entries = (matches(entry, str) for entry in matches(self.log, list) or ())
        return [line for entry in entries if entry is not None for line in (entry.splitlines() or [""])]


class BuddyExecutor(NoJobToken, CountsNoAttempts):
    """Implements `reconciler.drivers.base.Executor`: resource ``pipeline`` (id, or name or identifier) in ``spec.workspace`` and
    ``spec.project``; ``revision`` with ``branch`` or ``tag``; ``variables``.
    """

    type = "buddy"
    needs_integration = True
    settle_s = 60.0
    by_clock = True
    poll_s = 15.0

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """Running, following and ending pipelines; the workspace to see them."""
        return {"executions": "write", "workspace": "read"}

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Run the pipeline, with the correlation id as a variable and in the comment."""
        require_commit(intent.spec)
        place = await _place(api, intent)
        path = executions_path(*place)
        answer = await api.request("POST", path, json=_request(intent))
        return _run(place, decode_write(answer, BuddyExecution, f"POST {path}"))

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the execution with our comment; of several, the one that started first."""
        place = await _place(api, intent)
        executions = await executions_since(api, executions_path(*place), intent.intended_at - LOOK_BACK_S)
        ours = [execution for execution in executions if intent.correlation in (execution.comment or "")]
        return _run(place, min(ours, key=lambda execution: int(execution.id))) if ours else None

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return the state of the execution, and the outputs of its actions once it ended."""
        path = await self._path(api, intent, run)
        try:
            execution = await _execution(api, path)
        except NotFound:
            await _require_workspace(api, run, intent)
            raise
        return await _report(api, path, execution, run)

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Cancel the execution; one that ended already refuses, which is success."""
        path = await self._path(api, intent, run)
        try:
            await api.request("PATCH", path, json={"operation": "CANCEL"})
        except ValidationFailed:
            if word_of((await _execution(api, path)).status) not in ENDED:
                raise

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        path = await self._path(api, intent, run)
        return await _logs(api, path, await _execution(api, path), cursor)

    def run_id_of(self, event_type: str, payload: object) -> str:
        """Return the number of the execution that an ``EXECUTION_…`` event is about."""
        execution = find(payload, BuddyExecution, "execution") if event_type.startswith("EXECUTION_") else None
        return execution.number if execution is not None else ""

    async def _path(self, api: Api, intent: RunIntent, run: Run) -> str:
        """Return the path of the execution as its start recorded it: renaming the pipeline changes nothing."""
        detail = run.detail
        known = all(detail.get(key) for key in ("workspace", "project", "pipeline"))
        place = (detail["workspace"], detail["project"], detail["pipeline"]) if known else await _place(api, intent)
        return executions_path(*place, run.external_id)


# start


async def _place(api: Api, intent: RunIntent) -> Place:
    """Return where the pipeline is, by its id or its name; raises `ValidationFailed` for an unknown or ambiguous name."""
    workspace = str(intent.spec.get("workspace") or api.connection.account)
    project = str(intent.spec.get("project") or "")
    if not workspace or not project:
        raise ValidationFailed("`workspace` and `project` of the pipeline are not set", hint="Set them in `spec.executor.spec`.")
    number = intent.resource_id or await lookup.pipeline_id(api, workspace, project, intent.resource)
    return workspace, project, number


def _request(intent: RunIntent) -> JsonObject:
    """Return the body. Without a branch or tag the pipeline's own is run. A list of executions shows the comment."""
    spec = intent.spec
    given = {str(key): text_of(value) for key, value in (spec.get("variables") or {}).items()}
    body: dict[str, Any] = {
        "to_revision": {"revision": str(spec.get("revision") or "HEAD")},
        "comment": f"reconciler {intent.correlation}",
        "variables": [{"key": key, "value": value} for key, value in {**given, VARIABLE: intent.correlation}.items()],
    }
    for key in ("branch", "tag"):
        if spec.get(key):
            body[key] = {"name": str(spec[key])}
    return body


def _run(place: Place, execution: BuddyExecution) -> Run:
    workspace, project, pipeline = place
    detail = {"workspace": workspace, "project": project, "pipeline": pipeline}
    return Run(execution.number, execution.html_url or "", detail=detail)


# poll


async def _execution(api: Api, path: str) -> BuddyExecution:
    """Return the execution at ``path``; raises `NotFound`."""
    execution = decode((await api.request("GET", path)).json(), BuddyExecution, f"GET {path}")
    if execution.number != path.rpartition("/")[2]:
        raise ProviderProtocolError(f"GET {path}: the answer is about another execution", request=f"GET {path}")
    return execution


async def _require_workspace(api: Api, run: Run, intent: RunIntent) -> None:
    """Raise `ScopeGone` if the workspace itself is out of reach: then the run is not lost."""
    workspace = str(run.detail.get("workspace") or intent.spec.get("workspace") or api.connection.account)
    path = workspace_path(workspace, "projects")
    try:
        await api.request("GET", path, params={"page": 1, "per_page": 1})
    except NotFound as error:
        raise ScopeGone(
            error.message, status=404, request=error.request, hint="The workspace is gone, renamed or out of reach."
        ) from None


async def _report(api: Api, path: str, execution: BuddyExecution, run: Run) -> RunReport:
    """Return the report of ``execution``; an unknown status counts as running."""
    status = word_of(execution.status)
    result = _RESULT.get(status)
    if result is not None:
        outputs, error = await _outputs(api, path, execution)
        message = error or {"FAILED": "an action failed", "NOT_EXECUTED": "nothing was run"}.get(status, "")
        return RunReport(run, RunStatus.FINISHED, result, status, "" if result is Result.PASSED else message, outputs)
    if status.startswith("WAITING_"):
        return RunReport(run, RunStatus.WAITING, conclusion=status, message=_waits(execution, status))
    return RunReport(run, RunStatus.QUEUED if status in _QUEUED else RunStatus.RUNNING, conclusion=status)


def _waits(execution: BuddyExecution, status: str) -> str:
    """Return what the run waits for, and at which action."""
    reason = _WAITS.get(status, status.removeprefix("WAITING_").replace("_", " ").lower())
    names = [action.name for action, _ in _begun(execution) if word_of(action.status).startswith("WAITING_")]
    return f"waits at Buddy {reason}" + (f": {', '.join(names[:3])}" if names else "")


async def _outputs(api: Api, path: str, execution: BuddyExecution) -> tuple[dict[str, JsonValue], str]:
    """Return the variables that the actions put out, the last of equal names, and the first error message."""
    outputs: dict[str, JsonValue] = {}
    error = ""
    for action, key in _begun(execution):
        detail = await _action(api, path, key)
        outputs |= detail.outputs
        if detail.error_message and not error:
            error = f"{action.name}: {' '.join(detail.error_message.split())[:300]}"
    return outputs, error


def _begun(execution: BuddyExecution) -> list[tuple[ActionExecution, Key]]:
    """Return the executions of actions that have begun, in their order, each with its id; those without an id are only planned."""
    actions = [(action, action.action_execution_id) for action in execution.action_executions or ()]
    return [(action, key) for action, key in actions if key and word_of(action.status) not in _NOT_BEGUN]


# logs


async def _logs(api: Api, path: str, execution: BuddyExecution, cursor: str) -> LogLines:
    """Return the log after ``cursor``; its parts are the executions of actions."""
    done = word_of(execution.status) in ENDED

    async def read(part: tuple[ActionExecution, Key]) -> tuple[list[str], bool]:
        action, key = part
        return (await _action(api, path, key)).lines, done or word_of(action.status) in ENDED

    parts = [(str(key), f"[{action.name}] ", (action, key)) for action, key in _begun(execution)]
    return await read_log(parts, cursor, read, done=done)


async def _action(api: Api, path: str, key: Key) -> _ActionDetail:
    """Return an action's execution with its log; an empty one if it does not exist (any more)."""
    place = f"{path}/action_executions/{quote(str(key), safe='')}"
    try:
        return decode((await api.request("GET", place)).json(), _ActionDetail, f"GET {place}")
    except NotFound:
        return _ActionDetail()
