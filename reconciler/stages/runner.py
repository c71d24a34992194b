"""One step of an execution: start it, find it again, look at it, end it. Safe to run twice, and at any time after a crash.

The intent is stored before the call and the run's id after it; in doubt the provider is asked for the run that carries the
execution's id, and nothing is started again before its absence is proved. What a run is like is always read from the provider:
an event only says "look now".
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable

from reconciler.engine.current import Current
from reconciler.manifests.codec import resource_from_json
from reconciler.model.errors import NotImplementedYet, ReconcilerError, StateError
from reconciler.model.executions import EndReason, ExecutionState, Result
from reconciler.stages.context import Stepping, Work
from reconciler.stages.exclusion import Guard, exclusive
from reconciler.stages.executors import ExecutorResolver
from reconciler.stages.finish import Ended
from reconciler.stages.poll import Following
from reconciler.stages.start import Starting
from reconciler.state.values import FenceLost

STEP_S = 240.0
"""No step takes longer; one that hangs is put off."""
QUARANTINE = 5
LEASE_S = 300.0


class Steps:
    """Runs steps of executions; one at a time for each execution, over all processes."""

    def __init__(self, current: Current, reach: ExecutorResolver, *, holder: str, on_change: Callable[[], None]) -> None:
        self._current = current
        self._context = current.context
        self._reach = reach
        self._holder = holder
        self._on_change = on_change
        self.tools = Stepping(current, reach)
        self._following = Following(self.tools)
        self._starting = Starting(self.tools, self._following.follow)
        self._locks: dict[str, asyncio.Lock] = {}

    async def step(self, execution_id: str) -> None:
        """Do what is due for one execution; returns when it is stored. Never raises for what a provider does."""
        lock = self._locks.setdefault(execution_id, asyncio.Lock())
        if lock.locked():
            return  # a step is under way: it leaves the time of the next one
        try:
            async with lock, exclusive(self._context, f"execution/{execution_id}", self._holder, LEASE_S) as guard:
                if guard is None:
                    return
                with contextlib.suppress(FenceLost):
                    await self._guarded(execution_id, guard)
        finally:
            self._locks.pop(execution_id, None)
        self._on_change()

    async def _guarded(self, execution_id: str, guard: Guard) -> None:
        """A step that hangs, or raises what nobody expected, is put off; after `QUARANTINE` times its execution is given up."""
        try:
            async with asyncio.timeout(STEP_S):
                await self._step(execution_id, guard)
        except (FenceLost, StateError):
            raise
        except Exception as error:
            self._context.log.exception("step_failed", execution=execution_id, code="RC9001", error=type(error).__name__)
            await self._put_off(execution_id, error)

    async def _put_off(self, execution_id: str, error: Exception) -> None:
        store = self._context.store
        execution = await store.execution(execution_id)
        if execution is None or execution.state is ExecutionState.FINISHED:
            return
        message = error.message if isinstance(error, ReconcilerError) else f"a defect of this program: {type(error).__name__}"
        now = await store.now()
        if execution.failures + 1 >= QUARANTINE:
            await self.tools.ending.abandon(execution, now, message)
            return
        put_off = dataclasses.replace(
            execution, failures=execution.failures + 1, message=message, next_at=now + self.tools.pause(execution.failures)
        )
        await store.save_execution(put_off)

    async def _step(self, execution_id: str, guard: Guard) -> None:
        work = await self._load(execution_id)
        if work is None:
            return
        if work.execution.state is ExecutionState.FINISHED:
            await self._following.look_again(work)
        elif work.execution.state is ExecutionState.STARTING:
            await self._starting.start(work, guard)
        else:
            await self._following.follow(work)

    async def _load(self, execution_id: str) -> Work | None:
        store = self._context.store
        execution = await store.execution(execution_id)
        if execution is None:
            return None
        item = await store.item(execution.item_id)
        pinned = await store.pinned(execution.spec_digest)
        now = await store.now()
        if execution.state is ExecutionState.FINISHED and (item is None or pinned is None or not execution.next_at):
            return None
        if item is None or pinned is None:
            await self.tools.ending.abandon(execution, now, "its item or pinned configuration is gone from the state")
            return None
        stage = resource_from_json(pinned)
        try:
            return Work(execution, item, stage, self._reach.executor(stage), now)
        except NotImplementedYet as error:
            await self.tools.ending.end(execution, item, stage, Ended(Result.FAILED, EndReason.ERROR, error.message), now)
            return None
