"""Leases as the engine holds them: taken before work that others could do too, kept while it goes on, given back after it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from reconciler.engine.context import Context
from reconciler.state.values import Fence, FenceLost

TTL_S = 60.0


class Lease:
    """A lease in this process's hands. `fence` goes into every commit; `fresh` is asked before every call outside."""

    def __init__(self, deps: Context, fence: Fence, holder: str, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._deps = deps
        self._holder = holder
        self.fence = fence
        self._taken = clock()

    def fresh(self) -> bool:
        """Whether nobody else can have it: false for a process that was stopped for long and woke up."""
        return clock() - self._taken < self._ttl_s / 2

    async def keep(self) -> bool:
        """Lengthen it; False when it went to somebody else."""
        asked = clock()
        found = await self._deps.store.acquire_lease(self.fence.name, self._holder, self._ttl_s)
        if found is None:
            return False
        if found.number != self.fence.number:  # it was taken away, and is free again: for everybody, not for us to keep
            await self._deps.store.release_lease(found)
            return False
        self._taken = asked
        return True

    async def sure(self) -> None:
        """Ask once more, right before something is done outside that must not be done twice; raises `FenceLost` when it is gone.

        Peers take over from a process that stood still for seconds, long before the lease itself ends.
        """
        if not await self.keep():
            raise lost(self.fence.name)


@contextlib.asynccontextmanager
async def holding(deps: Context, name: str, holder: str, ttl_s: float = TTL_S) -> AsyncIterator[Lease | None]:
    """Take the lease ``name`` for as long as the block lasts; yields None while another process has it."""
    fence = await deps.store.acquire_lease(name, holder, ttl_s)
    if fence is None:
        yield None
        return
    try:
        yield Lease(deps, fence, holder, ttl_s)
    finally:
        await deps.store.release_lease(fence)


def lost(name: str) -> FenceLost:
    """Return the error of a process that may have been taken over."""
    return FenceLost(f"this process stood still while it worked on {name}", hint="Nothing was sent; it is looked at again.")


def clock() -> float:
    """Seconds that also pass while the process or the machine is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


__all__ = ["TTL_S", "Lease", "clock", "holding", "lost"]
