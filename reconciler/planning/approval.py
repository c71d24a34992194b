"""What a person approved, and which changes of a later plan that covers. Pure.

A change is known again by what it would write: address, action, the object's id and the digest of the values. A plan that is
made later, because a write waits for another or an outcome is unknown, may run those changes and no others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reconciler.model.objects import ObservedObject, Scope
from reconciler.model.plan import Action, Change, Disposition, Plan, Reason
from reconciler.model.values import Address, Digest, ExternalId, digest_of
from reconciler.planning import policy
from reconciler.planning.diff import merged_attributes
from reconciler.planning.inputs import ScopeView

Seen = Mapping[tuple[Scope, ExternalId], ObservedObject]
"""Observed objects by scope and id: what a change was planned from."""

_GRANTED = frozenset({Disposition.EXECUTE, Disposition.WAITING})
_PENDING = frozenset({Disposition.EXECUTE, Disposition.WAITING, Disposition.BLOCKED})


@dataclass(frozen=True, slots=True)
class Approval:
    """The changes that one approved plan covers. ``spent`` ones were made, or refused for good: each is made once."""

    granted: frozenset[Digest]
    shown: frozenset[Digest]
    """Granted ones, and those that the plan showed as blocked or held."""
    addresses: frozenset[Address]
    """What the granted changes are about: recording what became of them follows from their approval."""
    spent: frozenset[Digest] = frozenset()

    @classmethod
    def of(cls, plan: Plan, seen: Seen, now: float) -> Approval:
        """Return the approval that covers every change which ``plan`` shows as to be made, now or after a wait."""
        granted: set[Digest] = set()
        for change in plan.changes:
            if change.disposition in _GRANTED:
                granted.update(_writes(change, seen, now))
        shown = {write_digest(change, seen, now) for change in plan.changes} | granted
        addresses = frozenset(change.address for change in plan.changes if change.disposition in _GRANTED)
        return cls(frozenset(granted), frozenset(shown), addresses)

    @classmethod
    def of_blocked(cls, plan: Plan, seen: Seen, now: float) -> Approval:
        """Return the approval that covers the blocked set of ``plan`` and nothing else of it."""
        freed = tuple(dataclasses.replace(change, disposition=Disposition.EXECUTE) for change in plan.blocked)
        return cls.of(dataclasses.replace(plan, changes=freed), seen, now)

    def after(self, made: Iterable[Change], seen: Seen, now: float) -> Approval:
        """Return the approval without what was ``made`` by it."""
        spent = {digest for change in made for digest in _writes(change, seen, now)}
        return dataclasses.replace(self, spent=self.spent | spent)

    def covers(self, change: Change, seen: Seen, now: float) -> bool:
        """Whether ``change`` may be made: approved and not spent, or the bookkeeping of what was approved."""
        if change.action in policy.STATE_ONLY and change.address in self.addresses:
            return True
        digest = write_digest(change, seen, now)
        return digest in self.granted and (digest not in self.spent or change.action is Action.DELETE)

    def narrowed(self, plan: Plan, seen: Seen, now: float) -> tuple[Plan, tuple[Change, ...]]:
        """Return ``plan`` with only covered changes to execute, and the changes that were not part of what was approved."""
        narrow, _ = withheld(plan, lambda change: self.covers(change, seen, now))
        moved = [c for c in plan.changes if c.disposition in _PENDING and not self._expected(c, seen, now)]
        return narrow, tuple(moved)

    def _expected(self, change: Change, seen: Seen, now: float) -> bool:
        """Whether the approved plan showed ``change``, in a state at least as restricted as the one it has now."""
        if self.covers(change, seen, now):
            return True
        digest = write_digest(change, seen, now)
        if change.disposition is Disposition.BLOCKED:
            return digest in self.shown
        return digest in self.granted - self.spent


def withheld(plan: Plan, allowed: Callable[[Change], bool]) -> tuple[Plan, tuple[Change, ...]]:
    """Return ``plan`` with what is not ``allowed`` waiting for an approval, and those changes; what needs one of them waits too."""
    kept: list[Change] = []
    out: list[Change] = []
    addresses: set[Address] = set()  # not executed
    for change in plan.changes:
        if change.disposition is Disposition.EXECUTE:
            if not allowed(change):
                out.append(change)
                addresses.add(change.address)
                change = _waiting(change, "not part of the plan that was approved, or changed since by another process")
            elif missing := [need for need in change.depends_on if need in addresses]:
                addresses.add(change.address)
                change = _waiting(change, f"waits for {missing[0]}, which is not part of the plan that was approved")
        kept.append(change)
    return dataclasses.replace(plan, changes=tuple(kept)), tuple(out)


def _waiting(change: Change, message: str) -> Change:
    return dataclasses.replace(change, disposition=Disposition.WAITING, reason=Reason.NOT_APPROVED.value, message=message)


def write_digest(change: Change, seen: Seen, now: float) -> Digest:
    """Return the digest of what ``change`` writes, and where: changes with the same one make the same call."""
    desired = change.desired
    observed = seen.get((change.scope, change.external_id)) if change.external_id is not None else None
    return digest_of(
        [
            change.integration.path,
            change.address,
            change.action.value,
            change.external_id or "",
            change.previous or "",
            desired.digest if desired is not None else "",
            merged_attributes(desired, observed, now) if desired is not None else None,
            [field.path for field in change.fields],
        ]
    )


def seen_in(views: Mapping[Scope, ScopeView]) -> Seen:
    """Return every observed object by its scope and id."""
    return {(scope, one.external_id): one for scope, view in views.items() for one in view.objects}


def _writes(change: Change, seen: Seen, now: float) -> Iterable[Digest]:
    """A replace is a delete and a create: one that was interrupted goes on with the create."""
    yield write_digest(change, seen, now)
    if change.action is Action.REPLACE:
        rest = dataclasses.replace(change, action=Action.CREATE, external_id=None, fields=())
        yield write_digest(rest, seen, now)
