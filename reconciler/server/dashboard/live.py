"""The stream that says that something changed. One task looks for all clients, and only while there are any."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from reconciler.log import get_logger
from reconciler.model.errors import ReconcilerError

MAX_CLIENTS = 250
"""Each holds a connection, of which the listener keeps 384: the rest stays for webhooks and pages."""
LOOK_S = 0.5
SPACING_S = 0.01
"""Pause after a change for each client: every one of them loads its page again, and changes may go on for hours."""
QUIET_S = 20.0
"""A comment is sent this often, since proxies close idle streams."""
RETRY_MS = 2_000
MAX_SHARED = 100
Fingerprint = Callable[[], Awaitable[object]]


class TooManyClients(ReconcilerError):
    """The limit of open streams is reached."""

    code = "RC8304"


class Broadcaster:
    """Tells all clients when ``fingerprint`` changes."""

    def __init__(self, fingerprint: Fingerprint, *, look_s: float = LOOK_S) -> None:
        self._fingerprint = fingerprint
        self._look_s = look_s
        self._clients: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self._number = 0
        self._last: Any = None
        self._closed = False
        self._log = get_logger("dashboard")

    @property
    def number(self) -> int:
        """The number of the newest change."""
        return self._number

    @property
    def clients(self) -> int:
        """The number of open streams."""
        return len(self._clients)

    def stream(self) -> AsyncGenerator[bytes, None]:
        """Return the stream of one client. Raises `TooManyClients`."""
        if len(self._clients) >= MAX_CLIENTS or self._closed:
            raise TooManyClients(f"{MAX_CLIENTS} pages are followed already", hint="The page works; reload it to see changes.")
        return self._messages()

    def _join(self) -> asyncio.Event:
        """Add a client when its stream begins: one that never begins could not leave."""
        changed = asyncio.Event()
        self._clients.add(changed)
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        return changed

    def _leave(self, changed: asyncio.Event) -> None:
        """Forget a client; the last one ends the looking."""
        self._clients.discard(changed)
        if not self._clients and self._task is not None:
            self._task.cancel()
            self._task = None

    async def close(self) -> None:
        """End all streams, so that the listener can stop."""
        self._closed = True
        for changed in self._clients:
            changed.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _messages(self) -> AsyncGenerator[bytes, None]:
        changed = self._join()
        try:
            yield b"retry: %d\n\nevent: clock\ndata: %d\n\n" % (RETRY_MS, time.time() * 1_000)
            while not self._closed:
                try:
                    async with asyncio.timeout(QUIET_S):
                        await changed.wait()
                except TimeoutError:
                    yield b": still there\n\n"
                    continue
                changed.clear()
                if not self._closed:
                    yield b"event: change\nid: %d\ndata: %d\n\n" % (self._number, self._number)
        finally:
            self._leave(changed)

    async def _look(self) -> None:
        """Compare the fingerprint until there is no client left. A state that cannot be read now is read again later."""
        with contextlib.suppress(ReconcilerError):
            self._last = await self._fingerprint()
        pause_s = self._look_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self._look_s
            try:
                seen = await self._fingerprint()
            except ReconcilerError as error:
                self._log.warning("dashboard_look_failed", code=error.code, error=error.message)
                continue
            if seen != self._last:
                self._last = seen
                self._number += 1
                for changed in self._clients:
                    changed.set()
                pause_s = max(self._look_s, len(self._clients) * SPACING_S)


class SharedPages:
    """Pages that many browsers load after one change. Each is rendered once for everybody who sees the same."""

    def __init__(self) -> None:
        self._number = 0
        self._pages: dict[object, asyncio.Future[str]] = {}
        self.token = secrets.token_hex(32)
        """Stands in a shared page for the form token of the person; it cannot be guessed, so foreign text does not contain it."""

    async def page(self, number: int, key: object, render: Callable[[], Awaitable[str]]) -> str:
        """Return the page ``key`` as it was rendered first since the change ``number``. Raises what ``render`` raises."""
        if number != self._number:
            self._number = number
            self._pages = {}
        known = self._pages.get(key)
        if known is not None:
            return await asyncio.shield(known)
        if len(self._pages) >= MAX_SHARED:
            return await render()
        page = self._pages[key] = asyncio.ensure_future(render())
        try:
            return await asyncio.shield(page)
        except ReconcilerError:
            self._pages.pop(key, None)
            raise
