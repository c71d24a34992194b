"""Which statuses are written back, and when: one open list a target, in order, each state once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.manifests.templates import TemplateError, resolve
from reconciler.model.executions import Item, ReportKind, Result, Why
from reconciler.stages.inputs import InputError
from reconciler.state.reports import PendingReport

QUEUED, RUNNING, FINAL = 1, 2, 3
_DEPLOYMENT = {QUEUED: "queued", RUNNING: "in_progress"}
_COMMIT = {QUEUED: "pending", RUNNING: ""}


def targets(item: Item, spec: Mapping[str, Any]) -> dict[ReportKind, dict[str, Any]]:
    """Return what ``item`` reports to, by kind; raises `InputError` for a template that cannot be resolved."""
    wanted, origin = spec.get("report"), item.origin
    if spec.get("dryRun"):
        return {}  # nothing runs, and a status would say that it did
    if not wanted or not origin.get("repository") or not origin.get("integration"):
        return {}
    try:
        wanted = resolve(wanted, {"inputs": item.inputs, "event": item.event})
    except TemplateError as error:
        raise InputError(f"report: {error}") from None
    found: dict[ReportKind, dict[str, Any]] = {}
    common = {"integration": origin["integration"], "repository": origin["repository"]}
    deployment = _deployment(wanted, item)
    if deployment is not None:
        found[ReportKind.DEPLOYMENT] = {**common, **deployment}
    if "commitStatus" in wanted and origin.get("sha"):
        found[ReportKind.COMMIT] = {**common, "target": origin["sha"], "context": str(wanted["commitStatus"]["context"])}
    return found


def _deployment(wanted: Mapping[str, Any], item: Item) -> dict[str, Any] | None:
    options, origin = wanted.get("deployment") or {}, item.origin
    links = {"environment_url": options.get("environmentUrl", ""), "log_url": options.get("logUrl", "")}
    if wanted.get("deploymentStatus") and origin.get("deployment"):
        if origin.get("automatic") and not options.get("automatic"):
            return None  # a job's own `environment:` made it and reports to it
        return {"target": origin["deployment"], **links}
    if not options.get("create"):
        return None
    ref = options.get("ref") or origin.get("sha") or origin.get("ref")
    if not ref:
        return None
    make = {
        "ref": str(ref),
        "environment": str(options.get("environment", "production")),
        "task": str(options.get("task", "deploy")),
        "description": str(options.get("description", "")),
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
    item: Item, spec: Mapping[str, Any], result: Result, why: Why | None, now: float, **payload: Any
) -> tuple[PendingReport, ...]:
    """Return the final statuses: every item that was reported once gets one, also a cancelled, lost or discarded one."""
    state = final_state(result, why)
    return tuple(_report(item, kind, state, FINAL, now, {**target, **payload}) for kind, target in targets(item, spec).items())


def final_state(result: Result, why: Why | None) -> str:
    """Return the word that GitHub has for it: ``failure`` when the run failed, ``error`` when it did not get that far."""
    if result is Result.PASSED:
        return "success"
    return "failure" if result is Result.FAILED and why in (Why.FAILED, Why.MISSING_OUTPUTS) else "error"


def _report(item: Item, kind: ReportKind, state: str, seq: int, now: float, payload: Mapping[str, Any]) -> PendingReport:
    return PendingReport(item.id, kind.value, state, seq, now, {**payload, "label": item.label, "stage": str(item.stage)})
