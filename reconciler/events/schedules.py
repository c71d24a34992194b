"""Schedules: each slot is an event of its source. Its id is the slot, so that it fires once over all restarts and replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson

from reconciler.engine.current import Current
from reconciler.events.delivery_ids import slot_id
from reconciler.events.endpoints import source_spec
from reconciler.manifests.schedules import slots
from reconciler.model.errors import StateError
from reconciler.model.events import Event, EventState, Origin
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.times import iso
from reconciler.model.values import JsonObject, digest_of
from reconciler.state.inbox import Arrival, new_event_id

TICK_S = 1.0
GRACE_S = 3600.0
"""Catch-up: a slot that was missed while no daemon ran fires up to this much later; of several, only the newest."""
MOST = 5_000
AHEAD_S = 400 * 86_400.0
"""How far ahead the next slot of a schedule is computed."""


def has_schedule(resource: Resource) -> bool:
    """Whether ``resource`` is an EventSource that a schedule triggers."""
    spec = source_spec(resource)
    return spec is not None and spec.type == "schedule" and spec.schedule is not None


def schedule_of(source: Resource) -> JsonObject:
    """Return the ``schedule`` block of a source as its manifest has it: stored cursors hold digests of this form."""
    block: JsonObject = source.spec["schedule"]
    return block


class ScheduleSource:
    """Fires the schedules of the active revision, by the clock of the database, which all processes share."""

    def __init__(self, current: Current, *, on_event: Callable[[], None], beat: Callable[[], None]) -> None:
        self._current = current
        self._on_event = on_event
        self._beat = beat
        self._after: dict[ResourceId, tuple[str, float]] = {}
        self.next_at: dict[ResourceId, float] = {}
        self._clock_steps = 0

    async def run(self) -> None:
        """Run for ever."""
        while True:
            self._beat()
            try:
                await self.turn()
            except StateError as error:
                self._current.context.log.error("schedules_paused", code=error.code, error=error.message)
            await asyncio.sleep(TICK_S)

    async def turn(self) -> None:
        """Fire the slots that are due."""
        sources = [resource for resource in self._current.active.resources.values() if has_schedule(resource)]
        if not sources:
            return
        clock_steps = await self._current.check_clock()
        if clock_steps != self._clock_steps:  # the clock was set back: the cached times lie in the future
            self._clock_steps = clock_steps
            self._after.clear()
            self.next_at.clear()
        context = self._current.context
        now = await context.store.now()
        await self._load(sources, now)
        due = [(source, passed) for source in sources if (passed := self._due(source, now))]
        fired = [(source, passed) for source, passed in due if not self._current.suspended(source)]
        try:
            if fired:
                await self._fire(fired, now)
            await self._remember([source for source, _ in due], now)
        except StateError:
            for source, _ in due:  # they stay due until the commit succeeds
                self.next_at.pop(source.id, None)
            raise

    def _due(self, source: Resource, now: float) -> list[float]:
        """Return the slots that passed since the last turn."""
        after = self._after[source.id][1]
        if now < self.next_at.get(source.id, 0.0):
            return []
        schedule = schedule_of(source)
        coming = slots(schedule, now, now + AHEAD_S, 1)
        self.next_at[source.id] = coming[0] if coming else now + 86_400
        return slots(schedule, max(after, now - GRACE_S), now, MOST)

    async def _load(self, sources: list[Resource], now: float) -> None:
        """Load until when each schedule has fired, by any process. A new or changed schedule starts now."""
        fresh = [source for source in sources if self._after.get(source.id, ("", 0.0))[0] != digest_of(schedule_of(source))]
        if not fresh:
            return
        context = self._current.context
        known = await context.store.cursors("schedule/")
        begun = []
        for source in fresh:
            digest = digest_of(schedule_of(source))
            value = known.get(f"schedule/{source.id.path}")
            if isinstance(value, dict) and value.get("digest") == digest:
                self._after[source.id] = (digest, float(value["after"]))
            else:
                begun.append(source)
            self.next_at.pop(source.id, None)
        await self._remember(begun, now)

    async def _remember(self, sources: list[Resource], at: float) -> None:
        """Store, in one commit, that the slots of ``sources`` were fired until ``at``."""
        if not sources:
            return
        context = self._current.context
        for source in sources:
            self._after[source.id] = (digest_of(schedule_of(source)), at)
        rows = {f"schedule/{each.id.path}": dict(zip(("digest", "after"), self._after[each.id], strict=True)) for each in sources}
        await context.store.set_cursors(rows)

    async def _fire(self, fired: list[tuple[Resource, list[float]]], now: float) -> None:
        """Store the newest slot of each schedule, all in one commit."""
        context = self._current.context
        stored = await context.store.add_events([_arrival(source.id, due, now) for source, due in fired])
        for (source, due), result in zip(fired, stored, strict=True):
            if result.new and len(due) > 1:
                context.log.warning(
                    "schedule_missed", kind=source.id.kind, name=source.id.name, canvas=source.id.canvas, count=len(due) - 1
                )
        if any(result.new for result in stored):
            self._on_event()


def _arrival(source: ResourceId, due: list[float], now: float) -> Arrival:
    """Return the event for the newest of the due slots."""
    slot = due[-1]
    event = Event(
        id=new_event_id(now),
        source=source,
        delivery_id=slot_id(iso(slot)),
        type="scheduled",
        origin=Origin.SCHEDULED,
        state=EventState.PENDING,
        received_at=now,
        occurred_at=slot,
    )
    return Arrival(event, orjson.dumps({"type": "scheduled", "scheduled_at": iso(slot), "missed": len(due) - 1}))
