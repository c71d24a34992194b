"""The stages' loop: what waits is admitted, what is due is stepped, what is open is reported. Level-triggered, from the state."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from reconciler.engine.current import Current
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import StateError
from reconciler.model.executions import Item
from reconciler.model.resources import Resource, ResourceId
from reconciler.stages.admission import Settings, decide, settings_of
from reconciler.stages.reports import ReportLoop
from reconciler.state.queue import Admission

BATCH = 200
IDLE_S = 1.0
SLOT_S = 60
"""A step that was asked for, and did not come to pass, is asked for again after this long."""
Enqueue = Callable[[str, str], Awaitable[str]]
"""(execution id, token) → workflow id; the same pair twice is one step."""


class StageLoop:
    """Drives the queues of one process; any number of processes may run it on one state."""

    def __init__(self, current: Current, reports: ReportLoop, *, enqueue: Enqueue, beat: Callable[[], None]) -> None:
        self._current = current
        self._reports = reports
        self._enqueue = enqueue
        self._beat = beat
        self._wake = asyncio.Event()
        self._asked: dict[str, tuple[int, float]] = {}
        self._reporting: asyncio.Task[int] | None = None
        self._draining = False
        self._turned = 0
        self._failed: dict[ResourceId, float] = {}

    def wake(self) -> None:
        """Look at once: something was queued, approved, hinted at or has ended."""
        self._wake.set()

    def drain(self) -> None:
        """Start nothing new; what runs outside runs on, and is followed by the next process."""
        self._draining = True

    async def run(self) -> None:
        """Run for ever."""
        while True:
            self._beat()
            self._wake.clear()
            pause = IDLE_S
            try:
                pause = await self.turn()
            except StateError as error:
                self._current.context.log.error("stages_paused", code=error.code, error=error.message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    async def turn(self) -> float:
        """Do what is due; returns for how long nothing else is (seconds)."""
        context = self._current.context
        if self._draining:
            return IDLE_S
        turned = await self._current.check_clock()
        if turned != self._turned:
            self._turned = turned
            self._asked.clear()
        await self._current.refresh_suspensions()
        for stage in await context.store.stages_with_items():
            await self._admit_guarded(stage)
        now = await context.store.now()
        for execution_id, version in await context.store.due_executions(now, BATCH):
            await self._step(execution_id, version, now)
        self._report()
        soonest = await context.store.next_due()
        return max(0.02, min(IDLE_S, soonest - now)) if soonest > now else IDLE_S

    async def _admit_guarded(self, stage: ResourceId) -> None:
        """One stage that fails keeps no other from starting; it is said once a minute."""
        try:
            await self._admit(stage)
        except StateError:
            raise
        except Exception as error:
            now = time.monotonic()
            if now - self._failed.get(stage, -SLOT_S) >= SLOT_S:
                self._failed[stage] = now
                self._current.context.log.exception(
                    "stage_failed", kind="Stage", name=stage.name, canvas=stage.canvas, code="RC9001", error=type(error).__name__
                )

    async def _admit(self, stage: ResourceId) -> Admission:
        context, live = self._current.context, self._current.active
        resource = live.resources.get(stage)
        if resource is None and not live.complete:
            return Admission()  # whether it is still declared is not known: nothing starts, nothing is discarded
        settings = settings_of(resource, self._current.suspended(resource) if resource is not None else "")
        queued = await context.store.candidates(stage)
        pinned = await self._pinned(queued)

        def choose(items: object, running: int, votes: object) -> Admission:
            # The time is asked for once nobody else decides: whoever stood still before that knows an old one.
            now = context.store.sync.now()
            return decide(items, running, votes, settings=settings, pinned=pinned, now=now)  # type: ignore[arg-type]

        admission = await context.store.admit(stage, choose)
        for one in admission.start:
            context.log.info(
                "execution_created", kind="Stage", name=stage.name, canvas=stage.canvas, execution=one.id, item=one.item_id
            )
        for item_id, (reason, message) in admission.discard.items():
            context.log.info(
                "item_discarded", kind="Stage", name=stage.name, canvas=stage.canvas, item=item_id, reason=reason, error=message
            )
        return admission

    async def _pinned(self, items: list[Item]) -> dict[str, Resource]:
        context = self._current.context
        found: dict[str, Resource] = {}
        for digest in {one.spec_digest for one in items}:
            payload = await context.store.pinned(digest)
            if payload is not None:
                found[digest] = resource_from_json(payload)
        return found

    async def _step(self, execution_id: str, version: int, now: float) -> None:
        asked = self._asked.get(execution_id)
        if asked is not None and asked[0] == version and now - asked[1] < SLOT_S:
            return
        self._asked[execution_id] = (version, now)
        if len(self._asked) > 10_000:
            self._asked = {key: value for key, value in self._asked.items() if now - value[1] < SLOT_S}
        await self._enqueue(execution_id, f"{version}-{int(now // SLOT_S)}")

    def _report(self) -> None:
        """Write statuses beside all else: a slow code host holds up no stage."""
        if self._reporting is None or self._reporting.done():
            if self._reporting is not None and not self._reporting.cancelled() and self._reporting.exception() is not None:
                self._current.context.log.error("reports_failed", error=type(self._reporting.exception()).__name__)
            self._reporting = asyncio.create_task(self._reports.send_due())


__all__ = ["Settings", "StageLoop"]
