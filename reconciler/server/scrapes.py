"""``/metrics``: one rendering for all scrapes of a second, made off the event loop, and sent in parts.

A scrape that hangs holds a connection and one part of an answer, until `reconciler.server.connection` closes it.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

FRESH_S = 1.0
"""Scrapes within this time share one rendering."""
PART = 64 << 10
COMPRESSED_FROM = 4 << 10
Expose = Callable[[Callable[[Any], bytes]], bytes]


@dataclass(frozen=True, slots=True)
class _Rendering:
    """One rendering, and when it was begun (monotonic seconds)."""

    body: bytes
    begun: float


class Scrapes:
    """Answers scrapes in the text format, or in OpenMetrics where it is asked for."""

    def __init__(self, expose: Expose, headers: Mapping[str, str]) -> None:
        self._expose = expose
        self._headers = headers
        self._newest: dict[tuple[str, bool], _Rendering] = {}
        self._lock = asyncio.Lock()

    async def __call__(self, request: Request) -> Response:
        """Answer one scrape."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(request.headers.get("accept", "")[:1_000])
        compress = "gzip" in request.headers.get("accept-encoding", "")[:1_000].lower()
        body = await self._body(content_type, encode, compress=compress)
        compressed = body[:2] == b"\x1f\x8b"
        headers = {
            **self._headers,
            "content-type": content_type,
            "content-length": str(len(body)),
            "vary": "accept, accept-encoding",
        }
        return StreamingResponse(_parts(body), 200, headers | ({"content-encoding": "gzip"} if compressed else {}))

    async def _body(self, content_type: str, encode: Callable[[Any], bytes], *, compress: bool) -> bytes:
        """Return a rendering that is not older than `FRESH_S`. One is made at a time, and whoever waits for it shares it."""
        key = (content_type, compress)
        async with self._lock:
            known = self._newest.get(key)
            begun = time.monotonic()
            if known is not None and begun - known.begun < FRESH_S:
                return known.body
            body = await asyncio.to_thread(self._render, encode, compress=compress)
            self._newest = {kept: each for kept, each in self._newest.items() if begun - each.begun < FRESH_S}
            self._newest[key] = _Rendering(body, begun)
            return body

    def _render(self, encode: Callable[[Any], bytes], *, compress: bool) -> bytes:
        body = self._expose(encode)
        return gzip.compress(body, compresslevel=3) if compress and len(body) >= COMPRESSED_FROM else body


async def _parts(body: bytes) -> AsyncIterator[memoryview]:
    """Yield the body in parts: the connection copies what its peer has not read."""
    view = memoryview(body)
    for start in range(0, len(view), PART):
        yield view[start : start + PART]


__all__ = ["Scrapes"]
