"""The executor: runs a workflow of a project, or a task, and finds it again by a parameter of its own.

Facts: the provider's API documentation and its open server code (public-api/v1alpha, periodic_scheduler). Nothing there makes a
start idempotent. The correlation id travels as the parameter ``RECONCILER_EXECUTION_ID``, which the run's pipeline shows again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.drivers.base import Api, ApiResponse
from reconciler.drivers.common import require_commit
from reconciler.drivers.semaphore import joblogs
from reconciler.drivers.semaphore.api import (
    HOOK,
    MANUAL_RUN,
    TASKS,
    WORKFLOWS,
    Item,
    listed,
    path_of,
    pipeline_of,
    project_id,
    text_of,
    trigger_of,
)
from reconciler.drivers.semaphore.compile import EVENT
from reconciler.drivers.semaphore.following import LOOK_BACK_S, follow, known_attempt, run_url
from reconciler.drivers.semaphore.tasks import carries, declares, reference_of, task_of
from reconciler.drivers.semaphore.times import epoch_of
from reconciler.model.errors import Ambiguous, NotFound, OutcomeUnknown, ProviderUnavailable, ValidationFailed
from reconciler.model.executions import LogLines, Run, RunIntent, RunReport
from reconciler.model.values import JsonObject
from reconciler.model.values import text_of as as_text

PARAMETER = "RECONCILER_EXECUTION_ID"
DEFAULT_FILE = ".semaphore/semaphore.yml"
_TOGETHER = 8


class SemaphoreExecutor:
    """Implements `reconciler.drivers.base.Executor`: resource ``project``, spec ``ref``, ``pipelineFile``, ``parameters``, ``task``.

    A run's ``external_id`` is its first workflow; ``detail`` has ``project`` and, once known, ``workflow`` and ``pipeline`` of the
    newest attempt.
    """

    type = "semaphore"
    needs_integration = True
    settle_s = 120.0
    by_clock = True
    poll_s = 15.0

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """No call of the provider tells what a token may run, so that there is nothing to ask for."""
        return {}

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Run the task, if one is named, and only the task; else the workflow."""
        spec = intent.spec
        require_commit(spec)
        ref = str(spec.get("ref") or "")
        project = await project_id(api, intent.resource)
        parameters = {**_parameters(spec), PARAMETER: intent.correlation}
        if spec.get("task"):
            return await self._run_task(api, intent, project, parameters)
        if not ref:
            raise ValidationFailed("a workflow runs on a reference, and `ref` is not set", hint="Set `spec.ref` of the executor.")
        body = {
            "project_id": project,
            "reference": ref,
            "pipeline_file": str(spec.get("pipelineFile") or DEFAULT_FILE),
            "parameters": parameters,
        }
        return _started(api, project, await api.request("POST", WORKFLOWS, json=body))

    async def _run_task(self, api: Api, intent: RunIntent, project: str, parameters: dict[str, str]) -> Run:
        """A parameter of ours that the task refuses is left out: such a run is known by its answer alone."""
        spec = intent.spec
        ref, file = str(spec.get("ref") or ""), str(spec.get("pipelineFile") or "")
        body: dict[str, Any] = {"reference": reference_of(ref)} if ref else {}
        body |= {"pipeline_file": file} if file else {}
        path = path_of(TASKS, await task_of(api, project, spec["task"]), "run_now")
        try:
            answer = await api.request("POST", path, json={**body, "parameters": parameters})
        except ValidationFailed as error:
            if PARAMETER not in error.message:
                raise
            rest = {name: value for name, value in parameters.items() if name != PARAMETER}
            answer = await api.request("POST", path, json={**body, "parameters": rest})
        return _started(api, project, answer)

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the workflow whose initial pipeline has our parameter: the oldest, since reruns take it along.

        Raises `Ambiguous` for a task that does not declare the parameter, when somebody ran a task meanwhile; and
        `ProviderUnavailable` while a workflow does not show its pipeline yet.
        """
        project = await project_id(api, intent.resource)
        params: dict[str, str | int] = {"project_id": project, "created_after": int(intent.intended_at) - LOOK_BACK_S}
        rows = [row for row in await listed(api, WORKFLOWS, "wf_id", params) if trigger_of(row) != HOOK]
        marks = await _marks(api, rows)
        ours = [row for row, mark in zip(rows, marks, strict=True) if mark == intent.correlation]
        if ours:
            first = min(ours, key=lambda row: (bool(row.get("rerun_of")), epoch_of(row.get("created_at")) or 0.0))
            return _run(api, project, str(first["wf_id"]), text_of(first, "initial_ppl_id"))
        if None in marks:
            raise ProviderUnavailable(f"GET {WORKFLOWS}: a workflow shows no pipeline yet", request=f"GET {WORKFLOWS}")
        unmarked = [row for row, mark in zip(rows, marks, strict=True) if not mark and trigger_of(row) in (MANUAL_RUN, "")]
        if intent.spec.get("task") and unmarked:
            await self._refuse_to_guess(api, intent, project, unmarked)
        return None

    async def _refuse_to_guess(self, api: Api, intent: RunIntent, project: str, unmarked: Sequence[Item]) -> None:
        if await declares(api, await task_of(api, project, intent.spec["task"]), PARAMETER):
            return  # a run of ours would carry it
        shown = ", ".join(str(row["wf_id"]) for row in unmarked[:5])
        raise Ambiguous(
            f"the task was perhaps run as one of the workflows {shown}, and none can be told",
            hint=f"Give the task an optional parameter {PARAMETER}: its runs then tell whose they are.",
        )

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return the state of the initial pipeline or of what took its place; promotions never count. There are no outputs."""
        return await follow(api, intent, run)

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Terminate the newest workflow of the run."""
        workflow = str(run.detail.get("workflow") or run.external_id)
        try:
            await api.request("POST", path_of(WORKFLOWS, workflow, "terminate"))
        except ValidationFailed:
            attempt = await known_attempt(api, intent, run)
            if attempt is None or not attempt.done:
                raise

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return the log of the newest attempt's jobs."""
        attempt = await known_attempt(api, intent, run)
        return LogLines((), cursor, complete=False) if attempt is None else await joblogs.read(api, attempt, cursor)

    def run_id_of(self, event_type: str, payload: Any) -> str:
        """Return the workflow of a pipeline that is done: any of its pipelines is a reason to look."""
        workflow = payload.get("workflow") if event_type == EVENT and isinstance(payload, Mapping) else None
        return text_of(workflow, "id") if isinstance(workflow, Mapping) else ""

    def attempt_of(self, event_type: str, payload: Any) -> int:
        """Its webhooks count no attempts."""
        return 0

    def matches_job_token(self, claims: Mapping[str, Any], run: Run) -> bool:
        """Whether the job's workflow is this run's, first or newest, and its project, too."""
        workflow, project = claims.get("wf_id"), claims.get("prj_id")
        workflows = {run.external_id, str(run.detail.get("workflow") or run.external_id)} - {""}
        return isinstance(workflow, str) and workflow in workflows and bool(project) and project == run.detail.get("project")

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """Return the run's project, and its first and its newest workflow."""
        workflows = (run.external_id, str(run.detail.get("workflow") or run.external_id))
        return {"prj_id": (str(run.detail.get("project") or ""),), "wf_id": tuple(dict.fromkeys(workflows))}

    def issuer(self, api: Api) -> str:
        """Return the organization's URL."""
        return api.connection.url.rstrip("/")


def _parameters(spec: JsonObject) -> dict[str, str]:
    """Return the parameters as texts."""
    given: Mapping[str, Any] = spec.get("parameters") or {}
    return {str(name): as_text(value) for name, value in given.items()}


def _started(api: Api, project: str, answer: ApiResponse) -> Run:
    """Return the run that was started; raises `OutcomeUnknown` where the answer does not name it."""
    body = answer.json()
    workflow = text_of(body, "workflow_id") if isinstance(body, Mapping) else ""
    if not workflow:
        raise OutcomeUnknown("a workflow was started, and the answer does not name it", request=f"POST {WORKFLOWS}")
    return _run(api, project, workflow, text_of(body, "pipeline_id"))


def _run(api: Api, project: str, workflow: str, pipeline: str) -> Run:
    detail = {"project": project, "workflow": workflow, **({"pipeline": pipeline} if pipeline else {})}
    return Run(workflow, run_url(api, workflow, pipeline), detail=detail)


async def _marks(api: Api, rows: Sequence[Item]) -> list[str | None]:
    """Return what each workflow carries as our parameter: empty for nothing, None where its pipeline is not there yet."""
    gate = asyncio.Semaphore(_TOGETHER)

    async def mark(row: Item) -> str | None:
        pipeline = text_of(row, "initial_ppl_id")
        if not pipeline:
            return None
        async with gate:
            try:
                return carries((await pipeline_of(api, pipeline))[0], PARAMETER)
            except NotFound:
                return None

    return list(await asyncio.gather(*(mark(row) for row in rows)))
