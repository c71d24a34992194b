"""``POST /hooks/<owner>/<uid>`` and ``POST /hooks/apps/<owner>/<key>`` receive webhooks.

Limits apply before a byte of the body is read; the answer follows the commit.
It is plain ASGI, since it decides before anything is parsed. An unknown path, an unknown uid and a wrong signature get the same answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = Mapping[str, Any]
"""The ASGI connection scope."""
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Take = Callable[[str, str, str, Mapping[str, str], bytes], Awaitable[int]]
"""(owner, uid, key id, headers, body) → status."""

HARD_CAP = 25 << 20
"""The largest body in bytes. No provider sends a larger event."""
READ_S = 10.0
"""Time limit for a whole body."""
AT_ONCE = 256
PER_PEER = 64
SMALL = 256 << 10
"""Bytes of each body that do not count towards `MAX_HELD`."""
MAX_HELD = 128 << 20
"""Bytes that all bodies in progress may hold beyond `SMALL`: their senders are not authenticated yet."""
UNKNOWN_PEER = "?"
RETRY_AFTER_S = b"5"
_EMPTY = b""
_FIXED = [(b"content-length", b"0"), (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class WebhookEndpoint:
    """The ASGI application below ``/hooks``."""

    def __init__(self, take: Take, take_app: Take, *, max_body: int) -> None:
        self._take = take
        self._take_app = take_app
        """Takes deliveries to the webhook of an App: its key is in the place of the uid."""
        self._max_body = min(max_body, HARD_CAP)
        self._busy = 0
        self._held = 0
        self._peers: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        status = await self._status(scope, receive)
        headers = [*_FIXED, (b"retry-after", RETRY_AFTER_S)] if status == 503 else list(_FIXED)
        if status in (408, 411, 413, 503):
            headers.append((b"connection", b"close"))  # the unread rest of the body would be parsed as the next request
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": _EMPTY})

    async def _status(self, scope: Scope, receive: Receive) -> int:
        if scope["method"] != "POST":
            return 405
        headers = folded(scope["headers"])
        refusal = self._refusal(headers)
        if refusal:
            return refusal
        peer = str((scope.get("client") or (UNKNOWN_PEER, 0))[0])
        if self._busy >= AT_ONCE or self._peers[peer] >= PER_PEER:
            return 503
        self._busy += 1
        self._peers[peer] += 1
        try:
            body = await self._read(receive)
        finally:
            self._busy -= 1
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]
        if isinstance(body, int):
            return body
        owner, uid, is_app = _place(str(scope["path"]))
        query: bytes = scope.get("query_string", b"")
        key = parse_qs(query.decode("latin-1")).get("key", [""])[0]
        return await (self._take_app if is_app else self._take)(owner, uid, key, headers, body)

    def _refusal(self, headers: Mapping[str, str]) -> int:
        """Return the status that refuses a request before its body is read, or 0."""
        if "transfer-encoding" in headers:
            return 411
        length = headers.get("content-length", "")
        if not length:
            return 411
        if not length.isascii() or not length.isdigit():
            return 400
        if len(length) > 12 or int(length) > self._max_body:
            return 413
        return 415 if headers.get("content-encoding", "identity").strip().lower() != "identity" else 0

    async def _read(self, receive: Receive) -> bytes | int:
        parts: list[bytes] = []
        size = held = 0
        try:
            async with asyncio.timeout(READ_S):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return 400
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._max_body:
                        return 413
                    more = max(0, size - SMALL) - held
                    if self._held + more > MAX_HELD:
                        return 503
                    self._held, held = self._held + more, held + more
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return 408
        finally:
            self._held -= held


def folded(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; equal names are joined with a comma, as RFC 9110 §5.3 reads them."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _place(path: str) -> tuple[str, str, bool]:
    """Return owner, uid and whether it is that of an App; empty strings for a path that is no webhook's."""
    parts = path.removeprefix("/hooks").strip("/").split("/")
    if len(parts) == 3 and parts[0] == "apps":
        return parts[1], parts[2], True
    return (parts[0], parts[1], False) if len(parts) == 2 else ("", "", False)
