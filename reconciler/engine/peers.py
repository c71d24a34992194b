"""Notifications of other processes on one PostgreSQL: they wake the work queue before its next poll.

Nothing depends on a notification: one that is lost costs the time until the poll. A pooler in transaction mode accepts LISTEN and
delivers nothing, so every connection is tested with a notification of our own; while none arrives, the queue polls every second.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

from reconciler.engine.context import Context
from reconciler.engine.queue import POLL_S, UNNOTIFIED_POLL_S, WorkQueue
from reconciler.model.backoff import exponential, jittered
from reconciler.model.errors import StateError
from reconciler.state.notifications import listening

ANSWER_S = 5.0
TEST_EVERY_S = 60.0
TEST = "test/"
PAUSE_LOW_S, PAUSE_HIGH_S = 0.5, 30.0


class PeerNotifications:
    """Listens for other processes, and tells the queue how often it must poll. `run` is a loop of the process."""

    def __init__(self, context: Context, queue: WorkQueue) -> None:
        self._context = context
        self._queue = queue
        self._heard = asyncio.Event()
        self._probe = ""
        self._warned = False
        self._failures = 0
        queue.poll_s = UNNOTIFIED_POLL_S

    async def run(self) -> None:
        """Listen for ever; after a failure reconnect with back-off."""
        while True:
            try:
                async with listening(self._context.config.state.url) as payloads:
                    await self._listen(payloads)
            except (StateError, OSError, TimeoutError) as error:
                self._lost(error)
            await asyncio.sleep(jittered(exponential(self._failures, PAUSE_LOW_S, PAUSE_HIGH_S), 0.5, 1.0))
            self._failures += 1

    async def _listen(self, payloads: AsyncIterator[str]) -> None:
        """Receive until the connection ends. Raises `TimeoutError` if a test is not answered."""
        receiving = asyncio.create_task(self._receive(payloads))
        try:
            while not receiving.done():
                await self._test(receiving)
                await asyncio.wait({receiving}, timeout=TEST_EVERY_S)
            receiving.result()
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _receive(self, payloads: AsyncIterator[str]) -> None:
        async for payload in payloads:
            if payload == self._probe:
                self._heard.set()
            elif payload != self._queue.holder and not payload.startswith(TEST):
                self._queue.wake_by_peer()

    async def _test(self, receiving: asyncio.Task[None]) -> None:
        """Send a notification of our own and wait for it. Raises `TimeoutError` if it does not arrive."""
        self._probe = f"{TEST}{self._queue.holder}/{secrets.token_hex(4)}"
        self._heard.clear()
        await self._context.store.notify(self._probe)
        heard = asyncio.create_task(self._heard.wait())
        await asyncio.wait({heard, receiving}, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():
            heard.cancel()
            if receiving.done():
                receiving.result()
            raise TimeoutError("a notification did not arrive")
        self._failures = 0
        if self._queue.poll_s != POLL_S:
            self._queue.poll_s = POLL_S
            self._warned = False
            self._queue.wake_by_peer()  # notifications may have been lost in between

    def _lost(self, error: Exception) -> None:
        self._queue.poll_s = UNNOTIFIED_POLL_S
        self._queue.wake_by_peer()
        if not self._warned:
            self._warned = True
            message = error.message if isinstance(error, StateError) else str(error)
            self._context.log.warning("notifications_unavailable", error=message)


__all__ = ["PeerNotifications"]
