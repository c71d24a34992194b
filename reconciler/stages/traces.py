"""Spans of items and executions, made of what the state says about them: start times and parents survive the process. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.manifests.kinds import StageSpec
from reconciler.model.executions import EndReason, Execution, Item, Result, Vote
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.traces import (
    Attribute,
    Attributes,
    AttributeValue,
    SpanKind,
    SpanRecord,
    TraceContext,
    ids_of_event,
    parse_traceparent,
    span_id_of,
)
from reconciler.stages.admission import counts
from reconciler.stages.context import Work
from reconciler.state.queue import Admission
from reconciler.state.reports import PendingReport
from reconciler.tracing import Tracer, harmless

RUN = "RUN"
"""The action of a pipeline run in the conventions: a stage runs, whatever its executor builds or deploys."""
DISCARDED = "discarded"
_RESULTS = {Result.PASSED: "success", Result.FAILED: "failure", Result.CANCELLED: "cancellation"}
_WHY = {
    EndReason.TIMED_OUT: "timeout",
    EndReason.ERROR: "error",
    EndReason.LOST: "error",
    EndReason.REFUSED: "error",
}


def item_context(tracer: Tracer, item: Item) -> TraceContext | None:
    """Return the span of the event of ``item``; None without tracing. An item that was queued without tracing begins its own trace."""
    if not tracer.on:
        return None
    stored = parse_traceparent(item.trace)
    if stored is not None:
        return stored
    trace_id, span_id = ids_of_event(item.event_id)
    return TraceContext(trace_id, span_id, tracer.keeps(trace_id))


def execution_context(tracer: Tracer, item: Item, execution_id: str) -> TraceContext | None:
    """Return the span of an execution of ``item``; None without tracing."""
    parent = item_context(tracer, item)
    return parent.child(span_id_of("execution", execution_id)) if parent is not None else None


def commit_of(origin: Mapping[str, object]) -> Attributes:
    """Return the repository, ref and commit that an event is about, as far as known."""
    pairs = (
        (Attribute.REPOSITORY, "repository"),
        (Attribute.HEAD_REVISION, "sha"),
        (Attribute.HEAD_NAME, "ref"),
        (Attribute.VCS, "provider"),
    )
    return {name: str(origin[key]) for name, key in pairs if origin.get(key)}


def stage_of(stage: ResourceId) -> Attributes:
    """Return the attributes that name a stage."""
    return {Attribute.STAGE: stage.name, Attribute.CANVAS: stage.canvas}


def _of_item(item: Item) -> dict[str, AttributeValue]:
    return {
        **stage_of(item.stage),
        **commit_of(item.origin),
        Attribute.ITEM: item.id,
        Attribute.REVISION: item.revision,
        Attribute.STAGE_DIGEST: item.spec_digest,
        Attribute.ATTEMPT: item.attempt,
    }


# -- waits ----------------------------------------------------------------------------------------------------------------


@harmless
def waits_of(
    tracer: Tracer,
    admission: Admission,
    items: Sequence[Item],
    votes: Mapping[str, Sequence[Vote]],
    *,
    snapshots: Mapping[str, Resource],
    now: float,
) -> list[SpanRecord]:
    """Return the spans of the waits that ``admission`` ends: in the queue, and for approvals."""
    known = {item.id: item for item in items}
    spans: list[SpanRecord] = []
    for execution in admission.start:
        item = known[execution.item_id]
        spans += ended_wait(tracer, item, votes.get(item.id, ()), snapshots.get(item.spec_digest), now=now)
    for item_id, (reason, _) in admission.discard.items():
        item = known[item_id]
        snapshot = snapshots.get(item.spec_digest)
        spans += ended_wait(tracer, item, votes.get(item.id, ()), snapshot, now=now, discarded=reason)
    return spans


@harmless
def ended_wait(
    tracer: Tracer, item: Item, votes: Sequence[Vote], stage: Resource | None, *, now: float, discarded: str = ""
) -> list[SpanRecord]:
    """Return the span of the wait of ``item`` in its queue, and that of its wait for approvals below it."""
    parent = item_context(tracer, item)
    if parent is None or not parent.sampled:
        return []
    start = item.queued_at or item.created_at
    own = parent.child(span_id_of("queue", item.id, item.attempt))
    outcome = DISCARDED if discarded else "started"
    attributes: dict[str, AttributeValue] = {**_of_item(item), Attribute.OUTCOME: outcome}
    if discarded:
        attributes[Attribute.REASON] = discarded
    spans = [_span(own, parent, f"queue {item.stage.name}", (start, now), attributes)]
    approved = _approved_at(votes, stage)
    if item.attempt == 1 and approved is not None:
        count, at = approved
        waited = own.child(span_id_of("approval", item.id))
        granted = at is not None
        shown = {
            **stage_of(item.stage),
            Attribute.ITEM: item.id,
            Attribute.APPROVALS: count,
            Attribute.OUTCOME: "approved" if granted else "not approved",
        }
        spans.append(_span(waited, own, f"approval {item.stage.name}", (start, at if at is not None else now), shown))
    return spans


def _approved_at(votes: Sequence[Vote], stage: Resource | None) -> tuple[int, float | None] | None:
    """Return the number of approvals that count, and when the last needed one came; None for a stage that needs none."""
    conditions = stage.typed(StageSpec).conditions if stage is not None else ()
    needed = [condition.approval for condition in conditions if condition.approval is not None]
    if not needed:
        return None
    ends: list[float] = []
    for condition in needed:
        times = sorted(vote.at for vote in votes if counts(condition, vote.by))
        if len(times) < condition.count:
            return len(votes), None
        ends += times[: condition.count][-1:]
    return len(votes), max(ends, default=None)


# -- executions -----------------------------------------------------------------------------------------------------------


@harmless
def started(tracer: Tracer, work: Work, execution: Execution) -> list[SpanRecord]:
    """Return the span of the start of ``execution``: from its admission until its run is known."""
    own = execution_context(tracer, work.item, execution.id)
    if own is None or not own.sampled:
        return []
    attributes: dict[str, AttributeValue] = {**_of_executor(work), Attribute.RESENT: execution.resent}
    span_id = span_id_of("start", execution.id)
    return [_span(own.child(span_id), own, f"start {execution.stage.name}", (execution.created_at, work.now), attributes)]


@harmless
def finished(tracer: Tracer, work: Work | None, item: Item | None, execution: Execution) -> list[SpanRecord]:
    """Return the span of ``execution``, a pipeline run in the conventions, and that of its run at the provider, a task of it."""
    if item is None:
        return []
    parent, own = item_context(tracer, item), execution_context(tracer, item, execution.id)
    if parent is None or own is None or not own.sampled:
        return []
    why = execution.why or EndReason.FAILED
    result = _WHY.get(why) or _RESULTS[execution.result or Result.FAILED]
    error = why.value if execution.result is Result.FAILED else ""
    url = execution.run.url if execution.run is not None else ""
    attributes: dict[str, AttributeValue] = {
        **_of_item(item),
        **(_of_executor(work) if work is not None else {}),
        Attribute.ACTION: RUN,
        Attribute.PIPELINE: execution.stage.name,
        Attribute.RUN_ID: execution.id,
        Attribute.RESULT: result,
        Attribute.REASON: why.value,
        **({Attribute.RUN_URL: url} if url else {}),
    }
    name, begin, end = execution.stage.name, execution.created_at, execution.finished_at
    spans = [_span(own, parent, f"{RUN} {name}", (begin, end), attributes, kind=SpanKind.SERVER, error=error)]
    if execution.run is not None and execution.run.external_id:
        task = (work.spec.executor.type if work is not None else "") or name
        label = execution.resource or (work.spec.executor.resource_name if work is not None else "") or task
        shown: dict[str, AttributeValue] = {
            **(_of_executor(work) if work is not None else {}),
            Attribute.TASK: label,
            Attribute.TASK_RUN_ID: execution.run.external_id,
            Attribute.TASK_RESULT: result,
            Attribute.CONCLUSION: execution.status,
            **({Attribute.TASK_RUN_URL: url} if url else {}),
        }
        below = own.child(span_id_of("task", execution.id))
        spans.append(_span(below, own, label, (execution.intended_at or begin, end), shown, error=error))
    return spans


def _of_executor(work: Work) -> dict[str, AttributeValue]:
    kind = work.spec.executor.type
    integration = ResourceId.from_path(work.execution.integration).name if work.execution.integration else ""
    return {
        Attribute.EXECUTION: work.execution.id,
        Attribute.TYPE: kind,
        **({Attribute.INTEGRATION: integration} if integration else {}),
    }


# -- reports --------------------------------------------------------------------------------------------------------------


def report_context(tracer: Tracer, item: Item | None, report: PendingReport) -> TraceContext | None:
    """Return the span of a status to write; None without tracing, or if its item is gone."""
    parent = item_context(tracer, item) if item is not None else None
    return parent.child(span_id_of("report", report.item_id, report.kind, report.state)) if parent is not None else None


@harmless
def reported(
    tracer: Tracer, item: Item | None, report: PendingReport, *, since: float, now: float, error: str = ""
) -> list[SpanRecord]:
    """Return the span of a status that was written, or given up with ``error``. ``since``: when it was due for the first time."""
    parent = item_context(tracer, item) if item is not None else None
    own = report_context(tracer, item, report)
    if item is None or parent is None or own is None or not own.sampled:
        return []
    attributes: dict[str, AttributeValue] = {
        **_of_item(item),
        Attribute.REPORT: report.kind,
        Attribute.REPORT_STATE: report.state,
    }
    return [_span(own, parent, f"report {report.kind}", (min(since, now), now), attributes, error=error)]


def _span(
    own: TraceContext,
    parent: TraceContext,
    name: str,
    times: tuple[float, float],
    attributes: Mapping[str, AttributeValue],
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    error: str = "",
) -> SpanRecord:
    ids = (own.trace_id, own.span_id, parent.span_id)
    return SpanRecord(*ids, name, kind, times[0], max(times), dict(attributes), error)
