"""The daemon's loop: Git is polled, due integrations are enqueued, findings are published. Level-triggered throughout.

A trigger (tick, commit, command, signal) carries nothing but "look again at X"; it coalesces with whatever waits already.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.engine.context import Context
from reconciler.engine.controller import Busy, Controller
from reconciler.engine.runtime import Runtime
from reconciler.failpoints import failpoint
from reconciler.model.errors import StateError, storage_error
from reconciler.model.resources import ResourceId

PUBLISH_S = 0.3
"""Findings of slices that end within this time are published together."""
BUSY_AGAIN_S = 2.0
PAUSE_S = 1.0
DUE_SLOT_S = 60.0
"""A slice that was asked for, and did not come to pass, is asked for again after this long."""
STALL_S = 60.0
"""A loop that has not come round for this long is dead: not healthy."""


async def _forever(name: str, loop: Callable[[], Awaitable[Any]], log: Any) -> None:
    """Run a loop, and restart it each second while the database is away: nothing is guessed meanwhile, and nothing is lost."""
    while True:
        try:
            await loop()
            return
        except (StateError, OSError) as found:
            error = storage_error(found, found.filename or "a file") if isinstance(found, OSError) else found
            log.error("loop_stalled", action=name, code=error.code, error=error.message)
            await asyncio.sleep(PAUSE_S)


@dataclass(slots=True)
class Beats:
    """When each loop came round last (monotonic seconds); what liveness and the watchdog look at."""

    last: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)

    def beat(self, name: str, now: float, limit_s: float = STALL_S) -> None:
        """Say that ``name`` came round; ``limit_s`` is how long it may take until the next time."""
        self.last[name], self.limits[name] = now, limit_s

    def dead(self, now: float) -> list[str]:
        """Return the loops that have not come round in time."""
        return [name for name, at in self.last.items() if now - at > self.limits[name]]


class Loop:
    """Drives a `Controller` for ever: the daemon's work between its signals."""

    def __init__(
        self,
        controller: Controller,
        runtime: Runtime,
        deps: Context,
        *,
        publish: Callable[[], Any],
        monotonic: Callable[[], float],
    ) -> None:
        self.controller = controller
        self.beats = Beats()
        self.first_pass_done = False
        self.metrics_slices = 0
        self._runtime = runtime
        self._deps = deps
        self._publish = publish
        self._monotonic = monotonic
        self._dirty = asyncio.Event()
        self._news = asyncio.Event()
        self._poll_now = asyncio.Event()
        self._waiting: set[ResourceId] = set()
        self._again: set[ResourceId] = set()
        self._force: set[ResourceId] = set()
        self._explicit: set[ResourceId] = set()
        self._failed_syncs = 0
        self._clock_steps = 0
        self.on_turned: Callable[[], None] = lambda: None
        """Called when the clock was set back."""
        self._number = 0
        self._asked_again: set[ResourceId] = set()
        self.more: Mapping[str, Callable[[], Awaitable[Any]]] = {}
        """Further loops of the process, by name; one that ends takes the process with it."""

    # -- triggers ---------------------------------------------------------------------------------------------------

    def poll_now(self) -> None:
        """Look at Git at once."""
        self._poll_now.set()

    def touch(self, *, statuses: bool = False) -> None:
        """Publish soon; ``statuses``: compute them first."""
        if statuses:
            self._dirty.set()
        self._news.set()

    async def trigger(
        self, integrations: Iterable[ResourceId] | None = None, *, force: bool = False, explicit: bool = False, token: str = ""
    ) -> None:
        """Ask for a slice of each (default: all); what is queued already is not queued twice, but run once more if it began.

        ``force``: what waits for its next try is tried now; ``explicit``: and what was refused for good. ``token``: peers that
        ask with the same one ask for one slice.
        """
        for one in await self.controller.integrations() if integrations is None else tuple(integrations):
            if force or explicit:
                self._force.add(one)
            if explicit:
                self._explicit.add(one)
            if one in self._waiting:
                self._again.add(one)
                continue
            self._waiting.add(one)
            self._number += 1
            now = await self._deps.store.now()
            await self._runtime.enqueue(one, token or f"{self._deps.actor.rpartition(':')[2]}-{int(now * 1000)}-{self._number}")

    async def run_slice(self, integration: ResourceId) -> None:
        """What a queued slice does in this process."""
        force, explicit = integration in self._force, integration in self._explicit
        self._force.discard(integration)
        self._explicit.discard(integration)
        self._again.discard(integration)
        try:
            await self._same_revision()
            result = await self.controller.slice(integration, ignore_backoff=force, explicit=explicit)
            if isinstance(result.error, Busy):  # what was asked for is not done: a peer works on what it saw before
                asyncio.get_running_loop().call_later(BUSY_AGAIN_S, self._soon, integration)
        finally:
            self.metrics_slices += 1
            self._waiting.discard(integration)
            self.touch(statuses=True)
            if integration in self._again:
                self._again.discard(integration)
                await self.trigger([integration])

    def _soon(self, integration: ResourceId) -> None:
        self.controller.current.view.next_at[integration] = 0.0
        self._asked_again.add(integration)

    async def _same_revision(self) -> None:
        """Among peers one sees a commit first: whoever works on a slice looks at Git again when it is not the one that is live here."""
        if self.controller.holder:
            known = await self._deps.store.get_meta("revision.valid")
            if known and known != self.controller.current.active.revision:
                await self.controller.sync()

    # -- loops ------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop``; a loop that dies takes the process with it, so that a supervisor starts a whole one."""
        loops = [
            asyncio.create_task(_forever(name, one, self._deps.log), name=name)
            for name, one in (
                ("git", self._git),
                ("due", self._due),
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
        config = self._deps.config
        while True:
            self.beats.beat("git", self._monotonic(), config.source.interval * 2 + 300)
            failpoint("loop-git")
            moved = await self.controller.sync()
            self._failed_syncs = 0 if self.controller.current.source.error is None else self._failed_syncs + 1
            if moved or not self.first_pass_done:
                # Peers that see the same commit ask for the same slices; a start asks for its own.
                token = (
                    f"commit-{self.controller.current.active.revision}"
                    if moved and self.controller.holder and self.first_pass_done
                    else ""
                )
                await self.trigger(force=moved, token=token)
            self.touch(statuses=True)
            pause = config.source.interval * random.uniform(0.95, 1.05)  # noqa: S311 - jitter
            if self._failed_syncs:
                pause = min(config.reconcile.retry_max, config.reconcile.retry_min * 2 ** min(self._failed_syncs, 20))
                pause = max(config.reconcile.retry_min, min(pause, max(config.source.interval, 1.0)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poll_now.wait(), pause)
            self._poll_now.clear()

    async def _watch(self) -> None:
        """A local folder tells of itself; a remote never does, and is polled."""
        async for _ in self.controller.source.changes():
            self.poll_now()
        await asyncio.Event().wait()

    async def _due(self) -> None:
        while True:
            await self._look_at_clock()
            now = self._deps.clock()
            self.beats.beat("due", self._monotonic())
            if self.controller.holder:
                await self._due_among_peers()
                await asyncio.sleep(1.0)
                continue
            due = [one for one, at in self.controller.current.view.next_at.items() if at <= now and one not in self._waiting]
            if due:
                await self.trigger(due)
            waiting = self.controller.soonest() - now
            await asyncio.sleep(min(1.0, max(0.05, waiting)))

    async def _look_at_clock(self) -> None:
        try:
            clock_steps = await self.controller.current.check_clock()
        except StateError as error:
            self._deps.log.error("clock_not_saved", code=error.code, error=error.message)
            return
        if clock_steps != self._clock_steps:
            self._clock_steps = clock_steps
            self.on_turned()

    async def _due_among_peers(self) -> None:
        """What is due stands in the state, by the database's clock; the id of the ask is made of it, so that it is one over all peers."""
        due_at = await self.controller.due()
        now = await self._deps.store.now()
        for one, at in due_at.items():
            if at <= now and one not in self._waiting:
                await self.trigger([one], token=f"due-{int(at * 1000)}-{int(now // DUE_SLOT_S)}")
        again, self._asked_again = self._asked_again, set()
        if again:
            await self.trigger(again, force=True)

    async def _publisher(self) -> None:
        while True:
            self.beats.beat("publish", self._monotonic())
            heartbeat = min(self._deps.config.status.heartbeat, STALL_S / 3)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), heartbeat)
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
            todo = await self.controller.integrations()
            self.first_pass_done = all(
                one in self.controller.current.view.results or one in self.controller.seen_by_peers for one in todo
            )
