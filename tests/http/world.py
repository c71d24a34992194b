"""A scripted HTTP server on loopback that works on bytes, and a provider that has no rules of its own."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from reconciler.drivers.auth import AuthRequest
from reconciler.drivers.base import ProviderLimits
from reconciler.drivers.connection import Connection
from reconciler.drivers.http.budget import UNLIMITED, Budget
from reconciler.drivers.http.client import ApiClient, Bounds, HttpSession
from reconciler.model.resources import ResourceId, SecretRef

TOKEN = "canary-7f3a9c-token"


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float
    writer: asyncio.StreamWriter

    async def reply(self, status: int = 200, body: bytes | object = b"{}", **headers: str) -> None:
        """Answer as a server does; a body that is no bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def cut(self, *, reset: bool = False) -> None:
        """End the connection; with ``reset`` by RST, as a crashed proxy does."""
        if reset:
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort() if reset else self.writer.close()


Handler = Callable[[Request], Awaitable[None]]


@dataclass
class Server:
    port: int
    seen: list[Request] = field(default_factory=list)
    connections: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[str]:
        return [f"{request.method} {request.target}" for request in self.seen]


@contextlib.asynccontextmanager
async def serve(handler: Handler, *, tls: object = None, **options: object) -> AsyncIterator[Server]:
    """Serve ``handler`` on a free port of loopback until the block ends."""
    state = Server(0, scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        state.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, TimeoutError):
            while not writer.is_closing():
                request = await _read(reader, writer)
                state.seen.append(request)
                await handler(request)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, **options)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body, time.monotonic(), writer)


@dataclass
class Provider:
    """A provider whose answers mean what the shared table says."""

    hosts: tuple[str, ...] = ("api.provider.example",)
    provider: str = "test"
    limits: ProviderLimits = UNLIMITED

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        return None


@dataclass
class Token:
    """Puts a token on requests; fresh ones come from ``next_values``."""

    value: str = TOKEN
    next_values: list[str] = field(default_factory=list)
    refreshed: int = 0

    async def authorize(self, request: AuthRequest) -> None:
        request.headers["authorization"] = f"Bearer {self.value}"
        request.headers["private-token"] = self.value

    async def refresh(self) -> bool:
        self.refreshed += 1
        if not self.next_values:
            return False
        self.value = self.next_values.pop(0)
        return True


def connection(api_url: str) -> Connection:
    ref = SecretRef("default", "test-token", "token")
    return Connection(ResourceId("Integration", "default", "test"), "test", api_url, api_url, "acme", {}, {"/token": ref})


class Fixture:
    """Clients over one session."""

    def __init__(self, session: HttpSession) -> None:
        self.session = session

    def api(
        self,
        url: str,
        *,
        token: Token | None = None,
        budget: Budget | None = None,
        provider: Provider | None = None,
        clock: Callable[[], float] = time.time,
        read_only: bool = False,
    ) -> ApiClient:
        target = connection(url)
        return ApiClient(
            target,
            provider or Provider(),
            token or Token(),
            session=self.session,
            budget=budget or Budget(target.credential_id, UNLIMITED, store=None, clock=clock),
            clock=clock,
            read_only=read_only,
        )


FAST = Bounds(connect_s=5.0, read_s=3.0, write_s=3.0, max_bytes=1 << 20)
