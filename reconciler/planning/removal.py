"""Decisions about objects that are no longer declared. A revision with errors prunes nothing."""

from __future__ import annotations

import dataclasses

from reconciler.model.errors import ReconcilerError
from reconciler.model.objects import IntentState, ObservedObject, RecordedObject
from reconciler.model.plan import Action, BlockReason, Change, Disposition, Reason
from reconciler.planning import policy
from reconciler.planning.changes import (
    Decision,
    Settlement,
    held,
    not_yet_absent,
    removal_of,
    waiting_for,
    without_object,
)
from reconciler.planning.inputs import PlanInput
from reconciler.planning.match import Match


def decide_undeclared(match: Match, inp: PlanInput) -> Decision:
    recorded = match.recorded
    if recorded is None:
        return Decision()
    if match.stale:
        note = "its object is now recorded under another address"
        return Decision((removal_of(match, recorded, Action.FORGET, reason=Reason.MOVED.value, message=note),))
    if match.unreadable is not None:
        return _out_of_reach(match, recorded, match.unreadable, inp)
    if match.usurped:
        note = "it carries the marker of another installation"
        forget = removal_of(match, recorded, Action.FORGET, reason=Reason.CONFLICT.value, message=note)
        return Decision((forget,) if inp.prune_allowed or recorded.tombstone else ())
    if match.observed is None:
        return _gone(match, recorded, inp)
    settlements = _settled(match, match.observed)
    action, reason, block = policy.on_removal(recorded)
    if action is Action.DELETE and match.view.read_only:
        action, reason, block = Action.FORGET, Reason.READ_ONLY.value, None
    change = dataclasses.replace(removal_of(match, recorded, action, reason=reason), external_id=match.observed.external_id)
    if reason == Reason.ORPHANED.value:
        change = dataclasses.replace(change, message="it stays at the provider as it is, and is not managed any more")
    if reason == Reason.READ_ONLY.value:
        change = dataclasses.replace(
            change, message=f"{match.scope.key} is {match.view.read_only}: it cannot be deleted there, and is left as it is"
        )
    return Decision((_guarded(change, recorded, block, inp),), settlements)


def _guarded(change: Change, recorded: RecordedObject, block: BlockReason | None, inp: PlanInput) -> Change:
    """Return the removal as held, waiting or blocked where it must not be made now."""
    if recorded.resource in inp.suspended or inp.integration in inp.suspended:
        return held(change, Reason.SUSPENDED, "suspended: nothing is deleted")
    if recorded.tombstone:
        return change  # already being deleted: continues until the provider no longer shows it
    if recorded.address in inp.kept:
        return waiting_for(change, Reason.NOT_REPLACED, None, inp.kept[recorded.address])
    if not inp.prune_allowed:
        message = "this revision has errors, or pruning is switched off: nothing is deleted"
        return held(change, Reason.PRUNE_NOT_ALLOWED, message)
    if block is not None:
        message = "lifecycle.preventDestroy was set when it was applied"
        return dataclasses.replace(change, disposition=Disposition.BLOCKED, reason=block.value, message=message)
    return change


def _settled(match: Match, observed: ObservedObject) -> tuple[Settlement, ...]:
    """Return the settlements of the intents, given that ``observed`` exists: a delete did not happen, any other write did."""
    return tuple(
        (i.id, IntentState.ABSENT if i.action == Action.DELETE.value else IntentState.ADOPTED, observed.external_id)
        for i in match.intents
    )


def _gone(match: Match, recorded: RecordedObject, inp: PlanInput) -> Decision:
    """Keep the record until the absence of the object is proven. Only a revision that may prune drops it."""
    if not recorded.tombstone and not inp.prune_allowed:
        return Decision()
    change = removal_of(match, recorded, Action.FORGET, reason=Reason.GONE.value)
    waiting = not_yet_absent(change, match, inp)
    if waiting is not None:
        return Decision((waiting,))
    return Decision((change,), tuple((i.id, without_object(i.action), None) for i in match.intents))


_WITHDRAWN = frozenset({410, 451})


def out_of_reach(error: ReconcilerError) -> bool:
    """Whether a retry cannot clear this error of a scope: it is gone (404, 410), or cannot be read (403, 451)."""
    return error.out_of_reach or getattr(error, "status", None) in _WITHDRAWN


def _out_of_reach(match: Match, recorded: RecordedObject, error: ReconcilerError, inp: PlanInput) -> Decision:
    """Return a note: an undeclared object that cannot be read blocks nothing, and a person must confirm that it is gone."""
    if not out_of_reach(error):
        return Decision()
    action, reason, _ = policy.on_removal(recorded)
    if recorded.tombstone:  # its delete was confirmed; only the proof is missing
        return Decision((removal_of(match, recorded, Action.FORGET, reason=Reason.GONE.value),))
    if action is Action.FORGET:
        return Decision((removal_of(match, recorded, action, reason=reason),) if inp.prune_allowed else ())
    return Decision(notes=(way_out(recorded, error),))


def way_out(recorded: RecordedObject, error: ReconcilerError) -> str:
    """Return the advice for ``recorded``, which is not declared and cannot be read because of ``error``."""
    return (
        f"{recorded.external_id} in {recorded.scope.key} is no longer declared and cannot be deleted ({error.code}: {error.message}); "
        f"give the credential access, or, if it is gone for good: reconciler forget '{recorded.address}'"
    )


def decide_doubtful(match: Match, inp: PlanInput) -> Decision:
    """Settle a write with unknown outcome whose object is in neither Git nor the state; what it created is an orphan.

    Its lifecycle (``preventDestroy``, ``Orphan``) is unknown, so it is deleted only on request (``orphans``).
    """
    latest = max(intent.created_at for intent in match.intents)
    if match.observed is not None:
        note = (
            f"{match.address}: {match.observed.external_id} was created by an interrupted write, and is no longer declared; "
            "see `reconciler orphans`"
        )
        return Decision(
            (),
            _settled(match, match.observed),
            (note,),
        )
    if inp.now < latest + inp.settle_s or match.view.reads < 2:
        return Decision()
    return Decision((), tuple((i.id, without_object(i.action), None) for i in match.intents))
