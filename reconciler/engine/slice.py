"""One integration's slice: connect, resolve, observe, decide, apply, look again. The unit of distributed work.

Reads as its own table of contents; the parts lie in `compiling`, `observing`, `applying` and `reconciler.planning`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from reconciler.credentials.backends import SecretResolver
from reconciler.engine.applying import BATCH, Report, Target, execute
from reconciler.engine.compiling import Compiled, compile_resources, users_of, value_of
from reconciler.engine.deps import Deps
from reconciler.engine.holding import Hold
from reconciler.engine.links import Link, Links
from reconciler.engine.live import Live
from reconciler.engine.observing import Known, World, first_seen, observe, unread
from reconciler.engine.schedule import Schedule, hold_back, keep_reserve
from reconciler.engine.suspension import Suspensions
from reconciler.model.errors import NotFound, PermissionDenied, ProviderProtocolError, ReconcilerError, ValidationFailed
from reconciler.model.objects import ManagedObject, ObservedObject, RecordedObject, Scope
from reconciler.model.plan import Action, Change, Disposition, Plan
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.model.values import Address
from reconciler.planning.plan import Limits, PlanInput, make_plan


@dataclass(frozen=True, slots=True)
class Order:
    """What one slice is asked to do."""

    integration: ResourceId
    write: bool = True
    prune: bool = True
    ignore_backoff: bool = False
    """A command or a new commit: whatever waits for its next try is tried now."""
    explicit: bool = False
    """A command: what the provider refused for good is tried now, too."""
    claim: bool = False
    """`rebuild`: objects of types without a marker are ours by their natural key alone."""
    keep: Callable[[Change], bool] | None = None
    """Only these changes are part of the plan."""


@dataclass(slots=True)
class Result:
    """What one slice found and did. ``error`` is what stopped the whole integration, if anything did."""

    integration: ResourceId
    error: ReconcilerError | None = None
    plan: Plan | None = None
    report: Report = field(default_factory=Report)
    compiled: Compiled = field(default_factory=Compiled)
    world: World = field(default_factory=World)
    credential: CredentialReport | None = None
    recorded: tuple[RecordedObject, ...] = ()
    suspended: Mapping[ResourceId, str] = field(default_factory=dict)

    @property
    def scope_errors(self) -> dict[Scope, ReconcilerError]:
        """Scopes that could not be read though something in them is to be done, with the reason."""
        return unread(self.world, self.compiled.objects)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a slice works on: the live revision, and what lives as long as it."""

    live: Live
    secrets: SecretResolver
    suspensions: Suspensions
    go_on: Callable[[], Awaitable[bool]] | None = None
    hold: Hold | None = None
    """The lease that this slice works under, where there are other processes."""


async def run_slice(order: Order, setting: Setting, links: Links, deps: Deps) -> Result:
    """Reconcile one integration. Never raises for what the world or the repository did wrong: that is in the result."""
    result = Result(order.integration)
    try:
        link = await _connect(order, setting, links, deps)
        users = users_of(order.integration, setting.live.resources.values())
        result.credential = await _check(link, users, setting.live, deps)
        result.compiled = await compile_resources(link.driver, link.api, users, deps, setting.secrets.read)
        await _decide(order, setting, link, result, deps)
        if order.write and result.plan is not None:
            await _act(order, setting, link, result, deps)
    except ReconcilerError as error:
        result.error = error
    if result.error is not None or result.report.steps:  # else it stands as it was read for the plan
        result.recorded = await deps.db(deps.store.recorded, order.integration)
    return result


async def _connect(order: Order, setting: Setting, links: Links, deps: Deps) -> Link:
    stored = await deps.db(deps.store.connections)
    link = await links.link(order.integration, setting.live, stored, setting.secrets)
    if order.write and stored.get(order.integration) != link.connection:
        await deps.db(deps.store.save_connection, link.connection)
    return link


async def _check(link: Link, users: tuple[Resource, ...], live: Live, deps: Deps) -> CredentialReport:
    """Try the credential; raises `AuthFailed` so that nothing else is asked of a provider that refuses it."""
    needs: dict[str, str] = {}
    resource = live.resources.get(link.connection.integration)
    if resource is not None:
        needs.update({str(k): str(v) for k, v in resource.spec.get("permissions", {}).items()})
    for user in users:
        needs.update(link.driver.needs(user))
    try:
        return await link.driver.check(link.api, needs)
    except (NotFound, PermissionDenied, ValidationFailed, ProviderProtocolError) as error:
        # A credential that may not ask about itself, or a server without that call: what it may do shows in the work.
        return CredentialReport(valid=True, message=f"not checked: {error.message}")


async def _decide(order: Order, setting: Setting, link: Link, result: Result, deps: Deps) -> None:
    """Observe every scope that matters and make the plan."""
    recorded = result.recorded = await deps.db(deps.store.recorded, order.integration)
    intents = await deps.db(deps.store.unsettled, order.integration)
    desired = result.compiled.objects
    scopes = {o.scope for o in desired} | {r.scope for r in recorded} | {i.scope for i in intents}
    types = link.driver.types
    result.world = await observe(link.api, types, scopes, Known(tuple(desired), tuple(recorded), tuple(intents)), deps)
    if order.write:
        recorded = result.recorded = await _mark_seen(link, recorded, result.world, deps)
    schedule = await deps.db(Schedule.load, deps.store)
    result.suspended = setting.suspensions.of(order.integration, setting.live, deps.clock())
    plan = make_plan(
        PlanInput(
            integration=order.integration,
            desired=desired,
            recorded=recorded,
            views=result.world.views,
            intents=intents,
            untouchable=frozenset(result.compiled.stalled),
            suspended=frozenset(result.suspended),
            approvals=frozenset(await deps.db(deps.store.approvals)),
            types=types,
            refused={} if order.explicit else schedule.refused(),
            refusals=schedule.refusals(),
            prune_allowed=order.prune and setting.live.complete and deps.config.reconcile.prune,
            limits=Limits(
                deps.config.reconcile.limits.delete_percent,
                deps.config.reconcile.limits.delete_minimum,
                deps.config.reconcile.limits.delete_max,
            ),
            settle_s=deps.config.reconcile.settle,
            now=deps.clock(),
            owner=deps.owner,
            claim_natural_keys=order.claim,
            fingerprint=lambda address, w: deps.keyring.fingerprint(
                address, w.pointer, value_of(w.ref, deps, setting.secrets.read)
            ),
        )
    )
    if order.keep is not None:
        plan = dataclasses.replace(plan, changes=tuple(change for change in plan.changes if order.keep(change)))
    result.plan = plan if order.ignore_backoff else hold_back(plan, schedule, deps.clock())
    if link.budget.low():
        result.plan = keep_reserve(result.plan, float(link.budget.rate.get("resetAt", 0)))


async def _mark_seen(link: Link, recorded: tuple[RecordedObject, ...], world: World, deps: Deps) -> tuple[RecordedObject, ...]:
    """Note what was seen in its scope, and what that scope is at the provider; return the records as they are now."""
    fresh = {one.address: one for one in await first_seen(link.api, link.driver.types, recorded, world)}
    known = {record.address: record.container for record in recorded}
    placed = [one for one in fresh.values() if one.container != known[one.address]]
    seen = [one.address for one in fresh.values() if one.container == known[one.address]]
    if seen:
        await deps.db(deps.store.mark_seen, seen)
    if placed:
        await deps.db(deps.store.record, placed)
    return tuple(fresh.get(record.address, record) for record in recorded)


async def _act(order: Order, setting: Setting, link: Link, result: Result, deps: Deps) -> None:
    """Execute the plan, settle what observation answered, and prove deletes by looking again."""
    plan = result.plan
    if plan is None:
        return
    if plan.settlements:
        await deps.db(deps.store.settle_intents, plan.settlements, fence=setting.hold.fence if setting.hold is not None else None)
    if not plan.executable:
        return
    if plan.approved:  # an approved set that is interrupted goes on without a new approval
        await deps.db(deps.store.approve_all, list(plan.approved), by="approved-set", at=deps.clock())
    result.report = await execute(plan, _target(setting, link, result, deps), deps, go_on=setting.go_on)
    deleted = [s.change for s in result.report.steps if s.error is None and s.change.action is Action.DELETE]
    if deleted:
        await _prove_deletes({change.scope for change in deleted}, setting, link, result, deps)


def _target(setting: Setting, link: Link, result: Result, deps: Deps) -> Target:
    plan = result.plan
    recorded = {r.address: r for r in result.recorded}
    observed: dict[Address, ObservedObject] = {}
    for change in plan.changes if plan is not None else ():
        view = result.world.views.get(change.scope)
        for one in view.objects if view is not None else ():
            if one.external_id == change.external_id:
                observed[change.address] = one

    def secrets(desired: ManagedObject) -> Mapping[str, SecretValue]:
        return {w.pointer: value_of(w.ref, deps, setting.secrets.read) for w in desired.write_only}

    return Target(
        link.api,
        link.driver.types,
        secrets,
        recorded,
        observed,
        setting.live.revision,
        lambda: min(BATCH, max(1, link.budget.admits())),
        setting.hold,
    )


async def _prove_deletes(scopes: set[Scope], setting: Setting, link: Link, result: Result, deps: Deps) -> None:
    """A tombstone goes only when complete lists no longer show the object; what a list still shows is left for the next slice."""
    recorded = tuple(r for r in await deps.db(deps.store.recorded, result.integration) if r.scope in scopes and r.tombstone)
    if not recorded:
        return
    world = await observe(link.api, link.driver.types, scopes, Known(result.compiled.objects, tuple(recorded)), deps)
    proof = make_plan(
        PlanInput(
            integration=result.integration,
            desired=(),
            recorded=recorded,
            views=world.views,
            types=link.driver.types,
            settle_s=deps.config.reconcile.settle,
            now=deps.clock(),
            owner=deps.owner,
            limits=Limits(0, 0, 0),
        )
    )
    gone = tuple(c for c in proof.changes if c.action is Action.FORGET and c.disposition is Disposition.EXECUTE)
    target = dataclasses.replace(_target(setting, link, result, deps), recorded={r.address: r for r in recorded})
    done = await execute(dataclasses.replace(proof, changes=gone), target, deps)
    result.report.steps += done.steps
