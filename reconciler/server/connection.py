"""One HTTP connection, with the bounds that uvicorn leaves open: how long a head may take, how large it may be, who gives way.

Anybody may connect, before anything is proved. A connection that waits (for its first request, for the rest of a head, for a
peer that does not read its answer) costs a place; when places run out, the one that has waited longest gives its up, so that
whoever has something to say is always heard.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
"""How long a peer may take from connecting, or from the first byte of a further request, to the end of the head."""
MAX_HEAD = 64 << 10
REST_S = 5.0
MAX_REST = 1 << 20
"""What is answered before its body was read: so long, and so much of it, is still listened to, so that the answer is read."""
KEPT = 384
"""Connections that are held; the file descriptors of a process (1,024 by default) serve others too."""
LIMIT = 512
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """What uvicorn makes for every connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = True
        self._in_message = False
        self._counted = 0
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether nothing is being worked on: no request is complete, or its answer is not taken."""
        return self.cycle is None or self.cycle.response_complete or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._last = self.loop.time()
        self._wait(HEAD_S)
        others: list[GuardedProtocol] = [one for one in self.connections if isinstance(one, GuardedProtocol) and one is not self]
        if len(others) >= KEPT:
            waiting = [one for one in others if one.waits]
            if waiting:
                min(waiting, key=lambda one: one._last).drop()  # noqa: SLF001  others of this class

    def drop(self) -> None:
        """End the connection at once."""
        self.connections.discard(self)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        began_in_head = self._in_head
        self._last = self.loop.time()
        self._counted += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if began_in_head and self._in_head and self._counted > MAX_HEAD:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._timer is not None and not self._in_head and self._in_message and self._counted > MAX_REST:
            self.transport.close()

    def on_message_begin(self) -> None:
        self._in_head = self._in_message = True
        self._wait(HEAD_S)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._counted = 0
        self._wait(None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._in_message = True, False
        self._counted = 0
        self._wait(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._last = self.loop.time()
        super().on_response_complete()
        if self._in_message and not self._in_head and not self.transport.is_closing():
            self._counted = 0
            self._wait(REST_S)

    def _wait(self, seconds: float | None) -> None:
        """Begin the time that is left for what is awaited; None: nothing is."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._late) if seconds is not None else None

    def _late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
