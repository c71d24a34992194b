"""Group commit: deliveries that arrive during a commit share the next one. A sender gets its answer after the commit."""

from __future__ import annotations

import asyncio
from collections import deque

from reconciler.engine.context import Context
from reconciler.failpoints import failpoint
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.state.inbox import Arrival, Stored

BATCH = 512
MAX_WAITING = 8_192
MAX_BYTES = 128 << 20
CROWD, CROWD_S = 64, 0.1
"""This many deliveries within this time (seconds) are a burst."""
BUSY_S = 1.0
"""This many within this time are no burst, but work that can wait for a minute should wait."""


def at_fault(error: Exception) -> bool:
    """Whether the data is the cause of ``error``: the database refused it, or it could not be encoded."""
    return error.code == StateError.code if isinstance(error, StateError) else not isinstance(error, ReconcilerError)


class InboxFull(ReconcilerError):
    """Too many deliveries wait to be stored: the sender gets 503 and retries."""

    code = "RC8008"


class Writer:
    """Stores arrivals; one commit at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: deque[tuple[Arrival, asyncio.Future[Stored]]] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._newest: deque[float] = deque(maxlen=CROWD)
        """Times of the newest deliveries."""

    @property
    def under_load(self) -> bool:
        """Whether a burst of deliveries is arriving: other work should wait."""
        return len(self._newest) == CROWD and asyncio.get_running_loop().time() - self._newest[0] < CROWD_S

    @property
    def is_busy(self) -> bool:
        """Whether so many deliveries arrive that work which can wait for a minute should wait."""
        return len(self._newest) == CROWD and asyncio.get_running_loop().time() - self._newest[0] < BUSY_S

    async def store(self, arrival: Arrival) -> Stored:
        """Return the result for ``arrival`` once it is durable. Raises `InboxFull`, `StateError`."""
        if len(self._waiting) >= MAX_WAITING or self._bytes + len(arrival.body) > MAX_BYTES:
            raise InboxFull("too many deliveries wait for the disk")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Stored] = loop.create_future()
        self._newest.append(loop.time())
        self._waiting.append((arrival, future))
        self._bytes += len(arrival.body)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await future

    async def _one_by_one(self, batch: list[tuple[Arrival, asyncio.Future[Stored]]]) -> None:
        """Store each arrival in a commit of its own, so that an invalid one does not fail the others."""
        for arrival, future in batch:
            try:
                stored = (await self._context.store.add_events([arrival]))[0]
            except Exception as error:  # noqa: BLE001  goes to the future of each caller
                self._refuse([(arrival, future)], error)
            else:
                if not future.done():
                    future.set_result(stored)

    def _refuse(self, batch: list[tuple[Arrival, asyncio.Future[Stored]]], error: Exception) -> None:
        failure = error if isinstance(error, ReconcilerError) else StateError(f"not stored: {type(error).__name__}")
        for _, future in batch:
            if not future.done():
                future.set_exception(failure)

    async def _drain(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._bytes -= sum(len(arrival.body) for arrival, _ in batch)
            try:
                failpoint("inbox-before-commit")
                stored = await self._context.store.add_events([arrival for arrival, _ in batch])
                failpoint("inbox-after-commit")
            except Exception as error:  # noqa: BLE001  goes to the future of each caller
                if len(batch) > 1 and at_fault(error):
                    await self._one_by_one(batch)
                    continue
                self._refuse(batch, error)
                continue
            for (_, future), result in zip(batch, stored, strict=True):
                if not future.done():
                    future.set_result(result)
