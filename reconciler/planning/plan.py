"""`make_plan`: match, decide, apply limits and dependencies, order, honour approvals. Pure and total: it raises nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from reconciler.model.objects import Scope
from reconciler.model.plan import Action, Change, Disposition, Plan, Reason
from reconciler.model.values import Address, Digest
from reconciler.planning import policy
from reconciler.planning.changes import Decision, held, limited
from reconciler.planning.decide import decide
from reconciler.planning.inputs import PlanInput, PlanLimits, ScopeView
from reconciler.planning.match import Match, match_all
from reconciler.planning.order import ordered

__all__ = ["PlanInput", "PlanLimits", "ScopeView", "make_plan"]

_MAKES = frozenset({Action.CREATE, Action.ADOPT})
_REMOVES = frozenset({Action.DELETE, Action.FORGET})


def make_plan(inp: PlanInput) -> Plan:
    """Return the plan of one integration, in order. It does not depend on the order of the input."""
    matched = match_all(inp)
    decisions = [decide(match, inp) for match in matched.matches]
    changes = _spare_declared(ordered(change for decision in decisions for change in decision.changes), matched.matches)
    owned = sum(not record.tombstone for record in inp.recorded)
    changes = _limited(changes, inp, owned)
    changes, approved = _approved(changes, inp.approvals)
    changes = _with_dependencies(changes, inp)
    plan = Plan(
        inp.integration,
        changes,
        owned,
        (*_notes(decisions), *matched.notes),
        tuple(sorted({s for decision in decisions for s in decision.settlements}, key=lambda s: s[0])),
        matched.orphans,
        approved,
    )
    return plan


def _spare_declared(changes: Sequence[Change], matches: Sequence[Match]) -> tuple[Change, ...]:
    """Hold every delete of an object that a declared address holds or takes.

    Matching prevents such a change if the provider reports the container of each name. If it does not (two names of a repository
    that was renamed between two reads), this keeps the object.
    """
    holders = {(m.scope.type, m.observed.external_id): m.address for m in matches if m.desired and m.observed}
    holders |= {(c.scope.type, c.external_id): c.address for c in changes if c.desired is not None and c.external_id}
    result = []
    for change in changes:
        holder = holders.get((change.scope.type, change.external_id)) if change.external_id is not None else None
        if change.action in {Action.DELETE, Action.REPLACE} and holder not in {None, change.address}:
            change = held(change, Reason.STILL_USED, f"{change.external_id} is the object of {holder}: it is not deleted")
        result.append(change)
    return tuple(result)


def _limited(changes: Sequence[Change], inp: PlanInput, owned: int) -> tuple[Change, ...]:
    """Block all deletes together if they exceed the limits. Deletes that have begun and duplicates do not count."""
    begun = {record.address for record in inp.recorded if record.tombstone}
    counted = [change for change in changes if _is_delete(change, inp) and (change.previous or change.address) not in begun]
    return limited(changes, counted, owned, inp.limits)


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
    """Execute approved changes: those of a blocked set that was approved as a whole, or single members of an earlier one."""
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
    """Let a change wait for an object that is not created now, and a delete for a dependant that still names it.

    ``depends_on`` of a delete becomes the changes that must precede it: if one fails, the delete is not executed.
    """
    unmade = {c.address for c in changes if c.action in _MAKES and c.disposition is not Disposition.EXECUTE}
    unmade |= _unknown_needs(inp)
    releasing: set[Address] = set()  # executed changes of this plan after which the address no longer names its needs
    users = _users(inp)
    needs_now = {d.address: frozenset(d.depends_on) for d in inp.desired}
    result: list[Change] = []
    for change in changes:
        removes = change.action in _REMOVES and change.reason != Reason.DUPLICATE.value
        named_by = users.get(change.previous or change.address, ()) if removes else ()
        held_by = [u for u in named_by if u not in releasing or change.address in needs_now.get(u, ())]
        missing = held_by if change.action is Action.DELETE else [] if removes else [n for n in change.depends_on if n in unmade]
        if removes:
            change = dataclasses.replace(change, depends_on=tuple(u for u in named_by if u in releasing))
        if missing and change.disposition is Disposition.EXECUTE and change.action not in policy.STATE_ONLY:
            message = f"waits for {missing[0]}"
            change = dataclasses.replace(
                change, disposition=Disposition.WAITING, reason=Reason.DEPENDENCY_NOT_READY.value, message=message
            )
            if change.action in _MAKES:
                unmade.add(change.address)
        if change.disposition is Disposition.EXECUTE:
            releasing.add(change.address)
        result.append(change)
    return tuple(result)


def _users(inp: PlanInput) -> dict[Address, list[Address]]:
    """Return the recorded dependants of each address, without those whose delete was confirmed."""
    users: dict[Address, list[Address]] = {}
    for record in sorted(inp.recorded, key=lambda record: record.address):
        for need in record.depends_on if not record.tombstone else ():
            if need != record.address:
                users.setdefault(need, []).append(record.address)
    return users


def _unknown_needs(inp: PlanInput) -> set[Address]:
    """Return needed addresses that can be neither observed nor created now: not compiled, or in a scope that could not be read."""
    declared = {d.address: d for d in inp.desired}
    known = {r.address for r in inp.recorded}
    stuck = {resource.path for resource in inp.untouchable}
    needs = {need for d in inp.desired for need in d.depends_on if need not in known}
    return {n for n in needs if (n in declared and not _readable(declared[n].scope, inp)) or n.partition("#")[0] in stuck}


def _readable(scope: Scope, inp: PlanInput) -> bool:
    view = inp.views.get(scope)
    return view is not None and view.error is None


def _notes(decisions: Iterable[Decision]) -> tuple[str, ...]:
    return tuple(note for decision in decisions for note in decision.notes)
