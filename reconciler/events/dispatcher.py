"""Dispatches new events of the inbox: the effects of each and its own state in one commit, exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from reconciler.drivers.registry import driver_for
from reconciler.engine.current import Current
from reconciler.engine.evaluator import EvaluatorFailed
from reconciler.events.endpoints import integration_path, source_spec, source_type
from reconciler.events.evaluation import SOURCE_PART, EventEvaluator, Last, Stopped
from reconciler.events.group_commit import at_fault
from reconciler.events.routing import RoutingJob, Wiring, route, wire
from reconciler.failpoints import failpoint
from reconciler.model.errors import StateError
from reconciler.model.events import Event, EventState, RejectedBy
from reconciler.model.records import JournalEntry
from reconciler.model.resources import Kind, ResourceId
from reconciler.state.routing import Join, Routing

BATCH = 200
IDLE_S = 1.0
HOLD_S = 1.0
"""How long a burst of deliveries is let in before any of it is handed on: their senders wait for an answer. Then handing on
has as long for itself, so that under a load that does not end neither starves."""
LOOK_S = 0.01
MOST_ATTEMPTS = 3
"""After so many that did not end an event is put into quarantine; one more for each target that is known to be at fault."""
TROUBLE_S = 600.0
"""How long the events of a source are tried alone after the worker was stopped at one."""
MOST_STOPS = 10_000
PLAIN_BYTES = 64 << 10
_NO_RUN = ("", "", 0)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Events that are dispatched together, those of them that repeat an earlier one, and the time."""

    pending: list[tuple[Event, bytes]]
    same: Mapping[str, str]
    now: float


def _plain(event: Event, body: bytes, wiring: Wiring, now: float) -> Routing | None:
    """Return what a small event leads to where no expression is asked: nothing is connected, and the source filters by type alone."""
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
        """Attempts under way: event → how many were counted before."""
        self._stops: dict[str, tuple[Stopped, ...]] = {}
        self._trouble: dict[ResourceId, tuple[str, float]] = {}
        self._under_load = under_load
        """Whether deliveries are coming in faster than one by one."""
        self._held_until = self._joins_at = 0.0
        self._on_queued = on_queued
        self._on_trouble = on_trouble
        """Called when an event failed or was put into quarantine: the status shows how many there are."""
        self._beat = beat
        self._wake = asyncio.Event()
        self._wiring: tuple[Any, Wiring] | None = None

    def wake(self) -> None:
        """Take the next turn at once: an event was stored."""
        self._wake.set()

    async def run(self) -> None:
        """Run for ever."""
        while True:
            self._beat()
            self._wake.clear()
            again, handed_on = False, 0
            try:
                await self._let_in()
                handed_on = await self.turn()
                again = handed_on > 0  # a batch is bounded by bytes too: there may be more
                await self._end_joins()
            except (StateError, EvaluatorFailed) as error:
                self._current.context.log.error("events_paused", code=error.code, error=error.message)
                again = False
            if 1 < handed_on < BATCH:
                await asyncio.sleep(LOOK_S)  # more come in all the time: let some of them share the next turn
            if not again:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), IDLE_S)

    async def _let_in(self) -> None:
        """Wait while a burst comes in, for `HOLD_S` at most; not again before as much time was left for handing on."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._held_until or not self._under_load():
            return
        while self._under_load() and loop.time() - began < HOLD_S:  # noqa: ASYNC110 - a burst is over when nothing happens
            await asyncio.sleep(LOOK_S)
        self._held_until = loop.time() + (HOLD_S if self._under_load() else 0.0)

    async def turn(self) -> int:
        """Hand on one batch, and one event of those whose last attempt did not end; returns how many events there were."""
        if self._current.active.empty:
            return 0  # no manifests yet: an event dispatched now would be lost
        await self._take_back()
        return await self._untried() + await self._suspect()

    async def _untried(self) -> int:
        """Hand on the oldest events that were not tried yet, but those of a source that is in trouble: they are tried alone."""
        apart = frozenset(source for source in self._trouble if self._in_trouble(source))
        batch = await self._current.context.store.run(self._look, apart)
        if not batch.pending:
            return 0
        self._counts = dict.fromkeys((event.id for event, _ in batch.pending if event.source not in apart), 0)
        tried = [one for one in batch.pending if one[0].source not in apart]
        if tried:
            await self._hand_on(dataclasses.replace(batch, pending=tried))
        self._counts = {}
        return len(batch.pending)

    async def _suspect(self) -> int:
        """Try one event alone whose last attempt did not end; the attempt is counted first, and after a few it is put aside."""
        context = self._current.context
        found = await context.store.suspect(self._holder)
        if found is None:
            return 0
        event, body, count = found
        stops = self._stops.get(event.id, ())
        skip = frozenset(one.part for one in stops)
        if SOURCE_PART in skip or count >= MOST_ATTEMPTS + len(skip):
            why = stops[-1].why if stops else f"the process ended at each of {count} attempts"
            await self._quarantine(event, skip, why)
            return 1
        await context.store.begin_attempts({event.id: count + 1}, self._holder)
        self._counts = {event.id: count}
        same, now = await context.store.run(lambda: (context.store.sync.same_before([event]), context.store.sync.now()))
        await self._hand_on(_Batch([(event, body)], same, now), skip=skip)
        self._counts = {}
        return 1

    async def _take_back(self) -> None:
        """Put right the counts of attempts that were broken off for a reason which was not the events'."""
        counts, context = self._counts, self._current.context
        if counts:
            await context.store.forget_attempts([one for one, count in counts.items() if not count])
            await context.store.begin_attempts({one: count for one, count in counts.items() if count}, self._holder)
            self._counts = {}

    async def _quarantine(self, event: Event, skip: frozenset[str], why: str) -> None:
        where = ", ".join(sorted(one for one in skip if one)) or str(event.source)
        routing = Routing(event.id, EventState.QUARANTINED, "overrun", f"evaluating it for {where} was stopped: {why}")
        await self._settle([routing])
        self._on_trouble()
        self._log_quarantine(event, routing.message)

    def _log_quarantine(self, event: Event, why: str) -> None:
        self._stops.pop(event.id, None)
        source = event.source
        self._current.context.log.error(
            "event_quarantined", kind=source.kind, name=source.name, canvas=source.canvas, event_id=event.id, error=why
        )

    def _in_trouble(self, source: ResourceId) -> bool:
        """Whether the worker was stopped at an event of ``source`` a short while ago, at this revision."""
        revision, until = self._trouble.get(source, ("", 0.0))
        return revision == self._current.active.revision and asyncio.get_running_loop().time() < until

    async def _hand_on(self, batch: _Batch, skip: frozenset[str] = frozenset()) -> None:
        context = self._current.context
        wiring = self.wiring()
        pending, now = batch.pending, batch.now
        last = await self._last(pending, wiring)
        runs = self._runs(pending)
        behind = await context.store.stages_behind({run[:2] for run in runs.values()}) if runs else {}
        routings = {
            event.id: found
            for event, body in pending
            if (found := self._without_looking(event, batch.same, wiring) or _plain(event, body, wiring, now))
        }
        jobs = [
            RoutingJob(
                event,
                body,
                integration_path(wiring.resources[event.source]),
                behind.get(runs.get(event.id, _NO_RUN)[:2], ()),
                skip,
            )
            for event, body in pending
            if event.id not in routings
        ]
        evaluated = await self._evaluator.evaluate(jobs, wiring, last, now)
        for stopped in evaluated.stopped:
            self._note(stopped)
        for event_id, found in evaluated.routings.items():
            routings[event_id] = self._without_suspended(found, wiring, now)
        failpoint("events-before-settle")
        settled = await self._settle([routings[event.id] for event, _ in pending if event.id in routings])
        failpoint("events-after-settle")
        self._counts = {}
        for integration, external_id, attempt in set(runs.values()):  # looked at now instead of at their next turn
            due = await context.store.hint(integration, external_id, now)
            if attempt > 1:
                due += await context.store.hint_again(integration, external_id, attempt, now)
            if due:
                self._on_queued()
        await self._tell(settled, now)
        for event, _ in pending:
            if (found := routings.get(event.id)) is not None and found.state is EventState.QUARANTINED:
                stops = self._stops.get(event.id, ())
                self._log_quarantine(event, stops[-1].why if stops else found.message)
        self._wake.set() if any(routing.joins for routing in settled) else None

    def _note(self, stopped: Stopped) -> None:
        """Remember where the worker was stopped: what is tried alone is tried without it the next time."""
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

    def _look(self, apart: frozenset[ResourceId]) -> _Batch:
        """Return the oldest events that were not tried yet, those that repeat an earlier one, and the time.

        Runs on the state's thread: one change of threads for all of it. The attempt is counted before anything is made of them.
        """
        store = self._current.context.store.sync
        pending = store.pending_events(BATCH)
        if pending:
            store.begin_attempts({event.id: 0 if event.source in apart else 1 for event, _ in pending}, self._holder)
        return _Batch(pending, store.same_before([event for event, _ in pending]), store.now())

    async def _settle(self, routings: Sequence[Routing]) -> list[Routing]:
        """Commit what a batch leads to; returns what was committed, and not by another process before.

        Where the batch as a whole cannot be (none of the database's doing), each event is on its own: the one whose effects
        cannot be stored is rejected, and keeps no other waiting.
        """
        context = self._current.context
        try:
            return await context.store.settle_events(routings)
        except Exception as error:
            if not at_fault(error):
                raise
        settled: list[Routing] = []
        for routing in routings:
            try:
                settled += await context.store.settle_events([routing])
            except Exception as error:
                if not at_fault(error):
                    raise
                context.log.exception("event_failed", event_id=routing.event_id, code="RC9001", error=type(error).__name__)
                why = f"what it leads to cannot be stored: {type(error).__name__}"
                rejected = Routing(routing.event_id, EventState.FAILED, "error", why)
                settled += await context.store.settle_events([rejected])
        return settled

    def wiring(self) -> Wiring:
        """Return the connections of the active revision."""
        active = self._current.active
        if self._wiring is None or self._wiring[0] is not active:
            self._wiring = (active, wire(active.revision, active.resources))
        return self._wiring[1]

    async def _last(self, pending: Sequence[tuple[Event, bytes]], wiring: Wiring) -> Last:
        context = self._current.context
        asked = {one for event, _ in pending for one in wiring.needs_last(event.source)}
        return {(stage, results): await context.store.last_inputs(stage, results) for stage, results in asked}

    def _without_looking(self, event: Event, same: Mapping[str, str], wiring: Wiring) -> Routing | None:
        """Return what becomes of an event whatever it says, or None."""
        if event.id in same:
            return Routing(event.id, EventState.REJECTED, "duplicate", f"{same[event.id]} said the same")
        source = wiring.resources.get(event.source)
        if source is None:
            return Routing(event.id, EventState.REJECTED, "removed", "its source is no longer declared")
        if source.id.kind == Kind.EVENT_SOURCE.value and (why := self._current.suspended(source)):
            return Routing(event.id, EventState.REJECTED, "suspended", why)
        return None

    def _without_suspended(self, routing: Routing, wiring: Wiring, now: float) -> Routing:
        """A group that is suspended takes no part of a set; a stage that is keeps what it was queued."""
        kept: list[Join] = []
        rejections = list(routing.rejections)
        for join in routing.joins:
            why = self._current.suspended(wiring.resources[join.group])
            if why:
                rejections.append(RejectedBy(routing.event_id, join.group, "suspended", why, now))
            else:
                kept.append(join)
        return dataclasses.replace(routing, joins=tuple(kept), rejections=tuple(rejections)) if routing.joins else routing

    def _runs(self, pending: Sequence[tuple[Event, bytes]]) -> dict[str, tuple[str, str, int]]:
        """Return id of an event → (integration, id of the run that it says something of, the attempt that it says the end of)."""
        resources = self._current.active.resources
        runs: dict[str, tuple[str, str, int]] = {}
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

    async def _tell(self, routings: Sequence[Routing], now: float) -> None:
        context, log = self._current.context, self._current.context.log
        notes = [
            JournalEntry(now, item.stage, "item_queued", revision=item.revision, detail={"id": item.id, "by": item.event_id})
            for routing in routings
            for item in routing.items
        ]
        if notes:
            await context.store.journal(notes)
            self._on_queued()
        for routing in routings:
            for item in routing.items:
                log.info(
                    "item_queued",
                    kind="Stage",
                    name=item.stage.name,
                    canvas=item.stage.canvas,
                    item=item.id,
                    revision=item.revision,
                )
            for item_id, report, why in routing.unreported:
                log.warning("report_without_target", item=item_id, report=report, reason=why)
            if routing.state in (EventState.FAILED, EventState.QUARANTINED):
                self._on_trouble()
            if routing.state in (EventState.REJECTED, EventState.FAILED):
                log.debug("event_rejected", event_id=routing.event_id, reason=routing.reason)

    async def _end_joins(self) -> None:
        """End what waited long enough. Asked once an `IDLE_S`: a burst has as many turns as it has batches."""
        context = self._current.context
        asked = asyncio.get_running_loop().time()
        if asked - self._joins_at < IDLE_S / 2:
            return
        self._joins_at = asked
        soonest = await context.store.next_join_end()
        now = await context.store.now()
        if soonest and soonest <= now:
            for group, names in await context.store.end_joins(now):
                context.log.info("group_timed_out", kind=group.kind, name=group.name, canvas=group.canvas, have=names)
            self._wake.set()
