"""Approvals: the changes that a person approved, and the changes of a later plan that they cover. Pure.

A change is identified by what it writes: address, action, id of the object and digest of the values. A later plan, which is needed
when a write waits for another or has an unknown outcome, may execute these changes and no others.
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
"""The observed objects from which a change was planned, by scope and id."""

_GRANTED = frozenset({Disposition.EXECUTE, Disposition.WAITING})
_PENDING = frozenset({Disposition.EXECUTE, Disposition.WAITING, Disposition.BLOCKED})


@dataclass(frozen=True, slots=True)
class Approval:
    """The changes that one approved plan covers. ``spent`` changes were made or finally refused: each is made once."""

    granted: frozenset[Digest]
    shown: frozenset[Digest]
    """The granted changes, and those that the plan showed as blocked or held."""
    addresses: frozenset[Address]
    """Addresses of the granted changes, whose results may be recorded."""
    spent: frozenset[Digest] = frozenset()

    @classmethod
    def of(cls, plan: Plan, seen: Seen, now: float) -> Approval:
        """Return the approval of every change that ``plan`` executes, now or after a wait."""
        granted: set[Digest] = set()
        for change in plan.changes:
            if change.disposition in _GRANTED:
                granted.update(_writes(change, seen, now))
        shown = {write_digest(change, seen, now) for change in plan.changes} | granted
        addresses = frozenset(change.address for change in plan.changes if change.disposition in _GRANTED)
        return cls(frozenset(granted), frozenset(shown), addresses)

    @classmethod
    def of_blocked(cls, plan: Plan, seen: Seen, now: float) -> Approval:
        """Return the approval of the blocked set of ``plan`` alone."""
        freed = tuple(dataclasses.replace(change, disposition=Disposition.EXECUTE) for change in plan.blocked)
        return cls.of(dataclasses.replace(plan, changes=freed), seen, now)

    def after(self, done: Iterable[Change], seen: Seen, now: float) -> Approval:
        """Return the approval without the changes that are ``done``."""
        spent = {digest for change in done for digest in _writes(change, seen, now)}
        return dataclasses.replace(self, spent=self.spent | spent)

    def covers(self, change: Change, seen: Seen, now: float) -> bool:
        """Whether ``change`` may be made: it is approved and not spent, or records the result of an approved change."""
        if change.action in policy.STATE_ONLY and change.address in self.addresses:
            return True
        digest = write_digest(change, seen, now)
        return digest in self.granted and (digest not in self.spent or change.action is Action.DELETE)

    def narrowed(self, plan: Plan, seen: Seen, now: float) -> tuple[Plan, tuple[Change, ...]]:
        """Return ``plan`` with only covered changes to execute, and the changes that were not approved."""
        narrow, _ = withheld(plan, lambda change: self.covers(change, seen, now))
        moved = [c for c in plan.changes if c.disposition in _PENDING and not self._expected(c, seen, now)]
        return narrow, tuple(moved)

    def _expected(self, change: Change, seen: Seen, now: float) -> bool:
        """Whether the approved plan showed ``change`` with at least the restrictions that it has now."""
        if self.covers(change, seen, now):
            return True
        digest = write_digest(change, seen, now)
        if change.disposition is Disposition.BLOCKED:
            return digest in self.shown
        return digest in self.granted - self.spent


def withheld(plan: Plan, allowed: Callable[[Change], bool]) -> tuple[Plan, tuple[Change, ...]]:
    """Return ``plan`` with the changes that are not ``allowed`` waiting for an approval, and these changes. Dependants wait too."""
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
    """Return the digest of the values and the target of ``change``: changes with equal digests make the same call."""
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
    return {(scope, observed.external_id): observed for scope, view in views.items() for observed in view.objects}


def _writes(change: Change, seen: Seen, now: float) -> Iterable[Digest]:
    """Yield the digests of the writes. A replace is a delete and a create, and continues with the create after an interruption."""
    yield write_digest(change, seen, now)
    if change.action is Action.REPLACE:
        rest = dataclasses.replace(change, action=Action.CREATE, external_id=None, fields=())
        yield write_digest(rest, seen, now)
