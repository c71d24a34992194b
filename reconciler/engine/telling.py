"""What slices did, as lines of the log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.engine.reconcile import ReconcileResult


@dataclass(frozen=True, slots=True)
class EndedRecords:
    """A slice that ended, and when (seconds since the epoch)."""

    result: ReconcileResult
    began: float
    ended: float


def log_steps(log: Any, result: ReconcileResult, revision: str) -> None:
    """Say each change that was made or failed, and why the integration could not be worked on."""
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
    if result.error is not None:
        log.warning("integration_failed", integration=result.integration.name, code=result.error.code, error=result.error.message)


def log_summary(log: Any, ended: Sequence[EndedRecords], *, revision: str, next_in_s: float) -> None:
    """Say what several slices did together, how long it took from the first's begin to the last's end, and when the next is due."""
    if not ended:
        return
    results = [one.result for one in ended]
    log.info(
        "pass_finished",
        integrations=len(results),
        changed=sum(1 for r in results for s in r.report.steps if s.error is None),
        failed=sum(len(r.report.failed) for r in results) + sum(1 for r in results if r.error is not None),
        revision=revision,
        duration_ms=math.ceil((max(one.ended for one in ended) - min(one.began for one in ended)) * 1000),
        next_in_s=round(max(0.0, next_in_s), 1),
    )
