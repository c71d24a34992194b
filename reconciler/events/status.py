"""What the statuses show of events and stages: are deliveries coming in, can a stage run, what waits and what ran last."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence

from reconciler.engine.conditions import ConditionCause
from reconciler.engine.current import Current
from reconciler.engine.revision import ActiveRevision
from reconciler.engine.view import EventStatus
from reconciler.events.endpoints import Endpoint
from reconciler.events.intake import Intake
from reconciler.events.recovery import Recovery
from reconciler.events.schedules import AHEAD_S, has_schedule, schedule_of
from reconciler.manifests.schedules import slots
from reconciler.model.errors import NotImplementedYet
from reconciler.model.events import EventState
from reconciler.model.executions import Execution
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.status import ConditionStatus
from reconciler.model.times import iso
from reconciler.stages.executors import ExecutorResolver
from reconciler.stages.views import stage_view

_EVENT_KINDS = frozenset({Kind.STAGE.value, Kind.CONNECTION_GROUP.value, Kind.EVENT_SOURCE.value})
STAGES_AT_ONCE = 100


class EventStatusReader:
    """Reads the status of events and stages for the `Controller`."""

    def __init__(self, current: Current, intake: Intake, recovery: Recovery, executors: ExecutorResolver) -> None:
        self._current = current
        self._intake = intake
        self._recovery = recovery
        self._executors = executors
        self._slots: dict[ResourceId, tuple[str, float, float]] = {}
        """Of each schedule: digest, next slot, and when that was found out."""
        self._stages: Sequence[Resource] = ()
        self._scheduled: Sequence[Resource] = ()
        self._stages_of: ActiveRevision | None = None

    async def read(self, before: EventStatus | None) -> EventStatus:
        """Return what is known now; with ``before``, of single resources what it says: nothing shows them before the next pass."""
        active = self._current.active
        if self._stages_of is not active:
            self._stages_of = active
            resources = sorted(active.resources.values(), key=lambda resource: resource.id)
            self._stages = [resource for resource in resources if resource.id.kind == Kind.STAGE.value]
            self._scheduled = [resource for resource in resources if has_schedule(resource)]
        if before is None:
            before = await asyncio.to_thread(self._singly, active, self._stages, self._intake.endpoints())
        states = (EventState.PENDING, EventState.FAILED, EventState.QUARANTINED)
        counts = await self._current.context.store.event_counts(states)
        pending, failed, quarantined = (counts[state] for state in states)
        schedules = await self._schedules(before.suspended)
        return dataclasses.replace(
            before,
            stages=await self._rows(self._stages),
            pending=pending,
            failed=failed,
            quarantined=quarantined,
            schedules=schedules,
        )

    def _singly(self, active: ActiveRevision, stages: Sequence[Resource], endpoints: Mapping[str, Endpoint]) -> EventStatus:
        """Return what is known of single resources. On a thread: there may be thousands of them."""
        resources = active.resources
        delivering = {endpoint.source.id: self._delivering(endpoint.source.id) for endpoint in endpoints.values()}
        stalled = {one.id: finding for one in stages if (finding := self._stalled(one)) is not None}
        suspended = {
            one.id: reason
            for one in resources.values()
            if one.id.kind in _EVENT_KINDS and (reason := self._current.suspended(one))
        }
        return EventStatus(delivering, stalled, suspended)

    async def _schedules(self, suspended: Mapping[ResourceId, str]) -> tuple[dict[str, object], ...]:
        """Return when each schedule fires next; a suspended one does not."""
        now = await self._current.context.store.now() if self._scheduled else 0.0
        return tuple(
            {
                "name": one.id.name,
                "canvas": one.id.canvas,
                "nextAt": "" if one.id in suspended else iso(self._next(one, now)),
                "suspended": suspended.get(one.id, ""),
            }
            for one in self._scheduled
        )

    def _next(self, source: Resource, now: float) -> float:
        """Return the next slot of a schedule (epoch seconds), remembered until it has passed; 0 where there is none."""
        known = self._slots.get(source.id)
        if known is None or known[0] != source.spec_digest or now >= known[1] or now < known[2]:
            coming = slots(schedule_of(source), now, now + AHEAD_S, 1)
            known = self._slots[source.id] = (source.spec_digest, coming[0] if coming else 0.0, now)
        return known[1]

    def _delivering(self, source: ResourceId) -> tuple[ConditionStatus, ConditionCause]:
        heard, refused, result = self._intake.heard.get(source), self._intake.refused.get(source), self._recovery.last.get(source)
        if refused is not None and (heard is None or refused[0] > heard.at):
            why = "SignatureMissing" if refused[1].startswith("unsigned") else "SignatureRefused"
            return ConditionStatus.FALSE, ConditionCause(
                why, f"the newest delivery ({iso(refused[0])}) was refused: {refused[1]}"
            )
        if result is not None and (result.failed or result.missed > result.redelivered + result.recovered):
            return ConditionStatus.FALSE, ConditionCause(
                "DeliveriesMissed", f"{result.missed} deliveries were missed; they are looked for again"
            )
        if heard is None:
            return ConditionStatus.UNKNOWN, ConditionCause(
                "NoDeliveriesYet", "no delivery has come in yet; `reconciler ping` asks for one"
            )
        return ConditionStatus.TRUE, ConditionCause("Delivered", "deliveries come in and are proved")

    def _stalled(self, stage: Resource) -> ConditionCause | None:
        try:
            self._executors.executor(stage)
        except NotImplementedYet as error:
            return ConditionCause("NotImplemented", f"{error.message}. {error.hint}".strip())
        for reference in stage.references:
            result = self._current.view.results.get(reference) if reference.kind == Kind.INTEGRATION.value else None
            if result is not None and isinstance(result.error, NotImplementedYet):
                return ConditionCause("NotImplemented", f"{reference}: {result.error.message}")
        return None

    async def _rows(self, stages: Sequence[Resource]) -> tuple[dict[str, object], ...]:
        store = self._current.context.store
        if not stages:
            return ()
        counts = await store.counts()
        last: dict[str, Execution] = {}
        for start in range(0, len(stages), STAGES_AT_ONCE):
            last |= await store.last_executions([one.id.path for one in stages[start : start + STAGES_AT_ONCE]])
        return tuple(stage_view(one, counts.get(one.id.path, {}), last.get(one.id.path)) for one in stages)
