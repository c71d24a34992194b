"""What is known of each credential: five answers, what depends on it, and the log events of its refusal and its end. Pure but for `Alerts`.

The five questions: is it valid, whose is it, what is granted, what is missing, when does it end. What a provider does not tell is
*unknown*, with the reason: never blank, and never good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reconciler.engine.context import Context
from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.objects import RecordedObject
from reconciler.model.records import AuditEntry, CredentialAlert
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.status import CredentialReport
from reconciler.model.times import epoch_of, iso

QUESTIONS = ("valid", "identity", "granted", "missing", "expiresAt")
NOT_TOLD = "not told by the provider"
THRESHOLDS_DAYS = (14, 7, 1)
"""Warn this long before the end of a credential, once each."""
SAME_END_S = 3_600.0
MAX_LISTED = 200
"""Resources and objects that are listed for one credential; the rest is counted."""
_LOGGED = 20
_DAY_S = 86_400.0
_UPSTREAM = {"eventsource": Kind.EVENT_SOURCE.value, "stage": Kind.STAGE.value, "connectiongroup": Kind.CONNECTION_GROUP.value}


def answered(report: CredentialReport) -> CredentialReport:
    """Return ``report`` with a reason for every question that it leaves open."""
    unknown = dict(report.unknown)
    blank = {"identity": not report.identity, "granted": not report.granted, "expiresAt": not report.expires_at}
    for question, empty in blank.items():
        if empty:
            unknown.setdefault(question, NOT_TOLD)
    if not report.missing and "granted" in unknown:
        unknown.setdefault("missing", f"cannot be compared: {unknown['granted']}")
    return replace(report, unknown=unknown)


def answers_of(result: ReconcileResult) -> CredentialReport | None:
    """Return the answers for the credential of ``result``; None if there is nothing to check (a form that is not supported)."""
    refused = result.refused
    if refused is not None:
        reason = "the credential is refused"
        return CredentialReport(valid=False, message=refused.message, unknown=dict.fromkeys(QUESTIONS[1:], reason))
    if result.credential is not None:
        return answered(result.credential)
    if result.error is None:
        return None
    return CredentialReport(
        valid=False, message=result.error.message, unknown=dict.fromkeys(QUESTIONS, f"not checked: {result.error.message}")
    )


def dependents_of(
    integration: ResourceId, resources: Mapping[ResourceId, Resource], recorded: Iterable[RecordedObject]
) -> tuple[str, ...]:
    """Return everything that stops with the credential: manifests that name the integration, what refers or is connected to them, and
    objects.

    At most `MAX_LISTED`; a last entry counts the rest.
    """
    others = {r.id: _upstream(r) for r in resources.values() if r.id != integration}
    reached = {integration}
    while more := {
        identity for identity, upstream in others.items() if identity not in reached and reached.intersection(upstream)
    }:
        reached |= more
    rows = [str(identity) for identity in sorted(reached - {integration})]
    rows += sorted(str(record.address) for record in recorded if not record.tombstone)
    extra = len(rows) - MAX_LISTED
    return (*rows[:MAX_LISTED], f"and {extra} more") if extra > 0 else tuple(rows)


def _upstream(resource: Resource) -> list[ResourceId]:
    """Return what ``resource`` refers to, and the sources, stages and groups whose events reach it."""
    connections = resource.spec.get("connections") or ()
    kinds = [(_UPSTREAM.get(str(row.get("type", "")).replace("_", "").replace("-", "").lower()), row) for row in connections]
    sources = [ResourceId(kind, resource.id.canvas, str(row.get("name"))) for kind, row in kinds if kind is not None]
    return [*resource.references, *sources]


def days_left(expires_at: str, now: float) -> float | None:
    """Return the days until ``expires_at`` (RFC 3339), negative after it; None for a credential without a known end."""
    end = end_of(expires_at)
    return None if end is None else (end - now) / _DAY_S


def end_of(expires_at: str) -> float | None:
    """Return ``expires_at`` (RFC 3339) in epoch seconds; None if it is empty or no time."""
    try:
        return epoch_of(expires_at) if expires_at else None
    except ValueError:
        return None


def threshold_of(expires_at: str, now: float) -> int | None:
    """Return the smallest of `THRESHOLDS_DAYS` that the end is nearer than; None if it is farther, or not known."""
    left = days_left(expires_at, now)
    return None if left is None else min((days for days in THRESHOLDS_DAYS if left <= days), default=None)


def credential_row(result: ReconcileResult, rate: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the row of ``credentials[]`` in the status file; ``valid`` is null if it is not known."""
    report = answers_of(result)
    if report is None:
        return None
    return {
        "name": result.integration.path,
        "valid": None if "valid" in report.unknown else report.valid,
        "identity": report.identity,
        "expiresAt": report.expires_at,
        "granted": list(report.granted),
        "missing": list(report.missing),
        "surplus": list(report.surplus),
        "unknown": dict(report.unknown),
        "message": report.message,
        "dependents": list(result.dependents),
        "rate": _rate({**report.rate, **rate}),
    }


def _rate(rate: Mapping[str, Any]) -> dict[str, Any]:
    reset = rate.get("resetAt", rate.get("reset", 0))
    return {"limit": rate.get("limit"), "remaining": rate.get("remaining"), "resetAt": iso(float(reset)) if reset else None}


@dataclass(frozen=True, slots=True)
class Alerts:
    """Announces the refusal, the recovery and the coming end of a credential: once each, also over restarts and between peers.

    What was announced is in the state, by integration; an announcement is a log event and a row of the audit log.
    """

    context: Context

    async def note(self, result: ReconcileResult) -> None:
        """Announce what is new in ``result``. An error that is not about the credential changes nothing. Raises `StateError`."""
        refused = result.refused
        if refused is None and (result.credential is None or "valid" in result.credential.unknown):
            return
        store, now = self.context.store, self.context.clock()
        before = await store.credential_alert(result.integration)
        after, events = announcements(result, before, now)
        if after == before and not events:
            return
        audit = [self._entry(name, fields, result, now) for name, fields in events]
        if not await store.announce(result.integration, before, after, audit):
            return  # another process was faster, and announces it
        for name, fields in events:
            self._log(name, {**fields, **_affected(result)})

    def _log(self, name: str, fields: Mapping[str, Any]) -> None:
        if name == "credential_refused":
            self.context.log.warning("credential_refused", **fields)
        elif name == "credential_expiring":
            self.context.log.warning("credential_expiring", **fields)
        else:
            self.context.log.info("credential_accepted", **fields)

    def _entry(self, name: str, fields: Mapping[str, Any], result: ReconcileResult, now: float) -> AuditEntry:
        reason = {"reason": f"ends at {fields['expires_at']}"} if "expires_at" in fields else {}
        detail = self.context.redactor.redact_fields({**fields, **reason, "affected": len(result.dependents)})
        path = result.integration.path
        return AuditEntry(now, self.context.actor, name, integration=path, resource=path, outcome="done", detail=detail)


def announcements(
    result: ReconcileResult, before: CredentialAlert, now: float
) -> tuple[CredentialAlert, list[tuple[str, dict[str, Any]]]]:
    """Return what is announced after ``result``, and the events that are new, each with its fields. Pure."""
    refused = result.refused
    after = replace(before, refused=refused is not None)
    events: list[tuple[str, dict[str, Any]]] = []
    if refused is not None and not before.refused:
        events.append(("credential_refused", {"code": refused.code, "error": refused.message}))
    elif refused is None and before.refused:
        events.append(("credential_accepted", {}))
    end = result.credential.expires_at if result.credential is not None and refused is None else ""
    if end:
        same = _same_end(before.end, end)
        reached, warned = threshold_of(end, now), before.warned if same else None
        if reached is not None and (warned is None or reached < warned):
            events.append(("credential_expiring", {"days": reached, "expires_at": end}))
            warned = reached
        after = replace(after, end=before.end if same else end, warned=warned)
    return after, events


def _same_end(before: str, now: str) -> bool:
    """Whether two ends (RFC 3339) are one: a provider that tells the seconds left does not tell them to the second."""
    try:
        return before == now or abs(epoch_of(before) - epoch_of(now)) < SAME_END_S
    except ValueError:
        return False


def _affected(result: ReconcileResult) -> dict[str, object]:
    return {
        "integration": result.integration.name,
        "canvas": result.integration.canvas,
        "affected": len(result.dependents),
        "resources": ", ".join(result.dependents[:_LOGGED]),
    }


__all__ = [
    "QUESTIONS",
    "Alerts",
    "announcements",
    "answers_of",
    "credential_row",
    "days_left",
    "dependents_of",
    "end_of",
    "threshold_of",
]
