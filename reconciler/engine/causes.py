"""The causes of a resource's conditions: why it is ready, stalled, drifted or blocked. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from reconciler.engine.conditions import ConditionCause, ConditionInputs
from reconciler.engine.credentials import threshold_of
from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.shares import Share
from reconciler.engine.view import Facts
from reconciler.model.errors import ReconcilerError, RetryKind
from reconciler.model.plan import Action, Change, ChangeClass, Disposition
from reconciler.model.resources import Kind, Resource
from reconciler.model.status import ConditionStatus

_EVENT_KINDS = frozenset({Kind.STAGE.value, Kind.CONNECTION_GROUP.value})
_WAITS_FOR_A_HUMAN = frozenset({"Conflict", "Refused", "Contended", "PermissionDenied", "TLSFailed"})
_LOCAL_SOURCES = frozenset({"webhook", "manual"})


def findings_of_leaving(share: Share, result: ReconcileResult | None) -> ConditionInputs:
    """Return the causes for a resource whose manifest is gone and whose objects are not."""
    findings = ConditionInputs(progressing=ConditionCause("Deleting", "the manifest was removed; its objects are being deleted"))
    if result is not None:
        stalled, _ = _trouble(share, result)
        blocked = [c for c in share.changes if c.disposition is Disposition.BLOCKED]
        held = [c for c in share.changes if c.disposition is Disposition.HELD and c.action is Action.DELETE]
        suspended = result.suspended.get(share.resource.id)
        if stalled is None and share.left:
            stalled = ConditionCause("OutOfReach", share.left[0])
        findings = ConditionInputs(
            stalled=stalled,
            progressing=None if stalled else findings.progressing,
            suspended=ConditionCause("Suspended", suspended) if suspended else None,
            drifted=ConditionCause("DriftDetected", _say(held)) if held else None,
            blocked=ConditionCause(blocked[0].reason or "Limits", _say(blocked)) if blocked else None,
        )
    return findings


def findings_of(share: Share, result: ReconcileResult | None, facts: Facts) -> ConditionInputs:
    resource = share.resource
    kind = resource.id.kind
    invalid = (
        ConditionCause("InvalidManifest", "the newest revision of this manifest is not valid; its last valid spec is in force")
        if resource.id in facts.live.kept
        else None
    )
    if kind == Kind.NOTIFICATION.value:
        return _notification_findings(resource, facts, invalid)
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
        findings = _integration_findings(result, invalid)
        return _with_own_objects(findings, share, result) if result is not None else findings
    findings = _object_findings(share, result, invalid)
    suspended = facts.outside.suspended.get(resource.id)
    if suspended and findings.suspended is None:
        findings = dataclasses.replace(findings, suspended=ConditionCause("Suspended", suspended))
    own = facts.outside.delivering.get(resource.id)
    return dataclasses.replace(findings, delivering=_gravest(findings.delivering, own)) if own is not None else findings


def _gravest(
    provider: tuple[ConditionStatus, ConditionCause] | None, own: tuple[ConditionStatus, ConditionCause]
) -> tuple[ConditionStatus, ConditionCause]:
    """Combine the provider's report on deliveries with our own: a failure in either counts."""
    if own[0] is ConditionStatus.FALSE or provider is None:
        return own
    return provider if provider[0] is ConditionStatus.FALSE or own[0] is ConditionStatus.UNKNOWN else own


def _event_findings(resource: Resource, facts: Facts, invalid: ConditionCause | None) -> ConditionInputs:
    """A stage or a connection group owns no remote object: it is ready when its dependencies are usable."""
    suspended = facts.outside.suspended.get(resource.id)
    what = "runs" if resource.id.kind == Kind.STAGE.value else "is evaluated"
    return ConditionInputs(
        ready=ConditionCause("Valid", f"{what} when an event arrives"),
        stalled=facts.outside.stalled.get(resource.id) or invalid,
        suspended=ConditionCause("Suspended", suspended) if suspended else None,
    )


def _notification_findings(resource: Resource, facts: Facts, invalid: ConditionCause | None) -> ConditionInputs:
    """A notification owns no remote object: it is ready when its Secrets can be read, and Delivering shows whether messages arrive."""
    missing = next((facts.secrets[reference] for reference in resource.references if reference in facts.secrets), None)
    suspended = facts.outside.suspended.get(resource.id)
    return ConditionInputs(
        ready=ConditionCause("Valid", f"sends messages to {next(iter(resource.spec['sink']))}"),
        stalled=_finding(missing) if missing is not None else invalid,
        suspended=ConditionCause("Suspended", suspended) if suspended else None,
        delivering=facts.outside.delivering.get(resource.id),
    )


def _integration_findings(result: ReconcileResult | None, invalid: ConditionCause | None) -> ConditionInputs:
    if result is None:
        return ConditionInputs(progressing=ConditionCause("Pending", "not reconciled yet"), stalled=invalid)
    suspended = result.suspended.get(result.integration)
    credential = _credential(result)
    error = result.error or result.refused
    stalled, progressing = _split(error) if error is not None else (None, None)
    if error is None and credential is not None and credential[0] is ConditionStatus.UNKNOWN and not result.world.views:
        progressing = ConditionCause("CredentialNotChecked", credential[1].message)  # nothing else shows that it works
    return ConditionInputs(
        ready=ConditionCause("Connected", result.credential.identity if result.credential else ""),
        stalled=stalled or invalid,
        progressing=progressing,
        suspended=ConditionCause("Suspended", suspended) if suspended else None,
        credentials=credential,
    )


def _with_own_objects(findings: ConditionInputs, share: Share, result: ReconcileResult) -> ConditionInputs:
    """Add the causes of the objects that the Integration declares itself. What stops all of it comes first."""
    if not (share.records or share.changes or share.scope_errors or result.integration in result.compiled.stalled):
        return findings
    own = _object_findings(share, result, None)
    return dataclasses.replace(
        findings,
        stalled=findings.stalled or own.stalled,
        progressing=findings.progressing or own.progressing,
        drifted=own.drifted,
        blocked=own.blocked,
    )


def _credential(result: ReconcileResult) -> tuple[ConditionStatus, ConditionCause] | None:
    report = result.credential
    if (refused := result.refused) is not None:
        return ConditionStatus.FALSE, ConditionCause("Refused", _credential_text(refused))
    if report is None:
        text = f"the provider could not be reached: {result.error.message}" if result.error is not None else ""
        return (ConditionStatus.UNKNOWN, ConditionCause("NotChecked", text)) if result.error else None
    if "valid" in report.unknown:
        return ConditionStatus.UNKNOWN, ConditionCause("NotChecked", report.unknown["valid"])
    if report.missing:
        return ConditionStatus.FALSE, ConditionCause("PermissionMissing", "missing: " + ", ".join(report.missing))
    text = report.message or (f"acts as {report.identity}" if report.identity else "accepted")
    days = threshold_of(report.expires_at, result.planned_at) if result.planned_at else None
    if days is not None:
        ends = f"ends {report.expires_at}, in {days} day{'' if days == 1 else 's'} or less"
        affected = f"; {len(result.dependents)} resources and objects depend on it" if result.dependents else ""
        return ConditionStatus.TRUE, ConditionCause("Expiring", f"{text}; {ends}{affected}")
    return ConditionStatus.TRUE, ConditionCause("Valid", text)


def _credential_text(error: ReconcilerError) -> str:
    return error.message + (f" ({error.hint})" if error.hint else "")


def _object_findings(share: Share, result: ReconcileResult | None, invalid: ConditionCause | None) -> ConditionInputs:
    spec = share.resource.spec
    if result is None:
        if spec.get("type") in _LOCAL_SOURCES and "integration" not in spec:
            how = "events are sent to its own URL" if spec["type"] == "webhook" else "`reconciler trigger` creates its events"
            return ConditionInputs(ready=ConditionCause("NoRemoteObject", how), stalled=invalid)
        if spec.get("type") == "schedule":
            return ConditionInputs(ready=ConditionCause("Scheduled", "creates an event at each scheduled time"), stalled=invalid)
        return ConditionInputs(progressing=ConditionCause("Pending", "not reconciled yet"), stalled=invalid)
    suspended = result.suspended.get(share.resource.id)
    stalled, progressing = _trouble(share, result)
    held = [c for c in share.changes if c.disposition is Disposition.HELD and c.reason not in {"Suspended", "Refused"}]
    drift = [c for c in share.changes if c.cls is not ChangeClass.COMMIT] or held
    blocked = [c for c in share.changes if c.disposition is Disposition.BLOCKED]
    return ConditionInputs(
        ready=_as_declared(share),
        stalled=stalled or invalid,
        progressing=progressing,
        suspended=ConditionCause("Suspended", suspended) if suspended else None,
        drifted=ConditionCause("DriftDetected", _with_trouble(_say(drift), drift, share)) if drift else None,
        blocked=ConditionCause(blocked[0].reason or "Limits", _say(blocked) + "; see `reconciler status` for the approve command")
        if blocked
        else None,
        delivering=_delivering(share, result),
    )


def _as_declared(share: Share) -> ConditionCause:
    count = len(share.records) - len(share.left)
    notes = [*share.renamed, *share.left]
    text = f"{count} object{'' if count == 1 else 's'} as declared" + "".join(f"; {note}" for note in notes[:5])
    return ConditionCause("Renamed" if share.renamed else "LeftBehind" if share.left else "Reconciled", text)


def _trouble(share: Share, result: ReconcileResult) -> tuple[ConditionCause | None, ConditionCause | None]:
    """Return (stalled, progressing) of a resource: its most severe error, else its pending work."""
    errors: list[ReconcilerError] = []
    if (error := result.error or result.refused) is not None:
        errors.append(error)
    if share.resource.id in result.compiled.stalled:
        errors.append(result.compiled.stalled[share.resource.id])
    errors += [*share.scope_errors.values(), *share.errors.values()]
    parts = [_split(error) for error in errors]
    stalled = next((s for s, _ in parts if s is not None), None)
    for change in share.changes:
        if stalled is None and change.reason in _WAITS_FOR_A_HUMAN:
            stalled = ConditionCause(change.reason, change.message or _say([change]))
    waiting = [c for c in share.changes if c.disposition in {Disposition.WAITING, Disposition.EXECUTE}]
    progressing = next((p for _, p in parts if p is not None), None)
    if progressing is None and waiting:
        progressing = ConditionCause(waiting[0].reason or "Pending", waiting[0].message or _say(waiting))
    if progressing is None and any(change.resource == share.resource.id for change in result.report.skipped):
        progressing = ConditionCause("DependencyNotReady", "waits for an object that it needs")
    return stalled, progressing


def _split(error: ReconcilerError) -> tuple[ConditionCause | None, ConditionCause | None]:
    """Return (stalled, progressing) of an error: it stalls if a person must act, else the retries are progress."""
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


def _with_trouble(text: str, changes: Iterable[Change], share: Share) -> str:
    """Append the error of the first of ``changes`` that failed."""
    for change in changes:
        error = share.errors.get(change.address)
        if error is not None:
            return f"{text}; {_finding(error).message}"
        if change.retry_at is not None and change.message:
            return f"{text}; {change.message}"
    return text


def _delivering(share: Share, result: ReconcileResult) -> tuple[ConditionStatus, ConditionCause] | None:
    """Return the provider's report on the deliveries of our webhooks, or None."""
    if result.compiled.webhook:
        return ConditionStatus.FALSE, ConditionCause("WebhookMisconfigured", result.compiled.webhook)
    words = []
    for record in share.records:
        seen = result.world.views.get(record.scope)
        for observed in seen.objects if seen is not None else ():
            if observed.external_id == record.external_id and observed.health.get("last_response"):
                words.append(observed.health["last_response"])
    if not words:
        return None
    bad = [word for word in words if not word.startswith("2") and word not in {"unused", "0"}]
    if bad:
        return ConditionStatus.FALSE, ConditionCause("DeliveriesFail", f"the provider's last delivery was answered {bad[0]}")
    good = [word for word in words if word.startswith("2")]
    return (ConditionStatus.TRUE, ConditionCause("Delivered", "the provider's last delivery was accepted")) if good else None
