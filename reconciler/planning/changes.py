"""The parts of decisions that `decide` and `removal` share: building, holding and delaying changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler.model.objects import IntentState, ManagedObject, RecordedObject
from reconciler.model.plan import Action, BlockReason, Change, ChangeClass, Disposition, FieldChange, Loss, Reason
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address, ExternalId
from reconciler.planning import policy
from reconciler.planning.diff import overall_class
from reconciler.planning.inputs import PlanInput, PlanLimits
from reconciler.planning.match import Match

Settlement = tuple[str, IntentState, ExternalId | None]


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision for one address."""

    changes: tuple[Change, ...] = ()
    settlements: tuple[Settlement, ...] = ()
    notes: tuple[str, ...] = ()


def not_yet_absent(change: Change, match: Match, inp: PlanInput) -> Change | None:
    """Return ``change`` as waiting until the absence of the object is proven, or None if it is."""
    since = [intent.created_at for intent in match.creating]
    recorded = match.recorded
    if recorded is not None and not recorded.seen and not recorded.tombstone:
        since.append(recorded.applied_at)  # a list may lag behind a write
    settled_at = max(since, default=float("-inf")) + inp.settle_s
    if inp.now < settled_at:
        return waiting_for(change, Reason.SETTLING, settled_at, "a recent write may not be in the list yet")
    if (recorded is not None or match.creating) and match.view.reads < 2:
        return waiting_for(change, Reason.UNCONFIRMED, inp.now, "absence must be confirmed by a second complete list")
    return None


def without_object(action: str) -> IntentState:
    return IntentState.DONE if action == Action.DELETE.value else IntentState.ABSENT


def change_to(
    desired: ManagedObject,
    action: Action,
    *,
    fields: tuple[FieldChange, ...] = (),
    reason: str = "",
    message: str = "",
    external_id: ExternalId | None = None,
    previous: Address | None = None,
) -> Change:
    return Change(
        address=desired.address,
        action=action,
        cls=overall_class(fields),
        resource=desired.resource,
        integration=desired.integration,
        scope=desired.scope,
        fields=fields,
        reason=reason,
        message=message,
        external_id=external_id,
        desired=desired,
        depends_on=desired.depends_on,
        location=desired.location,
        previous=previous,
    )


def removal_of(match: Match, recorded: RecordedObject, action: Action, *, reason: str = "", message: str = "") -> Change:
    return Change(
        address=match.address,
        action=action,
        cls=ChangeClass.COMMIT,
        resource=recorded.resource,
        integration=recorded.integration,
        scope=match.scope,
        reason=reason,
        message=message,
        external_id=recorded.external_id,
        depends_on=recorded.depends_on,
        previous=match.previous,
        loss=_loss(match, recorded),
    )


def _loss(match: Match, recorded: RecordedObject) -> Loss:
    """Return what a removal ends. Only attributes that were ours are shown: others are the provider's own."""
    seen = match.observed.attributes if match.observed is not None else recorded.attributes
    return Loss({key: seen.get(key, value) for key, value in recorded.attributes.items()}, tuple(sorted(recorded.fingerprints)))


def held(change: Change, reason: Reason, message: str) -> Change:
    return dataclasses.replace(change, disposition=Disposition.HELD, reason=reason.value, message=message)


def waiting_for(change: Change, reason: Reason, retry_at: float | None, message: str) -> Change:
    return dataclasses.replace(change, disposition=Disposition.WAITING, reason=reason.value, message=message, retry_at=retry_at)


def limited(changes: Iterable[Change], counted: Sequence[Change], owned: int, limits: PlanLimits) -> tuple[Change, ...]:
    """Block the ``counted`` deletes together if they exceed ``limits``."""
    changes = tuple(changes)
    reason = policy.over_limits(len(counted), owned, limits)
    if reason is None:
        return changes
    limit = f"{limits.percent} %" if reason is BlockReason.DELETE_PERCENT else str(limits.maximum)
    text = f"{len(counted)} deletes of {owned} owned objects are over the limit of {limit}"
    blocked = {change.address for change in counted}
    return tuple(
        dataclasses.replace(change, disposition=Disposition.BLOCKED, reason=reason.value, message=text)
        if change.address in blocked
        else change
        for change in changes
    )


def guarded(change: Change, desired: ManagedObject, inp: PlanInput) -> Change:
    """Hold a remote write that suspension, management or an earlier refusal forbids. These reasons precede all others."""
    if change.action in policy.STATE_ONLY or change.reason == Reason.CONFLICT.value:
        return change
    if _suspended(desired.resource, inp) or policy.is_suspended(desired.lifecycle, inp.now):
        return held(change, Reason.SUSPENDED, "suspended: nothing is written")
    reason = policy.management_holds(change.action, desired.lifecycle.management)
    if reason is not None:
        return held(change, reason, f"lifecycle.management is '{desired.lifecycle.management}'")
    if change.desired is not None and inp.refused and inp.refused.get(change.address) == desired.digest:
        words = inp.refusals.get(change.address) or "the provider refused these values"
        return held(
            change,
            Reason.REFUSED,
            f"{words}; tried again when the manifest or the secret changes, or by `reconciler reconcile`",
        )
    return change


def _suspended(resource: ResourceId, inp: PlanInput) -> bool:
    return resource in inp.suspended or inp.integration in inp.suspended
