"""Limits for one HTTP connection that uvicorn does not have: time and size of a request head, and which connection is dropped.

Anyone may connect without authentication. An idle connection (before its first request, within a head, or with a peer that does not read
its answer) occupies a slot. When no slots are left, the connection that has been idle longest is dropped, so that a peer with a complete
request is always served.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
"""Time limit from the connect, or from the first byte of a further request, to the end of the head."""
MAX_HEAD = 64 << 10
REST_S = 5.0
MAX_REST = 1 << 20
"""After an answer that preceded the end of the body, this much more of the body is read for this long, so that the peer reads the answer."""
READER_S = 10.0
"""A peer that takes no byte of its answer for this long is dropped."""
KEPT = 384
"""Open connections; a process has 1,024 file descriptors by default, and needs some for other purposes."""
LIMIT = 512
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """The protocol that uvicorn creates for every connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = True
        self._in_message = False
        self._counted = 0
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is in progress: none is complete, or the peer does not read the answer."""
        return self.cycle is None or self.cycle.response_complete or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._last = self.loop.time()
        self._wait(HEAD_S)
        others = [other for other in self.connections if isinstance(other, GuardedProtocol) and other is not self]
        if len(others) >= KEPT:
            idle = [other for other in others if other.idle]
            if idle:
                min(idle, key=lambda other: other._last).drop()  # noqa: SLF001  instances of this class

    def drop(self) -> None:
        """Close the connection at once, with a reset: otherwise the kernel keeps megabytes for a peer that does not read."""
        self.connections.discard(self)
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        if self._reader is not None:
            self._reader.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def _watch_reader(self) -> None:
        """Drop the peer unless it goes on reading: uvicorn waits for it without end, and so does the end of a connection."""
        if self._reader is None and self.transport.get_write_buffer_size():
            self._reader = self.loop.call_later(READER_S, self._look_at_reader, self.transport.get_write_buffer_size())

    def _look_at_reader(self, before: int) -> None:
        self._reader = None
        if before and self.transport.get_write_buffer_size() >= before:
            self.drop()
        else:
            self._watch_reader()

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
        self._watch_reader()
        if self._in_message and not self._in_head and not self.transport.is_closing():
            self._counted = 0
            self._wait(REST_S)

    def _wait(self, seconds: float | None) -> None:
        """Start the time limit for the next part of the request. None: there is no limit now."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._late) if seconds is not None else None

    def _late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
