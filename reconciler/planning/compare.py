"""``plan --base REF``: compares two sets of desired objects without credentials, state or observations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import msgspec

from reconciler.model.objects import ManagedObject, ObservedObject, RecordedObject, recorded_of
from reconciler.model.plan import Action, BlockReason, Change, ChangeClass, Disposition, Loss, Plan, PlanSet, Reason
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address, ExternalId
from reconciler.planning import policy
from reconciler.planning.changes import change_to, held, limited
from reconciler.planning.diff import field_changes, overall_class
from reconciler.planning.inputs import PlanLimits
from reconciler.planning.order import ordered


def base_plan(
    before: Iterable[ManagedObject],
    after: Iterable[ManagedObject],
    *,
    revision: str = "",
    suspended: frozenset[ResourceId] = frozenset(),
    limits: PlanLimits | None = None,
) -> PlanSet:
    """Return the difference of ``before`` and ``after`` as plans, whose digests approve nothing.

    Write-only values are compared by reference, since their values are not known. ``suspended``: resources whose manifests suspend
    them, so that nothing is written for them. ``limits``: of deletes, counted against the objects that ``before`` declares.
    """
    old = {desired.address: desired for desired in before}
    new = {desired.address: desired for desired in after}
    moved = {
        d.previous: d
        for d in new.values()
        if d.previous is not None and d.previous in old and d.previous not in new and d.address not in old
    }
    changes = [c for d in new.values() if (c := _declared(d, old)) is not None]
    changes += [_removed(d) for d in old.values() if d.address not in new and d.address not in moved]
    by_integration: dict[ResourceId, list[Change]] = {}
    for change in (_unless_suspended(change, suspended) for change in changes):
        by_integration.setdefault(change.integration, []).append(change)
    owned: dict[ResourceId, int] = {}
    for desired in old.values():
        owned[desired.integration] = owned.get(desired.integration, 0) + 1
    plans = [
        _plan(integration, by_integration[integration], owned.get(integration, 0), limits)
        for integration in sorted(by_integration)
    ]
    return PlanSet(revision, tuple(plans))


def _plan(integration: ResourceId, changes: Iterable[Change], owned: int, limits: PlanLimits | None) -> Plan:
    changes = ordered(changes)
    removing = {Action.DELETE, Action.REPLACE}
    counted = [c for c in changes if c.action in removing and c.disposition is Disposition.EXECUTE]
    return Plan(integration, limited(changes, counted, owned, limits) if limits is not None else changes, owned)


def _unless_suspended(change: Change, suspended: frozenset[ResourceId]) -> Change:
    if change.action in policy.STATE_ONLY or not suspended & {change.resource, change.integration}:
        return change
    return held(change, Reason.SUSPENDED, "")


def _declared(desired: ManagedObject, old: Mapping[Address, ManagedObject]) -> Change | None:
    before = old.get(desired.address)
    previous = desired.previous if before is None and desired.previous in old else None
    before = before if before is not None or previous is None else old[previous]
    if before is None:
        return _change(desired, Action.CREATE)
    # ``ignore`` keeps the values of a provider; two revisions have no provider, so that nothing is ignored.
    whole = dataclasses.replace(desired, lifecycle=msgspec.structs.replace(desired.lifecycle, ignore=()))
    fields = field_changes(whole, _as_observed(before), _as_recorded(before), now=0.0)
    if not fields:
        return _change(desired, Action.RECORD, reason=Reason.MOVED.value, previous=previous) if previous is not None else None
    replaces, _ = policy.must_replace(fields, desired.immutable, write_only_fixed=False)
    action = Action.REPLACE if replaces else Action.REMARK if previous is not None else Action.UPDATE
    change = dataclasses.replace(
        _change(desired, action, reason=Reason.MOVED.value if previous is not None else "", previous=previous),
        fields=fields,
        cls=overall_class(fields),
    )
    if replaces and not desired.lifecycle.replace_allowed:
        return dataclasses.replace(change, disposition=Disposition.BLOCKED, reason=BlockReason.REPLACE_FORBIDDEN.value)
    return change


def _change(desired: ManagedObject, action: Action, *, reason: str = "", previous: Address | None = None) -> Change:
    """Return a change, held if ``management`` forbids it."""
    change = change_to(desired, action, reason=reason, previous=previous)
    forbidden = policy.management_holds(action, desired.lifecycle.management)
    return held(change, forbidden, "") if forbidden is not None else change


def _removed(desired: ManagedObject) -> Change:
    action, reason, block = policy.on_removal(_as_recorded(desired))
    return Change(
        address=desired.address,
        action=action,
        cls=ChangeClass.COMMIT,
        resource=desired.resource,
        integration=desired.integration,
        scope=desired.scope,
        depends_on=desired.depends_on,
        location=desired.location,
        disposition=Disposition.BLOCKED if block is not None else Disposition.EXECUTE,
        reason=block.value if block is not None else reason,
        loss=Loss(desired.attributes, tuple(sorted(value.pointer for value in desired.write_only))),
    )


def _as_observed(desired: ManagedObject) -> ObservedObject:
    return ObservedObject(ExternalId(""), desired.attributes, desired.natural_key, desired.marker)


def _as_recorded(desired: ManagedObject) -> RecordedObject:
    """Return ``desired`` as if it had been applied, so that every later difference is a commit."""
    return recorded_of(desired, ExternalId(""))
