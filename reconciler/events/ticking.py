"""Schedules: each slot is an event of its source, stored under the slot's own name, so that it fires once over all restarts and replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from reconciler.engine.passes import Engine
from reconciler.engine.reporting import iso
from reconciler.events.naming import slot_id
from reconciler.manifests.schedules import slots
from reconciler.model.errors import StateError
from reconciler.model.events import Event, EventState, Origin
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.values import digest_of
from reconciler.state.inbox import Arrival, new_event_id

TICK_S = 1.0
GRACE_S = 3600.0
"""A slot that passed while nobody was there is made up for this long; of several only the newest."""
MOST = 5_000


class Ticking:
    """Fires the schedules of the live revision. ``now`` is the database's clock, which all processes share."""

    def __init__(self, engine: Engine, *, on_event: Callable[[], None], beat: Callable[[], None]) -> None:
        self._engine = engine
        self._on_event = on_event
        self._beat = beat
        self._after: dict[ResourceId, tuple[str, float]] = {}
        self.next_at: dict[ResourceId, float] = {}
        self._turned = 0

    async def run(self) -> None:
        """Run for ever."""
        while True:
            self._beat()
            try:
                await self.turn()
            except StateError as error:
                self._engine.deps.log.error("schedules_paused", code=error.code, error=error.message)
            await asyncio.sleep(TICK_S)

    async def turn(self) -> None:
        """Fire what is due."""
        sources = [
            resource
            for resource in self._engine.live.resources.values()
            if resource.id.kind == Kind.EVENT_SOURCE.value and resource.spec.get("type") == "schedule"
        ]
        if not sources:
            return
        turned = await self._engine.look_at_clock()
        if turned != self._turned:  # what is remembered here is of a time that has not come
            self._turned = turned
            self._after.clear()
            self.next_at.clear()
        deps = self._engine.deps
        now = await deps.db(deps.store.now)
        for source in sources:
            await self._source(source, now)

    async def _source(self, source: Resource, now: float) -> None:
        schedule = source.spec["schedule"]
        digest = digest_of(schedule)
        after = await self._seen(source.id, digest, now)
        if now < self.next_at.get(source.id, 0.0) and after == self._after[source.id][1]:
            return
        due = slots(schedule, max(after, now - GRACE_S), now, MOST)
        coming = slots(schedule, now, now + 400 * 86_400, 1)
        self.next_at[source.id] = coming[0] if coming else now + 86_400
        if due and not self._engine.suspended(source):
            await self._fire(source, due, digest)
        if due or source.id not in self._after:
            await self._remember(source.id, digest, now)

    async def _seen(self, source: ResourceId, digest: str, now: float) -> float:
        """Return up to when slots were fired; a schedule that is new or was changed begins now."""
        known = self._after.get(source)
        if known is None or known[0] != digest:
            deps = self._engine.deps
            value: Any = await deps.db(deps.store.get_cursor, f"schedule/{source.path}")
            if isinstance(value, dict) and value.get("digest") == digest:
                self._after[source] = (digest, float(value["after"]))
            else:
                await self._remember(source, digest, now)
            self.next_at.pop(source, None)
        return self._after[source][1]

    async def _remember(self, source: ResourceId, digest: str, at: float) -> None:
        deps = self._engine.deps
        self._after[source] = (digest, at)
        await deps.db(deps.store.set_cursors, {f"schedule/{source.path}": {"digest": digest, "after": at}})

    async def _fire(self, source: Resource, due: list[float], digest: str) -> None:
        deps = self._engine.deps
        slot = due[-1]
        now = await deps.db(deps.store.now)
        body = orjson.dumps({"type": "scheduled", "scheduled_at": iso(slot), "missed": len(due) - 1})
        event = Event(
            id=new_event_id(now),
            source=source.id,
            delivery_id=slot_id(iso(slot)),
            type="scheduled",
            origin=Origin.SCHEDULED,
            state=EventState.PENDING,
            received_at=now,
            occurred_at=slot,
        )
        stored = (await deps.db(deps.store.add_events, [Arrival(event, body)]))[0]
        if stored.new:
            if len(due) > 1:
                deps.log.warning(
                    "slots_missed", kind=source.id.kind, name=source.id.name, canvas=source.id.canvas, count=len(due) - 1
                )
            self._on_event()
