"""Logs as streams of server-sent events, for the API and the dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from reconciler.credentials.redact import Redactor
from reconciler.model.errors import ReconcilerError
from reconciler.server.api import requests
from reconciler.server.api.handlers import Backend, logs
from reconciler.server.health import SECURITY_HEADERS

STREAMS = 32
"""Log streams that may be open at the same time."""
PAUSE_S = 1.0
QUIET_S = 15.0
"""After this long without a line, a comment is sent, since proxies close idle streams."""


class LogStreams:
    """The open streams."""

    def __init__(self, backend: Backend, redactor: Redactor) -> None:
        self._backend = backend
        self._redactor = redactor
        self._open = 0

    async def follow(self, values: Mapping[str, Any], who: str) -> Response:
        """Return the stream of a log. Its first piece is read before the answer begins, so that a failure has an HTTP status."""
        if self._open >= STREAMS:
            raise ReconcilerError(f"{STREAMS} log streams are open already", code="RC8003", hint="Try again later.")
        first = await logs(self._backend, values, who)
        headers = {**SECURITY_HEADERS, "x-accel-buffering": "no"}
        return StreamingResponse(self._pieces(values, first), headers=headers, media_type="text/event-stream")

    async def _pieces(self, values: Mapping[str, Any], piece: Mapping[str, Any]) -> AsyncIterator[bytes]:
        quiet = 0.0
        self._open += 1
        try:
            while True:
                if piece["lines"]:
                    quiet = 0.0
                    yield message("log", piece)
                if piece["complete"]:
                    yield message("end", {"cursor": piece["cursor"]})
                    return
                await asyncio.sleep(PAUSE_S)
                quiet += PAUSE_S
                if quiet >= QUIET_S:
                    quiet = 0.0
                    yield b": still there\n\n"
                piece = await logs(self._backend, {**values, "cursor": piece["cursor"]}, "")
        except ReconcilerError as error:
            yield message("error", self._redactor.redact_fields(requests.body_of(error)))
        finally:
            self._open -= 1


def message(name: str, content: Mapping[str, Any]) -> bytes:
    """Return a server-sent event (HTML Living Standard §9.2). Encoded JSON contains no line break."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(content) + b"\n\n"
