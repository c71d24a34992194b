"""Execute a plan exactly: commit intents, make the calls, commit outcomes. No decision is made here.

The order for every batch is: one commit with the intents and their audit rows, the calls (bounded number in flight), one
commit with the outcomes. A crash anywhere leaves an intent without outcome, which the next observation settles.
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.drivers.base import ManagedType, Write
from reconciler.drivers.connection import Api
from reconciler.engine.context import Context
from reconciler.engine.lease import Lease, lost
from reconciler.engine.masking import is_hidden
from reconciler.engine.observe import container_of
from reconciler.failpoints import failpoint
from reconciler.model.errors import Conflict, NotFound, OutcomeUnknown, ProviderError, ReconcilerError
from reconciler.model.objects import Intent, IntentState, ManagedObject, Observed, ObservedObject, RecordedObject, recorded_of
from reconciler.model.plan import Action, Change, ChangeClass, Disposition, Plan
from reconciler.model.records import AuditEntry, Outcome
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Address, Digest, ExternalId, digest_of
from reconciler.planning.diff import merged_attributes
from reconciler.state.values import Fence

BATCH = 500
"""Changes per batch: small enough that a new commit, a suspension or an approval takes effect between batches."""

_NO_CALL = frozenset({Action.RECORD, Action.FORGET})
_MAKES = frozenset({Action.CREATE, Action.ADOPT})


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one change."""

    change: Change
    error: ReconcilerError | None = None
    external_id: str = ""
    duration_ms: int = 0


@dataclass(slots=True)
class Report:
    """The results of a plan's executable changes, in order. ``skipped``: not tried, since a dependency failed."""

    steps: list[Step] = field(default_factory=list)
    skipped: list[Change] = field(default_factory=list)
    stopped: ReconcilerError | None = None
    """Why the rest was not tried (rate limit, refused credential), or None."""
    interrupted: bool = False
    """Whether the rest was not tried because the work had to end: a new revision, a drain, a suspension."""

    @property
    def failed(self) -> dict[Address, ReconcilerError]:
        """Errors by address."""
        return {step.change.address: step.error for step in self.steps if step.error is not None}


@dataclass(frozen=True, slots=True)
class ApplyTarget:
    """Where a plan is executed: one integration's client, its types, and how secrets are read."""

    api: Api
    types: Mapping[str, ManagedType]
    secrets: Callable[[ManagedObject], Mapping[str, SecretValue]]
    recorded: Mapping[Address, RecordedObject]
    observed: Mapping[Address, ObservedObject]
    revision: str
    batch: Callable[[], int] = lambda: BATCH
    """Returns the number of writes that the provider's rate limit allows now."""
    hold: Lease | None = None
    """The lease of these writes, if there are other processes."""
    declared: frozenset[Address] = frozenset()
    """Addresses with a desired object: a record is written there, and never deleted because another one moved."""

    def before(self, change: Change) -> RecordedObject | None:
        """Return the record of the object of ``change``, at its address or the one before a rename."""
        return self.recorded.get(change.previous or change.address)

    def dropped(self, change: Change) -> Address | None:
        """Return the address whose record ``change`` removes."""
        return change.previous if change.previous not in self.declared else None

    planned_at: float = 0.0
    """The time of the plan: decides which rules with an end (``ignore[].until``) apply to the writes."""
    on_start: Callable[[Change], None] | None = None
    """Called when a call begins."""
    on_step: Callable[[Step], None] | None = None
    """Called when a call ends, before its outcome is recorded."""

    @property
    def fence(self) -> Fence | None:
        """The fencing number for every commit."""
        return self.hold.fence if self.hold is not None else None


async def run_plan(
    plan: Plan, target: ApplyTarget, deps: Context, *, go_on: Callable[[], Awaitable[bool]] | None = None
) -> Report:
    """Execute the plan's executable changes in order, batch by batch; a failed object does not stop the others.

    ``go_on`` is called before each batch; False ends the work cleanly (a new revision, a drain, a suspension).
    """
    report = Report()
    target = dataclasses.replace(target, declared=frozenset(c.address for c in plan.changes if c.desired is not None))
    not_made = {c.address for c in plan.changes if c.disposition is Disposition.WAITING and c.action in _MAKES}
    digest = plan.sha256  # over all changes: computed once, not for each write
    for batch in _batches(plan.executable, target.batch):
        if report.stopped is not None:
            break
        if go_on is not None and not await go_on():
            report.interrupted = True
            break
        failed = {*not_made, *report.failed, *(change.address for change in report.skipped)}
        ready = [change for change in batch if not failed & set(change.depends_on)]
        report.skipped += [change for change in batch if failed & set(change.depends_on)]
        steps = await _run_batch(ready, digest, target, deps)
        report.steps += steps
        report.stopped = next((s.error for s in steps if s.error is not None and s.error.stops_integration), None)
    return report


def _batches(changes: Sequence[Change], size: Callable[[], int]) -> Iterable[list[Change]]:
    """Split the ordered changes so that no change shares a batch with its dependency, and deletes come after all other changes:
    a repository whose hook moves from one resource to another always has a hook.
    """
    batch: list[Change] = []
    inside: set[Address] = set()
    most = size()
    for change in changes:
        conflicts = change.address in inside or any(need in inside for need in change.depends_on)
        conflicts = conflicts or (change.action is Action.DELETE and any(other.action is not Action.DELETE for other in batch))
        if batch and (len(batch) >= most or conflicts):
            yield batch
            batch, inside, most = [], set(), size()
        batch.append(change)
        inside.add(change.address)
    if batch:
        yield batch


async def _run_batch(batch: Sequence[Change], plan: Digest, target: ApplyTarget, deps: Context) -> list[Step]:
    steps: list[Step] = []
    quiet = [change for change in batch if change.action in _NO_CALL]
    if quiet:
        steps += await _record_only(quiet, target, deps)
    loud = [change for change in batch if change.action not in _NO_CALL]
    if loud:
        steps += await _call_batch(loud, plan, target, deps)
    return steps


async def _record_only(changes: Sequence[Change], target: ApplyTarget, deps: Context) -> list[Step]:
    """Changes of the state alone: one commit, with an audit row each."""
    records = []
    for change in changes:
        if change.action is Action.RECORD and change.desired is not None and change.external_id is not None:
            observed = target.observed.get(change.address)
            records.append(_recorded(change, change.desired, observed, target, deps.clock()))
    forget = [change.address for change in changes if change.action is Action.FORGET]
    forget += [old for change in changes if (old := target.dropped(change)) is not None]
    audit = [_audit(change, target, deps, outcome="done") for change in changes]
    await deps.store.record_and_forget(records, forget, audit, fence=target.fence)
    return [Step(change, external_id=change.external_id or "") for change in changes]


async def _call_batch(changes: Sequence[Change], plan: Digest, target: ApplyTarget, deps: Context) -> list[Step]:
    prepared: list[tuple[Change, Intent, Mapping[str, SecretValue]]] = []
    steps: list[Step] = []
    for change in changes:
        try:
            secrets = target.secrets(change.desired) if change.desired is not None and change.action is not Action.DELETE else {}
        except ReconcilerError as error:
            steps.append(Step(change, error=error))
            continue
        prepared.append((change, _intent(change, plan, target, deps.clock()), secrets))
    if not prepared:
        return steps
    failpoint("apply-before-begin")
    audit = [_audit(change, target, deps) for change, _, _ in prepared]
    await deps.store.begin([intent for _, intent, _ in prepared], audit, fence=target.fence)
    failpoint("apply-after-begin")
    results = await asyncio.gather(*(_notified_attempt(change, secrets, target, deps) for change, _, secrets in prepared))
    failpoint("apply-before-settle")
    outcomes, done = [], []
    for (change, intent, _), result in zip(prepared, results, strict=True):
        outcomes.append(_outcome(change, intent, result, target, deps.clock()))
        done.append(
            _audit(
                change,
                target,
                deps,
                outcome=result.word,
                external_id=result.external_id,
                error=result.error.code if result.error else "",
            )
        )
        steps.append(result.step(change))
    await deps.store.settle(outcomes, done, fence=target.fence)
    failpoint("apply-after-settle")
    return steps


@dataclass(frozen=True, slots=True)
class _Result:
    observed: ObservedObject | None = None
    error: ReconcilerError | None = None
    duration_ms: int = 0
    container: str = ""

    @property
    def external_id(self) -> str:
        return self.observed.external_id if self.observed is not None else ""

    def step(self, change: Change) -> Step:
        """Return the result as the step of ``change``."""
        return Step(change, error=self.error, external_id=self.external_id, duration_ms=self.duration_ms)

    @property
    def word(self) -> str:
        if self.error is None:
            return "done"
        return "unknown" if getattr(self.error, "unknown_outcome", False) else "refused"


async def _notified_attempt(change: Change, secrets: Mapping[str, SecretValue], target: ApplyTarget, deps: Context) -> _Result:
    if target.on_start is not None:
        target.on_start(change)
    result = await _attempt(change, secrets, target, deps)
    if target.on_step is not None:
        target.on_step(result.step(change))
    return result


async def _attempt(change: Change, secrets: Mapping[str, SecretValue], target: ApplyTarget, deps: Context) -> _Result:
    """One attempt. An unexpected error is an unknown outcome: the call may have been made."""
    started = deps.clock()
    if target.hold is not None and not target.hold.is_valid():
        return _Result(None, lost(target.hold.fence.name), 0)  # this process was stopped: another may have taken over
    try:
        observed = await _call(change, secrets, target)
        took_ms = int((deps.clock() - started) * 1000)
        new = change.action in {Action.CREATE, Action.REPLACE, Action.ADOPT}
        container = await container_of(target.api, target.types[change.scope.type], change.scope) if new else ""
        return _Result(observed, None, took_ms, container)
    except ReconcilerError as error:
        return _Result(None, error, int((deps.clock() - started) * 1000))
    except asyncio.CancelledError:
        raise
    except Exception as error:  # a driver's defect must not stop the other objects
        deps.log.error("driver_error", address=change.address, error=type(error).__name__, exc_info=True)
        unknown = OutcomeUnknown(
            f"{type(error).__name__} in the driver of {change.scope.type}",
            code="RC9001",
            hint="Please report it; the object is looked up before the next write.",
        )
        return _Result(None, unknown, int((deps.clock() - started) * 1000))


async def _call(change: Change, secrets: Mapping[str, SecretValue], target: ApplyTarget) -> ObservedObject | None:
    kind = target.types[change.scope.type]
    if change.action is Action.DELETE:
        await kind.delete(target.api, change.scope, _external_id(change))
        return None
    desired = change.desired
    if desired is None:
        raise ReconcilerError(f"{change.action} of {change.address} without a desired object", code="RC9001")
    observed = target.observed.get(change.address)
    write = Write(desired, merged_attributes(desired, observed, target.planned_at), secrets, change.fields, observed)
    if change.action is Action.CREATE:
        return await kind.create(target.api, write)
    if change.action is Action.REPLACE:
        await kind.delete(target.api, change.scope, _external_id(change))
        failpoint("apply-between-delete-and-create")
        return await kind.create(target.api, dataclasses.replace(write, attributes=desired.attributes, observed=None))
    if is_hidden(write.attributes):  # an ignored field must be written back unchanged, and only its digest is known
        write = await _with_ignored_fields(write, kind, target.api, _external_id(change), target.planned_at)
    return await kind.update(target.api, _external_id(change), write)


async def _with_ignored_fields(write: Write, kind: ManagedType, api: Api, external_id: ExternalId, now: float) -> Write:
    answer = await kind.observe(api, write.desired.scope, None)
    objects = answer.objects if isinstance(answer, Observed) else ()
    there = next((seen for seen in objects if seen.external_id == external_id), None)
    if there is None:
        raise NotFound(f"{write.desired.scope} {external_id}: it does not exist any more", request=f"update of {external_id}")
    return dataclasses.replace(write, attributes=merged_attributes(write.desired, there, now), observed=there)


def _external_id(change: Change) -> ExternalId:
    if change.external_id is None:
        raise ReconcilerError(f"{change.action} of {change.address} without an external id", code="RC9001")
    return change.external_id


def _intent(change: Change, plan: Digest, target: ApplyTarget, now: float) -> Intent:
    desired = change.desired
    recorded = target.before(change)
    return Intent(
        id=uuid.uuid4().hex,
        address=change.address,
        integration=change.integration,
        action=change.action.value,
        scope=change.scope,
        marker=desired.marker if desired else (recorded.marker if recorded else None),
        natural_key=desired.natural_key if desired else (recorded.natural_key if recorded else ""),
        digest=desired.digest if desired else Digest(""),
        created_at=now,
        fingerprints={w.pointer: w.fingerprint for w in desired.write_only} if desired else {},
        external_id=change.external_id,
        plan=plan,
        revision=target.revision,
    )


def _outcome(change: Change, intent: Intent, result: _Result, target: ApplyTarget, now: float) -> Outcome:
    error = result.error
    if error is None:
        if change.action is Action.DELETE:
            return _deleted(change, intent, target)
        if change.desired is None:
            raise ReconcilerError(f"{change.action} of {change.address} without a desired object", code="RC9001")
        record = _recorded(change, change.desired, result.observed, target, now)
        record = dataclasses.replace(record, container=result.container or record.container)
        return Outcome(intent.id, IntentState.DONE, record, drop=target.dropped(change), external_id=record.external_id)
    state = IntentState.UNKNOWN if in_doubt(change, error) else IntentState.REFUSED
    return Outcome(intent.id, state, error_code=error.code, message=error.message)


def in_doubt(change: Change, error: ReconcilerError) -> bool:
    """Whether ``change`` may have taken effect although it failed: then it is looked up before the next write."""
    if isinstance(error, ProviderError) and error.unknown_outcome:
        return True
    # A conflict on create: the existing object may be from our own earlier attempt. It is looked up by its marker.
    # Between the delete and the create of a replace the old object may be gone already.
    return (isinstance(error, Conflict) and change.action is Action.CREATE) or change.action is Action.REPLACE


def _deleted(change: Change, intent: Intent, target: ApplyTarget) -> Outcome:
    """A delete leaves a tombstone until a complete list proves the absence of the object; a duplicate has no record of its own."""
    recorded = target.before(change)
    if recorded is None or recorded.external_id != change.external_id:
        return Outcome(intent.id, IntentState.DONE, external_id=change.external_id)
    tombstone = dataclasses.replace(recorded, address=change.address, scope=change.scope, tombstone=True)
    return Outcome(intent.id, IntentState.DONE, tombstone, drop=target.dropped(change), external_id=change.external_id)


def _recorded(
    change: Change, desired: ManagedObject, observed: ObservedObject | None, target: ApplyTarget, now: float
) -> RecordedObject:
    before = target.before(change)
    repairs = before.repairs if before else ()
    if change.cls is not ChangeClass.COMMIT and change.action is not Action.RECORD:
        repairs = (*repairs, now)[-5:]
    written = change.action is not Action.RECORD
    external_id = observed.external_id if observed is not None else change.external_id
    if external_id is None:
        raise ReconcilerError(f"{change.address} has no external id after {change.action}", code="RC9001")
    return dataclasses.replace(
        recorded_of(desired, external_id),
        updated_at=observed.updated_at if observed else "",
        url=observed.url if observed else (before.url if before else ""),
        applied_at=now if written or before is None else before.applied_at,
        revision=target.revision,
        seen=not written or change.action in {Action.UPDATE, Action.REMARK, Action.ADOPT},
        repairs=repairs,
        unshown=observed.unshown if written and observed is not None else before.unshown if before is not None else (),
        container=before.container if before is not None and before.external_id == external_id else "",
    )


def _audit(
    change: Change, target: ApplyTarget, deps: Context, *, outcome: str = "", external_id: str = "", error: str = ""
) -> AuditEntry:
    detail: dict[str, object] = {"class": change.cls.value, "fields": [f.path for f in change.fields]}
    if change.reason:
        detail["reason"] = change.reason
    if error:
        detail["error"] = error
    return AuditEntry(
        at=deps.clock(),
        actor=deps.actor,
        verb=change.action.value,
        integration=change.integration.path,
        resource=change.resource.path,
        address=change.address,
        external_id=external_id or change.external_id or "",
        revision=target.revision,
        request_digest=digest_of(change.desired.attributes) if change.desired else "",
        outcome=outcome or "intent",
        detail=detail,
    )
