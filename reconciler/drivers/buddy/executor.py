"""The executor: runs a pipeline, and finds its execution again by the comment.

Facts: the provider's API documentation of executions. A start is not idempotent, and its answer has the number at once; a
retry at Buddy runs the same execution again, so that there is one number for all attempts, and none for which attempt it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.drivers.base import Api
from reconciler.drivers.buddy import lookup as names
from reconciler.drivers.buddy.api import Item, workspace_path
from reconciler.drivers.buddy.following import execution_of, logs_of, report_of, status_of
from reconciler.drivers.buddy.payload import execution_id
from reconciler.drivers.buddy.runs import ENDED, executions_path, executions_since
from reconciler.drivers.common import NoJobToken, require_commit
from reconciler.model.errors import NotFound, OutcomeUnknown, ScopeGone, ValidationFailed
from reconciler.model.executions import LogLines, Run, RunIntent, RunReport
from reconciler.model.values import JsonObject, text_of

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
