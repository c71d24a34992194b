"""The executor: runs a workflow of a project, or a task, and finds it again by a parameter of its own.

Facts: the provider's API documentation and its open server code (public-api/v1alpha, periodic_scheduler). Nothing there makes a
start idempotent. The correlation id travels as the parameter ``RECONCILER_EXECUTION_ID``, which the run's pipeline shows again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from reconciler.drivers.base import Api, ApiResponse
from reconciler.drivers.common import require_commit
from reconciler.drivers.semaphore.api import (
    HOOK,
    MANUAL_RUN,
    PIPELINES,
    TASKS,
    WORKFLOWS,
    Item,
    carries,
    declares,
    epoch_of,
    items_of,
    job_id,
    listed,
    path_of,
    pipeline_of,
    project_id,
    reference_of,
    task_of,
    text_of,
    trigger_of,
    workflow_of,
)
from reconciler.drivers.semaphore.compile import EVENT
from reconciler.model.errors import (
    Ambiguous,
    NotFound,
    OutcomeUnknown,
    ProviderProtocolError,
    ProviderUnavailable,
    ValidationFailed,
)
from reconciler.model.executions import LogLines, Result, Run, RunIntent, RunReport, RunStatus
from reconciler.model.values import JsonObject, canonical_json
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
        return LogLines((), cursor, complete=False) if attempt is None else await read(api, attempt, cursor)

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


LOOK_BACK_S = 120
"""How much older than the intent a workflow may look: an offset of clocks is measured, and not exact."""
MAX_ATTEMPTS = 50
"""Attempts of one run that are followed in one poll."""
_STATUS = {
    "initializing": RunStatus.QUEUED,
    "pending": RunStatus.QUEUED,
    "queuing": RunStatus.QUEUED,
    "running": RunStatus.RUNNING,
    "stopping": RunStatus.RUNNING,
}
_RESULT = {"passed": Result.PASSED, "failed": Result.FAILED, "stopped": Result.CANCELLED, "canceled": Result.CANCELLED}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The pipeline that counts."""

    workflow: str
    pipeline: Item
    blocks: list[Item]

    @property
    def done(self) -> bool:
        """Whether it ended."""
        return text_of(self.pipeline, "state").lower() == "done"

    @property
    def result(self) -> str:
        """The provider's word; empty until it ended."""
        return text_of(self.pipeline, "result").lower() if self.done else ""


async def known_attempt(api: Api, intent: RunIntent, run: Run) -> Attempt | None:
    """Return the attempt that ``run`` stands for; None while its workflow has no pipeline yet.

    Raises `NotFound` when it is gone. A 404 is as well the answer to a lost organization or right: the project tells.
    """
    workflow, pipeline = str(run.detail.get("workflow") or run.external_id), str(run.detail.get("pipeline") or "")
    try:
        if not pipeline:
            pipeline = text_of(await workflow_of(api, workflow), "initial_ppl_id")
        return Attempt(workflow, *await pipeline_of(api, pipeline)) if pipeline else None
    except NotFound:
        await project_id(api, intent.resource)
        raise


async def follow(api: Api, intent: RunIntent, run: Run) -> RunReport:
    """Return what the newest attempt of ``run`` is like."""
    current, number = await known_attempt(api, intent, run), run.attempt
    if current is None:
        return RunReport(run, RunStatus.QUEUED, conclusion="conceived")
    while current.done and current.result != "passed" and number < run.attempt + MAX_ATTEMPTS:
        newer = await _newer(api, intent, str(run.detail["project"]), current)
        if newer is None:
            break
        current, number = newer, number + 1
    return _report(current, described(api, run, current, number))


def described(api: Api, run: Run, attempt: Attempt, number: int) -> Run:
    """Return ``run`` as its newest attempt. Its id stays the first workflow's."""
    pipeline = text_of(attempt.pipeline, "ppl_id")
    url = run_url(api, attempt.workflow, pipeline)
    return Run(run.external_id, url, number, {**run.detail, "workflow": attempt.workflow, "pipeline": pipeline})


def run_url(api: Api, workflow: str, pipeline: str) -> str:
    """Return where people see a workflow."""
    return f"{api.connection.url.rstrip('/')}/workflows/{workflow}" + (f"?pipeline_id={pipeline}" if pipeline else "")


async def _newer(api: Api, intent: RunIntent, project: str, current: Attempt) -> Attempt | None:
    pipeline = text_of(current.pipeline, "ppl_id")
    rebuilt = _newest(await listed(api, PIPELINES, "ppl_id", {"wf_id": current.workflow}), "partial_rerun_of", pipeline)
    if rebuilt is not None:
        return Attempt(current.workflow, *await pipeline_of(api, str(rebuilt["ppl_id"])))
    params: dict[str, str | int] = {"project_id": project, "created_after": int(intent.intended_at) - LOOK_BACK_S}
    rerun = _newest(await listed(api, WORKFLOWS, "wf_id", params), "rerun_of", current.workflow)
    if rerun is None or not text_of(rerun, "initial_ppl_id"):
        return None
    return Attempt(str(rerun["wf_id"]), *await pipeline_of(api, str(rerun["initial_ppl_id"])))


def _newest(rows: Iterable[Item], key: str, before: str) -> Item | None:
    found = [row for row in rows if row.get(key) == before]
    return max(found, key=lambda row: epoch_of(row.get("created_at")) or 0.0, default=None)


def _report(attempt: Attempt, run: Run) -> RunReport:
    state = text_of(attempt.pipeline, "state").lower()
    if not attempt.done:
        return RunReport(run, _STATUS.get(state, RunStatus.RUNNING), conclusion=state)
    if not attempt.result:
        raise ProviderProtocolError(f"GET {PIPELINES}/…: done, and without a result", request=f"GET {PIPELINES}")
    words = [text_of(attempt.pipeline, key) for key in ("result_reason", "error_description")]
    passed = attempt.result == "passed"
    message = "" if passed else " ".join(": ".join(word for word in words if word).split())[:500]
    return RunReport(run, RunStatus.FINISHED, _RESULT.get(attempt.result, Result.FAILED), attempt.result, message)


LOGS = "/api/v1alpha/logs"
Cursor = dict[str, int | None]


async def read(api: Api, attempt: Attempt, cursor: str) -> LogLines:
    """Return what the jobs said after ``cursor``, in the order of blocks and jobs."""
    jobs = [(block, job) for block in attempt.blocks for job in items_of(block.get("jobs")) if job_id(job)]
    positions, lines = positions_of(cursor), []
    for block, job in jobs:
        number = job_id(job)
        at = positions.get(number, 0)
        if at is None:
            continue
        said, ended = await _job(api, number, done=attempt.done)
        prefix = f"[{text_of(block, 'name')}/{text_of(job, 'name')}] " if len(jobs) > 1 else ""
        lines += [prefix + line for line in said[at:]]
        positions[number] = None if ended else max(at, len(said))
    return LogLines(tuple(lines), canonical_json(positions).decode(), attempt.done)


async def _job(api: Api, number: str, *, done: bool) -> tuple[list[str], bool]:
    """Return all lines of a job, and whether there will be no more. A job that never began has no log, and its 404 is no error."""
    try:
        body = (await api.download(path_of(LOGS, number))).json()
    except NotFound:
        return [], done
    events = body.get("events") if isinstance(body, Mapping) else None
    if not isinstance(events, list):
        raise ProviderProtocolError(f"GET {LOGS}/…: no list of events", request=f"GET {LOGS}")
    shown = [_event(one) for one in events]
    ended = done or any(one.get("event") == "job_finished" for one in shown)
    return list(lines_of(shown, ended=ended)), ended


def lines_of(events: list[Item], *, ended: bool) -> Iterator[str]:
    """Yield commands as ``$ command`` and what they wrote, by line; a line that is not yet ended is left for the next time."""
    rest = ""
    for event in events:
        kind = event.get("event")
        if kind == "cmd_output":
            *whole, rest = (rest + text_of(event, "output")).split("\n")
            yield from (line.removesuffix("\r") for line in whole)
        elif kind in ("cmd_started", "cmd_finished", "job_finished"):
            if rest:
                yield rest.removesuffix("\r")
                rest = ""
            if kind == "cmd_started":
                yield from f"$ {text_of(event, 'directive')}".splitlines()
    if rest and ended:
        yield rest.removesuffix("\r")


def positions_of(cursor: str) -> Cursor:
    """Return the positions in ``cursor``; none for a text that is no cursor."""
    try:
        found = orjson.loads(cursor) if cursor else {}
    except orjson.JSONDecodeError:
        found = {}
    if not isinstance(found, dict):
        return {}
    return {job: at for job, at in found.items() if at is None or (isinstance(at, int) and at >= 0)}


def _event(value: Any) -> Item:
    """Agents of one's own hand their events on as text."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = {}
    return value if isinstance(value, Mapping) else {}
