"""The daemon's loops: poll Git, reconcile what the work queue claims, watch the clock, publish the status. Level-triggered throughout.

A trigger (commit, command, signal) only requests to reconcile an integration; requests for the same one are combined.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.engine.context import Context
from reconciler.engine.controller import Controller
from reconciler.engine.lease import Lease
from reconciler.engine.queue import WorkQueue
from reconciler.failpoints import failpoint
from reconciler.model.backoff import exponential, jittered
from reconciler.model.errors import StateError, storage_error
from reconciler.model.resources import ResourceId
from reconciler.state.claims import Claim
from reconciler.wakeup import wait_at_most

PUBLISH_S = 0.3
"""Results of reconciles that end within this time are published together."""
PAUSE_S = 1.0
CLOCK_S = 1.0
STALL_S = 60.0
"""A loop without progress for this long is dead: the process is unhealthy."""


async def _forever(name: str, loop: Callable[[], Awaitable[Any]], log: Any) -> None:
    """Run a loop, and restart it every second while the database is away. Meanwhile nothing is decided, and nothing is lost."""
    while True:
        try:
            await loop()
            return
        except (StateError, OSError) as raised:
            error = storage_error(raised, raised.filename or "a file") if isinstance(raised, OSError) else raised
            log.error("loop_stalled", action=name, code=error.code, error=error.message)
            await asyncio.sleep(PAUSE_S)


@dataclass(slots=True)
class Beats:
    """When each loop made progress last (monotonic seconds). Liveness and the watchdog use it."""

    last: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)

    def beat(self, name: str, now: float, limit_s: float = STALL_S) -> None:
        """Record progress of the loop ``name``; ``limit_s``: how long it may take until the next time."""
        self.last[name], self.limits[name] = now, limit_s

    def ages(self, now: float) -> dict[str, tuple[float, float]]:
        """Return the seconds since the last progress of each loop, and its limit."""
        return {name: (now - at, self.limits[name]) for name, at in dict(self.last).items()}

    def dead(self, now: float) -> list[str]:
        """Return the loops that have made no progress in time."""
        return [name for name, at in dict(self.last).items() if now - at > self.limits[name]]


class Loop:
    """Runs a `Controller` until a signal."""

    def __init__(
        self,
        controller: Controller,
        queue: WorkQueue,
        deps: Context,
        *,
        publish: Callable[[], Any],
        monotonic: Callable[[], float],
    ) -> None:
        self.controller = controller
        self.beats = Beats()
        self.first_pass_done = False
        self.more: Mapping[str, Callable[[], Awaitable[Any]]] = {}
        """Further loops of the process, by name; one that ends takes the process with it."""
        self.on_clock_step: Callable[[], None] = lambda: None
        """Called when the clock was set back."""
        self.on_sync: Callable[[bool, float], None] = lambda _succeeded, _seconds: None
        """Called after every look at the source: whether it succeeded, and how long it took."""
        self._queue = queue
        self._deps = deps
        self._publish = publish
        self._monotonic = monotonic
        self._dirty = asyncio.Event()
        self._news = asyncio.Event()
        self._poll_now = asyncio.Event()
        self._failed_syncs = 0
        self._clock_steps = 0

    # -- triggers ---------------------------------------------------------------------------------------------------

    def poll_now(self) -> None:
        """Poll Git at once."""
        self._poll_now.set()

    def touch(self, *, statuses: bool = False) -> None:
        """Publish soon; ``statuses``: compute them first."""
        if statuses:
            self._dirty.set()
        self._news.set()

    async def trigger(
        self, integrations: Iterable[ResourceId] | None = None, *, force: bool = False, explicit: bool = False, token: str = ""
    ) -> None:
        """Request a reconcile of each integration (default: all); see `WorkQueue.request`."""
        todo = await self.controller.integrations() if integrations is None else integrations
        await self._queue.request(todo, token=token, force=force, explicit=explicit)

    async def reconcile(self, claim: Claim, lease: Lease) -> None:
        """Do a claimed reconcile. Raises `StateError` if its result could not be stored."""
        integration = ResourceId.from_path(claim.key)
        try:
            await self._sync_with_peers()
            result = await self.controller.reconcile_claimed(claim, lease)
            if isinstance(result.error, StateError):
                raise result.error
            if integration not in await self.controller.integrations():
                await self._deps.store.drop_request(integration, claim.number)
        finally:
            self.touch(statuses=True)

    async def _sync_with_peers(self) -> None:
        """Read Git again if another process has activated another revision: one of them sees a commit first."""
        if self.controller.holder:
            valid = await self._deps.store.get_meta("revision.valid")
            if valid and valid != self.controller.current.active.revision:
                await self.controller.sync()

    # -- loops ------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop``. A loop that ends takes the process with it, so that a supervisor restarts it as a whole."""
        loops = [
            asyncio.create_task(_forever(name, loop, self._deps.log), name=name)
            for name, loop in (
                ("git", self._git),
                ("queue", self._queue.run),
                ("clock", self._clock),
                ("publish", self._publisher),
                ("watch", self._watch),
                *self.more.items(),
            )
        ]
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({stopping, *loops}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, *loops):
            task.cancel()
        await asyncio.gather(stopping, *loops, return_exceptions=True)
        for task in done - {stopping}:
            error = task.exception() if not task.cancelled() else None
            raise RuntimeError(f"the {task.get_name()} loop ended") from error

    async def _git(self) -> None:
        source = self._deps.config.source
        while True:
            self.beats.beat("git", self._monotonic(), source.interval * 2 + 300)
            failpoint("loop-git")
            began = self._monotonic()
            moved = await self.controller.sync()
            self.on_sync(self.controller.current.source.error is None, self._monotonic() - began)
            self._failed_syncs = 0 if self.controller.current.source.error is None else self._failed_syncs + 1
            if moved or not self.first_pass_done:
                # Processes that see the same commit request one reconcile; a process that starts requests its own.
                shared = moved and self.controller.holder and self.first_pass_done
                await self.trigger(force=moved, token=f"commit-{self.controller.current.active.revision}" if shared else "")
            self._queue.allow_reconciles()
            self.touch(statuses=True)
            await wait_at_most(self._poll_now, self._git_pause())
            self._poll_now.clear()

    def _git_pause(self) -> float:
        """Return the seconds until the next poll: the interval, or the back-off after failures, which is no longer than the interval."""
        interval, retry = self._deps.config.source.interval, self._deps.config.reconcile
        if not self._failed_syncs:
            return jittered(interval, 0.95, 1.05)
        longest = max(retry.retry_min, min(retry.retry_max, max(interval, 1.0)))
        return exponential(self._failed_syncs, retry.retry_min, longest)

    async def _watch(self) -> None:
        """Poll when a local folder changes; a remote repository sends no such event."""
        async for _ in self.controller.source.changes():
            self.poll_now()
        await asyncio.Event().wait()

    async def _clock(self) -> None:
        """Detect that the clock was set back: due times were pulled back with it, and periods start again."""
        while True:
            self.beats.beat("clock", self._monotonic())
            try:
                clock_steps = await self.controller.current.check_clock()
            except StateError as error:
                self._deps.log.error("clock_not_saved", code=error.code, error=error.message)
            else:
                if clock_steps != self._clock_steps:
                    self._clock_steps = clock_steps
                    self.on_clock_step()
                    self._queue.wake()
            await asyncio.sleep(CLOCK_S)

    async def _publisher(self) -> None:
        while True:
            self.beats.beat("publish", self._monotonic())
            heartbeat = min(self._deps.config.status.heartbeat, STALL_S / 3)
            await wait_at_most(self._news, heartbeat)
            if self._news.is_set():
                await asyncio.sleep(PUBLISH_S)
            dirty = self._dirty.is_set() or bool(self.controller.holder)
            self._dirty.clear()
            self._news.clear()
            if dirty:
                await self.controller.finish_pass()
                self.controller.log_summary()
                await self._note_first_pass()
            else:
                await self.controller.refresh_outside()
            await self._publish()

    async def _note_first_pass(self) -> None:
        if not self.first_pass_done and not self.controller.current.active.empty and self.controller.current.source.error is None:
            done = self.controller.seen_by_peers | self.controller.current.view.results.keys()
            self.first_pass_done = done.issuperset(await self.controller.integrations())
