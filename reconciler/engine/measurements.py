"""Measures this process and its state every few seconds, so that a scrape of the metrics asks nobody and waits for nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from reconciler.engine.context import Context
from reconciler.model.errors import StateError, storage_error
from reconciler.state.audit_walk import AuditWalk
from reconciler.state.backlog import Backlog

LONGEST_PAUSE_S = 15.0
ALIVE_S = 10.0
"""A peer whose heartbeat is older does not count."""
AUDIT_ROWS = 2_000
"""Rows of the audit log that one look verifies, in some 20 ms: a log of a million rows is verified every 80 minutes."""
LAG_EVERY_S = 0.5
BEAT_S = 120.0


class Measurements:
    """The newest figures of one process. `loops` are loops of the process."""

    def __init__(self, context: Context, *, beat: Callable[[str, float], None]) -> None:
        self.backlog: Backlog | None = None
        """What waits; None before the first look."""
        self.audit_intact: bool | None = None
        """Whether the last walk over the audit log ended without a fault; None before the first has ended."""
        self.audit_verified_at = 0.0
        """When the last walk ended (epoch seconds)."""
        self.on_lag: Callable[[float], None] = lambda _seconds: None
        """Called twice a second with the seconds by which the event loop was late."""
        self._context = context
        self._beat = beat
        self._walk: AuditWalk | None = None
        self._fault = ""

    def loops(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Return the loops to run, by name."""
        return {"measurements": self._measure, "lag": self._watch_lag}

    async def _measure(self) -> None:
        pause_s = min(self._context.config.status.heartbeat, LONGEST_PAUSE_S)
        while True:
            self._beat("measurements", BEAT_S)
            await self.look()
            await asyncio.sleep(pause_s)

    async def look(self) -> None:
        """Read the backlog, and verify the next part of the audit log. Raises `StateError`."""
        store = self._context.store
        try:
            self.backlog = await store.backlog(ALIVE_S)
        except OSError as error:
            raise storage_error(error, "the state folder") from None
        await self._verify()

    async def _verify(self) -> None:
        store = self._context.store
        try:
            if self._walk is None:
                anchor = await store.kept_anchor()
                self._walk = store.sync.audit_walk([anchor] if anchor is not None else [])
            report = await store.verify_some(self._walk, AUDIT_ROWS)
        except ValueError as error:  # somebody else wrote the anchor
            self._end_walk(str(error))
        except StateError:
            self._walk = None
            raise
        else:
            if report is not None:
                self._end_walk("" if report.ok else str(report))

    def _end_walk(self, fault: str) -> None:
        self._walk = None
        self.audit_intact, self.audit_verified_at = not fault, self._context.clock()
        if fault and fault != self._fault:
            self._context.log.error("audit_broken", error=fault)
        self._fault = fault

    async def _watch_lag(self) -> None:
        while True:
            due = time.monotonic() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.on_lag(max(0.0, time.monotonic() - due))


__all__ = ["Measurements"]
