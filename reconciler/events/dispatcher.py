"""Dispatches new events of the inbox: the effects of each and its own state in one commit, exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from reconciler.drivers.registry import driver_for
from reconciler.engine.current import Current
from reconciler.engine.evaluator import EvaluatorFailed
from reconciler.engine.revision import ActiveRevision
from reconciler.events.endpoints import integration_path, source_spec, source_type
from reconciler.events.evaluation import SOURCE_PART, EventEvaluator, Last, Stopped
from reconciler.events.group_commit import at_fault
from reconciler.events.routing import RoutingJob, Wiring, route, wire
from reconciler.events.traces import event_spans, with_trace
from reconciler.failpoints import failpoint
from reconciler.model.errors import StateError
from reconciler.model.events import Event, EventState, RejectedBy
from reconciler.model.records import JournalEntry
from reconciler.model.resources import Kind, ResourceId
from reconciler.stages.traces import item_context
from reconciler.state.routing import Join, Routing, SpansOf, no_spans
from reconciler.tracing import within
from reconciler.wakeup import wait_at_most

BATCH = 200
IDLE_S = 1.0
HOLD_S = 1.0
"""How long dispatching waits for a burst of deliveries, whose senders wait for an answer. After that, dispatching runs at least as
long, so that neither starves under a continuous load."""
LOOK_S = 0.01
MOST_ATTEMPTS = 3
"""After so many attempts that did not finish, an event is quarantined; one more for each target that is known to be at fault."""
TROUBLE_S = 600.0
"""How long the events of a source are tried one by one after the worker was stopped at one of them."""
MOST_STOPS = 10_000
PLAIN_BYTES = 64 << 10
_Run = tuple[str, str, int]
"""(Integration, id of the run, number of the attempt whose end the event reports, or 0)."""
_NO_RUN: _Run = ("", "", 0)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Events that are dispatched together."""

    pending: list[tuple[Event, bytes]]
    same: Mapping[str, str]
    """Id of a duplicate → id of the earlier event."""
    now: float


def _routed_here(event: Event, body: bytes, wiring: Wiring, now: float) -> Routing | None:
    """Return the routing of a small event that needs no expression: its source filters by type only, and has no targets."""
    spec = source_spec(wiring.resources[event.source])
    filtered = spec is not None and any(each.filters for each in spec.events)
    if filtered or wiring.targets.get(event.source) or len(body) > PLAIN_BYTES or b"\\u0000" in body:
        return None
    return route(RoutingJob(event, body), wiring, last=lambda *_: None, now=now)


class Dispatcher:
    """Drains the inbox of one process; any number of processes may do so on one state."""

    def __init__(
        self,
        current: Current,
        evaluator: EventEvaluator,
        *,
        holder: str,
        on_queued: Callable[[], None],
        on_trouble: Callable[[], None],
        beat: Callable[[], None],
        under_load: Callable[[], bool],
    ) -> None:
        self._current = current
        self._evaluator = evaluator
        self._holder = holder
        self._counts: dict[str, int] = {}
        """Attempts in progress: id of the event → number of attempts before."""
        self._stops: dict[str, tuple[Stopped, ...]] = {}
        self._trouble: dict[ResourceId, tuple[str, float]] = {}
        self._under_load = under_load
        """Whether a burst of deliveries is arriving."""
        self._held_until = self._joins_at = 0.0
        self._on_queued = on_queued
        self._on_trouble = on_trouble
        """Called when an event failed or was quarantined: the status shows their number."""
        self._beat = beat
        self._wake = asyncio.Event()
        self._wiring: tuple[ActiveRevision, Wiring] | None = None

    def wake(self) -> None:
        """Start the next turn now: an event was stored."""
        self._wake.set()

    async def run(self) -> None:
        """Run for ever."""
        while True:
            self._beat()
            self._wake.clear()
            again, dispatched = False, 0
            try:
                await self._wait_for_burst()
                dispatched = await self.turn()
                again = dispatched > 0  # a batch is bounded by bytes too: there may be more
                await self._end_joins()
            except (StateError, EvaluatorFailed) as error:
                self._current.context.log.error("events_paused", code=error.code, error=error.message)
                again = False
            if 1 < dispatched < BATCH:
                await asyncio.sleep(LOOK_S)  # deliveries keep arriving: let some of them share the next turn
            if not again:
                await wait_at_most(self._wake, IDLE_S)

    async def _wait_for_burst(self) -> None:
        """Wait for the end of a burst of deliveries, at most `HOLD_S`; not again before dispatching had as much time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._held_until or not self._under_load():
            return
        while self._under_load() and loop.time() - began < HOLD_S:  # noqa: ASYNC110 - a burst is over when nothing happens
            await asyncio.sleep(LOOK_S)
        self._held_until = loop.time() + (HOLD_S if self._under_load() else 0.0)

    async def turn(self) -> int:
        """Dispatch one batch, and one event whose last attempt did not finish; returns the number of events."""
        if self._current.active.empty:
            return 0  # no manifests yet: an event dispatched now would be lost
        await self._correct_counts()
        return await self._dispatch_new() + await self._dispatch_suspect()

    async def _dispatch_new(self) -> int:
        """Dispatch the oldest events without an attempt, except those of a source in trouble, which are tried one by one."""
        apart = frozenset(source for source in self._trouble if self._in_trouble(source))
        batch = await self._current.context.store.run(self._begin, apart)
        if not batch.pending:
            return 0
        together = [(event, body) for event, body in batch.pending if event.source not in apart]
        self._counts = {event.id: 0 for event, _ in together}
        if together:
            await self._dispatch(dataclasses.replace(batch, pending=together))
        self._counts = {}
        return len(batch.pending)

    async def _dispatch_suspect(self) -> int:
        """Dispatch one event whose last attempt did not finish, alone; after a few attempts, quarantine it."""
        context = self._current.context
        suspect = await context.store.suspect(self._holder)
        if suspect is None:
            return 0
        event, body, count = suspect
        stops = self._stops.get(event.id, ())
        skip = frozenset(stop.part for stop in stops)
        if SOURCE_PART in skip or count >= MOST_ATTEMPTS + len(skip):
            why = stops[-1].why if stops else f"the process ended at each of {count} attempts"
            await self._quarantine(event, skip, why)
            return 1
        await context.store.begin_attempts({event.id: count + 1}, self._holder)
        self._counts = {event.id: count}
        same, now = await context.store.run(lambda: (context.store.sync.same_before([event]), context.store.sync.now()))
        await self._dispatch(_Batch([(event, body)], same, now), skip=skip)
        self._counts = {}
        return 1

    async def _correct_counts(self) -> None:
        """Restore the counts of attempts that ended early, if the events were not the cause."""
        counts, context = self._counts, self._current.context
        if counts:
            await context.store.forget_attempts([event_id for event_id, count in counts.items() if not count])
            await context.store.begin_attempts({event_id: count for event_id, count in counts.items() if count}, self._holder)
            self._counts = {}

    async def _quarantine(self, event: Event, skip: frozenset[str], why: str) -> None:
        where = ", ".join(sorted(part for part in skip if part)) or str(event.source)
        routing = Routing(event.id, EventState.QUARANTINED, "overrun", f"evaluating it for {where} was stopped: {why}")
        await self._settle([routing], self._spans_of([event], event.received_at))
        self._on_trouble()
        self._log_quarantine(event, routing.message)

    def _log_quarantine(self, event: Event, why: str) -> None:
        self._stops.pop(event.id, None)
        source = event.source
        self._current.context.log.error(
            "event_quarantined", kind=source.kind, name=source.name, canvas=source.canvas, event_id=event.id, error=why
        )

    def _in_trouble(self, source: ResourceId) -> bool:
        """Whether the worker was stopped at an event of ``source`` within the last `TROUBLE_S`, at this revision."""
        revision, until = self._trouble.get(source, ("", 0.0))
        return revision == self._current.active.revision and asyncio.get_running_loop().time() < until

    async def _dispatch(self, batch: _Batch, skip: frozenset[str] = frozenset()) -> None:
        """Route the events of a batch, and store all that follows."""
        pending, now = batch.pending, batch.now
        runs = self._runs(pending)
        routings = await self._routings(batch, runs, skip)
        failpoint("events-before-settle")
        spans_of = self._spans_of([event for event, _ in pending], now)
        settled = await self._settle([routings[event.id] for event, _ in pending if event.id in routings], spans_of)
        failpoint("events-after-settle")
        self._counts = {}
        store = self._current.context.store
        for integration, external_id, attempt in set(runs.values()):  # polled now instead of at their next turn
            due = await store.hint(integration, external_id, now)
            if attempt > 1:
                due += await store.hint_again(integration, external_id, attempt, now)
            if due:
                self._on_queued()
        await self._report(settled, now)
        for event, _ in pending:
            routing = routings.get(event.id)
            if routing is not None and routing.state is EventState.QUARANTINED:
                stops = self._stops.get(event.id, ())
                self._log_quarantine(event, stops[-1].why if stops else routing.message)
        if any(routing.joins for routing in settled):
            self._wake.set()

    async def _routings(self, batch: _Batch, runs: Mapping[str, _Run], skip: frozenset[str]) -> dict[str, Routing]:
        """Return the routings by id of the event. Events that the worker did not get to have none."""
        wiring, now = self.wiring(), batch.now
        last = await self._last(batch.pending, wiring)
        behind = await self._current.context.store.stages_behind({run[:2] for run in runs.values()}) if runs else {}
        routings: dict[str, Routing] = {}
        jobs: list[RoutingJob] = []
        for event, body in batch.pending:
            routing = self._rejected_early(event, batch.same, wiring) or _routed_here(event, body, wiring, now)
            if routing is not None:
                routings[event.id] = routing
                continue
            through = behind.get(runs.get(event.id, _NO_RUN)[:2], ())
            jobs.append(RoutingJob(event, body, integration_path(wiring.resources[event.source]), through, skip))
        evaluated = await self._evaluator.evaluate(jobs, wiring, last, now)
        for stopped in evaluated.stopped:
            self._record_stop(stopped)
        for event_id, routing in evaluated.routings.items():
            routings[event_id] = self._without_suspended(routing, wiring, now)
        tracer = self._current.context.tracer
        if tracer.on:
            events = {event.id: event for event, _ in batch.pending}
            routings = {event_id: with_trace(tracer, events[event_id], routing) for event_id, routing in routings.items()}
        return routings

    def _spans_of(self, events: Sequence[Event], began: float) -> SpansOf:
        """Return what makes the spans of ``events`` when they are settled."""
        tracer = self._current.context.tracer
        return functools.partial(event_spans, tracer, {event.id: event for event in events}, began) if tracer.on else no_spans

    def _record_stop(self, stopped: Stopped) -> None:
        """Record where the worker was stopped: the next attempt at the event skips that part."""
        event = stopped.job.event
        until = asyncio.get_running_loop().time() + TROUBLE_S
        self._trouble[event.source] = (self._current.active.revision, until)
        if len(self._stops) > MOST_STOPS:
            self._stops.pop(next(iter(self._stops)))
        self._stops[event.id] = (*self._stops.get(event.id, ()), stopped)
        self._current.context.log.warning(
            "event_overrun",
            kind=event.source.kind,
            name=event.source.name,
            canvas=event.source.canvas,
            event_id=event.id,
            target=stopped.part or event.source.path,
            error=stopped.why,
        )

    def _begin(self, apart: frozenset[ResourceId]) -> _Batch:
        """Return the oldest events without an attempt, and count their attempts before anything else is done with them.

        Runs on the state's thread, so that all calls need only one switch of threads.
        """
        store = self._current.context.store.sync
        pending = store.pending_events(BATCH)
        if pending:
            store.begin_attempts({event.id: 0 if event.source in apart else 1 for event, _ in pending}, self._holder)
        return _Batch(pending, store.same_before([event for event, _ in pending]), store.now())

    async def _settle(self, routings: Sequence[Routing], spans_of: SpansOf) -> list[Routing]:
        """Commit the effects of a batch; returns the routings that were committed here, and not before by another process.

        If the batch cannot be committed, and the database is not the cause, each event is committed alone: an event whose effects
        cannot be stored fails, and does not hold up the others.
        """
        context = self._current.context
        try:
            return await context.store.settle_events(routings, spans_of)
        except Exception as error:
            if not at_fault(error):
                raise
        settled: list[Routing] = []
        for routing in routings:
            try:
                settled += await context.store.settle_events([routing], spans_of)
            except Exception as error:
                if not at_fault(error):
                    raise
                context.log.exception("event_failed", event_id=routing.event_id, code="RC9001", error=type(error).__name__)
                why = f"its effects cannot be stored: {type(error).__name__}"
                rejected = Routing(routing.event_id, EventState.FAILED, "error", why)
                settled += await context.store.settle_events([rejected], spans_of)
        return settled

    def wiring(self) -> Wiring:
        """Return the connections of the active revision."""
        active = self._current.active
        if self._wiring is None or self._wiring[0] is not active:
            self._wiring = (active, wire(active.revision, active.resources))
        return self._wiring[1]

    async def _last(self, pending: Sequence[tuple[Event, bytes]], wiring: Wiring) -> Last:
        context = self._current.context
        needed = {need for event, _ in pending for need in wiring.needs_last(event.source)}
        return {(stage, results): await context.store.last_inputs(stage, results) for stage, results in needed}

    def _rejected_early(self, event: Event, same: Mapping[str, str], wiring: Wiring) -> Routing | None:
        """Return the rejection of an event that does not depend on its payload; None if it is to be routed."""
        if event.id in same:
            return Routing(event.id, EventState.REJECTED, "duplicate", f"it is a duplicate of {same[event.id]}")
        source = wiring.resources.get(event.source)
        if source is None:
            return Routing(event.id, EventState.REJECTED, "removed", "its source is no longer declared")
        if source.id.kind == Kind.EVENT_SOURCE.value and (why := self._current.suspended(source)):
            return Routing(event.id, EventState.REJECTED, "suspended", why)
        return None

    def _without_suspended(self, routing: Routing, wiring: Wiring, now: float) -> Routing:
        """Return ``routing`` without the joins of suspended groups. A suspended stage keeps its queued items."""
        kept: list[Join] = []
        rejections = list(routing.rejections)
        for join in routing.joins:
            why = self._current.suspended(wiring.resources[join.group])
            if why:
                rejections.append(RejectedBy(routing.event_id, join.group, "suspended", why, now))
            else:
                kept.append(join)
        return dataclasses.replace(routing, joins=tuple(kept), rejections=tuple(rejections)) if routing.joins else routing

    def _runs(self, pending: Sequence[tuple[Event, bytes]]) -> dict[str, _Run]:
        """Return the runs that events are about, by id of the event."""
        resources = self._current.active.resources
        runs: dict[str, _Run] = {}
        for event, body in pending:
            source = resources.get(event.source)
            integration = integration_path(source) if source is not None else ""
            driver = driver_for(source_type(source, resources)) if source is not None and integration else None
            for executor in driver.executors.values() if driver is not None else ():
                with contextlib.suppress(orjson.JSONDecodeError):
                    payload = orjson.loads(body)
                    external_id = executor.run_id_of(event.type, payload)
                    if external_id:
                        runs[event.id] = (integration, external_id, executor.attempt_of(event.type, payload))
        return runs

    async def _report(self, routings: Sequence[Routing], now: float) -> None:
        """Write to the journal and to the log what was queued and what was rejected."""
        context, log = self._current.context, self._current.context.log
        entries = [
            JournalEntry(now, item.stage, "item_queued", revision=item.revision, detail={"id": item.id, "by": item.event_id})
            for routing in routings
            for item in routing.items
        ]
        if entries:
            await context.store.journal(entries)
            self._on_queued()
        for routing in routings:
            for item in routing.items:
                stage = item.stage
                with within(item_context(context.tracer, item)):
                    log.info(
                        "item_queued", kind="Stage", name=stage.name, canvas=stage.canvas, item=item.id, revision=item.revision
                    )
            for item_id, report, why in routing.unreported:
                log.warning("report_without_target", item=item_id, report=report, reason=why)
            if routing.state in (EventState.FAILED, EventState.QUARANTINED):
                self._on_trouble()
            if routing.state in (EventState.REJECTED, EventState.FAILED):
                log.debug("event_rejected", event_id=routing.event_id, reason=routing.reason)

    async def _end_joins(self) -> None:
        """End the sets of groups that timed out. Checked about once in `IDLE_S`, since a burst has many turns."""
        context = self._current.context
        now_s = asyncio.get_running_loop().time()
        if now_s - self._joins_at < IDLE_S / 2:
            return
        self._joins_at = now_s
        soonest = await context.store.next_join_end()
        now = await context.store.now()
        if soonest and soonest <= now:
            for group, names in await context.store.end_joins(now):
                context.log.info("group_timed_out", kind=group.kind, name=group.name, canvas=group.canvas, have=names)
            self._wake.set()
