"""The reconcile of one integration, the unit of distributed work: connect, resolve, observe, plan; then apply exactly that plan and observe again.

`prepare` ends with a plan and writes nothing; `execute` carries out the plan that it is given and decides nothing. What a person
approves between the two is therefore what runs. The parts lie in `compiling`, `observing`, `applying` and `reconciler.planning`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.credentials.backends import SecretResolver
from reconciler.engine.app_hooks import declaring, keep_places, replaced_hooks, webhook_problem
from reconciler.engine.apply import BATCH, ApplyTarget, Report, Step, run_plan
from reconciler.engine.backoff import Schedule, hold_back, keep_reserve
from reconciler.engine.compile import Compiled, compile_resources, secrets_of, value_of
from reconciler.engine.connections import Client, ClientPool
from reconciler.engine.context import Context
from reconciler.engine.credential_check import INVALID, check_credential
from reconciler.engine.former_apps import keep_use, note_replaced
from reconciler.engine.lease import Lease
from reconciler.engine.observe import Known, ObservedState, first_seen, observe, unread
from reconciler.engine.revision import ActiveRevision
from reconciler.engine.suspensions import Suspensions
from reconciler.engine.transfer import known_of
from reconciler.model.errors import (
    AuthFailed,
    PlanMoved,
    ReconcilerError,
)
from reconciler.model.objects import Intent, ManagedObject, RecordedObject, Scope, WriteOnly
from reconciler.model.plan import Action, Change, Disposition, Plan
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.model.values import Address
from reconciler.planning.approval import Approval, seen_in, withheld
from reconciler.planning.plan import PlanInput, PlanLimits, make_plan


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """The request for one reconcile."""

    integration: ResourceId
    prune: bool = True
    ignore_backoff: bool = False
    """A command or a new commit: retries do not wait for their time."""
    explicit: bool = False
    """A command: what the provider refused permanently is retried, too."""
    claim: bool = False
    """`recover`: objects of types without a marker are ours by their natural key."""
    keep: Callable[[Change], bool] | None = None
    """Selects the changes of the plan."""
    approval: Approval | None = None
    """The approved plan: of a later plan, no other change is executed."""


@dataclass(slots=True)
class ReconcileResult:
    """The result of one reconcile. ``error``: what stopped the whole integration, or None."""

    integration: ResourceId
    error: ReconcilerError | None = None
    plan: Plan | None = None
    report: Report = field(default_factory=Report)
    compiled: Compiled = field(default_factory=Compiled)
    world: ObservedState = field(default_factory=ObservedState)
    credential: CredentialReport | None = None
    recorded: tuple[RecordedObject, ...] = ()
    suspended: Mapping[ResourceId, str] = field(default_factory=dict)
    moved: tuple[Change, ...] = ()
    """Changes that became necessary and are not approved: not made."""
    planned_at: float = 0.0
    revision: str = ""
    """The revision whose manifests were planned."""
    dependents: tuple[str, ...] = ()
    """What stops without the credential; see `reconciler.engine.credentials.dependents_of`."""

    @property
    def refused(self) -> AuthFailed | None:
        """The refusal of the credential: the error of a call, or a check that found it invalid. None if it is accepted or unchecked."""
        if isinstance(self.error, AuthFailed):
            return self.error
        if self.credential is None or self.credential.valid:
            return None
        return AuthFailed(self.credential.message or INVALID)

    @property
    def scope_errors(self) -> dict[Scope, ReconcilerError]:
        """Scopes that could not be read although they have changes, with the error."""
        return unread(self.world, self.compiled.objects)


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """What a reconcile works on: the active revision, and data of the same lifetime."""

    live: ActiveRevision
    secrets: SecretResolver
    suspensions: Suspensions
    go_on: Callable[[], Awaitable[bool]] | None = None
    hold: Lease | None = None
    """The lease of this reconcile, if there are other processes."""
    on_start: Callable[[Change], None] | None = None
    on_step: Callable[[Step], None] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan and all its inputs. The execution reads nothing else."""

    order: ReconcileRequest
    setting: ReconcileContext
    now: float
    """The time of the plan: rules with an end (``ignore[].until``) apply to the writes if they applied to the plan."""
    error: ReconcilerError | None = None
    plan: Plan | None = None
    link: Client | None = None
    twins: frozenset[ResourceId] = frozenset()
    """Other Integrations of the same account: records that move from there to this one are known here."""
    compiled: Compiled = field(default_factory=Compiled)
    world: ObservedState = field(default_factory=ObservedState)
    credential: CredentialReport | None = None
    recorded: tuple[RecordedObject, ...] = ()
    fresh: tuple[RecordedObject, ...] = ()
    """Those of ``recorded`` whose object was seen, or whose container became known, for the first time."""
    intents: tuple[Intent, ...] = ()
    suspended: Mapping[ResourceId, str] = field(default_factory=dict)
    moved: tuple[Change, ...] = ()

    @property
    def integration(self) -> ResourceId:
        """The integration of the plan."""
        return self.order.integration

    def found(self) -> ReconcileResult:
        """Return the result before the execution."""
        return ReconcileResult(
            self.integration,
            self.error,
            self.plan,
            compiled=self.compiled,
            world=self.world,
            credential=self.credential,
            recorded=self.recorded,
            suspended=self.suspended,
            moved=self.moved,
            planned_at=self.now,
            revision=self.setting.live.revision,
        )

    def approval(self, *, blocked: bool = False) -> Approval:
        """Return the approval that this plan, or the digest of its ``blocked`` set, stands for."""
        plan = self.plan if self.plan is not None else Plan(self.integration, ())
        make = Approval.of_blocked if blocked else Approval.of
        return make(plan, seen_in(self.world.views), self.now)


async def run_slice(order: ReconcileRequest, setting: ReconcileContext, links: ClientPool, deps: Context) -> ReconcileResult:
    """Reconcile one integration. Errors of the provider or the repository are in the result, never raised."""
    return await execute(await prepare(order, setting, links, deps), deps)


async def prepare(order: ReconcileRequest, setting: ReconcileContext, links: ClientPool, deps: Context) -> Prepared:
    """Observe and plan. Nothing is written, neither at the provider nor to the records."""
    prepared = Prepared(order, setting, deps.clock())
    try:
        await setting.secrets.prepare(secrets_of(order.integration, setting.live.resources), again=order.explicit)
        stored = await deps.store.connections()
        async with links.trying(order.integration):
            link = await links.current(order.integration, setting.live, stored, setting.secrets, explicit=order.explicit)
            prepared = dataclasses.replace(prepared, link=link, twins=links.twins(link.connection, setting.live, stored))
            prepared = dataclasses.replace(prepared, credential=await check_credential(link, setting.live, deps.config))
        prepared = await _compile(prepared, deps)
        return await _decide(prepared, deps)
    except ReconcilerError as error:
        return dataclasses.replace(prepared, error=error, recorded=await deps.store.recorded(order.integration))


async def execute(prepared: Prepared, deps: Context) -> ReconcileResult:
    """Execute exactly the plan of ``prepared``, after recording what its observation showed."""
    result = prepared.found()
    try:
        await _keep(prepared, deps)
        if prepared.error is None and prepared.plan is not None:
            await _act(prepared, prepared.plan, result, deps)
    except ReconcilerError as error:
        result.error = error
    if result.error is not None or result.report.steps:  # else the records of the plan are current
        result.recorded = await deps.store.recorded(prepared.integration)
    return result


async def still_fits(prepared: Prepared, deps: Context) -> Prepared:
    """Return ``prepared`` without the changes whose record or open intent another process has changed since."""
    if prepared.plan is None:
        return prepared
    recorded, intents = await deps.store.run(
        known_of, prepared.integration, prepared.twins, prepared.setting.live, deps.store.sync
    )
    stale = _stale(prepared, recorded, intents)
    if not stale:
        return prepared
    open_now = {intent.id for intent in intents}
    plan, moved = withheld(prepared.plan, lambda change: not stale & {change.address, change.previous})
    plan = dataclasses.replace(
        plan, settlements=tuple(settlement for settlement in plan.settlements if settlement[0] in open_now)
    )
    fresh = {record.address: record for record in prepared.fresh if record.address not in stale}
    recorded = tuple(fresh.get(record.address, record) for record in recorded)
    return dataclasses.replace(
        prepared, plan=plan, recorded=recorded, fresh=tuple(fresh.values()), moved=(*prepared.moved, *moved)
    )


def _stale(prepared: Prepared, recorded: Iterable[RecordedObject], intents: Iterable[Intent]) -> set[Address]:
    before, now = ({r.address: _unplaced(r) for r in rows} for rows in (prepared.recorded, recorded))
    were, are = ({intent.id: intent.address for intent in rows} for rows in (prepared.intents, intents))
    changed = {address for address in before.keys() | now.keys() if before.get(address) != now.get(address)}
    return changed | {address for known, other in ((were, are), (are, were)) for i, address in known.items() if i not in other}


async def _compile(prepared: Prepared, deps: Context) -> Prepared:
    link, live = prepared.link, prepared.setting.live
    if link is None:
        return prepared
    declared = declaring(prepared.integration, live.resources)
    compiled = await compile_resources(link.driver, link.api, declared, deps, prepared.setting.secrets.read)
    problem = await webhook_problem(link, live.resources, deps)
    return dataclasses.replace(prepared, compiled=dataclasses.replace(compiled, webhook=problem))


async def _decide(prepared: Prepared, deps: Context) -> Prepared:
    """Observe every relevant scope and make the plan."""
    order, setting, link = prepared.order, prepared.setting, prepared.link
    if link is None:
        return prepared
    recorded, intents = await deps.store.run(known_of, order.integration, prepared.twins, setting.live, deps.store.sync)
    scopes = {o.scope for o in prepared.compiled.objects} | {r.scope for r in recorded} | {i.scope for i in intents}
    world = await observe(link.api, link.driver.types, scopes, Known(prepared.compiled.objects, recorded, intents), deps)
    fresh = {record.address: record for record in await first_seen(link.api, link.driver.types, recorded, world)}
    recorded = tuple(fresh.get(record.address, record) for record in recorded)
    now = deps.clock()
    suspended = setting.suspensions.of(order.integration, setting.live, now)
    prepared = dataclasses.replace(
        prepared, now=now, recorded=recorded, fresh=tuple(fresh.values()), intents=intents, world=world, suspended=suspended
    )
    schedule = await deps.store.run(Schedule.load, deps.store.sync)
    kept = await replaced_hooks(link, recorded, setting.live, deps)
    inputs = _input(prepared, link, schedule, frozenset(await deps.store.approvals()), deps)
    plan = make_plan(dataclasses.replace(inputs, kept=kept))
    if order.keep is not None:
        plan = dataclasses.replace(plan, changes=tuple(change for change in plan.changes if order.keep(change)))
    plan = plan if order.ignore_backoff else hold_back(plan, schedule, now)
    if link.budget.low():
        plan = keep_reserve(plan, float(link.budget.rate.get("resetAt", 0)))
    moved: tuple[Change, ...] = ()
    if order.approval is not None:
        plan, moved = order.approval.narrowed(plan, seen_in(world.views), now)
    return dataclasses.replace(prepared, plan=plan, moved=moved)


def _input(prepared: Prepared, link: Client, schedule: Schedule, approvals: frozenset[str], deps: Context) -> PlanInput:
    order, live, config = prepared.order, prepared.setting.live, deps.config.reconcile
    read = prepared.setting.secrets.read
    return PlanInput(
        integration=order.integration,
        desired=prepared.compiled.objects,
        recorded=prepared.recorded,
        views=prepared.world.views,
        intents=prepared.intents,
        untouchable=frozenset(prepared.compiled.stalled),
        suspended=frozenset(prepared.suspended),
        approvals=approvals,
        types=link.driver.types,
        refused={} if order.explicit else schedule.refused(),
        refusals=schedule.refusals(),
        prune_allowed=order.prune and live.complete and config.prune,
        limits=PlanLimits(config.limits.delete_percent, config.limits.delete_minimum, config.limits.delete_max),
        settle_s=config.settle,
        now=prepared.now,
        owner=deps.owner,
        claim_natural_keys=order.claim,
        fingerprint=lambda address, w: deps.keyring.fingerprint(address, w.pointer, value_of(w.ref, deps, read)),
    )


async def _keep(prepared: Prepared, deps: Context) -> None:
    """Record what the observation showed: the connection, the objects that a list has shown, and their containers."""
    link = prepared.link
    if link is None:
        return
    stored = await deps.store.connections()
    if stored.get(prepared.integration) != link.connection:
        await deps.store.save_connection(link.connection)
    await keep_places(link, prepared.compiled.facts, deps)
    await keep_use(link, deps)
    if prepared.error is None and prepared.setting.live.complete and not prepared.compiled.stalled:
        await note_replaced(link, prepared.compiled.objects, prepared.recorded, deps)
    if not prepared.fresh:
        return
    known = {record.address: record for record in await deps.store.recorded(prepared.integration)}
    same = [new for new in prepared.fresh if new.address in known and _unplaced(known[new.address]) == _unplaced(new)]
    seen = [new.address for new in same if new.container == known[new.address].container and not known[new.address].seen]
    placed = [new for new in same if new.container != known[new.address].container]
    if seen:
        await deps.store.mark_seen(seen)
    if placed:
        await deps.store.record(placed)


def _unplaced(record: RecordedObject) -> RecordedObject:
    """Return ``record`` without observed data: two of these differ only after a write."""
    return dataclasses.replace(record, seen=False, container="")


async def _act(prepared: Prepared, plan: Plan, result: ReconcileResult, deps: Context) -> None:
    """Settle intents that the observation answered, execute the plan, and observe again to prove deletes."""
    setting = prepared.setting
    if plan.settlements:
        await deps.store.settle_intents(plan.settlements, fence=setting.hold.fence if setting.hold is not None else None)
    if not plan.executable or prepared.link is None:
        return
    if plan.approved:  # an interrupted approved set continues without a new approval
        await deps.store.approve_all(list(plan.approved), by="approved-set", at=deps.clock())
    target = _target(prepared, prepared.link, deps)
    result.report = await run_plan(plan, target, deps, go_on=setting.go_on)
    deleted = {s.change.scope for s in result.report.steps if s.error is None and s.change.action is Action.DELETE}
    if deleted:
        result.report.steps += await _prove_deletes(deleted, prepared.link, target, prepared, deps)


def _target(prepared: Prepared, link: Client, deps: Context) -> ApplyTarget:
    setting, seen = prepared.setting, seen_in(prepared.world.views)
    changes = prepared.plan.changes if prepared.plan is not None else ()
    observed = {c.address: seen[key] for c in changes if c.external_id is not None and (key := (c.scope, c.external_id)) in seen}

    def secrets(desired: ManagedObject) -> Mapping[str, SecretValue]:
        return {w.pointer: _planned_value(desired, w, setting, deps) for w in desired.write_only}

    return ApplyTarget(
        link.api,
        link.driver.types,
        secrets,
        {r.address: r for r in prepared.recorded},
        observed,
        setting.live.revision,
        lambda: min(BATCH, max(1, link.budget.admits())),
        setting.hold,
        planned_at=prepared.now,
        on_start=setting.on_start,
        on_step=setting.on_step,
    )


def _planned_value(desired: ManagedObject, hidden: WriteOnly, setting: ReconcileContext, deps: Context) -> SecretValue:
    """Return the value that the plan was made for. Raises `PlanMoved` when the secret has changed."""
    value = value_of(hidden.ref, deps, setting.secrets.read)
    if deps.keyring.fingerprint(desired.address, hidden.pointer, value) != hidden.fingerprint:
        raise PlanMoved(
            f"the secret for {hidden.pointer} of {desired.address} changed after the plan was made; nothing was written",
            code="RC6041",
            hint="Plan again: the new value is part of the new plan.",
        )
    return value


async def _prove_deletes(scopes: set[Scope], link: Client, target: ApplyTarget, prepared: Prepared, deps: Context) -> list[Step]:
    """Delete a tombstone only when complete lists no longer show the object; the next reconcile handles the others."""
    rows = await deps.store.recorded(prepared.integration)
    recorded = tuple(r for r in rows if r.scope in scopes and r.tombstone)
    if not recorded:
        return []
    world = await observe(link.api, link.driver.types, scopes, Known(prepared.compiled.objects, recorded), deps)
    proof = make_plan(
        PlanInput(
            integration=prepared.integration,
            desired=(),
            recorded=recorded,
            views=world.views,
            types=link.driver.types,
            settle_s=deps.config.reconcile.settle,
            now=deps.clock(),
            owner=deps.owner,
            limits=PlanLimits(0, 0, 0),
        )
    )
    gone = tuple(c for c in proof.changes if c.action is Action.FORGET and c.disposition is Disposition.EXECUTE)
    target = dataclasses.replace(target, recorded={r.address: r for r in recorded})
    return (await run_plan(dataclasses.replace(proof, changes=gone), target, deps)).steps
