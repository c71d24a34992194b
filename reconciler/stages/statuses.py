"""The statuses to write back, and when: for each target in order, each state once. Pure."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from reconciler.drivers.specs import spec_of
from reconciler.manifests.kinds import DeploymentSpec, ReportSpec, StageSpec
from reconciler.manifests.templates import TemplateError, resolve_text
from reconciler.model.codec import from_json, to_json
from reconciler.model.executions import EndReason, Item, ReportKind, Result
from reconciler.model.values import JsonObject, is_no_commit
from reconciler.stages.inputs import InputError
from reconciler.stages.provenance import same_ref, short_ref, through_of
from reconciler.state.reports import PendingReport

QUEUED, RUNNING, FINAL = 1, 2, 3
_DEPLOYMENT = {QUEUED: "queued", RUNNING: "in_progress"}
_COMMIT = {QUEUED: "pending", RUNNING: ""}


class NewDeployment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A Deployment to create for an item."""

    ref: str
    environment: str
    task: str = "deploy"
    description: str = ""
    transient: bool = False
    production: bool | None = None
    through: tuple[str, ...] = ()
    """Paths of the stages that led to it, the item's own last."""


class ReportPayload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of a `PendingReport`, as it is stored: where the status goes, what it says, and what failed."""

    integration: str = ""
    """Path of the Integration of the code host."""
    repository: str = ""
    target: str = ""
    """The commit, or the id of the Deployment; empty until it is looked up or created."""
    lookup: str = ""
    """The ref whose commit is the target."""
    create: NewDeployment | None = None
    context: str = ""
    environment_url: str = ""
    log_url: str = ""
    url: str = ""
    message: str = ""
    label: str = ""
    stage: str = ""
    failures: int = 0
    failed_at: float | None = None
    """Time of the first failure (epoch seconds)."""
    error: str = ""


_Decision = ReportPayload | str
"""The target of a declared report, or why there is none; an empty string: the report is not declared."""


def payload_of(report: PendingReport) -> ReportPayload:
    """Return the payload of a stored report."""
    return from_json(ReportPayload, report.payload)


def targets(item: Item, spec: StageSpec) -> dict[ReportKind, ReportPayload]:
    """Return the targets of the reports of ``item``, by kind. Raises `InputError` for a template that cannot be resolved."""
    return {kind: decision for kind, decision in _decisions(item, spec).items() if isinstance(decision, ReportPayload)}


def without_target(item: Item, spec: StageSpec) -> dict[ReportKind, str]:
    """Return, by kind, why a declared report of ``item`` is not written: what the event lacks."""
    return {kind: decision for kind, decision in _decisions(item, spec).items() if isinstance(decision, str) and decision}


def _decisions(item: Item, spec: StageSpec) -> dict[ReportKind, _Decision]:
    if spec.report is None or spec.dry_run:
        return {}  # nothing runs in a dry run, and a status would claim that it did
    try:
        resolved = resolve_text(to_json(spec.report), {"inputs": item.inputs, "event": item.event})
    except TemplateError as error:
        raise InputError(f"report: {error}") from None
    report = from_json(ReportSpec, resolved)
    blocked = _why_nowhere(item.origin)
    decisions = {ReportKind.DEPLOYMENT: _deployment(report, item), ReportKind.COMMIT: _commit(report, item)}
    return {kind: blocked or decision if decision else decision for kind, decision in decisions.items()}


def _why_nowhere(origin: JsonObject) -> str:
    """Return why no status can be reported for an event with this origin; empty if one can."""
    if not origin.get("integration"):
        return "the event came through no Integration of a code host"
    if "provider" in origin and not spec_of(origin["provider"]).takes_statuses:
        return f"the event came from {origin['provider']}, which takes no statuses"
    return "" if origin.get("repository") else "the event names no repository"


def _payload(item: Item) -> ReportPayload:
    """Return the payload of a report of ``item``, still without a target."""
    origin = item.origin
    return ReportPayload(
        integration=origin.get("integration", ""),
        repository=origin.get("repository", ""),
        label=item.label,
        stage=str(item.stage),
    )


def _commit(report: ReportSpec, item: Item) -> _Decision:
    """Decide which commit gets the status."""
    if report.commit_status is None:
        return ""
    sha, lookup = item.origin.get("sha", ""), item.origin.get("lookup", "")
    if not sha and not lookup:
        return _no_commit(item.origin)
    return replace(_payload(item), target=sha, lookup="" if sha else lookup, context=report.commit_status.context)


def _no_commit(origin: JsonObject) -> str:
    deleted = origin.get("deleted")
    return f"the event deleted {deleted}: there is no commit" if deleted else "the event names no commit"


def _deployment(report: ReportSpec, item: Item) -> _Decision:
    """Decide which Deployment gets the statuses. A Deployment that a job made gets them from the job."""
    options, origin = report.deployment or DeploymentSpec(), item.origin
    payload = replace(_payload(item), environment_url=options.environment_url or "", log_url=options.log_url or "")
    if report.deployment_status and origin.get("deployment"):
        if origin.get("automatic") and not options.automatic:
            return ""  # a job's own `environment:` made it and reports to it
        return replace(payload, target=origin["deployment"])
    if not options.create:
        return "the event names no Deployment, and `deployment.create` is not set" if report.deployment_status else ""
    ref: str = options.ref or origin.get("sha") or short_ref(origin.get("ref", ""))
    if not ref or is_no_commit(ref) or same_ref(ref, origin.get("deleted", "")):
        return _no_commit(origin)
    create = NewDeployment(
        ref=ref,
        environment=options.environment or "production",
        task=options.task or "deploy",
        description=options.description or "",
        transient=bool(options.transient),
        production=options.production,
        through=(*through_of(origin), item.stage.path),
    )
    return replace(payload, create=create)


def at_phase(item: Item, spec: StageSpec, phase: int, now: float, *, url: str = "") -> tuple[PendingReport, ...]:
    """Return the statuses of an item that was queued (`QUEUED`) or whose run has started (`RUNNING`)."""
    states = {kind: (_DEPLOYMENT if kind is ReportKind.DEPLOYMENT else _COMMIT)[phase] for kind in ReportKind}
    return tuple(
        PendingReport(item.id, kind.value, states[kind], phase, now, to_json(replace(payload, url=url)))
        for kind, payload in targets(item, spec).items()
        if states[kind]
    )


def at_end(
    item: Item, spec: StageSpec, result: Result, why: EndReason | None, now: float, *, url: str = "", message: str = ""
) -> tuple[PendingReport, ...]:
    """Return the final statuses. Every item that was reported gets one, also if it was cancelled, lost or discarded."""
    state = final_state(result, why)
    return tuple(
        PendingReport(item.id, kind.value, state, FINAL, now, to_json(replace(payload, url=url, message=message)))
        for kind, payload in targets(item, spec).items()
    )


def final_state(result: Result, why: EndReason | None) -> str:
    """Return the code host's term for an end: ``failure`` if the run failed, ``error`` if it did not get that far."""
    if result is Result.PASSED:
        return "success"
    return "failure" if result is Result.FAILED and why in (EndReason.FAILED, EndReason.MISSING_OUTPUTS) else "error"
