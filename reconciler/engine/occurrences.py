"""Events that people may want to know: repairs, and ends of executions. Pure."""

from __future__ import annotations

from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.executions import Execution, Result
from reconciler.model.incidents import TEXT, IncidentSeverity, Occurrence, Topic
from reconciler.model.plan import Action, ChangeClass

_WRITES = frozenset({Action.CREATE, Action.UPDATE, Action.DELETE})


def repairs_of(result: ReconcileResult, now: float) -> list[Occurrence]:
    """Return one occurrence for all drift that a reconciliation has repaired; none without."""
    repaired = [
        step.change
        for step in result.report.steps
        if step.error is None and step.change.cls is not ChangeClass.COMMIT and step.change.action in _WRITES
    ]
    if not repaired:
        return []
    names = ", ".join(sorted({str(change.address) for change in repaired})[:5])
    more = f" and {len(repaired) - 5} more" if len(repaired) > 5 else ""
    return [
        Occurrence(
            Topic.REPAIRED,
            repaired[0].resource.path if len({change.resource for change in repaired}) == 1 else result.integration.path,
            f"repaired/{result.integration.path}/{now!r}",
            IncidentSeverity.INFO,
            f"Drift of {result.integration} was repaired",
            f"{names}{more}"[:TEXT],
            at=now,
            instant=True,
        )
    ]


def ends_of(execution: Execution, label: str) -> list[Occurrence]:
    """Return what the final end of an execution starts and ends. A cancelled one says nothing about its stage."""
    stage, result = execution.stage, execution.result
    if result is None:
        return []
    url = execution.run.url if execution.run is not None else ""
    text = f"{label}: {execution.message}".strip(": ")[:TEXT]
    finished = Occurrence(
        Topic.STAGE_FINISHED,
        stage.path,
        f"finished/{execution.id}",
        IncidentSeverity.INFO,
        f"{stage} {result.value}",
        text,
        url,
        at=execution.finished_at,
        instant=True,
    )
    if result is Result.CANCELLED:
        return [finished]
    failed = Occurrence(
        Topic.STAGE_FAILED,
        stage.path,
        f"stage/{stage.path}",
        IncidentSeverity.ERROR,
        f"{stage} failed",
        text,
        url,
        at=execution.finished_at,
        ends=result is Result.PASSED,
    )
    return [failed, finished]


__all__ = ["ends_of", "repairs_of"]
