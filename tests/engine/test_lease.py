"""Leases in the hands of a process that may have stood still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.engine.lease import lease
from reconciler.state import Store
from reconciler.state.async_store import AsyncStore
from reconciler.state.thread import StateThread
from reconciler.state.values import FenceLost


@pytest.fixture
async def deps(tmp_path: Path) -> AsyncIterator[Any]:
    db = StateThread()
    store = await db(Store.open, f"sqlite:///{tmp_path / 'state.db'}", state_dir=tmp_path)
    yield SimpleNamespace(store=AsyncStore(store, db))
    await db(store.close)
    db.close()


async def test_a14_who_was_taken_over_is_told_before_it_writes_and_keeps_the_lease_from_nobody(deps: Any) -> None:
    async with lease(deps, "x", "sleeper") as hold:
        assert hold is not None
        await hold.ensure_held()
        await deps.store.release_leases_of("sleeper")  # a peer found it dead
        with pytest.raises(FenceLost):
            await hold.ensure_held()
        other = await deps.store.acquire_lease("x", "peer", 60.0)
        assert other is not None
        with pytest.raises(FenceLost):
            await hold.ensure_held()
    async with lease(deps, "x", "sleeper") as hold:
        assert hold is None  # the peer has it still
