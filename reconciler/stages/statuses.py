"""Which statuses are written back, and when: one open list a target, in order, each state once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.drivers.specs import spec_of
from reconciler.manifests.templates import TemplateError, resolve_text
from reconciler.model.executions import EndReason, Item, ReportKind, Result
from reconciler.model.values import is_no_commit
from reconciler.stages.inputs import InputError
from reconciler.stages.provenance import same_ref, short_ref
from reconciler.state.reports import PendingReport

QUEUED, RUNNING, FINAL = 1, 2, 3
_DEPLOYMENT = {QUEUED: "queued", RUNNING: "in_progress"}
_COMMIT = {QUEUED: "pending", RUNNING: ""}


def targets(item: Item, spec: Mapping[str, Any]) -> dict[ReportKind, dict[str, Any]]:
    """Return what ``item`` reports to, by kind; raises `InputError` for a template that cannot be resolved."""
    return _decided(item, spec)[0]


def without_target(item: Item, spec: Mapping[str, Any]) -> dict[ReportKind, str]:
    """Return, by kind, why a declared report of ``item`` is not written: what the event did not say."""
    return _decided(item, spec)[1]


def _decided(item: Item, spec: Mapping[str, Any]) -> tuple[dict[ReportKind, dict[str, Any]], dict[ReportKind, str]]:
    declared, origin = spec.get("report"), item.origin
    if not declared or spec.get("dryRun"):
        return {}, {}  # nothing runs in a dry run, and a status would say that it did
    try:
        declared = resolve_text(declared, {"inputs": item.inputs, "event": item.event})
    except TemplateError as error:
        raise InputError(f"report: {error}") from None
    found: dict[ReportKind, dict[str, Any]] = {}
    missing: dict[ReportKind, str] = {}
    nowhere = _nowhere(origin)
    common = {"integration": origin.get("integration", ""), "repository": origin.get("repository", "")}
    for kind, decide in ((ReportKind.DEPLOYMENT, _deployment), (ReportKind.COMMIT, _commit)):
        target = decide(declared, item)
        if isinstance(target, str):
            if target:
                missing[kind] = nowhere or target
        elif nowhere:
            missing[kind] = nowhere
        else:
            found[kind] = {**common, **target}
    return found, missing


def _nowhere(origin: Mapping[str, Any]) -> str:
    """Return why nothing at all can be reported for an event with this origin; empty where something can."""
    if not origin.get("integration"):
        return "the event came through no Integration of a code host"
    if "provider" in origin and not spec_of(origin["provider"]).takes_statuses:
        return f"the event came from {origin['provider']}, which takes no statuses"
    return "" if origin.get("repository") else "the event names no repository"


def _commit(declared: Mapping[str, Any], item: Item) -> dict[str, Any] | str:
    """Return the commit that gets the status, or why none does; empty text: none is declared."""
    if "commitStatus" not in declared:
        return ""
    origin, context = item.origin, {"context": declared["commitStatus"]["context"]}
    if origin.get("sha"):
        return {"target": origin["sha"], **context}
    if origin.get("lookup"):
        return {"target": "", "lookup": origin["lookup"], **context}
    return _no_commit(origin)


def _no_commit(origin: Mapping[str, Any]) -> str:
    gone = origin.get("deleted")
    return f"the event deleted {gone}: there is no commit" if gone else "the event names no commit"


def _deployment(declared: Mapping[str, Any], item: Item) -> dict[str, Any] | str:
    """Return the Deployment that gets the statuses, or why none does; empty text: none is declared, or its job reports to it."""
    options, origin = declared.get("deployment") or {}, item.origin
    links = {"environment_url": options.get("environmentUrl", ""), "log_url": options.get("logUrl", "")}
    if declared.get("deploymentStatus") and origin.get("deployment"):
        if origin.get("automatic") and not options.get("automatic"):
            return ""  # a job's own `environment:` made it and reports to it
        return {"target": origin["deployment"], **links}
    if not options.get("create"):
        return "the event names no Deployment, and `deployment.create` is not set" if declared.get("deploymentStatus") else ""
    ref = options.get("ref") or origin.get("sha") or short_ref(origin.get("ref", ""))
    if not ref or is_no_commit(ref) or same_ref(ref, origin.get("deleted", "")):
        return _no_commit(origin)
    make = {
        "ref": ref,
        "environment": options.get("environment") or "production",
        "task": options.get("task") or "deploy",
        "description": options.get("description", ""),
        "transient": bool(options.get("transient", False)),
        "production": options.get("production"),
        "through": [*origin.get("through", ()), item.stage.path],
    }
    return {"target": "", "create": make, **links}


def at_phase(item: Item, spec: Mapping[str, Any], phase: int, now: float, **payload: Any) -> tuple[PendingReport, ...]:
    """Return what is reported when an item is queued (`QUEUED`) or its run has begun (`RUNNING`)."""
    reports = []
    for kind, target in targets(item, spec).items():
        state = (_DEPLOYMENT if kind is ReportKind.DEPLOYMENT else _COMMIT)[phase]
        if state:
            reports.append(_report(item, kind, state, phase, now, {**target, **payload}))
    return tuple(reports)


def at_end(
    item: Item, spec: Mapping[str, Any], result: Result, why: EndReason | None, now: float, **payload: Any
) -> tuple[PendingReport, ...]:
    """Return the final statuses: every item that was reported once gets one, also a cancelled, lost or discarded one."""
    state = final_state(result, why)
    return tuple(_report(item, kind, state, FINAL, now, {**target, **payload}) for kind, target in targets(item, spec).items())


def final_state(result: Result, why: EndReason | None) -> str:
    """Return the word of the code host for it: ``failure`` when the run failed, ``error`` when it did not get that far."""
    if result is Result.PASSED:
        return "success"
    return "failure" if result is Result.FAILED and why in (EndReason.FAILED, EndReason.MISSING_OUTPUTS) else "error"


def _report(item: Item, kind: ReportKind, state: str, seq: int, now: float, payload: Mapping[str, Any]) -> PendingReport:  # noqa: PLR0917  called once
    return PendingReport(item.id, kind.value, state, seq, now, {**payload, "label": item.label, "stage": str(item.stage)})
