"""Policies: the permitted actions, as small pure functions of their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.model.objects import RecordedObject
from reconciler.model.plan import Action, BlockReason, ChangeClass, FieldChange, Reason
from reconciler.model.resources import DeletionPolicy, DriftMode, Lifecycle, Management
from reconciler.model.times import has_passed
from reconciler.planning.diff import covers
from reconciler.planning.inputs import PlanLimits

FIGHT_REPAIRS = 3
FIGHT_WINDOW_S = 600.0
"""Three repairs within ten minutes mean that something else changes the object: the next repair waits as long."""

STATE_ONLY = frozenset({Action.RECORD, Action.FORGET})
"""Actions that write nothing at a provider."""


def management_holds(action: Action, management: Management) -> Reason | None:
    """Return the reason why ``management`` forbids ``action`` at the provider, or None."""
    if action in STATE_ONLY or management is Management.FULL:
        return None
    if management is Management.OBSERVE:
        return Reason.OBSERVE_ONLY
    if action in {Action.DELETE, Action.REPLACE}:
        return Reason.NO_DELETE
    if management is Management.CREATE_ONLY and action is not Action.CREATE:
        return Reason.CREATE_ONLY
    return None


def is_suspended(lifecycle: Lifecycle | None, now: float) -> bool:
    """Whether ``lifecycle`` suspends writes at ``now`` (seconds since the epoch)."""
    return lifecycle is not None and lifecycle.suspend is not None and not has_passed(lifecycle.suspend.until, now)


def without_drift(fields: Sequence[FieldChange], mode: DriftMode, pushed: frozenset[str]) -> tuple[FieldChange, ...]:
    """Return the fields that count under ``mode``: with ``ignore``, drift is not computed.

    ``pushed`` are pointers of write-only values that changed. That is not drift: the secret was changed on purpose.
    """
    if mode is not DriftMode.IGNORE:
        return tuple(fields)
    return tuple(field for field in fields if field.cls is ChangeClass.COMMIT or field.path in pushed)


def only_drift(fields: Iterable[FieldChange], pushed: frozenset[str]) -> bool:
    """Whether none of ``fields`` was changed by a commit or a new secret value."""
    return all(field.cls is not ChangeClass.COMMIT and field.path not in pushed for field in fields)


def contended_until(repairs: Sequence[float], now: float) -> float | None:
    """Return the time (seconds since the epoch) until which a contended object is not repaired, or None. ``repairs`` ascend."""
    if len(repairs) < FIGHT_REPAIRS or repairs[-FIGHT_REPAIRS] < repairs[-1] - FIGHT_WINDOW_S:
        return None
    until = repairs[-1] + FIGHT_WINDOW_S
    return until if now < until else None


def must_replace(fields: Iterable[FieldChange], immutable: Sequence[str], *, write_only_fixed: bool) -> tuple[bool, bool]:
    """Return (whether a replace is needed, whether it needs no permission).

    A write-only value that cannot be changed in place is replaced without permission, since nothing else refers to it.
    """
    hard = soft = False
    for field in fields:
        if field.sensitive and write_only_fixed:
            soft = True
        elif any(covers(pointer, field.path) or covers(field.path, pointer) for pointer in immutable):
            hard = True
    return hard or soft, soft and not hard


def on_removal(recorded: RecordedObject) -> tuple[Action, str, BlockReason | None]:
    """Return (action, reason, block) for an object whose manifest was removed, by the policy recorded when it was applied.

    An object that must not be deleted (``observe``, ``no-delete``, ``create-only``) is left in place and forgotten: its record
    could otherwise be removed only by restoring the manifest.
    """
    lifecycle = recorded.lifecycle
    if lifecycle.deletion_policy is DeletionPolicy.ORPHAN:
        return Action.FORGET, Reason.ORPHANED.value, None
    if lifecycle.management is not Management.FULL:
        reason = Reason.OBSERVE_ONLY if lifecycle.management is Management.OBSERVE else Reason.NO_DELETE
        return Action.FORGET, reason.value, None
    return Action.DELETE, "", BlockReason.PREVENT_DESTROY if lifecycle.prevent_destroy else None


def over_limits(deletes: int, owned: int, limits: PlanLimits) -> BlockReason | None:
    """Return the limit that ``deletes`` of ``owned`` objects exceed, or None."""
    if limits.maximum and deletes > limits.maximum:
        return BlockReason.DELETE_MAX
    if limits.percent and deletes >= max(limits.minimum, 1) and deletes * 100 > limits.percent * owned:
        return BlockReason.DELETE_PERCENT
    return None
