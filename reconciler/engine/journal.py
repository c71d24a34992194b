"""The record of what reconciles did: journal entries for ``explain``, and lines of the log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.log import Logger
from reconciler.model.errors import ReconcilerError
from reconciler.model.plan import Disposition
from reconciler.model.records import JournalEntry
from reconciler.model.resources import ResourceId


def notes_of(result: ReconcileResult, live: ActiveRevision, next_at: float, now: float) -> list[JournalEntry]:
    """Return a journal entry for each change, call and error of a reconcile; one that found nothing to do has none."""
    notes: list[JournalEntry] = []

    def note(resource: ResourceId, event: str, **detail: object) -> None:
        notes.append(JournalEntry(now, resource, event, revision=live.revision, detail=detail))

    digest = str(result.plan.sha256) if result.plan is not None and result.plan.changes else ""
    for change in result.plan.changes if result.plan is not None else ():
        note(
            change.resource,
            "planned",
            action=change.action.value,
            cls=change.cls.value,
            address=str(change.address),
            disposition=change.disposition.value,
            reason=change.reason,
            message=change.message,
            fields=[f.path for f in change.fields],
            file=str(change.location),
            plan=digest,
        )
    for step in result.report.steps:
        event = "applied" if step.error is None else "failed"
        note(
            step.change.resource,
            event,
            action=step.change.action.value,
            address=str(step.change.address),
            external_id=step.external_id,
            duration_ms=step.duration_ms,
            **_error(step.error),
        )
    for resource, error in result.compiled.stalled.items():
        note(resource, "stalled", **_error(error))
    if result.error is not None:
        note(result.integration, "stalled", **_error(result.error))
    troubled = {n.resource for n in notes if n.event in {"failed", "stalled"}}
    waiting = {c.resource for c in (result.plan.changes if result.plan else ()) if c.disposition is Disposition.WAITING}
    for resource in sorted(troubled | waiting):
        note(resource, "next_try", at=next_at)
    return notes


def _error(error: ReconcilerError | None) -> dict[str, object]:
    if error is None:
        return {}
    return {"code": error.code, "error": error.message, "hint": error.hint, "request": getattr(error, "request", "")}


@dataclass(frozen=True, slots=True)
class TimedResult:
    """The result of one reconcile, with its begin and end (seconds since the epoch)."""

    result: ReconcileResult
    began: float
    ended: float


def log_steps(log: Logger, result: ReconcileResult, revision: str) -> None:
    """Log each change that was made or failed, and the error of the integration if it has one."""
    for step in result.report.steps:
        change = step.change
        fields = {
            "kind": change.resource.kind,
            "name": change.resource.name,
            "canvas": change.resource.canvas,
            "action": change.action.value,
            "class": change.cls.value,
            "address": str(change.address),
            "integration": result.integration.name,
            "external_id": step.external_id or str(change.external_id or ""),
            "duration_ms": step.duration_ms,
            "revision": revision,
        }
        if step.error is None:
            log.info("object_changed", outcome="done", **fields)
        else:
            log.warning("object_failed", outcome="failed", code=step.error.code, error=step.error.message, **fields)
    if result.error is not None and result.refused is None:  # a refused credential is logged once, by `Alerts`
        log.warning("integration_failed", integration=result.integration.name, code=result.error.code, error=result.error.message)


def log_summary(log: Logger, ended: Sequence[TimedResult], *, revision: str, next_in_s: float) -> None:
    """Log one line for several reconciles: what they did together, how long they took, and when the next one is due."""
    if not ended:
        return
    results = [timed.result for timed in ended]
    log.info(
        "pass_finished",
        integrations=len(results),
        changed=sum(1 for r in results for s in r.report.steps if s.error is None),
        failed=sum(len(r.report.failed) for r in results) + sum(1 for r in results if r.error is not None),
        revision=revision,
        duration_ms=math.ceil((max(timed.ended for timed in ended) - min(timed.began for timed in ended)) * 1000),
        next_in_s=round(max(0.0, next_in_s), 1),
    )
