"""`make_plan`: match, decide, apply limits and dependencies, order, honour approvals. Pure and total: it raises nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from reconciler.model.objects import Scope
from reconciler.model.plan import Action, BlockReason, Change, Disposition, Plan, Reason
from reconciler.model.values import Address, Digest
from reconciler.planning import policy
from reconciler.planning.changes import Decision
from reconciler.planning.decide import decide
from reconciler.planning.inputs import Limits, PlanInput, ScopeView
from reconciler.planning.match import match_all
from reconciler.planning.order import ordered

__all__ = ["Limits", "PlanInput", "ScopeView", "make_plan"]

_MAKES = frozenset({Action.CREATE, Action.ADOPT})


def make_plan(inp: PlanInput) -> Plan:
    """Return what is to be done on one integration, in order; the same input gives the same plan, however it is sorted."""
    matched = match_all(inp)
    decisions = [decide(match, inp) for match in matched.matches]
    changes = ordered(change for decision in decisions for change in decision.changes)
    owned = sum(not record.tombstone for record in inp.recorded)
    changes = _limited(changes, inp, owned)
    changes, approved = _approved(changes, inp.approvals)
    changes = _with_dependencies(changes, inp)
    plan = Plan(
        inp.integration,
        changes,
        owned,
        _notes(inp, decisions),
        tuple(sorted({s for decision in decisions for s in decision.settlements}, key=lambda s: s[0])),
        matched.orphans,
        approved,
    )
    return plan


def _limited(changes: Sequence[Change], inp: PlanInput, owned: int) -> tuple[Change, ...]:
    """Block all deletes together when they are more than the limits; one that was begun, and a duplicate, is none of them."""
    begun = {record.address for record in inp.recorded if record.tombstone}
    counted = [change for change in changes if _is_delete(change, inp) and change.address not in begun]
    reason = policy.over_limits(len(counted), owned, inp.limits)
    if reason is None:
        return tuple(changes)
    text = f"{len(counted)} deletes of {owned} owned objects are over the limit of " + (
        f"{inp.limits.percent} %" if reason is BlockReason.DELETE_PERCENT else str(inp.limits.maximum)
    )
    blocked = {change.address for change in counted}
    return tuple(
        dataclasses.replace(change, disposition=Disposition.BLOCKED, reason=reason.value, message=text)
        if change.address in blocked
        else change
        for change in changes
    )


def _is_delete(change: Change, inp: PlanInput) -> bool:
    """Whether ``change`` would take an object away for good, as far as others could rely on it."""
    if change.disposition is not Disposition.EXECUTE:
        return False
    if change.action is Action.DELETE:
        return change.reason != Reason.DUPLICATE.value
    kind = inp.types.get(change.scope.type)
    rotates = kind is not None and kind.write_only_fixed and all(field.sensitive for field in change.fields)
    return change.action is Action.REPLACE and not rotates


def _approved(changes: Sequence[Change], approvals: frozenset[str]) -> tuple[tuple[Change, ...], tuple[Digest, ...]]:
    """Turn what a human approved into work: the blocked set named as a whole, or single members of one named before."""
    blocked = Plan(changes[0].integration, tuple(changes)).blocked_sha256 if changes and approvals else None
    if blocked is None:
        return tuple(changes), ()
    whole = blocked in approvals
    result: list[Change] = []
    approved: list[Digest] = []
    for change in changes:
        if change.disposition is Disposition.BLOCKED:
            digest = change.blocked_digest()
            if whole or digest in approvals:
                approved.append(digest)
                message = f"approved; was blocked: {change.reason}"
                change = dataclasses.replace(
                    change, disposition=Disposition.EXECUTE, reason=Reason.APPROVED.value, message=message
                )
        result.append(change)
    return tuple(result), tuple(sorted(approved))


def _with_dependencies(changes: Sequence[Change], inp: PlanInput) -> tuple[Change, ...]:
    """Let a change wait for an object that is not made now, and a delete for a dependant that is not deleted now."""
    unmade = {c.address for c in changes if c.action in _MAKES and c.disposition is not Disposition.EXECUTE}
    unmade |= _unknown_needs(inp)
    removed: set[Address] = set()
    users: dict[Address, list[Address]] = {}
    for record in inp.recorded:
        for need in record.depends_on:
            users.setdefault(need, []).append(record.address)
    result: list[Change] = []
    for change in changes:
        waits = _blocked_by(change, unmade, removed, users)
        if waits is not None:
            change = dataclasses.replace(
                change, disposition=Disposition.WAITING, reason=Reason.DEPENDENCY_NOT_READY.value, message=f"waits for {waits}"
            )
            if change.action in _MAKES:
                unmade.add(change.address)
        if change.action in {Action.DELETE, Action.FORGET} and change.disposition is Disposition.EXECUTE:
            removed.add(change.address)
        result.append(change)
    return tuple(result)


def _blocked_by(
    change: Change, unmade: set[Address], removed: set[Address], users: dict[Address, list[Address]]
) -> Address | None:
    if change.disposition is not Disposition.EXECUTE or change.action in policy.STATE_ONLY:
        return None
    if change.action is not Action.DELETE:
        return next((need for need in change.depends_on if need in unmade), None)
    if change.reason == Reason.DUPLICATE.value:
        return None
    return next((user for user in sorted(users.get(change.address, ())) if user not in removed and user != change.address), None)


def _unknown_needs(inp: PlanInput) -> set[Address]:
    """Addresses that are needed, and can be neither seen nor made now: in a scope that could not be read, or not compiled."""
    declared = {d.address: d for d in inp.desired}
    known = {r.address for r in inp.recorded}
    return {
        need
        for d in inp.desired
        for need in d.depends_on
        if need not in known and (need not in declared or not _readable(declared[need].scope, inp))
    }


def _readable(scope: Scope, inp: PlanInput) -> bool:
    view = inp.views.get(scope)
    return view is not None and view.error is None


def _notes(inp: PlanInput, decisions: Iterable[Decision]) -> tuple[str, ...]:
    unread = [
        f"{scope}: not read ({view.error.message}); nothing in it is changed"
        for scope, view in sorted(inp.views.items())
        if view.error is not None
    ]
    return (*unread, *(note for decision in decisions for note in decision.notes))
