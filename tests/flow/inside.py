"""Events and stages in this process, without the loops of the daemon: the test sets the clock and calls each turn."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from reconciler.config.load import load_config
from reconciler.credentials.keys import load_keyring
from reconciler.credentials.redact import Redactor
from reconciler.daemon.pipeline import EventPipeline
from reconciler.drivers.http.client import HttpSession
from reconciler.engine.context import Context
from reconciler.engine.controller import Controller
from reconciler.engine.queue import WorkQueue
from reconciler.events.requests import TriggerRequest
from reconciler.log import get_logger
from reconciler.model.executions import Execution, Item
from reconciler.model.resources import ResourceId
from reconciler.source import open_source
from reconciler.source.configured import options_of
from reconciler.state import Store
from reconciler.state.async_store import AsyncStore
from reconciler.state.claims import Capacity
from reconciler.state.thread import StateThread
from tests.flow.stage_world import StageWorld


class Inside:
    """`EventPipeline` over a real store. ``later`` lets time pass; ``set_clock`` only sets the clock."""

    def __init__(self, world: StageWorld, deps: Context, engine: Controller, clock: list[float], set_ahead: list[float]) -> None:
        self.world, self.deps, self.engine, self._clock, self._set_ahead = world, deps, engine, clock, set_ahead
        self.store = deps.store.sync
        self.working = self.restarted()

    def restarted(self) -> EventPipeline:
        """Return (and use) what a new process has: nothing is known but what is in the state."""
        if hasattr(self, "working"):
            self.working.close()
        queue = WorkQueue(self.deps, holder="test")
        self.working = EventPipeline(self.engine.current, queue, beat=lambda *_: None, touch=lambda **_: None)
        self.engine.read_event_status = self.working.read_status
        return self.working

    async def steps(self) -> None:
        """Run every step that is due, as the queue does."""
        for claim in (await self.deps.store.claim_work("test", Capacity(0, 200))).claims:
            await self.working.runner.step(claim.key, lambda client: client)
            await self.deps.store.release_lease(claim.fence)

    @property
    def now(self) -> float:
        return time.time() + self._clock[0]

    def later(self, seconds: float) -> None:
        self._clock[0] += seconds

    def set_clock(self, seconds: float) -> None:
        self._clock[0] += seconds
        self._set_ahead[0] += seconds

    async def sync(self) -> None:
        """Take the manifests up as they are now."""
        await self.engine.sync()

    async def trigger(self, source: str = "hand", **payload: Any) -> str:
        return str((await self.working.commands.trigger(TriggerRequest(source=source, payload=payload), "ada"))["event"])

    async def turn(self, times: int = 4) -> None:
        """Let every loop turn."""
        for _ in range(times):
            await self.working.schedules.turn()
            await self.working.dispatcher.turn()
            self.working.dispatcher._joins_at = 0.0  # it counts by the real clock, which stands nearly still here
            await self.working.dispatcher._end_joins()
            await self.engine.current.check_clock()
            await self.working.stages.turn()
            await self.steps()

    async def executions(self, stage: str) -> list[Execution]:
        return list(reversed(await self.deps.store.executions(stage=ResourceId("Stage", "default", stage).path)))

    async def items(self, stage: str) -> list[Item]:
        found = await self.deps.store.items(stage=ResourceId("Stage", "default", stage).path, limit=100)
        return sorted(found, key=lambda one: one.created_at)


@contextlib.asynccontextmanager
async def inside(folder: Path) -> AsyncIterator[Inside]:
    """Yield an `Inside` of a world without providers; declare in its ``world``, then ``sync``."""
    world = StageWorld(folder, ())
    (world.manifests / "secrets.yaml").unlink()
    config = load_config(world.config, {})
    clock = [300 - time.time() % 600]  # in the middle of ten minutes: no slot passes by itself
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(world.close)
        db = StateThread()
        stack.callback(db.close)
        store: Any = await db(Store.open, config.state.url, state_dir=config.state_dir, create=True)
        stack.push_async_callback(db, store.close)
        store.now = lambda: time.time() + clock[0]
        set_ahead = [0.0]
        store._steady = lambda: time.time() + clock[0] - set_ahead[0]
        session = await stack.enter_async_context(HttpSession(allow=("127.0.0.1",)))
        source = open_source(options_of(config), config.state_dir)
        stack.push_async_callback(source.close)
        deps = Context(
            config=config,
            store=AsyncStore(store, db),
            keyring=load_keyring(config, stored_check=None, create_allowed=True),
            session=session,
            clock=store.now,
            log=get_logger("test"),
            actor="test",
            owner=config.owner,
            redactor=Redactor(),
        )
        engine = Controller(deps, source)
        await engine.start()
        made = Inside(world, deps, engine, clock, set_ahead)
        stack.callback(lambda: made.working.close())
        yield made
