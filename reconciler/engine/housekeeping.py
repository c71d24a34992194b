"""Periodic jobs of the engine: APScheduler runs every job that has only a period.

These are heartbeat and take-over, retention, the audit anchor, and the watchdog. A job gets its time from the database's clock.

Loops that also wake up on an event are no jobs (`reconciler.engine.loop`): `git` on a webhook or a trigger, `queue` on a request or the next due
time, `publish` on a change, `watch` on the file system. `clock` is none either: a clock that was set back delays every job.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from reconciler.engine.context import Context
from reconciler.engine.queue import WorkQueue
from reconciler.model.errors import ReconcilerError, StateError

RETENTION_EVERY_S = 3600
HEARTBEAT_S = 1
DEAD_AFTER_S = 5.0
"""A process without a heartbeat for this long is dead: its work is taken over."""
ANCHOR_EVERY_S = 300
BATCH = 500
"""Rows deleted in one transaction; it bounds how long others wait for the database."""
PAUSE_S = 0.02
"""Between two batches, so that other calls get the database."""


async def _all(prune: Callable[[], Awaitable[int]]) -> int:
    """Delete in batches until none is left, and return the number of rows. Other calls use the database in between."""
    rows = 0
    while count := await prune():
        rows += count
        await asyncio.sleep(PAUSE_S)
    return rows


class Housekeeping:
    """The scheduler of one process; `start` is called on the running loop."""

    def __init__(
        self, deps: Context, queue: WorkQueue, *, watchdog_s: float, alive: Callable[[], bool], notify: Callable[..., None]
    ) -> None:
        self.on_conflict: Callable[[StateError], None] = lambda _: None
        """Called when a newer program has changed the state so that this one cannot use it any more."""
        self._deps = deps
        self._queue = queue
        self._alive = alive
        self._notify = notify
        self._watchdog_s = watchdog_s
        self._periods: dict[str, float] = {}
        self._peers = deps.store.dialect != "sqlite"
        self._scheduler = AsyncIOScheduler(
            timezone=dt.UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 30}
        )

    def start(self) -> None:
        self._every(RETENTION_EVERY_S, "retention", self._retention)
        self._every(ANCHOR_EVERY_S, "anchor", self._anchor)
        if self._peers:
            self._every(HEARTBEAT_S, "heartbeat", self._heartbeat)
        if self._watchdog_s:
            self._every(self._watchdog_s, "watchdog", self._watchdog)
        self._scheduler.start()

    def restart_periods(self) -> None:
        """Count every period from now. Called when the clock was set back: otherwise the jobs wait until the old time is reached."""
        for name, seconds in self._periods.items():
            self._scheduler.reschedule_job(name, trigger="interval", seconds=seconds, jitter=min(30, seconds / 20))

    def stop(self) -> None:
        """Stop the scheduler; a running job ends by itself."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _every(self, seconds: float, name: str, job: Callable[[], Awaitable[None]]) -> None:
        self._periods[name] = seconds
        self._scheduler.add_job(
            self._guarded, "interval", seconds=seconds, id=name, args=(name, job), jitter=min(30, seconds / 20)
        )

    async def _guarded(self, name: str, job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except ReconcilerError as error:
            self._deps.log.warning("tick_failed", action=name, code=error.code, error=error.message)

    async def _heartbeat(self) -> None:
        """Record that this process is alive, and release the leases of dead processes: their work is due, and is claimed again."""
        store = self._deps.store
        conflict = await store.schema_conflict()
        if conflict is not None:
            self.on_conflict(conflict)
            return
        await store.beat(self._queue.holder)
        for peer in await store.dead_executors(DEAD_AFTER_S):
            released = await store.release_leases_of(peer)
            await store.remove_executor(peer)
            self._deps.log.warning("peer_failover", outcome="recovered", error="", executor=peer, leases=released)
            self._queue.wake()

    async def _retention(self) -> None:
        """Delete rows older than the retention: journal, settled intents, events, executions. Never audit rows."""
        store, retention = self._deps.store, self._deps.config.retention
        now = await store.now()
        rows = await _all(lambda: store.prune_history(now - retention.history, BATCH))
        rows += await _all(lambda: store.prune_incidents(now - retention.history, BATCH))
        rows += await _all(lambda: store.prune_events(now - retention.inbox, BATCH))
        rows += await _all(lambda: store.prune_executions(now - retention.history, BATCH))
        await store.checkpoint()
        self._deps.log.debug("retention", rows=rows)

    async def _anchor(self) -> None:
        """Write the head of the audit log to the log and to the anchor file: only a copy elsewhere detects a truncated log."""
        seq, digest = await self._deps.store.audit_head()
        self._deps.log.info("audit_anchor", seq=seq, hash=digest)
        try:
            await self._deps.store.keep_anchor()
        except (OSError, ValueError) as error:
            self._deps.log.warning("anchor_write_failed", error=type(error).__name__)

    async def _watchdog(self) -> None:
        """Notify systemd only while the loops advance."""
        if self._alive():
            self._notify("WATCHDOG=1")
