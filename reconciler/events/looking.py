"""What the statuses show of events and stages: are deliveries coming in, can a stage run, what waits and what ran last."""

from __future__ import annotations

from reconciler.engine.conditions import Finding
from reconciler.engine.passes import Engine
from reconciler.engine.reporting import Outside, iso
from reconciler.events.intake import Intake
from reconciler.events.sweep import Sweep
from reconciler.model.errors import NotImplementedYet
from reconciler.model.events import EventState
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.status import ConditionStatus
from reconciler.stages.reach import Reach
from reconciler.stages.views import stage_view

_EVENT_KINDS = frozenset({Kind.STAGE.value, Kind.CONNECTION_GROUP.value, Kind.EVENT_SOURCE.value})


class Looking:
    """Answers `Engine.look_outside`."""

    def __init__(self, engine: Engine, intake: Intake, sweep: Sweep, reach: Reach) -> None:
        self._engine = engine
        self._intake = intake
        self._sweep = sweep
        self._reach = reach

    async def look(self) -> Outside:
        """Return what is known now."""
        resources = self._engine.live.resources
        stages = [one for one in resources.values() if one.id.kind == Kind.STAGE.value]
        delivering = {endpoint.source.id: self._delivering(endpoint.source.id) for endpoint in self._intake.endpoints().values()}
        stalled = {one.id: finding for one in stages if (finding := self._stalled(one)) is not None}
        suspended = {
            one.id: reason
            for one in resources.values()
            if one.id.kind in _EVENT_KINDS and (reason := self._engine.suspended(one))
        }
        states = (EventState.PENDING, EventState.FAILED, EventState.QUARANTINED)
        counts = await self._engine.deps.db(self._engine.deps.store.event_counts, states)
        pending, failed, quarantined = (counts[state] for state in states)
        rows = await self._rows(stages)
        return Outside(delivering, stalled, suspended, rows, pending, failed, quarantined)

    def _delivering(self, source: ResourceId) -> tuple[ConditionStatus, Finding]:
        heard, refused, swept = self._intake.heard.get(source), self._intake.refused.get(source), self._sweep.last.get(source)
        if refused is not None and (heard is None or refused[0] > heard.at):
            why = "SignatureMissing" if refused[1].startswith("unsigned") else "SignatureRefused"
            return ConditionStatus.FALSE, Finding(why, f"the newest delivery ({iso(refused[0])}) was refused: {refused[1]}")
        if swept is not None and (swept.failed or swept.missed > swept.redelivered + swept.recovered):
            return ConditionStatus.FALSE, Finding(
                "DeliveriesMissed", f"{swept.missed} deliveries were missed; they are looked for again"
            )
        if heard is None:
            return ConditionStatus.UNKNOWN, Finding("NothingHeard", "no delivery has come in yet; `reconciler ping` asks for one")
        return ConditionStatus.TRUE, Finding("Delivered", "deliveries come in and are proved")

    def _stalled(self, stage: Resource) -> Finding | None:
        try:
            self._reach.executor(stage)
        except NotImplementedYet as error:
            return Finding("NotImplemented", f"{error.message}. {error.hint}".strip())
        for reference in stage.references:
            result = self._engine.view.results.get(reference) if reference.kind == Kind.INTEGRATION.value else None
            if result is not None and isinstance(result.error, NotImplementedYet):
                return Finding("NotImplemented", f"{reference}: {result.error.message}")
        return None

    async def _rows(self, stages: list[Resource]) -> tuple[dict[str, object], ...]:
        store, db = self._engine.deps.store, self._engine.deps.db
        if not stages:
            return ()
        counts = await db(store.counts)
        last = await db(store.last_executions, [one.id.path for one in stages])
        return tuple(
            stage_view(one, counts.get(one.id.path, {}), last.get(one.id.path)) for one in sorted(stages, key=lambda one: one.id)
        )
