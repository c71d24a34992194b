"""Work that only one process does at a time: alone on SQLite, under a lease among peers on PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from reconciler.drivers.http.client import ApiClient
from reconciler.engine.context import Context
from reconciler.engine.lease import Lease, lease

Guard = Callable[[ApiClient], ApiClient]
"""Makes a client that writes only while this process still has the lease."""


@contextlib.asynccontextmanager
async def exclusive(context: Context, name: str, holder: str, ttl_s: float) -> AsyncIterator[Guard | None]:
    """Hold the lease ``name`` for the block; yields the guard for its clients, or None while another process has the lease."""
    if context.store.dialect == "sqlite":
        yield lambda client: client
        return
    async with lease(context, name, holder, ttl_s) as held:
        yield guard_of(context, held) if held is not None else None


def guard_of(context: Context, held: Lease) -> Guard:
    """Return the guard of a lease that this process has acquired. On SQLite there is no other process."""
    if context.store.dialect == "sqlite":
        return lambda client: client
    return lambda client: client.guarded(held.ensure_held)


__all__ = ["Guard", "exclusive", "guard_of"]
