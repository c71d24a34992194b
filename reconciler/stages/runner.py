"""Runs executions step by step. A step is idempotent: it may run twice, and at any time after a crash.

To follow an execution from admitted to reported, read four files in this order:

1. `start.start`: an admitted execution (`admission.decide`) is ``starting``. The intent is stored before the call, and the run
   after it. If the outcome is unknown, the provider is searched for the run with the execution's id, and nothing is started again
   before its absence is proved. With its run stored the execution is ``running``.
2. `poll.poll`: the run is read from the provider until it has ended; it is cancelled there on request or after the timeout.
3. `finish.finish`: the end is stored in one commit with all that follows: ``finished``, and a retry or an event for later stages.
4. `reports.ReportLoop`: the statuses that 1 and 3 stored are written back to the code host.

`StageRunner.step` below chooses what is next from the execution's state. `start` and `poll` return a `StepOutcome`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable

from reconciler.engine.current import Current
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import NotImplementedYet, ReconcilerError, StateError
from reconciler.model.executions import EndReason, Execution, ExecutionState, Result
from reconciler.stages.context import Ended, StepContext, StepOutcome, Work
from reconciler.stages.exclusion import Guard
from reconciler.stages.executors import ExecutorResolver
from reconciler.stages.finish import abandon, finish
from reconciler.stages.poll import poll, poll_finished
from reconciler.stages.start import start
from reconciler.stages.traces import execution_context
from reconciler.state.values import FenceLost
from reconciler.tracing import within

STEP_S = 240.0
"""A step that takes longer is postponed."""
MOST_FAILURES = 5
"""An execution with so many failed steps in a row is abandoned."""


class StageRunner:
    """Runs steps of executions. The caller holds the lease of the execution."""

    def __init__(self, current: Current, executors: ExecutorResolver, *, on_change: Callable[[], None]) -> None:
        self._context = current.context
        self._steps = StepContext(current, executors)
        self._on_change = on_change
        self.on_end: Callable[[Execution], None] | None = None
        """Called with every execution that has finished."""

    async def step(self, execution_id: str, guard: Guard) -> None:
        """Run the next step of an execution under its lease, and store the result. Errors of a provider are stored, not raised."""
        with contextlib.suppress(FenceLost):
            await self._bounded(execution_id, guard)
        self._on_change()

    async def _bounded(self, execution_id: str, guard: Guard) -> None:
        """Run the step; one that hangs or raises an unexpected error is postponed."""
        try:
            async with asyncio.timeout(STEP_S):
                work = await self._load(execution_id)
                if work is not None:
                    with within(execution_context(self._context.tracer, work.item, execution_id)):
                        await self._advance(work, guard)
        except (FenceLost, StateError):
            raise
        except Exception as error:
            self._context.log.exception("step_failed", execution=execution_id, code="RC9001", error=type(error).__name__)
            await self._postpone(execution_id, error)

    async def _load(self, execution_id: str) -> Work | None:
        """Return the input of the step; None if nothing is left to do."""
        store = self._context.store
        execution = await store.execution(execution_id)
        if execution is None:
            return None
        item = await store.item(execution.item_id)
        snapshot = await store.pinned(execution.spec_digest)
        if item is not None and snapshot is not None:
            again = execution.state is not ExecutionState.FINISHED or execution.next_at
            return Work(execution, item, resource_from_json(snapshot), await store.now()) if again else None
        if execution.state is not ExecutionState.FINISHED:
            await abandon(self._context, execution, "its item or its stage's snapshot is gone from the state")
        elif execution.next_at:
            await store.save_execution(dataclasses.replace(execution, next_at=0.0))
        return None

    async def _advance(self, work: Work, guard: Guard) -> None:
        if work.execution.state is ExecutionState.FINISHED:
            await poll_finished(self._steps, work)
            return
        outcome = await self._outcome(work, guard)
        if outcome.ended is not None:
            await self._finish(outcome.work, outcome.ended)

    async def _outcome(self, work: Work, guard: Guard) -> StepOutcome:
        try:
            self._steps.executor(work)
        except NotImplementedYet as error:
            return StepOutcome(work, Ended(Result.FAILED, EndReason.ERROR, error.message))
        if work.execution.state is not ExecutionState.STARTING:
            return await poll(self._steps, work)
        outcome = await start(self._steps, work, guard)
        return await poll(self._steps, outcome.work) if outcome.poll_now else outcome

    async def _finish(self, work: Work, ended: Ended) -> None:
        finished = await finish(self._context, work, ended)
        if self.on_end is not None:
            self.on_end(finished)
        await self._steps.log(
            "execution_finished",
            finished,
            outcome=finished.result.value if finished.result else "",
            reason=finished.why.value if finished.why else "",
            duration_ms=round((finished.finished_at - finished.created_at) * 1000),
        )

    async def _postpone(self, execution_id: str, error: Exception) -> None:
        store = self._context.store
        execution = await store.execution(execution_id)
        if execution is None or execution.state is ExecutionState.FINISHED:
            return
        message = error.message if isinstance(error, ReconcilerError) else f"a defect of this program: {type(error).__name__}"
        if execution.failures + 1 >= MOST_FAILURES:
            await abandon(self._context, execution, message)
            return
        next_at = await store.now() + self._steps.pause_s(execution.failures)
        await store.save_execution(
            dataclasses.replace(execution, failures=execution.failures + 1, message=message, next_at=next_at)
        )


__all__ = ["StageRunner"]
