"""``plan --base REF``: desired against desired. No credentials, no state, nothing observed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import msgspec

from reconciler.model.objects import ManagedObject, ObservedObject, RecordedObject
from reconciler.model.plan import Action, BlockReason, Change, ChangeClass, Disposition, Plan, PlanSet, Reason
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address, ExternalId
from reconciler.planning import policy
from reconciler.planning.diff import field_changes, overall_class
from reconciler.planning.order import ordered


def base_plan(before: Iterable[ManagedObject], after: Iterable[ManagedObject], *, revision: str = "") -> PlanSet:
    """Return what the step from ``before`` to ``after`` declares, as plans; their digests approve nothing.

    Write-only values are compared by reference, since there are no values to compare.
    """
    old = {one.address: one for one in before}
    new = {one.address: one for one in after}
    moved = {
        d.previous: d
        for d in new.values()
        if d.previous is not None and d.previous in old and d.previous not in new and d.address not in old
    }
    changes = [c for d in new.values() if (c := _declared(d, old)) is not None]
    changes += [_removed(one) for one in old.values() if one.address not in new and one.address not in moved]
    by_integration: dict[ResourceId, list[Change]] = {}
    for change in changes:
        by_integration.setdefault(change.integration, []).append(change)
    owned: dict[ResourceId, int] = {}
    for one in old.values():
        owned[one.integration] = owned.get(one.integration, 0) + 1
    plans = [
        Plan(integration, ordered(by_integration[integration]), owned.get(integration, 0))
        for integration in sorted(by_integration)
    ]
    return PlanSet(revision, tuple(plans))


def _declared(desired: ManagedObject, old: Mapping[Address, ManagedObject]) -> Change | None:
    before = old.get(desired.address)
    previous = desired.previous if before is None and desired.previous in old else None
    before = before if before is not None or previous is None else old[previous]
    if before is None:
        return _change(desired, Action.CREATE)
    # ``ignore`` keeps what a provider shows; between two revisions there is no provider, so nothing is left out.
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
    """Hold what ``management`` forbids: that is known without looking at the world."""
    held = policy.management_holds(action, desired.lifecycle.management)
    return Change(
        address=desired.address,
        action=action,
        cls=ChangeClass.COMMIT,
        resource=desired.resource,
        integration=desired.integration,
        scope=desired.scope,
        desired=desired,
        depends_on=desired.depends_on,
        location=desired.location,
        previous=previous,
        disposition=Disposition.HELD if held else Disposition.EXECUTE,
        reason=held.value if held else reason,
    )


def _removed(one: ManagedObject) -> Change:
    action, reason, block = policy.on_removal(_as_recorded(one))
    return Change(
        address=one.address,
        action=action,
        cls=ChangeClass.COMMIT,
        resource=one.resource,
        integration=one.integration,
        scope=one.scope,
        depends_on=one.depends_on,
        location=one.location,
        disposition=Disposition.BLOCKED if block is not None else Disposition.EXECUTE,
        reason=block.value if block is not None else reason,
    )


def _as_observed(one: ManagedObject) -> ObservedObject:
    return ObservedObject(ExternalId(""), one.attributes, one.natural_key, one.marker)


def _as_recorded(one: ManagedObject) -> RecordedObject:
    """``before`` as if it had been applied: every difference to ``after`` is then a commit's."""
    return RecordedObject(
        address=one.address,
        resource=one.resource,
        integration=one.integration,
        scope=one.scope,
        external_id=ExternalId(""),
        natural_key=one.natural_key,
        marker=one.marker,
        attributes=one.attributes,
        fingerprints={w.pointer: w.fingerprint for w in one.write_only},
        digest=one.digest,
        lifecycle=one.lifecycle,
        depends_on=one.depends_on,
    )
