"""Waiting for an event with a time limit, without losing a cancellation."""

from __future__ import annotations

import asyncio
import contextlib


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Wait until ``event`` is set, at most ``seconds``.

    `asyncio.wait_for` of Python 3.11 loses a cancellation that arrives in the moment in which the event is set; a loop would go on.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
