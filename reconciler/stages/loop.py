"""The loop of the stages: admit queued items, send due statuses. Level-triggered: everything is read from the state."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

from reconciler.engine.current import Current
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import StateError
from reconciler.model.executions import Item, Vote
from reconciler.model.resources import Resource, ResourceId
from reconciler.stages.admission import Settings, decide, settings_of
from reconciler.stages.identity import refused
from reconciler.stages.reports import ReportLoop
from reconciler.stages.traces import execution_context, item_context, waits_of
from reconciler.state.queue import Admission
from reconciler.tracing import within
from reconciler.wakeup import wait_at_most

IDLE_S = 1.0
LOG_S = 60
"""The same failure of a stage is logged once in this time."""


class StageLoop:
    """Drives the queues of one process; any number of processes may run it on one state."""

    def __init__(self, current: Current, reports: ReportLoop, *, on_due: Callable[[], None], beat: Callable[[], None]) -> None:
        self._current = current
        self._reports = reports
        self._on_due = on_due
        """Called when an execution became due."""
        self._beat = beat
        self._wake = asyncio.Event()
        self._reporting: asyncio.Task[int] | None = None
        self._draining = False
        self._failed: dict[ResourceId, float] = {}

    def wake(self) -> None:
        """Start the next turn now: an item was queued or approved, or an execution has changed."""
        self._wake.set()

    def drain(self) -> None:
        """Start nothing new. Runs at providers continue, and the next process polls them."""
        self._draining = True

    async def run(self) -> None:
        """Run for ever."""
        while True:
            self._beat()
            self._wake.clear()
            try:
                await self.turn()
            except StateError as error:
                self._current.context.log.error("stages_paused", code=error.code, error=error.message)
            await wait_at_most(self._wake, IDLE_S)

    async def turn(self) -> None:
        """Admit queued items, and send due statuses."""
        if self._draining:
            return
        await self._current.refresh_suspensions()
        for stage in await self._current.context.store.stages_with_items():
            await self._admit_guarded(stage)
        self._report()

    async def _admit_guarded(self, stage: ResourceId) -> None:
        """Admit one stage; an error there does not stop the others, and is logged once a minute."""
        try:
            await self._admit(stage)
        except StateError:
            raise
        except Exception as error:
            now = time.monotonic()
            if now - self._failed.get(stage, -LOG_S) >= LOG_S:
                self._failed[stage] = now
                self._current.context.log.exception(
                    "stage_failed", kind="Stage", name=stage.name, canvas=stage.canvas, code="RC9001", error=type(error).__name__
                )

    async def _admit(self, stage: ResourceId) -> Admission:
        context, live = self._current.context, self._current.active
        resource = live.resources.get(stage)
        if resource is None and not live.complete:
            return Admission()  # whether the stage is still declared is unknown: nothing starts, nothing is discarded
        suspended = self._current.suspended(resource) if resource is not None else ""
        refusal = await refused(self._current, resource) if resource is not None else ""
        settings = settings_of(resource, suspended, refusal)
        queued = await context.store.candidates(stage)
        snapshots = await self._snapshots(queued)

        def choose(items: Sequence[Item], running: int, votes: Mapping[str, Sequence[Vote]]) -> Admission:
            # The time is read under the lock: a process that was paused before has an old one.
            now = context.store.sync.now()
            admission = decide(items, running, votes, settings=settings, snapshots=snapshots, now=now)
            if not context.tracer.on:
                return admission
            spans = waits_of(context.tracer, admission, items, votes, snapshots=snapshots, now=now)
            return dataclasses.replace(admission, spans=tuple(spans))

        admission = await context.store.admit(stage, choose)
        if admission.start:
            self._on_due()
        self._log_admission(stage, admission, {item.id: item for item in queued})
        return admission

    def _log_admission(self, stage: ResourceId, admission: Admission, items: Mapping[str, Item]) -> None:
        log, tracer = self._current.context.log, self._current.context.tracer
        names = {"kind": "Stage", "name": stage.name, "canvas": stage.canvas}
        for execution in admission.start:
            item = items.get(execution.item_id)
            with within(execution_context(tracer, item, execution.id) if item is not None else None):
                log.info("execution_created", **names, execution=execution.id, item=execution.item_id)
        for item_id, (reason, message) in admission.discard.items():
            item = items.get(item_id)
            with within(item_context(tracer, item) if item is not None else None):
                log.info("item_discarded", **names, item=item_id, reason=reason, error=message)

    async def _snapshots(self, items: list[Item]) -> dict[str, Resource]:
        context = self._current.context
        snapshots: dict[str, Resource] = {}
        for digest in {item.spec_digest for item in items}:
            payload = await context.store.pinned(digest)
            if payload is not None:
                snapshots[digest] = resource_from_json(payload)
        return snapshots

    def _report(self) -> None:
        """Send statuses in a task of their own: a slow code host delays no stage."""
        if self._reporting is None or self._reporting.done():
            if self._reporting is not None and not self._reporting.cancelled() and self._reporting.exception() is not None:
                self._current.context.log.error("reports_failed", error=type(self._reporting.exception()).__name__)
            self._reporting = asyncio.create_task(self._reports.send_due())


__all__ = ["Settings", "StageLoop"]
