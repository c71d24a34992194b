"""The controller: syncs the source, reconciles integrations and updates the statuses. One per process."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Awaitable, Callable, Iterable

from reconciler.engine.announcer import Announcer
from reconciler.engine.apply import Step
from reconciler.engine.backoff import Schedule, digest_of_change, next_try, outlived
from reconciler.engine.compile import integration_of
from reconciler.engine.context import Context
from reconciler.engine.credentials import Alerts, dependents_of
from reconciler.engine.current import Current
from reconciler.engine.due_times import next_reconcile_at
from reconciler.engine.journal import TimedResult, log_steps, log_summary, notes_of
from reconciler.engine.lease import TTL_S, Lease, lease
from reconciler.engine.occurrences import repairs_of
from reconciler.engine.reconcile import (
    Prepared,
    ReconcileContext,
    ReconcileRequest,
    ReconcileResult,
    execute,
    prepare,
    still_fits,
)
from reconciler.engine.revision import activate_revision, load_revision, merge, restore
from reconciler.engine.status_manager import StatusManager
from reconciler.engine.traces import traced_reconcile, traced_slice
from reconciler.engine.view import Busy, EventStatus
from reconciler.model.errors import ReconcilerError, SourceError, StateError
from reconciler.model.plan import Change, Disposition, PlanSet
from reconciler.model.records import Retry
from reconciler.model.resources import Desired, Kind, ResourceId
from reconciler.planning.approval import Approval
from reconciler.source.base import Source
from reconciler.state.claims import Claim

SINGLE = "single"
"""Name of the only process on SQLite."""
MAX_LOGGED = 100
"""Problems of a revision that are logged one by one."""
Work = Callable[[Lease | None], Awaitable[ReconcileResult]]
"""One piece of work on an integration, under a lease where there are other processes."""


class Controller:
    """Syncs the source, reconciles integrations and updates the statuses.

    It owns no durable state: a new controller rebuilds everything in one pass.
    """

    def __init__(self, deps: Context, source: Source, *, read_only: bool = False) -> None:
        self.deps = deps
        self.source = source
        self.current = Current(deps, read_only=read_only)
        self.on_change: Callable[[], Awaitable[None]] | None = None
        """Called after every pass."""
        self.on_slice: Callable[[ReconcileResult, float], None] | None = None
        """Called with the result and duration (seconds) of every slice."""
        self.on_start: Callable[[Change], None] | None = None
        """Called before every remote write."""
        self.on_step: Callable[[Step], None] | None = None
        """Called after every remote write."""
        self.read_event_status: Callable[[EventStatus | None], Awaitable[EventStatus]] | None = None
        """Reads the status of events and stages; given an earlier one, it reads only what changes between passes."""
        self.holder = ""
        """Name of this process among its peers; empty if it has none."""
        self.patient = True
        """Whether a slice waits while a peer holds the integration's lease."""
        self.seen_by_peers: set[ResourceId] = set()
        """Integrations that any process has reconciled."""
        self.counts: dict[ResourceId, int] = {}
        """Slices ended, by integration: what ``reconcile --wait`` waits for."""
        self._read_only = read_only
        self._known: frozenset[ResourceId] | None = None
        """The integrations of the last pass; None before the first pass over a revision."""
        self._statuses = StatusManager(self.current)
        self._desired: Desired | None = None
        """The revision that was read and is not yet stored as the last valid one."""
        self._loaded = False  # the specs of the state are not a revision that was read, so they prune nothing
        self._draining = False
        self._locks: dict[ResourceId, asyncio.Lock] = {}
        self._ended: list[TimedResult] = []
        """Slices ended since the last summary."""

    # -- the source -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the last valid specs, the statuses and the suspensions from the state."""
        self.current.activate(await restore(self.deps))
        self.current.source.valid = self.current.active.revision
        applied = await self.deps.store.get_meta("revision.applied")
        self.current.source.applied = applied or ""
        await self._statuses.load()
        await self.current.refresh_suspensions()

    async def sync(self, *, activate: bool = True) -> bool:
        """Fetch the source. Returns True if a new revision, or new content, became active. After a failure the last good one stays.

        Without ``activate`` the revision is used by this process only and stored by `activate`, so that a revision that a person rejects
        was never in force.
        """
        try:
            revision = await self.source.fetch()
            self.current.source.fetched, self.current.source.fetched_at = revision, self.deps.clock()
            self.current.source.attempted = revision.id
            if revision.id == self.current.active.revision and self._loaded and self.current.source.error is None:
                return False
            desired, snapshot = await load_revision(
                self.source, revision, self.deps, allow_empty=self.deps.config.source.allow_empty
            )
            self.current.source.notices = tuple(str(notice) for notice in snapshot.notices)
        except SourceError as error:
            if self.current.source.error is None or self.current.source.error.message != error.message:
                self.deps.log.warning("source_failed", code=error.code, error=error.message)
            self.current.source.may_pass = self._loaded and self.current.source.error is None
            self.current.source.error = error
            return False
        self.current.source.error, self.current.source.may_pass = None, False
        self._loaded = True
        moved = revision.id != self.current.active.revision or not self.current.active.complete
        self.current.activate(await merge(desired, self.deps))
        self._known = None if moved else self._known
        self._desired = desired
        if activate:
            await self.activate()
        for problem in self.current.active.problems[:MAX_LOGGED]:
            self.deps.log.warning("manifest_problem", file=str(problem.location), code=problem.code, error=problem.message)
        if len(self.current.active.problems) > MAX_LOGGED:
            self.deps.log.warning("manifest_problems", count=len(self.current.active.problems), revision=revision.id)
        return moved

    async def activate(self) -> None:
        """Store the revision that `sync` read as the last valid one."""
        if self._desired is not None and not self._read_only:
            await self.deps.store.set_meta("revision.valid", (await activate_revision(self._desired, self.deps)).revision)
        self._desired = None
        self.current.source.valid = self.current.active.revision

    # -- work -------------------------------------------------------------------------------------------------------

    async def integrations(self) -> tuple[ResourceId, ...]:
        """Return the integrations to reconcile: declared, or removed with objects or a connection left behind."""
        declared = {r.id for r in self.current.active.resources.values() if r.id.kind == Kind.INTEGRATION.value}
        declared |= {user for r in self.current.active.resources.values() if (user := integration_of(r)) is not None}
        left = set(await self.deps.store.integrations_recorded())
        left |= set(await self.deps.store.connections())
        return tuple(sorted(declared | left))

    def drain(self) -> None:
        """Start no new batch. Calls in flight are finished and recorded."""
        self._draining = True

    async def plan(self, integration: ResourceId) -> ReconcileResult:
        """Return the plan of a slice without a remote write."""
        return (await self.prepare(integration)).found()

    async def prepare(self, integration: ResourceId) -> Prepared:
        """Return the plan of one integration, ready for `execute`; nothing is written."""
        return await prepare(
            ReconcileRequest(integration, ignore_backoff=True, explicit=True),
            self.reconcile_context(),
            self.current.clients,
            self.deps,
        )

    async def execute(self, prepared: Prepared) -> ReconcileResult:
        """Execute exactly the prepared plan, and keep the result. Objects that another process has changed since are left alone."""

        async def work(hold: Lease | None) -> ReconcileResult:
            setting = self.reconcile_context(prepared.setting.live.revision, hold, prepared.setting)
            return await execute(dataclasses.replace(await still_fits(prepared, self.deps), setting=setting), self.deps)

        return await self.exclusively(prepared.integration, work)

    async def reconcile_claimed(self, claim: Claim, held: Lease) -> ReconcileResult:
        """Do a requested reconcile under the lease of its claim, which is released at the end."""
        integration = ResourceId.from_path(claim.key)
        request = ReconcileRequest(integration, ignore_backoff=claim.force or claim.explicit, explicit=claim.explicit)
        async with self._locks.setdefault(integration, asyncio.Lock()):
            try:
                return await self._work(integration, self._slice_work(request), held if self.holder else None, claim)
            finally:
                await held.release()

    async def slice(
        self, integration: ResourceId, *, ignore_backoff: bool = False, explicit: bool = False, approval: Approval | None = None
    ) -> ReconcileResult:
        """Reconcile one integration now, limited to ``approval`` if a person gave one, and keep the result."""
        request = ReconcileRequest(integration, ignore_backoff=ignore_backoff or explicit, explicit=explicit, approval=approval)
        return await self.exclusively(integration, self._slice_work(request))

    def _slice_work(self, request: ReconcileRequest) -> Work:
        async def work(hold: Lease | None) -> ReconcileResult:
            await self.current.refresh_suspensions()
            if request.explicit:
                self.deps.look_again()
                self.current.clients.retry_tokens(request.integration)
            return await traced_slice(
                request, self.reconcile_context(self.current.active.revision, hold), self.current.clients, self.deps
            )

        return work

    async def exclusively(self, integration: ResourceId, work: Work) -> ReconcileResult:
        """Do ``work`` on an integration, one at a time over all processes, and keep its result.

        With peers, the work needs a lease. A command waits for it; a daemon does not, and tries again later.
        """
        async with self._locks.setdefault(integration, asyncio.Lock()):
            if not self.holder:
                return await self._work(integration, work, None)
            for _ in range(int(TTL_S) + 5 if self.patient else 1):
                async with lease(self.deps, f"slice/{integration.path}", self.holder) as hold:
                    if hold is not None:
                        return await self._work(integration, work, hold)
                if self.patient:
                    await asyncio.sleep(1.0)
            return ReconcileResult(integration, error=Busy(f"another process works on {integration}"))

    def at_work(self, integration: ResourceId) -> bool:
        """Whether this process reconciles ``integration`` now."""
        lock = self._locks.get(integration)
        return lock is not None and lock.locked()

    @traced_reconcile
    async def _work(self, integration: ResourceId, work: Work, hold: Lease | None, claim: Claim | None = None) -> ReconcileResult:
        await self.current.check_clock()
        began = self.deps.clock()
        result = await work(hold)
        try:
            await self.remember(result, claim)
        except StateError as error:  # a full disk: no remote write was made without its intent, so it is retried soon
            self.deps.log.error("state_failed", integration=integration.name, code=error.code, error=error.message)
            result.error = error
            self.current.view.results[integration] = result
            self.current.view.next_at[integration] = self.deps.clock() + max(5.0, self.deps.config.reconcile.retry_min)
        now = self.deps.clock()
        self._ended.append(TimedResult(result, began, now))
        self.counts[integration] = self.counts.get(integration, 0) + 1
        if self.on_slice is not None:
            self.on_slice(result, now - began)
        return result

    def reconcile_context(
        self, revision: str | None = None, hold: Lease | None = None, before: ReconcileContext | None = None
    ) -> ReconcileContext:
        """Return the inputs of a slice: the present ones, or those of ``before``. It stops when the active revision is not ``revision``."""
        live, secrets, suspensions = self.current.active, self.current.secrets, self.current.suspensions
        if before is not None:
            live, secrets, suspensions = before.live, before.secrets, before.suspensions

        async def go_on() -> bool:
            if self._draining or (revision is not None and self.current.active.revision != revision):
                return False
            if hold is not None and not await hold.renew():
                return False
            return await self.deps.store.suspensions() == suspensions.by_command

        return ReconcileContext(live, secrets, suspensions, go_on, hold, self.on_start, self.on_step)

    async def run_all(
        self, *, ignore_backoff: bool = False, explicit: bool = False, only: Iterable[ResourceId] | None = None
    ) -> PlanSet:
        """Run one full pass over all integrations concurrently. A failed integration does not stop the others."""
        todo = tuple(only) if only is not None else await self.integrations()
        results = await asyncio.gather(
            *(self.slice(integration, ignore_backoff=ignore_backoff, explicit=explicit) for integration in todo)
        )
        await self.finish_pass()
        plans = tuple(result.plan for result in results if result.plan is not None)
        self.log_summary()
        return PlanSet(self.current.active.revision, plans)

    async def _store_due_time(self, integration: ResourceId, claim: Claim | None) -> None:
        """Store for all processes when an integration is due next, and that this process reconciled it last."""
        due_in_s = self.current.view.next_at[integration] - self.deps.clock()
        by = self.holder or SINGLE
        if claim is not None:
            await self.deps.store.finish_reconcile(integration, due_in_s, by=by, number=claim.number, fence=claim.fence)
        elif self.holder:
            await self.deps.store.note_reconcile(integration, due_in_s, by=by)

    async def _catch_up(self) -> None:
        """Load the results of the peers: the process that reconciled an integration last computes its status."""
        for integration, by in (await self.deps.store.reconciled_by()).items():
            if by != self.holder:
                self.current.view.results.pop(integration, None)
            self.seen_by_peers.add(integration)
        await self._statuses.load()

    async def finish_pass(self) -> None:
        """Compute all statuses once, store and publish them."""
        if self.holder:
            await self._catch_up()
        await self._statuses.check_secrets()
        known = self._known = frozenset(await self.integrations())
        for gone in [identity for identity in self.current.view.results if identity not in known]:
            del self.current.view.results[gone]
        await self.refresh_outside(whole=True)
        await self._statuses.compute(among_peers=bool(self.holder))
        if not self._read_only:
            await self._statuses.save(settled=self._all_settled(), host=self._host)
            if self._all_settled():
                self.current.source.applied = self.current.active.revision
                await self.deps.store.set_meta("revision.applied", self.current.active.revision)
        if self.on_change is not None:
            await self.on_change()

    async def refresh_outside(self, *, whole: bool = False) -> None:
        """Read the status of events and stages. ``whole``: including the parts that change only between passes."""
        if self.read_event_status is not None:
            self.current.view.outside = await self.read_event_status(None if whole else self.current.view.outside)
        if not whole and not self._read_only:
            await self._statuses.announce(settled=self._all_settled(), host=self._host)

    @property
    def announcer(self) -> Announcer:
        """Compares incidents with the statuses."""
        return self._statuses.announcer

    @property
    def _host(self) -> str:
        """Name of this host among those that read the source; empty if there is no other process."""
        return socket.gethostname() if self.holder else ""

    def _all_settled(self) -> bool:
        """Whether every integration was reconciled with the active revision, without a failure or a change that waits.

        With peers, a process knows its own results only.
        """
        results, active = self.current.view.results, self.current.active
        if self._known is None or not (results or active.resources):
            return False
        if self._known and not (results if self.holder else results.keys() >= self._known):
            return False
        return all(
            r.error is None
            and r.revision == active.revision
            and not (r.report.failed or r.report.interrupted)
            and (r.plan is None or not any(c.disposition is Disposition.WAITING for c in r.plan.changes))
            for r in results.values()
        )

    # -- afterwards -------------------------------------------------------------------------------------------------

    async def remember(self, result: ReconcileResult, claim: Claim | None = None) -> None:
        """Store the result's retries and journal, and delete a connection that is no longer needed."""
        now = self.deps.clock()
        config = self.deps.config.reconcile
        schedule = await self.deps.store.run(Schedule.load, self.deps.store.sync)
        failed = result.report.failed

        def again(key: str, error: ReconcilerError, digest: str) -> Retry:
            before = schedule.retries.get(key)
            return next_try(key, error, before, digest=digest, now=now, low_s=config.retry_min, high_s=config.retry_max)

        path = result.integration.path
        retries = [
            again(s.change.address, s.error, digest_of_change(s.change)) for s in result.report.steps if s.error is not None
        ]
        retries += [again(path, result.error, "")] if result.error is not None else []
        healed: list[str] = [
            s.change.address for s in result.report.steps if s.error is None and s.change.address in schedule.retries
        ]
        healed += [path] if result.error is None and path in schedule.retries else []
        healed += outlived(schedule, result.plan, result.compiled.objects, frozenset(result.scope_errors))
        await self.deps.store.save_retries(retries, [key for key in healed if key not in failed])
        if result.refused is not None or result.credential is not None:
            await self.current.clients.note_refusal(result.integration, result.refused)
        result.dependents = await asyncio.to_thread(
            dependents_of, result.integration, self.current.active.resources, result.recorded
        )
        await Alerts(self.deps).note(result)
        self.current.view.results[result.integration] = result
        self.current.view.next_at[result.integration] = next_reconcile_at(self.current, result, retries, now)
        await self._store_due_time(result.integration, claim)
        if repaired := repairs_of(result, now):
            await self.deps.store.add_occurrences(repaired)
        notes = notes_of(result, self.current.active, self.current.view.next_at[result.integration], now)
        if notes:
            await self.deps.store.journal(notes)
        log_steps(self.deps.log, result, self.current.active.revision)
        done = result.integration not in self.current.active.resources and not result.recorded and result.error is None
        if done and not await self.deps.store.recorded(result.integration):  # otherwise another Integration takes them over
            await self.deps.store.drop_connection(result.integration)

    def log_summary(self) -> None:
        """Log a summary of the slices since the last one, and when the next is due."""
        ended, self._ended = tuple(self._ended), []
        now = self.deps.clock()
        soonest = min((self.current.view.next_at.get(timed.result.integration, now) for timed in ended), default=now)
        log_summary(self.deps.log, ended, revision=self.current.active.revision, next_in_s=soonest - now)


__all__ = ["Busy", "Controller", "Work"]
