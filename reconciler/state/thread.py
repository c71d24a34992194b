"""The thread that runs all calls of the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from reconciler.model.errors import StateError
from reconciler.state.values import FenceLost

P = ParamSpec("P")
R = TypeVar("R")


class StateThread:
    """One thread for the store: SQLite has one writer, and the event loop must not wait for a disk."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._began = 0.0
        self.leases_lost = 0
        """How often another process had taken over work of this one when it wanted to store its result, or to go on."""
        self.on_call: Callable[[float, StateError | None], None] = lambda _seconds, _error: None
        """Called on the thread after every call, with its duration and its error. It must not block."""

    async def __call__(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return ``call(*args, **kwargs)`` from the state thread. A cancelled caller does not cancel the commit."""
        future = self._pool.submit(self._timed, call, *args, **kwargs)
        return await asyncio.shield(asyncio.wrap_future(future))

    def _timed(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        began = self._began = time.monotonic()
        error: StateError | None = None
        try:
            return call(*args, **kwargs)
        except FenceLost:
            self.leases_lost += 1
            raise
        except StateError as raised:
            error = raised
            raise
        finally:
            self._began = 0.0
            self.on_call(time.monotonic() - began, error)

    def busy_s(self) -> float:
        """Return for how many seconds the current call has run, which detects a database that hangs."""
        began = self._began
        return time.monotonic() - began if began else 0.0

    def close(self) -> None:
        """Finish the submitted calls and end the thread."""
        self._pool.shutdown(wait=True)
