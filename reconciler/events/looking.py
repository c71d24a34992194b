"""What the statuses show of events and stages: are deliveries coming in, can a stage run, what waits and what ran last."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence

from reconciler.engine.conditions import Finding
from reconciler.engine.live import Live
from reconciler.engine.passes import Engine
from reconciler.engine.reporting import Outside, iso
from reconciler.events.endpoints import Endpoint
from reconciler.events.intake import Intake
from reconciler.events.sweep import Sweep
from reconciler.model.errors import NotImplementedYet
from reconciler.model.executions import Execution
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.status import ConditionStatus
from reconciler.stages.reach import Reach
from reconciler.stages.views import stage_view

_EVENT_KINDS = frozenset({Kind.STAGE.value, Kind.CONNECTION_GROUP.value, Kind.EVENT_SOURCE.value})

STAGES_AT_ONCE = 100


class Looking:
    """Answers `Engine.look_outside`."""

    def __init__(self, engine: Engine, intake: Intake, sweep: Sweep, reach: Reach) -> None:
        self._engine = engine
        self._intake = intake
        self._sweep = sweep
        self._reach = reach
        self._stages: Sequence[Resource] = ()
        self._stages_of: Live | None = None

    async def look(self, before: Outside | None) -> Outside:
        """Return what is known now; with ``before``, of single resources what it says: nothing shows them before the next pass."""
        live = self._engine.live
        if self._stages_of is not live:
            self._stages_of = live
            self._stages = sorted(
                (one for one in live.resources.values() if one.id.kind == Kind.STAGE.value), key=lambda one: one.id
            )
        if before is None:
            before = await asyncio.to_thread(self._singly, live, self._stages, self._intake.endpoints())
        pending = await self._engine.deps.db(self._engine.deps.store.pending_count)
        return dataclasses.replace(before, stages=await self._rows(self._stages), pending=pending)

    def _singly(self, live: Live, stages: Sequence[Resource], endpoints: Mapping[str, Endpoint]) -> Outside:
        """Return what is known of single resources. On a thread: there may be thousands of them."""
        resources = live.resources
        delivering = {endpoint.source.id: self._delivering(endpoint.source.id) for endpoint in endpoints.values()}
        stalled = {one.id: finding for one in stages if (finding := self._stalled(one)) is not None}
        suspended = {
            one.id: reason
            for one in resources.values()
            if one.id.kind in _EVENT_KINDS and (reason := self._engine.suspended(one))
        }
        return Outside(delivering, stalled, suspended)

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

    async def _rows(self, stages: Sequence[Resource]) -> tuple[dict[str, object], ...]:
        store, db = self._engine.deps.store, self._engine.deps.db
        if not stages:
            return ()
        counts = await db(store.counts)
        last: dict[str, Execution] = {}
        for start in range(0, len(stages), STAGES_AT_ONCE):
            last |= await db(store.last_executions, [one.id.path for one in stages[start : start + STAGES_AT_ONCE]])
        return tuple(stage_view(one, counts.get(one.id.path, {}), last.get(one.id.path)) for one in stages)
