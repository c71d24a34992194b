"""Looks at what is new in the inbox and hands it on: each event's effects and its own state in one commit, exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from reconciler.drivers.catalog import driver_for
from reconciler.engine.passes import Engine
from reconciler.events.endpoints import integration_path, source_type
from reconciler.events.fanout import Wiring, route, wire
from reconciler.events.writer import at_fault
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
_NO_RUN = ("", "", 0)
Last = dict[tuple[ResourceId, tuple[str, ...]], Mapping[str, Any] | None]


class Dispatcher:
    """Drains the inbox of one process; any number of processes may do so on one state."""

    def __init__(
        self, engine: Engine, *, on_queued: Callable[[], None], beat: Callable[[], None], crowded: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._crowded = crowded
        """Whether deliveries are coming in faster than one by one."""
        self._held_until = self._joins_at = 0.0
        self._on_queued = on_queued
        self._beat = beat
        self._wake = asyncio.Event()
        self._wiring: tuple[Any, Wiring] | None = None

    def wake(self) -> None:
        """Look at once: something came in."""
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
            except StateError as error:
                self._engine.deps.log.error("events_paused", code=error.code, error=error.message)
            if 1 < handed_on < BATCH:
                await asyncio.sleep(LOOK_S)  # more come in all the time: let some of them share the next turn
            if not again:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), IDLE_S)

    async def _let_in(self) -> None:
        """Wait while a burst comes in, for `HOLD_S` at most; not again before as much time was left for handing on."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._held_until or not self._crowded():
            return
        while self._crowded() and loop.time() - began < HOLD_S:  # noqa: ASYNC110 - a burst is over when nothing happens
            await asyncio.sleep(LOOK_S)
        self._held_until = loop.time() + (HOLD_S if self._crowded() else 0.0)

    async def turn(self) -> int:
        """Hand on one batch; returns how many events there were."""
        deps = self._engine.deps
        if self._engine.live.empty:
            return 0  # nobody knows yet who wants what: an event handed on now would be lost for everyone
        pending, same, now = await deps.db(self._look)
        if not pending:
            return 0
        wiring = self.wiring()
        last = await self._last(pending, wiring)
        runs = self._runs(pending)
        behind = await deps.db(deps.store.stages_behind, {run[:2] for run in runs.values()}) if runs else {}
        routings = [
            self._route(
                event, body, wiring, last=last, same=same, through=behind.get(runs.get(event.id, _NO_RUN)[:2], ()), now=now
            )
            for event, body in pending
        ]
        failpoint("events-before-settle")
        routings = await self._settle(routings)
        failpoint("events-after-settle")
        for integration, external_id, attempt in set(runs.values()):  # looked at now instead of at their next turn
            await deps.db(deps.store.hint, integration, external_id, now)
            if attempt > 1:
                await deps.db(deps.store.hint_again, integration, external_id, attempt, now)
        await self._tell(routings, now)
        self._wake.set() if any(routing.joins for routing in routings) else None
        return len(pending)

    def _look(self) -> tuple[list[tuple[Event, bytes]], dict[str, str], float]:
        """Return the oldest events that nobody has looked at, which of them say what an earlier one said, and the time.

        Runs on the state's thread: one change of threads for all three, not one each.
        """
        store = self._engine.deps.store
        pending = store.pending_events(BATCH)
        return pending, store.same_before([event for event, _ in pending]), store.now()

    async def _settle(self, routings: Sequence[Routing]) -> list[Routing]:
        """Commit what a batch leads to; returns what was committed, and not by another process before.

        Where the batch as a whole cannot be (none of the database's doing), each event is on its own: the one whose effects
        cannot be stored is rejected, and keeps no other waiting.
        """
        deps = self._engine.deps
        try:
            return await deps.db(deps.store.settle_events, routings)
        except Exception as error:
            if not at_fault(error):
                raise
        settled: list[Routing] = []
        for routing in routings:
            try:
                settled += await deps.db(deps.store.settle_events, [routing])
            except Exception as error:
                if not at_fault(error):
                    raise
                deps.log.exception("event_failed", event_id=routing.event_id, code="RC9001", error=type(error).__name__)
                why = f"what it leads to cannot be stored: {type(error).__name__}"
                rejected = Routing(routing.event_id, EventState.REJECTED, "error", why)
                settled += await deps.db(deps.store.settle_events, [rejected])
        return settled

    def wiring(self) -> Wiring:
        """Return who is connected to whom at the live revision."""
        live = self._engine.live
        if self._wiring is None or self._wiring[0] is not live:
            self._wiring = (live, wire(live.revision, live.resources))
        return self._wiring[1]

    async def _last(self, pending: Sequence[tuple[Event, bytes]], wiring: Wiring) -> Last:
        deps = self._engine.deps
        asked = {one for event, _ in pending for one in wiring.needs_last(event.source)}
        return {(stage, results): await deps.db(deps.store.last_inputs, stage, results) for stage, results in asked}

    def _route(
        self,
        event: Event,
        body: bytes,
        wiring: Wiring,
        *,
        last: Last,
        same: Mapping[str, str],
        through: tuple[str, ...],
        now: float,
    ) -> Routing:
        if event.id in same:
            return Routing(event.id, EventState.REJECTED, "duplicate", f"{same[event.id]} said the same")
        source = wiring.resources.get(event.source)
        if source is None:
            return Routing(event.id, EventState.REJECTED, "removed", "its source is no longer declared")
        if source.id.kind == Kind.EVENT_SOURCE.value and (why := self._engine.suspended(source)):
            return Routing(event.id, EventState.REJECTED, "suspended", why)
        try:
            found = route(
                event,
                body,
                wiring,
                last=lambda stage, results: last.get((stage, results)),
                integration=integration_path(source),
                through=through,
                now=now,
            )
            return self._without_suspended(found, wiring, now)
        except Exception as error:  # one event that nobody foresaw must not keep all others waiting
            self._engine.deps.log.exception("event_failed", event_id=event.id, code="RC9001", error=type(error).__name__)
            return Routing(event.id, EventState.REJECTED, "error", f"a defect of this program: {type(error).__name__}")

    def _without_suspended(self, routing: Routing, wiring: Wiring, now: float) -> Routing:
        """A group that is suspended takes no part of a set; a stage that is keeps what it was queued."""
        kept: list[Join] = []
        rejections = list(routing.rejections)
        for join in routing.joins:
            why = self._engine.suspended(wiring.resources[join.group])
            if why:
                rejections.append(RejectedBy(routing.event_id, join.group, "suspended", why, now))
            else:
                kept.append(join)
        return dataclasses.replace(routing, joins=tuple(kept), rejections=tuple(rejections)) if routing.joins else routing

    def _runs(self, pending: Sequence[tuple[Event, bytes]]) -> dict[str, tuple[str, str, int]]:
        """Return id of an event → (integration, id of the run that it says something of, the attempt that it says the end of)."""
        resources = self._engine.live.resources
        runs: dict[str, tuple[str, str, int]] = {}
        for event, body in pending:
            source = resources.get(event.source)
            integration = integration_path(source) if source is not None else ""
            driver = driver_for(source_type(source, resources)) if source is not None and integration else None
            for executor in driver.executors.values() if driver is not None else ():
                with contextlib.suppress(orjson.JSONDecodeError):
                    payload = orjson.loads(body)
                    external_id = executor.about(event.type, payload)
                    if external_id:
                        runs[event.id] = (integration, external_id, executor.attempt_of(event.type, payload))
        return runs

    async def _tell(self, routings: Sequence[Routing], now: float) -> None:
        deps, log = self._engine.deps, self._engine.deps.log
        notes = [
            JournalEntry(now, item.stage, "item_queued", revision=item.revision, detail={"id": item.id, "by": item.event_id})
            for routing in routings
            for item in routing.items
        ]
        if notes:
            await deps.db(deps.store.journal, notes)
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
            if routing.state is EventState.REJECTED:
                log.debug("event_rejected", event_id=routing.event_id, reason=routing.reason)

    async def _end_joins(self) -> None:
        """End what waited long enough. Asked once an `IDLE_S`: a burst has as many turns as it has batches."""
        deps = self._engine.deps
        asked = asyncio.get_running_loop().time()
        if asked - self._joins_at < IDLE_S / 2:
            return
        self._joins_at = asked
        soonest = await deps.db(deps.store.next_join_end)
        now = await deps.db(deps.store.now)
        if soonest and soonest <= now:
            for group, payload in await deps.db(deps.store.end_joins, now):
                deps.log.info(
                    "group_timed_out", kind=group.kind, name=group.name, canvas=group.canvas, have=sorted(payload["events"])
                )
            self._wake.set()
