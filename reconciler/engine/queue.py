"""The work queue of one process: it claims due work from the state, and runs it on the event loop.

Work is a requested reconcile (`reconciler.state.requests`) or a step of an execution. The state's tables are the only queue: a row stays due
until the result of its work is stored, and the lease of the claim (`reconciler.state.claims`) keeps other processes away. So work that a
process leaves behind when it dies is claimed again, and may run twice: it must be idempotent, and fenced by its lease.

A process starts work that it requested itself at once (`WorkQueue.wake`). Work of other processes is found by a notification
(`reconciler.engine.peers`), at its due time, or at the next poll.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

from reconciler.engine.context import Context
from reconciler.engine.lease import Lease, clock
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.model.resources import ResourceId
from reconciler.state.claims import TTL_S, Capacity, Claim, WorkKind
from reconciler.state.values import Fence
from reconciler.wakeup import wait_at_most

RECONCILES, STEPS = 16, 64
"""How much of each kind a process runs side by side."""
POLL_S = 5.0
"""Pause between two looks for work when nothing is due before. Only a lost notification has to wait for it."""
UNNOTIFIED_POLL_S = 1.0
"""The same while notifications of other processes do not arrive."""
RETRY_S = 5.0
"""Pause before work is tried again whose result could not be stored."""
RENEW_S = TTL_S / 4
MIN_PAUSE_S = 0.005
MAX_ATTEMPTED = 10_000
Handler = Callable[[Claim, Lease], Awaitable[None]]
"""Does the work of a claim. It may raise: then the work is tried again after `RETRY_S`."""


class WorkQueue:
    """Claims and runs work. `start` is called once, `run` is a loop of the process, and `stop` ends it."""

    def __init__(self, context: Context, *, holder: str) -> None:
        self.holder = holder
        """Name of this process in leases and heartbeats."""
        self.poll_s = POLL_S
        self.beat: Callable[[], None] = lambda: None
        """Called at every look."""
        self._context = context
        self._store = context.store
        self._handlers: dict[WorkKind, Handler] = {}
        self._running: dict[str, tuple[WorkKind, Lease, asyncio.Task[None]]] = {}
        self._paused: dict[str, float] = {}
        self._attempted: dict[str, int] = {}
        """The version of each execution at its last step."""
        self._ended: list[Fence] = []
        self._wake = asyncio.Event()
        self._local = False
        self._reconciles = False
        self._renewed_at = clock()

    # -- requests ---------------------------------------------------------------------------------------------------

    async def request(
        self, integrations: Iterable[ResourceId], *, token: str = "", force: bool = False, explicit: bool = False
    ) -> None:
        """Request a reconcile of each integration; while one runs, it leads to one more.

        ``force``: objects that wait for a retry are tried now; ``explicit``: also permanently refused ones. ``token``: processes that
        use the same one request one reconcile.
        """
        await self._store.request_reconciles(tuple(integrations), token=token, force=force, explicit=explicit)
        self.wake()

    def wake(self) -> None:
        """Look for work at once: this process stored some. Other processes are notified of what it cannot start."""
        self._local = True
        self._wake.set()

    def wake_by_peer(self) -> None:
        """Look for work at once: another process has more than it can start, or has died."""
        self._wake.set()

    def allow_reconciles(self) -> None:
        """Claim reconciles from now on. Before the first sync they would work on an old revision."""
        if not self._reconciles:
            self._reconciles = True
            self.wake()

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self, reconcile: Handler, step: Handler) -> None:
        """Set the handlers, and release what an earlier process with the same name has left."""
        self._handlers = {WorkKind.RECONCILE: reconcile, WorkKind.STEP: step}
        if self._store.dialect != "sqlite":
            await self._store.beat(self.holder)  # before the first claim: a process without a heartbeat is not taken over from
        await self._store.release_leases_of(self.holder)

    async def run(self) -> None:
        """Look for work for ever. Raises `StateError` when the database is away; it can be called again."""
        while True:
            self.beat()
            self._wake.clear()
            pause_s = await self._look()
            await wait_at_most(self._wake, pause_s)

    async def stop(self, timeout_s: float) -> None:
        """Wait for running work, at most ``timeout_s``; release all leases, so that other processes continue at once."""
        tasks = [task for _, _, task in self._running.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(StateError):
            await self._store.release_leases_of(self.holder)
            if self._store.dialect != "sqlite":
                await self._store.remove_executor(self.holder)
                await self._store.notify(self.holder)

    # -- work -------------------------------------------------------------------------------------------------------

    async def _look(self) -> float:
        """Claim and start due work; returns the seconds until the next look."""
        await self._renew()
        local, self._local = self._local, False
        ended, self._ended = self._ended, []
        try:
            claimed = await self._store.claim_work(self.holder, self._capacity(), release=ended, notify=local)
        except BaseException:
            self._ended, self._local = ended + self._ended, self._local or local
            raise
        for claim in claimed.claims:
            if self._is_stuck(claim):
                self._pause(claim.fence.name)
                self._ended.append(claim.fence)
            else:
                self._begin(claim)
        due_s = claimed.next_due_s if claimed.next_due_s is not None else self.poll_s
        return max(MIN_PAUSE_S, min(due_s, self.poll_s))

    def _capacity(self) -> Capacity:
        now = asyncio.get_running_loop().time()
        self._paused = {name: until for name, until in self._paused.items() if until > now}
        reconciles = sum(kind is WorkKind.RECONCILE for kind, _, _ in self._running.values())
        steps = len(self._running) - reconciles
        return Capacity(
            RECONCILES - reconciles if self._reconciles else 0, STEPS - steps, skip=frozenset(self._running) | set(self._paused)
        )

    def _is_stuck(self, claim: Claim) -> bool:
        """Whether the last step of this execution changed nothing: without a pause it would be claimed again and again."""
        if claim.kind is not WorkKind.STEP:
            return False
        name = claim.fence.name
        if self._attempted.pop(name, None) == claim.number:
            return True
        self._attempted[name] = claim.number
        if len(self._attempted) > MAX_ATTEMPTED:
            del self._attempted[next(iter(self._attempted))]
        return False

    def _pause(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        self._paused[name] = loop.time() + RETRY_S
        loop.call_later(RETRY_S, self.wake)

    def _begin(self, claim: Claim) -> None:
        lease = Lease(self._context, claim.fence, self.holder, TTL_S)
        task = asyncio.create_task(self._work(claim, lease), name=claim.fence.name)
        self._running[claim.fence.name] = (claim.kind, lease, task)

    async def _work(self, claim: Claim, lease: Lease) -> None:
        name = claim.fence.name
        try:
            await self._handlers[claim.kind](claim, lease)
        except ReconcilerError as error:
            self._context.log.error("work_failed", action=name, code=error.code, error=error.message)
            self._pause(name)
        except Exception as error:
            self._context.log.exception("work_failed", action=name, code="RC9001", error=type(error).__name__)
            self._pause(name)
        finally:
            del self._running[name]
            self._ended.append(claim.fence)
            self.wake()

    async def _renew(self) -> None:
        """Renew the leases of running work. A lease that was lost stays lost: the work stops at its next commit."""
        if self._store.dialect == "sqlite" or clock() - self._renewed_at < RENEW_S:
            return
        self._renewed_at = clock()
        for _, lease, _ in list(self._running.values()):
            await lease.renew()


__all__ = ["POLL_S", "UNNOTIFIED_POLL_S", "Handler", "WorkQueue"]
