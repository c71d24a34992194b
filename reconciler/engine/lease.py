"""Leases of this process: acquired before work that another process could also do, renewed during it, released after it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from reconciler.engine.context import Context
from reconciler.state.values import Fence, FenceLost

TTL_S = 60.0


class Lease:
    """A lease that this process holds. Every commit carries `fence`; `is_valid` is checked before every remote call."""

    def __init__(self, deps: Context, fence: Fence, holder: str, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._deps = deps
        self._holder = holder
        self.fence = fence
        self._renewed_at = clock()

    def is_valid(self) -> bool:
        """Whether no other process can hold it. False after this process was stopped for half the lease's duration."""
        return clock() - self._renewed_at < self._ttl_s / 2

    async def renew(self) -> bool:
        """Extend the lease; False when another process has taken it since."""
        requested_at = clock()
        fence = await self._deps.store.acquire_lease(self.fence.name, self._holder, self._ttl_s)
        if fence is None or fence.number != self.fence.number:
            self._deps.store.thread.leases_lost += 1
        if fence is None:
            return False
        if fence.number != self.fence.number:  # another process held it in between: it must start over, as every process must
            await self._deps.store.release_lease(fence)
            return False
        self._renewed_at = requested_at
        return True

    async def release(self) -> None:
        """Release the lease, unless another process has acquired it since."""
        await self._deps.store.release_lease(self.fence)

    async def ensure_held(self) -> None:
        """Renew right before a remote call that must not be made twice. Raises `FenceLost` when another process took over.

        Peers take over from a process that stopped for seconds, long before the lease expires.
        """
        if not await self.renew():
            raise lost(self.fence.name)


@contextlib.asynccontextmanager
async def lease(deps: Context, name: str, holder: str, ttl_s: float = TTL_S) -> AsyncIterator[Lease | None]:
    """Hold the lease ``name`` while the block runs; yields None while another process holds it."""
    fence = await deps.store.acquire_lease(name, holder, ttl_s)
    if fence is None:
        yield None
        return
    try:
        yield Lease(deps, fence, holder, ttl_s)
    finally:
        await deps.store.release_lease(fence)


def lost(name: str) -> FenceLost:
    """Return the error of a process that another one may have taken over from."""
    return FenceLost(f"this process stopped while it worked on {name}", hint="Nothing was sent; the work is repeated.")


def clock() -> float:
    """CLOCK_BOOTTIME: keeps counting while the process or the machine is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


__all__ = ["TTL_S", "Lease", "clock", "lease", "lost"]
