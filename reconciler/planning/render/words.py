"""Shared by all renderings: words, symbols, counts, and the sentences that explain a change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from reconciler.model.plan import Action, BlockReason, Change, ChangeClass, Disposition, Manifests, PlanSet, Reason
from reconciler.model.resources import ResourceId, Suspension
from reconciler.model.times import iso
from reconciler.planning.render.values import said, shown

SECRET = "(secret)"
SYMBOLS: Mapping[Action, str] = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.REPLACE: "±",
    Action.DELETE: "-",
    Action.ADOPT: "^",
    Action.REMARK: ">",
    Action.RECORD: "=",
    Action.FORGET: "x",
}
CLASS_TITLES: Mapping[ChangeClass, str] = {
    ChangeClass.COMMIT: "Committed in Git",
    ChangeClass.DRIFT: "Drift: changed at the provider",
    ChangeClass.UNVERIFIABLE: "Unverifiable: write-only values",
}
RESOURCES_TITLE = "Manifests: new and changed resources"
UNREAD_TITLE = "Could not be read; no changes are planned there:"
_VERBS = {
    Action.CREATE: "to create",
    Action.UPDATE: "to update",
    Action.REPLACE: "to replace",
    Action.DELETE: "to delete",
    Action.ADOPT: "to adopt",
    Action.REMARK: "to re-mark",
    Action.RECORD: "to record",
    Action.FORGET: "to forget",
}
_RESOURCE_VERBS = {Action.CREATE: "new", Action.UPDATE: "changed", Action.DELETE: "removed"}
_DISPOSITIONS = {Disposition.BLOCKED: "blocked", Disposition.HELD: "held", Disposition.WAITING: "waiting"}
_EFFECTS: Mapping[Action, str] = {
    Action.REPLACE: "the object is deleted and created again, with a new id",
    Action.RECORD: "nothing is written to the provider: only the state changes",
    Action.FORGET: "nothing is written to the provider: only the record is dropped",
    Action.ADOPT: "an object that is not ours becomes ours: its present values are overwritten, its secret too",
}
_REASONS: Mapping[str, str] = {
    BlockReason.DELETE_PERCENT.value: "more deletes than reconcile.limits.deletePercent allows",
    BlockReason.DELETE_MAX.value: "more deletes than reconcile.limits.deleteMax allows",
    BlockReason.PREVENT_DESTROY.value: "lifecycle.preventDestroy forbids the delete",
    BlockReason.REPLACE_FORBIDDEN.value: "it cannot be changed in place, and lifecycle.replace forbids a delete and create",
    Reason.MISSING.value: "it was deleted at the provider",
    Reason.FOUND.value: "it has our marker and no record",
    Reason.ORPHANED.value: "lifecycle.deletionPolicy is 'Orphan': it stays at the provider, and is not managed any more",
    Reason.GONE.value: "it no longer exists at the provider",
    Reason.OBSERVE_ONLY.value: "lifecycle.management is 'observe'",
    Reason.CREATE_ONLY.value: "lifecycle.management is 'create-only'",
    Reason.NO_DELETE.value: "lifecycle.management forbids deletes",
    Reason.DRIFT_WARN.value: "lifecycle.drift is 'warn': shown, and not repaired",
}
"""Reasons whose change has no message of its own, or one that needs no context."""


def summary(planset: PlanSet) -> str:
    """Return the summary line: ``Plan: 3 to create, 1 to update; 2 blocked``."""
    changes = planset.changes
    failed = sum(problem.is_error for problem in planset.unread)
    unread = f" {failed} could not be read." if failed else ""
    if planset.empty:
        return f"Plan: nothing to do in what could be read.{unread}" if unread else "Plan: nothing to do."
    actions = Counter(change.action for change in changes if change.disposition is Disposition.EXECUTE)
    rest = Counter(change.disposition for change in changes)
    manifests = Counter(change.action for change in planset.resources)
    parts = [
        ", ".join(f"{actions[action]} {verb}" for action, verb in _VERBS.items() if actions[action]),
        ", ".join(f"{rest[disposition]} {word}" for disposition, word in _DISPOSITIONS.items() if rest[disposition]),
    ]
    if changes and not parts[0]:
        parts[0] = "nothing to do now"
    if manifests:
        parts.append("manifests: " + ", ".join(f"{manifests[a]} {word}" for a, word in _RESOURCE_VERBS.items() if manifests[a]))
    return f"Plan: {'; '.join(part for part in parts if part)}.{unread}"


def counts_of(planset: PlanSet) -> dict[str, int]:
    """Return the numbers of the summary: by action for what is executed, else by disposition; manifests by what happens to them."""
    counts = Counter(c.action.value if c.disposition is Disposition.EXECUTE else c.disposition.value for c in planset.changes)
    manifests = Counter(f"manifests {_RESOURCE_VERBS[change.action]}" for change in planset.resources)
    return dict(sorted((counts + manifests).items()))


def by_class(changes: tuple[Change, ...]) -> list[tuple[ChangeClass, list[Change]]]:
    """Return the changes of each class that has any, in the plan's order."""
    return [(cls, members) for cls in ChangeClass if (members := [change for change in changes if change.cls is cls])]


def short(revision: str) -> str:
    """Return ``main@sha1:0123…`` with eight characters of the commit: enough for a person."""
    head, colon, digest = revision.rpartition(":")
    return f"{head}{colon}{digest[:8]}" if colon and len(digest) > 8 else revision


def state_text(change: Change) -> str:
    """Return the reason why a change is made or not made; empty for an ordinary one."""
    if change.disposition is Disposition.EXECUTE:
        return change.reason
    return f"{_DISPOSITIONS[change.disposition]}: {change.reason}"


def explanation(change: Change, manifests: Manifests) -> Iterator[str]:
    """Yield the sentences that explain a change: what it does where that is not obvious, and why it is or is not made."""
    if change.previous is not None:
        former, _, place = change.previous.partition("#")
        yield shown(f"was {ResourceId.from_path(former)} in {place}: the object stays, with a new name")
    if change.action in _EFFECTS:
        yield _EFFECTS[change.action]
    suspension = _suspension(change, manifests) if change.reason == Reason.SUSPENDED.value else None
    if suspension is not None:
        until = f"until {suspension.until}" if suspension.until else "until lifecycle.suspend is removed"
        yield shown(f"suspended {until}: {suspension.reason}")
    elif change.message:
        yield said(change.message)
    elif change.reason in _REASONS:
        yield _REASONS[change.reason]
    elif change.reason == Reason.SUSPENDED.value:
        yield "suspended: nothing is written"
    if change.disposition is Disposition.WAITING and change.retry_at:
        yield f"tried again at {iso(change.retry_at)}"


def _suspension(change: Change, manifests: Manifests) -> Suspension | None:
    """Return the suspension in a manifest that holds ``change``: its own, or that of its Integration."""
    own = [change.desired.lifecycle] if change.desired is not None else []
    declared = [manifests.after.get(identity) for identity in (change.resource, change.integration)]
    lifecycles = [*own, *(resource.lifecycle for resource in declared if resource is not None)]
    return next((lifecycle.suspend for lifecycle in lifecycles if lifecycle.suspend is not None), None)
