"""Status of events and stages: whether deliveries arrive, whether stages can run, and their queues and last executions."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence

from reconciler.engine.conditions import ConditionCause
from reconciler.engine.current import Current
from reconciler.engine.revision import ActiveRevision
from reconciler.engine.view import EventStatus
from reconciler.events.app_intake import AppIntake
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

_EVENT_KINDS = frozenset({Kind.STAGE.value, Kind.CONNECTION_GROUP.value, Kind.EVENT_SOURCE.value, Kind.NOTIFICATION.value})
"""Kinds whose suspension is no part of a reconciliation."""
STAGES_AT_ONCE = 100


class EventStatusReader:
    """Reads the status of events and stages for the `Controller`."""

    def __init__(
        self, current: Current, intake: Intake, apps: AppIntake, recovery: Recovery, executors: ExecutorResolver
    ) -> None:
        self._current = current
        self._intake = intake
        self._apps = apps
        self._recovery = recovery
        self._executors = executors
        self._slots: dict[ResourceId, tuple[str, float, float]] = {}
        """By schedule: digest of its spec, next slot, and when it was computed."""
        self._stages: Sequence[Resource] = ()
        self._scheduled: Sequence[Resource] = ()
        self._stages_of: ActiveRevision | None = None

    async def read(self, before: EventStatus | None) -> EventStatus:
        """Return the current status. With ``before``, the part about single resources is copied from it."""
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
        """Return the status of single resources. Runs on a thread: there may be thousands of them."""
        resources = active.resources
        delivering = {endpoint.source.id: self._delivering(endpoint.source.id) for endpoint in endpoints.values()}
        delivering |= self._delivering_apps()
        stalled = {stage.id: cause for stage in stages if (cause := self._stalled(stage)) is not None}
        suspended = {
            resource.id: reason
            for resource in resources.values()
            if resource.id.kind in _EVENT_KINDS and (reason := self._current.suspended(resource))
        }
        return EventStatus(delivering, stalled, suspended)

    async def _schedules(self, suspended: Mapping[ResourceId, str]) -> tuple[dict[str, object], ...]:
        """Return when each schedule fires next; empty for a suspended one."""
        now = await self._current.context.store.now() if self._scheduled else 0.0
        return tuple(
            {
                "name": source.id.name,
                "canvas": source.id.canvas,
                "nextAt": "" if source.id in suspended else iso(self._next(source, now)),
                "suspended": suspended.get(source.id, ""),
            }
            for source in self._scheduled
        )

    def _next(self, source: Resource, now: float) -> float:
        """Return the next slot of a schedule (epoch seconds), cached until it has passed; 0 if there is none."""
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
                "DeliveriesMissed", f"{result.missed} deliveries were missed; recovery is retried"
            )
        if heard is None:
            return ConditionStatus.UNKNOWN, ConditionCause(
                "NoDeliveriesYet", "no delivery has come in yet; `reconciler ping` asks for one"
            )
        return ConditionStatus.TRUE, ConditionCause("Delivered", "deliveries arrive and are verified")

    def _delivering_apps(self) -> dict[ResourceId, tuple[ConditionStatus, ConditionCause]]:
        """Return the conditions of sources whose App's webhook was refused, or never heard of."""
        conditions = {}
        for uid, endpoint in self._apps.endpoints().items():
            refused, heard = self._apps.refused.get(uid), self._apps.heard.get(uid)
            for source in endpoint.sources.keys() - endpoint.leaving:
                if refused is not None and (heard is None or refused[0] > heard):
                    why = "SignatureMissing" if refused[1].startswith("unsigned") else "SignatureRefused"
                    message = f"the newest delivery of the App's webhook ({iso(refused[0])}) was refused: {refused[1]}"
                    conditions[source] = ConditionStatus.FALSE, ConditionCause(why, message)
                elif source not in self._intake.heard:
                    message = (
                        "the App's webhook delivers; no event of this source has come in yet"
                        if heard is not None
                        else f"no delivery of the App's webhook has come in yet; its path is /hooks/apps/{self._current.context.owner}/{uid}"
                    )
                    conditions[source] = ConditionStatus.UNKNOWN, ConditionCause("NoDeliveriesYet", message)
        return conditions

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
            last |= await store.last_executions([stage.id.path for stage in stages[start : start + STAGES_AT_ONCE]])
        return tuple(stage_view(stage, counts.get(stage.id.path, {}), last.get(stage.id.path)) for stage in stages)
