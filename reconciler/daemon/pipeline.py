"""The event pipeline of one process: inbox → filters → queues → executions → reports.

It is a part of the composition root (`reconciler.daemon.session`): objects with side effects are created here and passed down.
`reconciler.engine.loop.Loop` runs the loops beside its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reconciler.engine.current import Current
from reconciler.engine.evaluator import Evaluator
from reconciler.engine.grants import go_on
from reconciler.engine.lease import Lease
from reconciler.engine.measurements import Measurements
from reconciler.engine.queue import WorkQueue
from reconciler.engine.view import EventStatus
from reconciler.events.app_intake import AppIntake
from reconciler.events.app_recovery import AppRecovery
from reconciler.events.commands import Commands
from reconciler.events.dispatcher import Dispatcher
from reconciler.events.evaluation import MODULE, EventEvaluator
from reconciler.events.group_commit import Writer
from reconciler.events.intake import Intake
from reconciler.events.recovery import Recovery
from reconciler.events.schedules import ScheduleSource
from reconciler.events.status import EventStatusReader
from reconciler.model.errors import ReconcilerError
from reconciler.model.resources import ResourceId
from reconciler.notifications.delivery import with_deliveries
from reconciler.notifications.outbox import NotificationOutbox
from reconciler.stages.exclusion import guard_of
from reconciler.stages.executors import ExecutorResolver
from reconciler.stages.logs import LogReader
from reconciler.stages.loop import StageLoop
from reconciler.stages.outputs import OutputReceiver
from reconciler.stages.reports import ReportLoop
from reconciler.stages.runner import StageRunner
from reconciler.state.claims import Claim

FIRST_SWEEP_S = 5.0
SAVE_EVERY_S = 10.0
Touch = Callable[..., None]
"""Publish soon; ``statuses=True`` computes them first."""
Beat = Callable[[str, float], None]
"""(name of the loop, seconds until its next beat is due)."""


def keep_still() -> None:
    """Exclude the present objects, mostly those of libraries, from cyclic garbage collection.

    A full collection stops the process for 50 ms or more, and deliveries wait. Objects that were frozen before a reload are collected
    first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class EventPipeline:
    """All components for events and stages in one process."""

    def __init__(self, current: Current, queue: WorkQueue, *, beat: Beat, touch: Touch) -> None:
        self._current = current
        self._queue = queue
        holder = queue.holder
        self._beat = beat
        self._touch = touch
        self._evaluator = Evaluator(MODULE)
        evaluator = EventEvaluator(self._evaluator)
        self.executors = executors = ExecutorResolver(current, evaluator.holds)
        self._writer = writer = Writer(current.context)
        self.intake = Intake(
            current, writer, on_event=lambda: self.dispatcher.wake(), on_health_change=lambda: touch(statuses=True)
        )
        self.apps = AppIntake(current, self.intake, on_reach=self._look_again)
        self.runner = StageRunner(current, executors, on_change=self._changed)
        self.stages = StageLoop(
            current,
            ReportLoop(current, executors, holder=holder),
            on_due=queue.wake,
            beat=lambda: beat("stages", 60.0),
        )
        self.dispatcher = Dispatcher(
            current,
            evaluator,
            holder=holder,
            on_queued=self._queued,
            on_trouble=lambda: touch(statuses=True),
            beat=lambda: beat("events", 300.0),
            under_load=lambda: writer.under_load,
        )
        self.schedules = ScheduleSource(current, on_event=self.dispatcher.wake, beat=lambda: beat("schedules", 60.0))
        self.recovery = Recovery(current, self.intake, AppRecovery(current, self.apps), holder=holder)
        self.logs = LogReader(current, executors)
        self.outbox = NotificationOutbox(
            current,
            holder=holder,
            on_change=lambda: touch(statuses=True),
            beat=lambda: beat("outbox", 60.0),
        )
        self.event_status = EventStatusReader(current, self.intake, self.apps, self.recovery, executors)
        self.measurements = Measurements(current.context, beat=beat)
        self.pushing = OutputReceiver(current, executors)
        self.commands = Commands(current, self.recovery, self.apps, wake_events=self.dispatcher.wake, wake_stages=self._queued)

    def under_load(self, urgent: bool) -> bool:  # noqa: FBT001  a callback with one argument
        """Whether deliveries are arriving for which other work should wait; ``urgent`` work waits only for a burst."""
        return self._writer.under_load if urgent else self._writer.is_busy

    async def step(self, claim: Claim, lease: Lease) -> None:
        """Run a claimed step of an execution."""
        await self.runner.step(claim.key, guard_of(self._current.context, lease))

    async def _look_again(self, integrations: tuple[ResourceId, ...]) -> None:
        """Reconcile at once: an App reported that it may do or see something else now."""
        await go_on(self._current, integrations)
        await self._queue.request(integrations, explicit=True)
        self._queued()

    def _queued(self) -> None:
        """An item was queued or approved, or an execution became due."""
        self.stages.wake()
        self._queue.wake()
        self._touch()

    def _changed(self) -> None:
        """A step is done: its end may have made an event, freed a place, or left a status to write."""
        self.stages.wake()
        self.dispatcher.wake()
        self._touch()

    async def read_status(self, before: EventStatus | None) -> EventStatus:
        """Return the status of events, stages and notifications; see `EventStatusReader.read`."""
        status = await self.event_status.read(before)
        return await with_deliveries(self._current, status) if before is None else status

    def loops(self) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        """Return the loops to run, by name."""
        return {
            "events": self.dispatcher.run,
            "stages": self.stages.run,
            "schedules": self.schedules.run,
            "sweep": self._sweeping,
            "intake": self._saving,
            "outbox": self.outbox.run,
            **self.measurements.loops(),
        }

    def drain(self) -> None:
        """Start nothing new. Runs at providers continue, and the next process follows them."""
        self.stages.drain()
        self.outbox.drain()

    def close(self) -> None:
        """End the worker process."""
        self._evaluator.close()

    async def _sweeping(self) -> None:
        """Look for missed deliveries soon after the start, then at every interval."""
        interval = self._current.context.config.reconcile.interval
        pause = min(FIRST_SWEEP_S, interval)
        while True:
            self._beat("sweep", pause * 2 + 1800)
            await asyncio.sleep(pause)
            if self._current.active.empty:
                continue
            try:
                await self.recovery.run()
            except ReconcilerError as error:
                self._current.context.log.error("recovery_listing_failed", code=error.code, error=error.message)
            pause = self.recovery.pause(interval)

    async def _saving(self) -> None:
        with contextlib.suppress(ReconcilerError):
            await self.intake.load()
        kept = False
        while True:
            self._beat("intake", 120.0)
            await asyncio.sleep(SAVE_EVERY_S)
            if not kept and not self._current.active.empty:
                kept = True
                keep_still()
            try:
                await self.intake.save()
            except ReconcilerError as error:
                self._current.context.log.error("intake_not_saved", code=error.code, error=error.message)
