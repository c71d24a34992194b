"""The decision for one address: from its three states and the policy to changes and settlements.

Only a complete list proves absence: one list for a new object, two if the object may exist, and after a write with an unknown
outcome (or one that no list has shown yet) only after the settle time.
"""

from __future__ import annotations

import dataclasses

from reconciler.model.objects import IntentState, ManagedObject, ObservedObject, RecordedObject
from reconciler.model.plan import Action, BlockReason, Change, ChangeClass, Disposition, FieldChange, Loss, Reason
from reconciler.model.resources import Adopt, DriftMode, Management
from reconciler.model.values import Address
from reconciler.planning import policy
from reconciler.planning.changes import (
    Decision,
    Settlement,
    change_to,
    guarded,
    held,
    not_yet_absent,
    waiting_for,
    without_object,
)
from reconciler.planning.diff import ABSENT, Basis, changes_since, fingerprint_moved, same, value_at
from reconciler.planning.inputs import PlanInput
from reconciler.planning.match import CREATING, Match
from reconciler.planning.removal import decide_doubtful, decide_undeclared


def decide(match: Match, inp: PlanInput) -> Decision:
    """Return the decision for ``match``, before limits, dependencies and approvals."""
    if match.desired is None:
        return decide_undeclared(match, inp) if match.recorded is not None else decide_doubtful(match, inp)
    if match.usurped:
        return Decision((_usurped(match, match.desired),))
    if match.observed is not None:
        return _present(match, match.desired, match.observed, inp)
    if match.desired.lifecycle.management is Management.OBSERVE and match.adoptable:
        return _observed_foreign(match, match.desired, match.rivals[0], inp)
    return _absent(match, match.desired, inp)


# ---- declared and there


def _present(match: Match, desired: ManagedObject, observed: ObservedObject, inp: PlanInput) -> Decision:
    basis = _basis(match, desired, observed, inp)
    fields = changes_since(desired, observed, basis, now=inp.now)
    pushed = _pushed(desired, basis)
    fields = policy.without_drift(fields, desired.lifecycle.drift, pushed)
    changes = [change for change in [_change_of(match, desired, observed, fields, inp)] if change is not None]
    if changes and changes[0].action not in policy.STATE_ONLY:
        changes[0] = _hold_repairs(changes[0], match.recorded, pushed, inp.now)
    changes = [guarded(change, desired, inp) for change in changes]
    changes += [guarded(_duplicate(match, desired, extra), desired, inp) for extra in match.duplicates]
    return Decision(tuple(changes), _settled_present(match, desired, observed, fields))


def _basis(match: Match, desired: ManagedObject, observed: ObservedObject, inp: PlanInput) -> Basis:
    """Return the last write to ``observed``, as far as it is known: by the record, or by a write in doubt that took effect."""
    recorded = match.recorded
    doubted = next((i for i in reversed(match.creating) if i.external_id != observed.external_id), None)
    if recorded is not None and recorded.external_id == observed.external_id:
        update = next((i for i in reversed(match.intents) if i.action not in CREATING and i.digest == desired.digest), None)
        basis = Basis.of(recorded)
        if update is not None and _took_effect(desired, observed, recorded, inp.now):
            return Basis(basis.attributes, update.fingerprints, "", basis.unshown)
        return _at_new_address(basis, match, desired, inp)
    if doubted is not None:
        return Basis(recorded.attributes if recorded else None, doubted.fingerprints)
    # It is not the recorded object, so that its hidden values are unknown. Without a record (a lost state) they count as declared,
    # since all of them derive from the same keys and secrets.
    return Basis(recorded.attributes, {}) if recorded is not None else Basis()


def _at_new_address(basis: Basis, match: Match, desired: ManagedObject, inp: PlanInput) -> Basis:
    """Return ``basis`` with the fingerprints of unchanged values at the new address, since fingerprints depend on the address."""
    old, known = match.previous, basis.fingerprints
    if old is None or known is None or inp.fingerprint is None:
        return basis
    kept = {w.pointer: w.fingerprint for w in desired.write_only if known.get(w.pointer) == inp.fingerprint(old, w)}
    return dataclasses.replace(basis, fingerprints={**known, **kept})


def _took_effect(desired: ManagedObject, observed: ObservedObject, recorded: RecordedObject, now: float) -> bool:
    """Whether an update in doubt is visible: it changed a visible field, and all visible fields are as declared."""
    plain = dataclasses.replace(desired, write_only=(), unreadable=())
    before = dataclasses.replace(observed, attributes=recorded.attributes)
    changed = changes_since(plain, before, Basis(recorded.attributes), now=now)
    visible = any(value_at(observed.attributes, change.path) is not ABSENT for change in changed)
    return visible and not changes_since(plain, observed, Basis(), now=now)


def _pushed(desired: ManagedObject, basis: Basis) -> frozenset[str]:
    known = basis.fingerprints
    if known is None or not desired.write_only:
        return frozenset()
    return frozenset(w.pointer for w in desired.write_only if fingerprint_moved(w.fingerprint, known.get(w.pointer)))


def _change_of(
    match: Match, desired: ManagedObject, observed: ObservedObject, fields: tuple[FieldChange, ...], inp: PlanInput
) -> Change | None:
    previous = match.previous
    if not fields:
        stale = _record_reason(match, desired, observed)
        if stale is None:
            return None
        return change_to(desired, Action.RECORD, reason=stale.value, external_id=observed.external_id, previous=previous)
    kind = inp.types.get(desired.type)
    replace, free = policy.must_replace(fields, desired.immutable, write_only_fixed=kind is not None and kind.write_only_fixed)
    remark = match.moved or (desired.previous_marker is not None and observed.marker == desired.previous_marker)
    action = Action.REPLACE if replace else Action.REMARK if remark else Action.UPDATE
    reason = Reason.MOVED.value if remark else "" if match.recorded is not None else Reason.FOUND.value
    change = change_to(desired, action, fields=fields, reason=reason, external_id=observed.external_id, previous=previous)
    if replace and not free and not desired.lifecycle.replace_allowed:
        pointers = ", ".join(f.path for f in fields if not f.sensitive) or "a write-only value"
        return dataclasses.replace(
            change,
            disposition=Disposition.BLOCKED,
            reason=BlockReason.REPLACE_FORBIDDEN.value,
            message=(
                f"{pointers} cannot be changed in place; set lifecycle.replace to 'allow', or approve the delete and create"
            ),
        )
    return change


def _record_reason(match: Match, desired: ManagedObject, observed: ObservedObject) -> Reason | None:
    """Return the reason to write the record although the provider has no difference, or None."""
    recorded = match.recorded
    if recorded is None:
        return Reason.ADOPTED if match.creating else Reason.FOUND
    if match.moved:
        return Reason.MOVED
    if recorded.external_id != observed.external_id:
        return Reason.ADOPTED if match.creating else Reason.FOUND
    stale = (
        recorded.tombstone
        or recorded.digest != desired.digest
        or recorded.lifecycle != desired.lifecycle
        or recorded.integration != desired.integration
        or recorded.marker != desired.marker
        or recorded.natural_key != desired.natural_key
        or tuple(recorded.depends_on) != tuple(desired.depends_on)
    )
    if not stale or _only_reference_differs(recorded, desired):
        return None
    return Reason.AS_DECLARED


def _only_reference_differs(recorded: RecordedObject, desired: ManagedObject) -> bool:
    """Whether only reference fingerprints differ, which are made without credentials and do not change the record."""
    return (
        not recorded.tombstone
        and any(w.fingerprint.startswith("ref:") for w in desired.write_only)
        and same(recorded.attributes, desired.attributes)
        and recorded.lifecycle == desired.lifecycle
        and recorded.integration == desired.integration
    )


def _hold_repairs(change: Change, recorded: RecordedObject | None, pushed: frozenset[str], now: float) -> Change:
    """Apply ``drift: warn`` and the limit of repairs to a change without a commit."""
    if change.disposition is not Disposition.EXECUTE or change.desired is None or not policy.only_drift(change.fields, pushed):
        return change
    if change.desired.lifecycle.drift is DriftMode.WARN:
        return held(change, Reason.DRIFT_WARN, "drift is shown and not repaired (lifecycle.drift is 'warn')")
    until = policy.contended_until(recorded.repairs, now) if recorded is not None else None
    return change if until is None else _contended(change, until)


def _contended(change: Change, until: float) -> Change:
    return waiting_for(
        change, Reason.CONTENDED, until, f"repaired {policy.FIGHT_REPAIRS} times in ten minutes: something else changes it back"
    )


def _duplicate(match: Match, desired: ManagedObject, extra: ObservedObject) -> Change:
    """Return the delete of a second object with our marker, after the change of the first. It has an address of its own."""
    return Change(
        address=Address(f"{match.address}~{extra.external_id}"),
        action=Action.DELETE,
        cls=ChangeClass.DRIFT,
        resource=desired.resource,
        integration=desired.integration,
        scope=desired.scope,
        reason=Reason.DUPLICATE.value,
        external_id=extra.external_id,
        message="a second object with our marker; the one with the lowest id stays",
        depends_on=(desired.address,),
        location=desired.location,
        loss=Loss({key: extra.attributes[key] for key in desired.attributes if key in extra.attributes}),
    )


def _settled_present(
    match: Match, desired: ManagedObject, observed: ObservedObject, fields: tuple[FieldChange, ...]
) -> tuple[Settlement, ...]:
    """Return the settlements of the intents, given that ``observed`` exists.

    Without a marker only the natural key connects a write in doubt with the object, so that the write stays in doubt until the object
    is recorded.
    """
    known = match.recorded is not None and match.recorded.external_id == observed.external_id
    settled: list[Settlement] = []
    for intent in match.intents:
        if intent.action in CREATING:
            if not known and intent.marker is None:
                continue
            same = intent.external_id == observed.external_id  # a replace whose delete never happened
            settled.append(
                (intent.id, IntentState.ABSENT, None) if same else (intent.id, IntentState.ADOPTED, observed.external_id)
            )
        else:
            done = not fields and intent.digest == desired.digest
            settled.append(
                (intent.id, IntentState.ADOPTED if done else IntentState.ABSENT, observed.external_id if done else None)
            )
    return tuple(settled)


# ---- declared and not there


def _absent(match: Match, desired: ManagedObject, inp: PlanInput) -> Decision:
    recorded = match.recorded
    missing = recorded is not None and not recorded.tombstone and not match.creating
    change = change_to(
        desired,
        Action.CREATE,
        reason=Reason.MISSING.value if missing else "",
        previous=match.previous,
    )
    change = dataclasses.replace(change, cls=ChangeClass.DRIFT) if missing else change
    waiting = not_yet_absent(change, match, inp)
    settlements = tuple((i.id, without_object(i.action), None) for i in match.intents) if waiting is None else ()
    if missing and desired.lifecycle.drift is DriftMode.IGNORE:
        return Decision((), settlements)
    if waiting is not None:
        return Decision((guarded(waiting, desired, inp),))
    if match.rivals or match.taken_by is not None or match.sought:
        return Decision((guarded(_contested(change, match, desired), desired, inp),), settlements)
    if missing and desired.lifecycle.drift is DriftMode.WARN:
        change = held(change, Reason.DRIFT_WARN, "it is missing at the provider and not made again (lifecycle.drift is 'warn')")
    elif missing and recorded is not None and (until := policy.contended_until(recorded.repairs, inp.now)) is not None:
        change = _contended(change, until)
    return Decision((guarded(change, desired, inp),), settlements)


def _contested(change: Change, match: Match, desired: ManagedObject) -> Change:
    if match.taken_by is not None:
        return waiting_for(
            change,
            Reason.NAME_TAKEN,
            None,
            f"{desired.natural_key} is held by {match.taken_by}, which is no longer declared; "
            "it is deleted first (lifecycle.movedFrom keeps the object instead)",
        )
    if match.sought and desired.lifecycle.adopt is Adopt.NEVER:
        return held(
            change,
            Reason.CONFLICT,
            f"lifecycle.externalId names {match.sought}, and lifecycle.adopt is 'never', so that it is not taken over; set "
            "lifecycle.adopt to take it over, or remove lifecycle.externalId to have a new one made",
        )
    if match.sought and all(rival.external_id != match.sought for rival in match.rivals):
        return held(
            change,
            Reason.CONFLICT,
            f"lifecycle.externalId names {match.sought}, which is not in {desired.scope.key}, or belongs to another resource; "
            "name the object to take over, or remove lifecycle.externalId and lifecycle.adopt to have a new one made",
        )
    rival = match.rivals[0]
    if match.adoptable and desired.lifecycle.management is not Management.OBSERVE:
        return _adopt(desired, rival, match)
    named = ", ".join(f"{each.external_id}" + (f" ({each.url})" if each.url else "") for each in match.rivals[:5])
    if rival.marker is not None:
        advice = f"it is managed by the installation '{rival.marker.owner}' and is never touched"
    elif len(match.rivals) > 1:
        advice = "name the one to take over in lifecycle.externalId"
    else:
        advice = "delete it, or set lifecycle.adopt to take it over"
    return held(change, Reason.CONFLICT, f"not ours and in its place: {named}; {advice}")


def _adopt(desired: ManagedObject, rival: ObservedObject, match: Match) -> Change:
    """Return the adoption of ``rival``. It overwrites all desired fields, with the URL and the secret; the plan shows each."""
    fields = changes_since(desired, rival, Basis(), now=0.0)
    known = {field.path for field in fields}
    secrets = [FieldChange(w.pointer, sensitive=True) for w in desired.write_only if w.pointer not in known]
    return change_to(
        desired,
        Action.ADOPT,
        fields=tuple(sorted([*fields, *secrets], key=lambda f: f.path)),
        external_id=rival.external_id,
        previous=match.previous,
        message=f"takes over {rival.external_id}, which is not ours: what is listed is overwritten",
    )


def _observed_foreign(match: Match, desired: ManagedObject, rival: ObservedObject, inp: PlanInput) -> Decision:
    """``management: observe`` of an object that is not ours: differences are shown, nothing is recorded."""
    plain = dataclasses.replace(desired, write_only=())
    fields = tuple(dataclasses.replace(f, cls=ChangeClass.DRIFT) for f in changes_since(plain, rival, Basis(), now=inp.now))
    settlements = tuple((i.id, without_object(i.action), None) for i in match.intents)
    if not fields or desired.lifecycle.drift is DriftMode.IGNORE:
        return Decision((), settlements)
    change = change_to(desired, Action.UPDATE, fields=fields, external_id=rival.external_id)
    return Decision((guarded(change, desired, inp),), settlements)


def _usurped(match: Match, desired: ManagedObject) -> Change:
    external_id = match.recorded.external_id if match.recorded is not None else None
    return held(
        change_to(desired, Action.UPDATE, external_id=external_id),
        Reason.CONFLICT,
        f"{external_id} bears the marker of another installation now and is never touched; `reconciler forget` drops our record",
    )
