"""From what a pass found to one status per resource. Pure: `now` is an argument, the previous status too."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.engine.apply import Step
from reconciler.engine.compile import integration_of
from reconciler.engine.conditions import ConditionCause, ConditionInputs, conditions_of, same_but_times
from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.model.errors import AuthFailed, ReconcilerError, RetryKind
from reconciler.model.objects import RecordedObject, Scope
from reconciler.model.plan import Action, Change, ChangeClass, Disposition
from reconciler.model.resources import Kind, Location, Resource, ResourceId
from reconciler.model.status import Condition, ConditionStatus, CredentialReport, ResourceStatus
from reconciler.model.times import iso
from reconciler.model.values import Address
from reconciler.planning.removal import out_of_reach, way_out

HISTORY = 5
_NOT_RUN = {Kind.NOTIFICATION.value: "Validated in full; sending notifications is not part of this version yet."}
_EVENT_KINDS = frozenset({Kind.STAGE.value, Kind.CONNECTION_GROUP.value})
_WAITS_FOR_A_HUMAN = frozenset({"Conflict", "Refused", "Contended", "PermissionDenied", "TLSFailed"})
_LOCAL_SOURCES = frozenset({"webhook", "manual"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What the statuses of one pass are made of."""

    live: ActiveRevision
    results: Mapping[ResourceId, ReconcileResult]
    secrets: Mapping[ResourceId, ReconcilerError]
    """Secret resources whose value is missing."""
    next_at: Mapping[ResourceId, float] = field(default_factory=dict)
    """When each integration is looked at again (seconds since the epoch)."""
    outside: EventStatus = field(default_factory=lambda: EventStatus())


@dataclass(frozen=True, slots=True)
class EventStatus:
    """What is known of sources and stages beside the reconciling itself; empty where no events are taken in."""

    delivering: Mapping[ResourceId, tuple[ConditionStatus, ConditionCause]] = field(default_factory=dict)
    stalled: Mapping[ResourceId, ConditionCause] = field(default_factory=dict)
    """Stages that cannot run, and why."""
    suspended: Mapping[ResourceId, str] = field(default_factory=dict)
    """Sources without an integration, stages and groups that are suspended, with the reason."""
    stages: tuple[Mapping[str, Any], ...] = ()
    """Rows of ``stages[]`` in the status file."""
    pending: int = 0
    """Events that nobody has looked at yet."""
    schedules: tuple[Mapping[str, Any], ...] = ()
    """Rows of ``schedules[]`` in the status file."""
    failed: int = 0
    """Events that led to nothing because of a mistake in a filter or mapping."""
    quarantined: int = 0
    """Events that are put aside, since evaluating them took the process down or too much time or memory."""


@dataclass(slots=True)
class _View:
    """One resource's share of its integration's result."""

    resource: Resource
    changes: list[Change] = field(default_factory=list)
    errors: dict[Address, ReconcilerError] = field(default_factory=dict)
    scope_errors: dict[Scope, ReconcilerError] = field(default_factory=dict)
    records: list[RecordedObject] = field(default_factory=list)
    done: int = 0
    renamed: list[str] = field(default_factory=list)
    """Declared names that are former names at the provider, with the present one."""
    left: list[str] = field(default_factory=list)
    """What is no longer declared and out of reach, with the way out."""


def statuses(
    facts: Facts, previous: Mapping[ResourceId, ResourceStatus], generations: Mapping[ResourceId, int], now: float
) -> dict[ResourceId, ResourceStatus]:
    """Return the status of every resource: those in force, and those that are being deleted."""
    integrations = {r.id: integration_of(r) for r in facts.live.resources.values()}
    shares = {integration: _Shares(result) for integration, result in facts.results.items()}
    found: dict[ResourceId, ResourceStatus] = {}
    for identity, resource in facts.live.resources.items():
        result = facts.results.get(integrations[identity] or identity)
        before = previous.get(identity)
        if result is None and before is not None and before.spec_digest == resource.spec_digest and _is_remote(resource):
            found[identity] = before  # a restart: what was found last stands until it is looked at again
            continue
        view = _view(resource, shares.get(integrations[identity] or identity))
        findings = _findings(view, result, facts)
        found[identity] = _status(
            view,
            findings,
            previous.get(identity),
            generations.get(identity, 1),
            _when(facts, integrations[identity] or identity),
            now,
        )
    for identity, records in _leaving(facts).items():
        before = previous.get(identity)
        view = _view(Resource(identity, {}, before.location if before else Location("")), shares.get(records[0].integration))
        view.records = records
        found[identity] = _deleting(view, facts.results.get(records[0].integration), before, now)
    return found


def _is_remote(resource: Resource) -> bool:
    return resource.id.kind == Kind.INTEGRATION.value or integration_of(resource) is not None


def _when(facts: Facts, integration: ResourceId) -> float:
    return facts.next_at.get(integration, 0.0)


class _Shares:
    """What one result holds for each resource: sorted out once, so that a thousand resources do not search it a thousand times."""

    def __init__(self, result: ReconcileResult) -> None:
        self.integration = result.integration
        self.changes: defaultdict[ResourceId, list[Change]] = defaultdict(list)
        self.steps: defaultdict[ResourceId, list[Step]] = defaultdict(list)
        self.records: defaultdict[ResourceId, list[RecordedObject]] = defaultdict(list)
        self.scopes: defaultdict[ResourceId, set[Scope]] = defaultdict(set)
        self.scope_errors = result.scope_errors
        for change in result.plan.changes if result.plan is not None else ():
            self.changes[change.resource].append(change)
        for step in result.report.steps:
            self.steps[step.change.resource].append(step)
        for record in result.recorded:
            self.records[record.resource].append(record)
            self.scopes[record.resource].add(record.scope)
        for desired in result.compiled.objects:
            self.scopes[desired.resource].add(desired.scope)
        self.renamed = _renamed(result)
        self.left = _left(result)


def _renamed(result: ReconcileResult) -> Mapping[ResourceId, list[str]]:
    found: defaultdict[ResourceId, list[str]] = defaultdict(list)
    for desired in result.compiled.objects:
        view = result.world.views.get(desired.scope)
        if view is not None and view.place is not None:
            found[desired.resource].append(
                f"{desired.scope.key} is called {view.place.key} now: write the new name in the manifest"
            )
    return found


def _left(result: ReconcileResult) -> Mapping[ResourceId, list[str]]:
    declared = {one.scope for one in result.compiled.objects}
    found: defaultdict[ResourceId, list[str]] = defaultdict(list)
    for record in result.recorded:
        view = result.world.views.get(record.scope)
        if record.scope in declared or record.tombstone or view is None or view.error is None:
            continue
        if out_of_reach(view.error):
            found[record.resource].append(way_out(record, view.error))
    return found


def _view(resource: Resource, shares: _Shares | None) -> _View:
    view = _View(resource)
    if shares is None or resource.id == shares.integration:
        return view
    tried = {step.change.address: step for step in shares.steps.get(resource.id, ())}
    view.errors = {address: step.error for address, step in tried.items() if step.error is not None}
    view.done = sum(1 for step in tried.values() if step.error is None)
    # What was executed is no longer pending; the next observation says whether it holds.
    view.changes = [
        c
        for c in shares.changes.get(resource.id, ())
        if not (c.address in tried and tried[c.address].error is None and c.disposition is Disposition.EXECUTE)
    ]
    view.records = shares.records.get(resource.id, [])
    view.renamed, view.left = shares.renamed.get(resource.id, []), shares.left.get(resource.id, [])
    scopes = shares.scopes.get(resource.id, set())
    view.scope_errors = {scope: shares.scope_errors[scope] for scope in scopes if scope in shares.scope_errors}
    return view


def _findings(view: _View, result: ReconcileResult | None, facts: Facts) -> ConditionInputs:
    resource = view.resource
    kind = resource.id.kind
    invalid = (
        ConditionCause("InvalidManifest", "the newest revision of this manifest is not valid; its last valid spec is in force")
        if resource.id in facts.live.kept
        else None
    )
    if kind in _NOT_RUN:
        return ConditionInputs(stalled=invalid or ConditionCause("NotImplemented", _NOT_RUN[kind]))
    if kind in _EVENT_KINDS:
        return _event_findings(resource, facts, invalid)
    if kind == Kind.SECRET.value:
        error = facts.secrets.get(resource.id)
        return ConditionInputs(
            ready=ConditionCause("Available", "every value can be read"), stalled=_finding(error) if error else invalid
        )
    if kind == Kind.CANVAS.value:
        return ConditionInputs(ready=ConditionCause("Valid", "nothing to provision"), stalled=invalid)
    if kind == Kind.INTEGRATION.value:
        return _integration_findings(result, invalid)
    findings = _object_findings(view, result, invalid)
    suspended = facts.outside.suspended.get(resource.id)
    if suspended and findings.suspended is None:
        findings = dataclasses.replace(findings, suspended=ConditionCause("Suspended", suspended))
    told = facts.outside.delivering.get(resource.id)
    return dataclasses.replace(findings, delivering=_gravest(findings.delivering, told)) if told is not None else findings


def _gravest(
    provider: tuple[ConditionStatus, ConditionCause] | None, own: tuple[ConditionStatus, ConditionCause]
) -> tuple[ConditionStatus, ConditionCause]:
    """What the provider says of its deliveries and what came in here: a failure that either sees counts."""
    if own[0] is ConditionStatus.FALSE or provider is None:
        return own
    return provider if provider[0] is ConditionStatus.FALSE or own[0] is ConditionStatus.UNKNOWN else own


def _event_findings(resource: Resource, facts: Facts, invalid: ConditionCause | None) -> ConditionInputs:
    """A stage or a connection group owns nothing outside: it is ready when what it needs can be used."""
    suspended = facts.outside.suspended.get(resource.id)
    what = "runs" if resource.id.kind == Kind.STAGE.value else "is asked"
    return ConditionInputs(
        ready=ConditionCause("Valid", f"{what} when an event arrives"),
        stalled=facts.outside.stalled.get(resource.id) or invalid,
        suspended=ConditionCause("Suspended", suspended) if suspended else None,
    )


def _integration_findings(result: ReconcileResult | None, invalid: ConditionCause | None) -> ConditionInputs:
    if result is None:
        return ConditionInputs(progressing=ConditionCause("Pending", "not looked at yet"), stalled=invalid)
    suspended = result.suspended.get(result.integration)
    credential = _credential(result)
    stalled, progressing = _split(result.error) if result.error is not None else (None, None)
    return ConditionInputs(
        ready=ConditionCause("Connected", result.credential.identity if result.credential else ""),
        stalled=stalled or invalid,
        progressing=progressing,
        suspended=ConditionCause("Suspended", suspended) if suspended else None,
        credentials=credential,
    )


def _credential(result: ReconcileResult) -> tuple[ConditionStatus, ConditionCause] | None:
    report: CredentialReport | None = result.credential
    if isinstance(result.error, AuthFailed) or (report is not None and not report.valid):
        return ConditionStatus.FALSE, ConditionCause(
            "Refused", result.error.message if result.error else (report.message if report else "")
        )
    if report is None:
        return (
            (ConditionStatus.UNKNOWN, ConditionCause("NotChecked", "the provider could not be asked")) if result.error else None
        )
    if report.missing:
        return ConditionStatus.FALSE, ConditionCause("PermissionMissing", "missing: " + ", ".join(report.missing))
    return ConditionStatus.TRUE, ConditionCause(
        "Valid", report.message or (f"acts as {report.identity}" if report.identity else "accepted")
    )


def _object_findings(view: _View, result: ReconcileResult | None, invalid: ConditionCause | None) -> ConditionInputs:
    spec = view.resource.spec
    if result is None:
        if spec.get("type") in _LOCAL_SOURCES and "integration" not in spec:
            how = "events are sent to its own URL" if spec["type"] == "webhook" else "`reconciler trigger` makes its events"
            return ConditionInputs(ready=ConditionCause("NothingToProvision", how), stalled=invalid)
        if spec.get("type") == "schedule":
            return ConditionInputs(ready=ConditionCause("Scheduled", "makes an event at each of its times"), stalled=invalid)
        return ConditionInputs(progressing=ConditionCause("Pending", "not looked at yet"), stalled=invalid)
    suspended = result.suspended.get(view.resource.id)
    stalled, progressing = _trouble(view, result)
    held = [c for c in view.changes if c.disposition is Disposition.HELD and c.reason not in {"Suspended", "Refused"}]
    drift = [c for c in view.changes if c.cls is not ChangeClass.COMMIT] or held
    blocked = [c for c in view.changes if c.disposition is Disposition.BLOCKED]
    return ConditionInputs(
        ready=_as_declared(view),
        stalled=stalled or invalid,
        progressing=progressing,
        suspended=ConditionCause("Suspended", suspended) if suspended else None,
        drifted=ConditionCause("DriftDetected", _with_trouble(_say(drift), drift, view)) if drift else None,
        blocked=ConditionCause(blocked[0].reason or "Limits", _say(blocked) + "; see `reconciler status` for the approve command")
        if blocked
        else None,
        delivering=_delivering(view, result),
    )


def _as_declared(view: _View) -> ConditionCause:
    count = len(view.records) - len(view.left)
    notes = [*view.renamed, *view.left]
    text = f"{count} object{'' if count == 1 else 's'} as declared" + "".join(f"; {note}" for note in notes[:5])
    return ConditionCause("Renamed" if view.renamed else "LeftBehind" if view.left else "Reconciled", text)


def _trouble(view: _View, result: ReconcileResult) -> tuple[ConditionCause | None, ConditionCause | None]:
    """Return (stalled, progressing) of a resource: the gravest of what went wrong, else what is still under way."""
    errors: list[ReconcilerError] = []
    if result.error is not None:
        errors.append(result.error)
    if view.resource.id in result.compiled.stalled:
        errors.append(result.compiled.stalled[view.resource.id])
    errors += [*view.scope_errors.values(), *view.errors.values()]
    parts = [_split(error) for error in errors]
    stalled = next((s for s, _ in parts if s is not None), None)
    for change in view.changes:
        if stalled is None and change.reason in _WAITS_FOR_A_HUMAN:
            stalled = ConditionCause(change.reason, change.message or _say([change]))
    waiting = [c for c in view.changes if c.disposition in {Disposition.WAITING, Disposition.EXECUTE}]
    progressing = next((p for _, p in parts if p is not None), None)
    if progressing is None and waiting:
        progressing = ConditionCause(waiting[0].reason or "Pending", waiting[0].message or _say(waiting))
    if progressing is None and any(change.resource == view.resource.id for change in result.report.skipped):
        progressing = ConditionCause("DependencyNotReady", "waits for an object that it needs")
    return stalled, progressing


def _split(error: ReconcilerError) -> tuple[ConditionCause | None, ConditionCause | None]:
    """Errors that wait for a human stall; those that time heals are progress."""
    retry = getattr(error, "retry", None)
    if retry is RetryKind.BACKOFF and not error.needs_action:
        return None, _finding(error)
    if retry is RetryKind.AT:
        return None, _finding(error)
    return _finding(error), None


def _finding(error: ReconcilerError) -> ConditionCause:
    name = type(error).__name__
    reason = {"NotImplementedYet": "NotImplemented", "ReconcilerError": "Failed", "ProviderError": "Failed"}.get(name, name)
    return ConditionCause(reason, f"{error.code}: {error.message}" + (f" ({error.hint})" if error.hint else ""))


def _say(changes: Iterable[Change]) -> str:
    parts = []
    for change in list(changes)[:3]:
        fields = ", ".join(f.path.strip("/").replace("/", ".") for f in change.fields[:4])
        what = f"{change.action} {change.scope}" + (f": {fields}" if fields else "")
        parts.append(what + (f" ({change.reason})" if change.reason else ""))
    return "; ".join(parts)


def _with_trouble(text: str, changes: Iterable[Change], view: _View) -> str:
    """Add why the first of ``changes`` that was tried was not made, in the provider's words."""
    for change in changes:
        error = view.errors.get(change.address)
        if error is not None:
            return f"{text}; {_finding(error).message}"
        if change.retry_at is not None and change.message:
            return f"{text}; {change.message}"
    return text


def _delivering(view: _View, result: ReconcileResult) -> tuple[ConditionStatus, ConditionCause] | None:
    """What the provider itself says of the deliveries of our hooks, where it says anything."""
    words = []
    for record in view.records:
        seen = result.world.views.get(record.scope)
        for one in seen.objects if seen is not None else ():
            if one.external_id == record.external_id and one.health.get("last_response"):
                words.append(one.health["last_response"])
    if not words:
        return None
    bad = [word for word in words if not word.startswith("2") and word not in {"unused", "0"}]
    if bad:
        return ConditionStatus.FALSE, ConditionCause("DeliveriesFail", f"the provider's last delivery was answered {bad[0]}")
    good = [word for word in words if word.startswith("2")]
    return (ConditionStatus.TRUE, ConditionCause("Delivered", "the provider's last delivery was accepted")) if good else None


def _status(
    view: _View, findings: ConditionInputs, before: ResourceStatus | None, generation: int, next_at: float, now: float
) -> ResourceStatus:
    moment = iso(now)
    conditions = conditions_of(findings, before.conditions if before else (), generation=generation, now=moment)
    stalled = findings.stalled is not None
    attempts = (before.attempts if before else 0) + 1 if findings.progressing is not None or stalled else 0
    changed = view.done > 0
    status = ResourceStatus(
        id=view.resource.id,
        location=view.resource.location,
        generation=generation,
        observed_generation=generation,
        spec_digest=view.resource.spec_digest,
        conditions=conditions,
        objects=tuple(
            {"address": str(r.address), "externalId": str(r.external_id), "url": r.url}
            for r in sorted(view.records, key=lambda r: r.address)
            if not r.tombstone
        ),
        drift=_drift(view.changes),
        attempts=min(attempts, 1_000_000),
        last_changed_at=moment if changed else (before.last_changed_at if before else ""),
        next_reconcile_at=iso(next_at),
        history=_history(before, conditions, moment, changed=changed),
    )
    if before is not None and same_but_times(_like(status, before), before):
        # A poll that found nothing new changes nothing but the times (attempts of a lasting failure are such a time).
        return _like(status, before, keep_next=False)
    return status


def _like(status: ResourceStatus, before: ResourceStatus, *, keep_next: bool = True) -> ResourceStatus:
    return dataclasses.replace(
        status, history=before.history, next_reconcile_at=before.next_reconcile_at if keep_next else status.next_reconcile_at
    )


def _drift(changes: Iterable[Change]) -> tuple[Mapping[str, str], ...]:
    rows: list[Mapping[str, str]] = []
    for change in changes:
        if change.cls is ChangeClass.COMMIT and change.disposition is not Disposition.HELD:
            continue
        rows += [{"path": f.path, "class": f.cls.value, "address": str(change.address)} for f in change.fields]
        if not change.fields:
            rows.append({"path": "", "class": change.cls.value, "address": str(change.address)})
    return tuple(rows)


def _history(
    before: ResourceStatus | None, conditions: tuple[Condition, ...], moment: str, *, changed: bool
) -> tuple[object, ...]:
    """Newest first, at most five, a row only where Ready's status or reason moved or something was written."""
    ready = conditions[0]
    old = before.history if before else ()
    last = old[0] if old else None
    same = isinstance(last, Mapping) and last.get("ready") == ready.status.value and last.get("reason") == ready.reason
    if same and not changed:
        return old
    return ({"at": moment, "ready": ready.status.value, "reason": ready.reason, "changed": changed}, *old)[:HISTORY]


def _leaving(facts: Facts) -> dict[ResourceId, list[RecordedObject]]:
    """Resources that are no longer declared but still own something: their row stays until it is gone."""
    rows: dict[ResourceId, list[RecordedObject]] = {}
    for result in facts.results.values():
        for record in result.recorded:
            if record.resource not in facts.live.resources:
                rows.setdefault(record.resource, []).append(record)
    return rows


def _deleting(view: _View, result: ReconcileResult | None, before: ResourceStatus | None, now: float) -> ResourceStatus:
    findings = ConditionInputs(progressing=ConditionCause("Deleting", "the manifest is gone; its objects are being removed"))
    if result is not None:
        stalled, _ = _trouble(view, result)
        blocked = [c for c in view.changes if c.disposition is Disposition.BLOCKED]
        held = [c for c in view.changes if c.disposition is Disposition.HELD and c.action is Action.DELETE]
        suspended = result.suspended.get(view.resource.id)
        if stalled is None and view.left:
            stalled = ConditionCause("OutOfReach", view.left[0])
        findings = ConditionInputs(
            stalled=stalled,
            progressing=None if stalled else findings.progressing,
            suspended=ConditionCause("Suspended", suspended) if suspended else None,
            drifted=ConditionCause("DriftDetected", _say(held)) if held else None,
            blocked=ConditionCause(blocked[0].reason or "Limits", _say(blocked)) if blocked else None,
        )
    return dataclasses.replace(_status(view, findings, before, before.generation if before else 1, 0.0, now), deleting=True)
