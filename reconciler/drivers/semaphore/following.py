"""What a run is like now: its initial pipeline, or the newest that took its place.

Promotions are pipelines of the same workflow and never decide. A partial rebuild is a new pipeline of the workflow; a rerun is
a new workflow. Both leave the old one as it is and name it, so that they are looked for once what is known did not pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.drivers.base import Api
from reconciler.drivers.semaphore.api import PIPELINES, WORKFLOWS, Item, listed, pipeline_of, project_id, text_of, workflow_of
from reconciler.drivers.semaphore.times import epoch_of
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.executions import Result, Run, RunIntent, RunReport, RunStatus

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
