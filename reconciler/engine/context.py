"""What the engine is given by the composition root: explicit, frozen, nothing global."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from reconciler.config.load import Config
    from reconciler.credentials.keys import KeyRing
    from reconciler.credentials.redact import Redactor
    from reconciler.drivers.http.client import HttpSession
    from reconciler.state import Store

P = ParamSpec("P")
R = TypeVar("R")


class StateThread:
    """Runs store calls on the one writer thread: SQLite has one writer, and the event loop never waits for a disk."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._began = 0.0

    async def __call__(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return ``call(*args, **kwargs)`` from the state thread. A cancelled caller does not cancel the commit."""
        future = self._pool.submit(self._timed, call, *args, **kwargs)
        return await asyncio.shield(asyncio.wrap_future(future))

    def _timed(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        self._began = time.monotonic()
        try:
            return call(*args, **kwargs)
        finally:
            self._began = 0.0

    def busy_s(self) -> float:
        """Return for how long the call under way has taken: a database that neither answers nor breaks shows here."""
        began = self._began
        return time.monotonic() - began if began else 0.0

    def close(self) -> None:
        """Finish what was submitted and end the thread."""
        self._pool.shutdown(wait=True)


@dataclass(frozen=True, slots=True)
class Context:
    """Everything with an effect that the engine may use."""

    config: Config
    store: Store
    db: StateThread
    keyring: KeyRing
    session: HttpSession
    clock: Callable[[], float]
    """Seconds since the epoch."""
    log: Any
    """A structlog logger: ``log.info(event, **fields)``."""
    actor: str
    """Who writes: ``daemon:<host>:<pid>`` or ``cli:<user>``; goes into the audit log."""
    owner: str
    redactor: Redactor
    sandbox: bool = False
