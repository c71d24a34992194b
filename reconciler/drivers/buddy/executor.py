"""The executor: runs a pipeline, and finds its execution again by the comment.

Facts: the provider's API documentation of executions. A start is not idempotent, and its answer has the number at once; a
retry at Buddy runs the same execution again, so that there is one number for all attempts, and none for which attempt it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.buddy import lookup as names
from reconciler.drivers.buddy.api import ENDED, Item, executions_path, executions_since, workspace_path
from reconciler.drivers.buddy.payload import execution_id
from reconciler.drivers.common import NoJobToken, require_commit
from reconciler.model.errors import NotFound, OutcomeUnknown, ProviderProtocolError, ScopeGone, ValidationFailed
from reconciler.model.executions import LogLines, Result, Run, RunIntent, RunReport, RunStatus
from reconciler.model.values import JsonObject, canonical_json, text_of

VARIABLE = "RECONCILER_EXECUTION_ID"
LOOK_BACK_S = 120.0
"""How much older than the intent an execution may look: an offset of clocks is measured, and not exact."""
Place = tuple[str, str, int]
"""Workspace, project, and number of the pipeline."""


class BuddyExecutor(NoJobToken):
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
        answer = (await api.request("POST", path, json=_request(intent))).json()
        if not isinstance(answer, Mapping) or not execution_id(answer):
            raise OutcomeUnknown(f"POST {path}: a run was started, and the answer does not name it", request=f"POST {path}")
        return _run(place, answer)

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the execution with our comment; of several, the one that was started first."""
        place = await _place(api, intent)
        rows = await executions_since(api, executions_path(*place), intent.intended_at - LOOK_BACK_S)
        ours = [row for row in rows if intent.correlation in str(row.get("comment") or "") and execution_id(row)]
        return _run(place, min(ours, key=lambda row: int(execution_id(row)))) if ours else None

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return the state of the execution, and once it ended what its actions put out."""
        path = await self._path(api, intent, run)
        try:
            execution = await execution_of(api, path)
        except NotFound:
            await _workspace_is_there(api, run, intent)
            raise
        return await report_of(api, path, execution, run)

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """End the execution; one that ended already refuses it, which is success."""
        path = await self._path(api, intent, run)
        try:
            await api.request("PATCH", path, json={"operation": "CANCEL"})
        except ValidationFailed:
            if status_of(await execution_of(api, path)) not in ENDED:
                raise

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return what the actions said, in their order."""
        path = await self._path(api, intent, run)
        return await logs_of(api, path, await execution_of(api, path), cursor)

    def run_id_of(self, event_type: str, payload: Any) -> str:
        """Return the number of the execution that an ``EXECUTION_…`` event tells of."""
        execution = payload.get("execution") if event_type.startswith("EXECUTION_") and isinstance(payload, Mapping) else None
        return execution_id(execution) if isinstance(execution, Mapping) else ""

    def attempt_of(self, event_type: str, payload: Any) -> int:
        """Its webhooks count no attempts."""
        return 0

    async def _path(self, api: Api, intent: RunIntent, run: Run) -> str:
        """Return the path of the execution, as its start noted it; a renamed pipeline is no other."""
        detail = run.detail
        known = all(detail.get(key) for key in ("workspace", "project", "pipeline"))
        place = (detail["workspace"], detail["project"], detail["pipeline"]) if known else await _place(api, intent)
        return executions_path(*place, run.external_id)


async def _place(api: Api, intent: RunIntent) -> Place:
    """Return where the pipeline is, by its id or by a name; raises `ValidationFailed` for a name that is not there, or there twice."""
    workspace = str(intent.spec.get("workspace") or api.connection.account)
    project = str(intent.spec.get("project") or "")
    if not workspace or not project:
        raise ValidationFailed("`workspace` and `project` of the pipeline are not set", hint="Set them in `spec.executor.spec`.")
    number = intent.resource_id or await names.pipeline_id(api, workspace, project, intent.resource)
    return workspace, project, number


def _request(intent: RunIntent) -> JsonObject:
    """Return the body: without a branch or tag the pipeline's own is run. A comment is what a list shows of an execution."""
    spec = intent.spec
    variables = {**_texts(spec.get("variables") or {}), VARIABLE: intent.correlation}
    body: dict[str, Any] = {
        "to_revision": {"revision": str(spec.get("revision") or "HEAD")},
        "comment": f"reconciler {intent.correlation}",
        "variables": [{"key": key, "value": value} for key, value in variables.items()],
    }
    for key in ("branch", "tag"):
        if spec.get(key):
            body[key] = {"name": str(spec[key])}
    return body


def _texts(given: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): text_of(value) for key, value in given.items()}


def _run(place: Place, execution: Item) -> Run:
    workspace, project, pipeline = place
    detail = {"workspace": workspace, "project": project, "pipeline": pipeline}
    return Run(execution_id(execution), str(execution.get("html_url") or ""), detail=detail)


async def _workspace_is_there(api: Api, run: Run, intent: RunIntent) -> None:
    """Raise `ScopeGone` where the workspace itself is out of reach: that is no lost run."""
    workspace = str(run.detail.get("workspace") or intent.spec.get("workspace") or api.connection.account)
    path = workspace_path(workspace, "projects")
    try:
        await api.request("GET", path, params={"page": 1, "per_page": 1})
    except NotFound as error:
        raise ScopeGone(
            error.message, status=404, request=error.request, hint="The workspace is gone, renamed or out of reach."
        ) from None


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
