"""Finish an execution in one commit: its outputs, a retry or the event for later stages, and its final statuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import orjson

from reconciler.engine.context import Context
from reconciler.engine.occurrences import ends_of
from reconciler.failpoints import failpoint
from reconciler.model.backoff import exponential
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import ReconcilerError
from reconciler.model.events import Event, EventState, Origin
from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, Result, as_lost, outputs_of
from reconciler.model.incidents import Occurrence
from reconciler.model.times import iso
from reconciler.stages import statuses, traces
from reconciler.stages.context import Ended, Work, stored_run
from reconciler.state.inbox import Arrival, new_event_id
from reconciler.state.reports import PendingReport

BACKOFF_S = 10.0
_RETRIED = frozenset({EndReason.FAILED, EndReason.TIMED_OUT, EndReason.MISSING_OUTPUTS})
"""Ends that a further attempt can change. It is made only if the run before has terminated (`Ended.terminated`)."""


async def finish(context: Context, work: Work, ended: Ended) -> Execution:
    """Store the end of an execution with all that follows from it: a retry, or its event and final statuses.

    Raises `FenceLost` if another process stored it.
    """
    execution, item, spec, now = work.execution, work.item, work.spec, work.now
    declared = {output.name: output.required for output in spec.outputs}
    outputs, missing = outputs_of(declared, await _outputs(context, work, ended))
    result, why, message = ended.result, ended.why, ended.message
    if result is Result.PASSED and missing:
        result, why, message = Result.FAILED, EndReason.MISSING_OUTPUTS, f"required outputs are missing: {', '.join(missing)}"
    finished = dataclasses.replace(
        execution,
        state=ExecutionState.FINISHED,
        result=result,
        why=why,
        message=message,
        finished_at=now,
        next_at=0.0,
        run=stored_run(ended.report.run, context.redactor) if ended.report is not None else execution.run,
        status=ended.report.conclusion if ended.report is not None else execution.status,
    )
    retry = next_attempt(work, finished) if ended.terminated else None
    arrival: Arrival | None = None
    occurrences: list[Occurrence] = []
    reports: tuple[PendingReport, ...] = ()
    if retry is None:
        event, body = _completion(finished, item, outputs, owner=context.owner)
        own = traces.execution_context(context.tracer, item, finished.id)
        arrival = Arrival(dataclasses.replace(event, trace=own.traceparent) if own is not None else event, body)
        url = finished.run.url if finished.run is not None else ""
        reports = statuses.at_end(item, spec, result, why, now, url=url, message=message)
        trace = own.traceparent if own is not None else ""
        occurrences = [dataclasses.replace(each, trace=trace) for each in ends_of(finished, item.label)]
    failpoint("execution-before-finish")
    saved = await context.store.finish_execution(
        finished,
        outputs=outputs,
        retry=retry,
        arrival=arrival,
        reports=reports,
        occurrences=occurrences,
        spans=traces.finished(context.tracer, work, item, finished),
    )
    failpoint("execution-after-finish")
    return saved


async def abandon(context: Context, execution: Execution, message: str) -> None:
    """End an execution that cannot go on as ``lost``: its item or stage is gone from the state, or every step of it fails."""
    now = await context.store.now()
    item = await context.store.item(execution.item_id)
    snapshot = await context.store.pinned(execution.spec_digest)
    if item is not None and snapshot is not None:
        try:
            work = Work(execution, item, resource_from_json(snapshot), now)
            await finish(context, work, Ended(Result.FAILED, EndReason.LOST, message))
            return
        except ReconcilerError:
            raise
        except Exception as error:  # its event or statuses cannot be made: it ends without them
            context.log.exception("step_failed", execution=execution.id, code="RC9001", error=type(error).__name__)
    lost = as_lost(execution, message, now)
    spans = traces.finished(context.tracer, None, item, lost)
    await context.store.finish_execution(lost, outputs={}, occurrences=ends_of(lost, lost.label), spans=spans)


async def _outputs(context: Context, work: Work, ended: Ended) -> Mapping[str, Any]:
    """Return the outputs of the run and those that its jobs pushed, which take precedence. A service may echo a secret: it is redacted."""
    if ended.simulated:
        return {output.name: f"dry-run-{output.name}" for output in work.spec.outputs}
    shown = ended.report.outputs if ended.report is not None else {}
    return {**context.redactor.redact_fields(shown), **await context.store.outputs(work.execution.id)}


def next_attempt(work: Work, finished: Execution) -> Item | None:
    """Return the item, queued for its next attempt; None if it is not retried."""
    policy, item = work.spec.retry, work.item
    if policy is None or finished.why not in _RETRIED or finished.cancel_by not in ("", "timeout"):
        return None
    if item.attempt > policy.limit:
        return None
    first_s = policy.backoff if policy.backoff is not None else BACKOFF_S
    not_before = work.now + exponential(item.attempt - 1, first_s)
    attempt, failure = item.attempt + 1, finished.message[:300]
    return dataclasses.replace(
        item,
        attempt=attempt,
        not_before=not_before,
        failure=failure,
        reason="retry",
        message=f"attempt {attempt} begins {iso(not_before)}, after: {failure}"[:400],
    )


def _completion(finished: Execution, item: Item, outputs: Mapping[str, Any], *, owner: str) -> tuple[Event, bytes]:
    """Return the event of the end, also of a failure: later stages filter on `$.execution.result`."""
    body = {
        "type": "execution_finished",
        "stage": {
            "name": finished.stage.name,
            "canvas": finished.stage.canvas,
            "id": finished.stage.uid(owner),
        },
        "execution": {
            "id": finished.id,
            "label": finished.label,
            "result": finished.result.value if finished.result else None,
            "result_reason": finished.why.value if finished.why else None,
            "result_message": finished.message,
            "created_at": iso(finished.created_at),
            "started_at": iso(finished.intended_at),
            "finished_at": iso(finished.finished_at),
            "url": finished.run.url if finished.run is not None else "",
            "attempt": item.attempt,
        },
        "inputs": item.inputs,
        "outputs": outputs,
        "origin": item.origin,
    }
    event = Event(
        id=new_event_id(finished.finished_at),
        source=finished.stage,
        delivery_id=finished.id,
        type="execution_finished",
        origin=Origin.INTERNAL,
        state=EventState.PENDING,
        received_at=finished.finished_at,
        occurred_at=finished.finished_at,
    )
    return event, orjson.dumps(body)
