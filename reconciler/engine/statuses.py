"""Statuses: one for each resource, from the results of a pass. Pure: `now` and the previous statuses are arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from reconciler.engine.causes import findings_of, findings_of_leaving
from reconciler.engine.compile import integration_of
from reconciler.engine.conditions import ConditionInputs, conditions_of, same_but_times
from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.shares import Share, Shares, share_of
from reconciler.engine.view import Facts
from reconciler.model.objects import RecordedObject
from reconciler.model.plan import Change, ChangeClass, Disposition
from reconciler.model.resources import Kind, Location, Resource, ResourceId
from reconciler.model.status import Condition, ResourceStatus
from reconciler.model.times import iso

HISTORY = 5


def statuses(
    facts: Facts, previous: Mapping[ResourceId, ResourceStatus], generations: Mapping[ResourceId, int], now: float
) -> dict[ResourceId, ResourceStatus]:
    """Return the status of every active resource, and of every resource whose objects are being deleted."""
    integrations = {r.id: integration_of(r) for r in facts.live.resources.values()}
    shares = {integration: Shares(result) for integration, result in facts.results.items()}
    statuses: dict[ResourceId, ResourceStatus] = {}
    for identity, resource in facts.live.resources.items():
        result = facts.results.get(integrations[identity] or identity)
        before = previous.get(identity)
        if result is None and before is not None and before.spec_digest == resource.spec_digest and _is_remote(resource):
            statuses[identity] = before  # a restart: the last status is valid until the next reconcile
            continue
        share = share_of(resource, shares.get(integrations[identity] or identity))
        findings = findings_of(share, result, facts)
        statuses[identity] = _status(
            share,
            findings,
            previous.get(identity),
            generations.get(identity, 1),
            _next_at(facts, integrations[identity] or identity),
            now,
        )
    for identity, records in _leaving(facts).items():
        before = previous.get(identity)
        share = share_of(Resource(identity, {}, before.location if before else Location("")), shares.get(records[0].integration))
        share.records = records
        statuses[identity] = _deleting(share, facts.results.get(records[0].integration), before, now)
    return statuses


def _is_remote(resource: Resource) -> bool:
    return resource.id.kind == Kind.INTEGRATION.value or integration_of(resource) is not None


def _next_at(facts: Facts, integration: ResourceId) -> float:
    return facts.next_at.get(integration, 0.0)


def _status(  # noqa: PLR0917  called once
    share: Share, findings: ConditionInputs, before: ResourceStatus | None, generation: int, next_at: float, now: float
) -> ResourceStatus:
    moment = iso(now)
    conditions = conditions_of(findings, before.conditions if before else (), generation=generation, now=moment)
    stalled = findings.stalled is not None
    attempts = (before.attempts if before else 0) + 1 if findings.progressing is not None or stalled else 0
    changed = share.done > 0
    status = ResourceStatus(
        id=share.resource.id,
        location=share.resource.location,
        generation=generation,
        observed_generation=generation,
        spec_digest=share.resource.spec_digest,
        conditions=conditions,
        objects=tuple(
            {"address": str(r.address), "externalId": str(r.external_id), "url": r.url}
            for r in sorted(share.records, key=lambda r: r.address)
            if not r.tombstone
        ),
        drift=_drift(share.changes),
        attempts=min(attempts, 1_000_000),
        last_changed_at=moment if changed else (before.last_changed_at if before else ""),
        next_reconcile_at=iso(next_at),
        history=_history(before, conditions, moment, changed=changed),
    )
    if before is not None and same_but_times(_like(status, before), before):
        # A reconcile without changes updates only the times (the attempts of a lasting failure count as a time).
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
    """Newest first, at most five; a new row when the status or reason of Ready changed, or something was written."""
    ready = conditions[0]
    old = before.history if before else ()
    last = old[0] if old else None
    same = isinstance(last, Mapping) and last.get("ready") == ready.status.value and last.get("reason") == ready.reason
    if same and not changed:
        return old
    return ({"at": moment, "ready": ready.status.value, "reason": ready.reason, "changed": changed}, *old)[:HISTORY]


def _leaving(facts: Facts) -> dict[ResourceId, list[RecordedObject]]:
    """Return the records of undeclared resources: their status stays until the records are gone."""
    rows: dict[ResourceId, list[RecordedObject]] = {}
    for result in facts.results.values():
        for record in result.recorded:
            if record.resource not in facts.live.resources:
                rows.setdefault(record.resource, []).append(record)
    return rows


def _deleting(share: Share, result: ReconcileResult | None, before: ResourceStatus | None, now: float) -> ResourceStatus:
    findings = findings_of_leaving(share, result)
    status = _status(share, findings, before, before.generation if before else 1, 0.0, now)
    return dataclasses.replace(status, deleting=True, integration=share.records[0].integration.path)
