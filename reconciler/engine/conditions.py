"""Conditions, computed once at the end of a pass, and their invariants. Pure.

The rules are Kubernetes' (``metav1.Condition``) with three additions: Drifted means not Ready in every mode, Suspended
means Ready is Unknown, PlanBlocked means not Ready.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.model.status import Condition, ConditionStatus, ConditionType, ResourceStatus

T, F, U = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_ONLY_WHILE_TRUE = (
    ConditionType.RECONCILING,
    ConditionType.STALLED,
    ConditionType.DRIFTED,
    ConditionType.SUSPENDED,
    ConditionType.PLAN_BLOCKED,
)


@dataclass(frozen=True, slots=True)
class ConditionCause:
    """A reason (CamelCase, stable) and a sentence for it."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ConditionInputs:
    """The causes of one resource's conditions. If both ``stalled`` and ``progressing`` are set, ``stalled`` wins."""

    ready: ConditionCause = field(default_factory=lambda: ConditionCause("Reconciled", "as declared"))
    stalled: ConditionCause | None = None  # waits for a person or another resource
    progressing: ConditionCause | None = None  # continues by itself
    drifted: ConditionCause | None = None
    suspended: ConditionCause | None = None
    blocked: ConditionCause | None = None
    credentials: tuple[ConditionStatus, ConditionCause] | None = None
    delivering: tuple[ConditionStatus, ConditionCause] | None = None


def conditions_of(inputs: ConditionInputs, previous: Iterable[Condition], *, generation: int, now: str) -> tuple[Condition, ...]:
    """Return the conditions of ``inputs``; a transition time changes only with its status."""
    stalled = inputs.stalled
    progressing = inputs.progressing if stalled is None and inputs.suspended is None else None
    rows: list[tuple[ConditionType, ConditionStatus, ConditionCause]] = [_ready(inputs, stalled, progressing)]
    for kind, finding in (
        (ConditionType.RECONCILING, progressing),
        (ConditionType.STALLED, stalled if not inputs.suspended else None),
        (ConditionType.DRIFTED, inputs.drifted),
        (ConditionType.SUSPENDED, inputs.suspended),
        (ConditionType.PLAN_BLOCKED, inputs.blocked),
    ):
        if finding is not None:
            rows.append((kind, T, finding))
    if inputs.credentials is not None:
        rows.append((ConditionType.CREDENTIALS_VALID, *inputs.credentials))
    if inputs.delivering is not None:
        rows.append((ConditionType.DELIVERING, *inputs.delivering))
    before = {condition.type: condition for condition in previous}
    return tuple(_condition(kind, status, finding, before.get(kind), generation, now) for kind, status, finding in rows)


def _ready(
    inputs: ConditionInputs, stalled: ConditionCause | None, progressing: ConditionCause | None
) -> tuple[ConditionType, ConditionStatus, ConditionCause]:
    if inputs.suspended is not None:
        return ConditionType.READY, U, ConditionCause("Suspended", inputs.suspended.message)
    if stalled is not None:
        return ConditionType.READY, F, stalled
    if inputs.blocked is not None:
        return ConditionType.READY, F, ConditionCause("PlanBlocked", inputs.blocked.message)
    if inputs.drifted is not None:
        return ConditionType.READY, F, ConditionCause("DriftDetected", inputs.drifted.message)
    if progressing is not None:
        return ConditionType.READY, F, progressing
    return ConditionType.READY, T, inputs.ready


def _condition(  # noqa: PLR0917  called once
    kind: ConditionType, status: ConditionStatus, finding: ConditionCause, before: Condition | None, generation: int, now: str
) -> Condition:
    since = before.last_transition_time if before is not None and before.status is status else now
    return Condition(kind, status, finding.reason, finding.message, since, generation)


def broken_invariants(status: ResourceStatus) -> tuple[str, ...]:
    """Return every invariant that ``status`` violates; empty after every finished pass (a property test checks it)."""
    by_type: Mapping[ConditionType, Condition] = {c.type: c for c in status.conditions}
    ready = by_type.get(ConditionType.READY)
    if ready is None:
        return ("Ready is missing",)
    present = {kind for kind in _ONLY_WHILE_TRUE if kind in by_type}
    rules = (
        (len(by_type) == len(status.conditions), "a condition type appears twice"),
        (all(by_type[kind].status is T for kind in present), "an abnormal condition is present without being True"),
        (not {ConditionType.STALLED, ConditionType.RECONCILING} <= present, "Stalled and Reconciling together"),
        (ready.status is not T or not present, "Ready beside an abnormal condition"),
        (ready.status is not U or ConditionType.SUSPENDED in present, "Ready is Unknown without Suspended"),
        (ConditionType.SUSPENDED not in present or ready.status is U, "Suspended but Ready is not Unknown"),
        (status.observed_generation <= status.generation, "observedGeneration beyond generation"),
        (ready.status is not T or status.observed_generation == status.generation, "Ready for an older generation"),
        (all(c.observed_generation <= status.generation for c in status.conditions), "a condition beyond generation"),
        (all(c.last_transition_time for c in status.conditions), "a condition without a transition time"),
        (
            all(c.reason and c.reason[0].isupper() and c.reason.isalnum() for c in status.conditions),
            "a reason that is not CamelCase",
        ),
    )
    return tuple(text for holds, text in rules if not holds)


def same_but_times(before: ResourceStatus, after: ResourceStatus) -> bool:
    """Whether two statuses differ at most in the time of the next reconcile, which is not a change."""
    return dataclasses.replace(before, next_reconcile_at="") == dataclasses.replace(after, next_reconcile_at="")
