"""The executor: runs a workflow of a project, or a task, and finds it again by a parameter of its own.

A start is not idempotent. The correlation id travels as the parameter ``RECONCILER_EXECUTION_ID``, which the run's pipeline shows
again; only a task that declares the parameter passes it on.

The initial pipeline decides the result, or the newest that took its place. Promotions are pipelines of the same workflow and never
decide. A partial rebuild is a new pipeline of the workflow; a rerun is a new workflow. Both leave the old one as it is and refer to
it, so they are looked for once the known one did not pass.
Facts: the provider's API documentation and its open server code (public-api/v1alpha, periodic_scheduler).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec

from reconciler.drivers.base import ApiResponse
from reconciler.drivers.common import NonEmpty, decode_write, read_each
from reconciler.drivers.connection import Api
from reconciler.drivers.execution import LOOK_BACK_S, CountsNoAttempts, read_log, require_commit
from reconciler.drivers.semaphore.api import (
    HOOK,
    MANUAL_RUN,
    PIPELINES,
    TASKS,
    WORKFLOWS,
    Block,
    PipelineAnswer,
    SemaphorePipeline,
    SemaphoreWorkflow,
    declares,
    epoch_of,
    list_rows,
    lower,
    path_of,
    pipeline_of,
    project_id,
    reference_of,
    task_of,
    workflow_of,
)
from reconciler.drivers.semaphore.compile import EVENT
from reconciler.drivers.wire import decode, find, matches
from reconciler.model.errors import Ambiguous, NotFound, ProviderProtocolError, ProviderUnavailable, ValidationFailed
from reconciler.model.executions import LogLines, Result, Run, RunIntent, RunReport, RunStatus
from reconciler.model.values import JsonObject, JsonValue, text_of

RowT = TypeVar("RowT", SemaphorePipeline, SemaphoreWorkflow)
PARAMETER = "RECONCILER_EXECUTION_ID"
DEFAULT_FILE = ".semaphore/semaphore.yml"
LOGS = "/api/v1alpha/logs"
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


class _Started(msgspec.Struct, frozen=True):
    workflow_id: NonEmpty
    pipeline_id: str | None = None


class LogEvent(msgspec.Struct, frozen=True):
    event: str | None = None
    output: str | None = None
    directive: str | None = None


class SemaphoreExecutor(CountsNoAttempts):
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
        """Return the rights to the project: to see it, to start a workflow (or run the task) and to stop it."""
        start = "project.scheduler.run_manually" if find(executor, object, "spec", "task") else "project.job.rerun"
        return {"project.view": "read", start: "write", "project.job.stop": "write"}

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Run the task if one is named, else the workflow."""
        spec = intent.spec
        require_commit(spec)
        ref = str(spec.get("ref") or "")
        project = await project_id(api, intent.resource)
        parameters = {**_parameters(spec), PARAMETER: intent.correlation}
        if spec.get("task"):
            return await self._run_task(api, intent, project, parameters)
        if not ref:
            raise ValidationFailed("a workflow runs on a reference, but `ref` is not set", hint="Set `spec.ref` of the executor.")
        body = {
            "project_id": project,
            "reference": ref,
            "pipeline_file": str(spec.get("pipelineFile") or DEFAULT_FILE),
            "parameters": parameters,
        }
        return _started(api, project, await api.request("POST", WORKFLOWS, json=body))

    async def _run_task(self, api: Api, intent: RunIntent, project: str, parameters: dict[str, str]) -> Run:
        """If the task refuses our parameter, run it without: such a run is known by its answer alone."""
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
        """Return the workflow whose initial pipeline has our parameter: the oldest, since reruns copy it.

        Raises `Ambiguous` for a task that does not declare the parameter if somebody ran a task meanwhile, and
        `ProviderUnavailable` while a workflow does not show its pipeline yet.
        """
        project = await project_id(api, intent.resource)
        workflows = [workflow for workflow in await _workflows_since(api, project, intent) if workflow.trigger != HOOK]
        marked = list(zip(workflows, await read_each(workflows, lambda workflow: _mark(api, workflow)), strict=True))
        ours = [workflow for workflow, mark in marked if mark == intent.correlation]
        if ours:
            first = min(ours, key=lambda workflow: (bool(workflow.rerun_of), epoch_of(workflow.created_at) or 0.0))
            return _run(api, project, first.id, first.initial_ppl_id)
        if any(mark is None for _, mark in marked):
            raise ProviderUnavailable(f"GET {WORKFLOWS}: a workflow shows no pipeline yet", request=f"GET {WORKFLOWS}")
        unmarked = [workflow for workflow, mark in marked if not mark and workflow.trigger in (MANUAL_RUN, "")]
        if intent.spec.get("task") and unmarked:
            await self._refuse_to_guess(api, intent, project, unmarked)
        return None

    async def _refuse_to_guess(self, api: Api, intent: RunIntent, project: str, unmarked: Sequence[SemaphoreWorkflow]) -> None:
        if await declares(api, await task_of(api, project, intent.spec["task"]), PARAMETER):
            return  # a run of ours would carry it
        raise Ambiguous(
            f"the task may have run as one of the workflows {', '.join(workflow.id for workflow in unmarked[:5])}",
            hint=f"Give the task an optional parameter {PARAMETER}: it identifies our runs.",
        )

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return the state of the newest attempt. There are no outputs."""
        current, number = await _known_attempt(api, intent, run), run.attempt
        if current is None:
            return RunReport(run, RunStatus.QUEUED, conclusion="conceived")
        while current.is_done and current.result != "passed" and number < run.attempt + MAX_ATTEMPTS:
            newer = await _newer_attempt(api, intent, str(run.detail["project"]), current)
            if newer is None:
                break
            current, number = newer, number + 1
        detail = {**run.detail, "workflow": current.workflow, "pipeline": current.pipeline.id}
        url = _run_url(api, current.workflow, current.pipeline.id)
        return _report(current, Run(run.external_id, url, number, detail))

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Terminate the newest workflow of the run."""
        try:
            await api.request("POST", path_of(WORKFLOWS, _workflow_id(run), "terminate"))
        except ValidationFailed:
            attempt = await _known_attempt(api, intent, run)
            if attempt is None or not attempt.is_done:
                raise

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return the log of the newest attempt's jobs, in the order of blocks and jobs."""
        attempt = await _known_attempt(api, intent, run)
        return LogLines((), cursor, complete=False) if attempt is None else await _logs(api, attempt, cursor)

    def run_id_of(self, event_type: str, payload: object) -> str:
        """Return the workflow of a pipeline that is done: any of its pipelines is a reason to poll."""
        return (find(payload, str, "workflow", "id") if event_type == EVENT else None) or ""

    def matches_job_token(self, claims: Mapping[str, object], run: Run) -> bool:
        """Whether the token names this run's first or newest workflow, and its project."""
        expected = self.expects(run)
        return all(claims.get(name) and claims[name] in values for name, values in expected.items())

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """Return the run's project, and its first and its newest workflow."""
        workflows = (run.external_id, _workflow_id(run))
        return {"prj_id": (str(run.detail.get("project") or ""),), "wf_id": tuple(dict.fromkeys(workflows))}

    def issuer(self, api: Api) -> str:
        return api.connection.url.rstrip("/")


# start and find


def _parameters(spec: JsonObject) -> dict[str, str]:
    return {str(name): text_of(value) for name, value in (spec.get("parameters") or {}).items()}


def _started(api: Api, project: str, answer: ApiResponse) -> Run:
    started = decode_write(answer, _Started, f"POST {WORKFLOWS}")
    return _run(api, project, started.workflow_id, started.pipeline_id)


def _run(api: Api, project: str, workflow: str, pipeline: str | None) -> Run:
    detail = {"project": project, "workflow": workflow, **({"pipeline": pipeline} if pipeline else {})}
    return Run(workflow, _run_url(api, workflow, pipeline), detail=detail)


def _run_url(api: Api, workflow: str, pipeline: str | None) -> str:
    return f"{api.connection.url.rstrip('/')}/workflows/{workflow}" + (f"?pipeline_id={pipeline}" if pipeline else "")


def _workflow_id(run: Run) -> str:
    return str(run.detail.get("workflow") or run.external_id)


async def _workflows_since(api: Api, project: str, intent: RunIntent) -> list[SemaphoreWorkflow]:
    params: dict[str, str | int] = {"project_id": project, "created_after": int(intent.intended_at) - LOOK_BACK_S}
    return await list_rows(api, WORKFLOWS, list[SemaphoreWorkflow], params)


async def _mark(api: Api, workflow: SemaphoreWorkflow) -> str | None:
    """Return the value of our parameter: empty without one, None while the pipeline does not exist yet."""
    if not workflow.initial_ppl_id:
        return None
    try:
        return (await pipeline_of(api, workflow.initial_ppl_id)).pipeline.variable(PARAMETER)
    except NotFound:
        return None


# poll


@dataclass(frozen=True, slots=True)
class Attempt:
    """The pipeline that decides, and its workflow."""

    workflow: str
    pipeline: SemaphorePipeline
    blocks: Sequence[Block]

    @property
    def is_done(self) -> bool:
        return self.pipeline.is_done

    @property
    def result(self) -> str:
        """The provider's word; empty until it has ended."""
        return lower(self.pipeline.result) if self.is_done else ""


def _attempt(workflow: str, answer: PipelineAnswer) -> Attempt:
    return Attempt(workflow, answer.pipeline, answer.blocks or ())


async def _known_attempt(api: Api, intent: RunIntent, run: Run) -> Attempt | None:
    """Return the attempt that ``run`` refers to; None while its workflow has no pipeline yet.

    Raises `NotFound` when it is gone. A lost organization or permission also answers 404: reading the project tells them apart.
    """
    workflow, pipeline = _workflow_id(run), str(run.detail.get("pipeline") or "")
    try:
        if not pipeline:
            pipeline = (await workflow_of(api, workflow)).initial_ppl_id or ""
        return _attempt(workflow, await pipeline_of(api, pipeline)) if pipeline else None
    except NotFound:
        await project_id(api, intent.resource)
        raise


async def _newer_attempt(api: Api, intent: RunIntent, project: str, current: Attempt) -> Attempt | None:
    pipelines = await list_rows(api, PIPELINES, list[SemaphorePipeline], {"wf_id": current.workflow})
    rebuilt = _newest(row for row in pipelines if row.partial_rerun_of == current.pipeline.id)
    if rebuilt is not None:
        return _attempt(current.workflow, await pipeline_of(api, rebuilt.id))
    rerun = _newest(row for row in await _workflows_since(api, project, intent) if row.rerun_of == current.workflow)
    if rerun is None or not rerun.initial_ppl_id:
        return None
    return _attempt(rerun.id, await pipeline_of(api, rerun.initial_ppl_id))


def _newest(rows: Iterable[RowT]) -> RowT | None:
    return max(rows, key=lambda row: epoch_of(row.created_at) or 0.0, default=None)


def _report(attempt: Attempt, run: Run) -> RunReport:
    state = lower(attempt.pipeline.state)
    if not attempt.is_done:
        return RunReport(run, _STATUS.get(state, RunStatus.RUNNING), conclusion=state)
    if not attempt.result:
        raise ProviderProtocolError(f"GET {PIPELINES}/…: done, but without a result", request=f"GET {PIPELINES}")
    reasons = [attempt.pipeline.result_reason, attempt.pipeline.error_description]
    passed = attempt.result == "passed"
    message = "" if passed else " ".join(": ".join(filter(None, reasons)).split())[:500]
    return RunReport(run, RunStatus.FINISHED, _RESULT.get(attempt.result, Result.FAILED), attempt.result, message)


# logs


async def _logs(api: Api, attempt: Attempt, cursor: str) -> LogLines:
    """Return the lines of the jobs after ``cursor``. Every request returns all events of a job."""
    jobs = [
        (job.key, f"[{block.name or ''}/{job.name or ''}] ") for block in attempt.blocks for job in block.jobs or () if job.key
    ]
    parts = [(key, prefix if len(jobs) > 1 else "", key) for key, prefix in jobs]
    return await read_log(parts, cursor, partial(_job_log, api, done=attempt.is_done), done=attempt.is_done)


async def _job_log(api: Api, job: str, *, done: bool) -> tuple[list[str], bool]:
    """Return all lines of a job, and whether there will be no more. A job that never began has no log: its 404 is no error."""
    try:
        body = (await api.download(path_of(LOGS, job))).json()
    except NotFound:
        return [], done
    events = [event_of(event) for event in decode(body, list[object], f"GET {LOGS}/…", "events")]
    ended = done or any(event.event == "job_finished" for event in events)
    return list(lines_of(events, ended=ended)), ended


def event_of(value: JsonValue) -> LogEvent:
    """Return an event of a log; an empty one for any other shape. Self-hosted agents write each event as JSON text."""
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value, type=LogEvent)
        except (msgspec.DecodeError, UnicodeError):
            return LogEvent()
    return matches(value, LogEvent) or LogEvent()


def lines_of(events: Iterable[LogEvent], *, ended: bool) -> Iterator[str]:
    """Yield commands as ``$ command`` and their output, by line; a line that has not ended yet is left for the next time."""
    rest = ""
    for event in events:
        if event.event == "cmd_output":
            *whole, rest = (rest + (event.output or "")).split("\n")
            yield from (line.removesuffix("\r") for line in whole)
        elif event.event in ("cmd_started", "cmd_finished", "job_finished"):
            if rest:
                yield rest.removesuffix("\r")
                rest = ""
            if event.event == "cmd_started":
                yield from f"$ {event.directive or ''}".splitlines()
    if rest and ended:
        yield rest.removesuffix("\r")
