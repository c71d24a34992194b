"""The causal chain that ``explain`` tells: which commit led to which plan, calls, condition and next try. Pure."""

from __future__ import annotations

from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.model.errors import ReconcilerError
from reconciler.model.plan import Disposition
from reconciler.model.records import JournalEntry
from reconciler.model.resources import ResourceId


def notes_of(result: ReconcileResult, live: ActiveRevision, next_at: float, now: float) -> list[JournalEntry]:
    """Return a journal entry for everything that a slice did or could not do; a slice that found nothing leaves none."""
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
