"""Serving simulators over HTTP on loopback: in a thread (tests, demo) or in the foreground (`reconciler sandbox`)."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, TypedDict, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reconciler.sandbox.admin import PREFIX, Admin, handle
from reconciler.sandbox.app import Call, Fault, Reply, Simulator, parse_query

HOST = "127.0.0.1"
START_S = 10.0
MAX_BODY = 32 << 20
PROVIDERS: Mapping[str, str] = {
    "github": "reconciler.sandbox.github.app:GitHub",
    "semaphore": "reconciler.sandbox.semaphore.app:Semaphore",
    "buddy": "reconciler.sandbox.buddy.app:Buddy",
    "dockerhub": "reconciler.sandbox.dockerhub.app:DockerHub",
    "gitlab": "reconciler.sandbox.gitlab.app:GitLab",
    "newrelic": "reconciler.sandbox.newrelic.app:NewRelic",
    "digitalocean": "reconciler.sandbox.digitalocean.app:DigitalOcean",
    "azure": "reconciler.sandbox.azure.app:Azure",
    "google": "reconciler.sandbox.google.app:Google",
    "aws": "reconciler.sandbox.aws.app:Aws",
    "spinnaker": "reconciler.sandbox.spinnaker.app:Spinnaker",
    "slack": "reconciler.sandbox.slack.app:Slack",
    "pagerduty": "reconciler.sandbox.pagerduty.app:PagerDuty",
}
"""Simulators by provider; imported on demand."""


class _Scope(TypedDict):
    """The fields of an ASGI request that are read."""

    method: str
    path: str
    query_string: bytes
    headers: list[tuple[bytes, bytes]]
    server: tuple[str, int]
    client: tuple[str, int]


class _Received(TypedDict, total=False):
    """An ASGI message of a request."""

    type: str
    body: bytes
    more_body: bool


Receive = Callable[[], Awaitable[_Received]]
Send = Callable[[dict[str, object]], Awaitable[None]]
_transports: dict[tuple[str, int], asyncio.Transport] = {}
"""Open connections by the client's address: ASGI hands out no transport, and a reset needs one."""


def simulator(provider: str) -> Simulator:
    """Return a new simulator of ``provider``; raises `KeyError` for an unknown one."""
    module, _, name = PROVIDERS[provider].partition(":")
    return cast("Simulator", getattr(importlib.import_module(module), name)())


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, with its transports within reach."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = transport.get_extra_info("peername")
        _transports[self._peer] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        _transports.pop(self._peer, None)
        super().connection_lost(exc)


class _Asgi:
    """The ASGI application around a simulator: reads requests, applies faults, answers, logs."""

    def __init__(self, app: Simulator) -> None:
        self.app = app

    async def __call__(self, scope: _Scope, receive: Receive, send: Send) -> None:
        call = await _read(scope, receive)
        if call.path.startswith(PREFIX):
            await _send(send, handle(self.app, call))
            return
        app = self.app
        app.received += 1
        app.in_flight += 1
        try:
            await self._serve(call, scope, receive, send)
        finally:
            app.in_flight -= 1

    async def _serve(self, call: Call, scope: _Scope, receive: Receive, send: Send) -> None:
        app = self.app
        fault = app.fault_for(call)
        if fault is None or not fault.commit:
            await self._delay(fault)
        if fault is None:
            reply = app.sent(app.answer(call))
            app.note(call, reply.status, None)
            await _send(send, app.dated(reply), head=call.method == "HEAD")
            return
        await self._fail(
            fault, call, transport=_transports.get((scope["client"][0], scope["client"][1])), receive=receive, send=send
        )

    async def _delay(self, fault: Fault | None) -> None:
        delay_s = self.app.number("latency_s") + (fault.delay_s if fault is not None else 0.0)
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    async def _fail(self, fault: Fault, call: Call, *, transport: asyncio.Transport | None, receive: Receive, send: Send) -> None:
        app = self.app
        needed = fault.commit or fault.effect == "truncate" or (fault.effect == "answer" and not fault.status)
        real = app.sent(app.answer(call)) if needed else None
        if fault.commit:
            await self._delay(fault)
        if fault.effect == "answer":
            reply = real if real is not None and not fault.status else Reply(fault.status, fault.body, fault.headers)
            app.note(call, reply.status, fault)
            await _send(send, app.dated(reply))
        elif fault.effect == "malformed":
            app.note(call, 200, fault)
            await _send(send, app.dated(Reply(200, b'{"broken": [1, 2', {"content-type": "application/json", **fault.headers})))
        else:
            app.note(call, 0, fault)
            if fault.effect == "truncate" and real is not None:
                await _send(send, app.dated(real), cut=True)
            if transport is not None and fault.effect != "mute":
                _hang_up(transport, reset=fault.effect == "reset")
            while (await receive())["type"] != "http.disconnect":
                pass


def _hang_up(transport: asyncio.Transport, *, reset: bool) -> None:
    if not reset:
        transport.close()  # what was written still goes out
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _read(scope: _Scope, receive: Receive) -> Call:
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if part and size <= MAX_BODY:
            parts.append(part)
        more = bool(message.get("more_body", False))
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"]
    host, port = scope["server"]
    return Call(
        scope["method"],
        scope["path"],
        parse_query(query.decode("latin-1")) if query else {},
        headers,
        b"".join(parts),
        f"http://{host}:{port}",
    )


async def _send(send: Send, reply: Reply, *, head: bool = False, cut: bool = False) -> None:
    content = reply.content
    headers = {name.lower(): value for name, value in reply.headers.items()}
    if content and "content-type" not in headers:
        headers["content-type"] = reply.content_type
    if reply.status not in (204, 304):
        headers.setdefault("content-length", str(len(content)))
    rows = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": rows})
    if cut:
        await send({"type": "http.response.body", "body": content[: len(content) // 2], "more_body": True})
        return
    await send({"type": "http.response.body", "body": b"" if head or reply.status in (204, 304) else content})


def _configuration(app: Simulator) -> uvicorn.Config:
    return uvicorn.Config(
        cast("Any", _Asgi(app)),
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="error",
        server_header=False,
        date_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )


def _listen(port: int) -> socket.socket:
    # Naming the protocol matters: asyncio switches Nagle's delay (40 ms an answer) off only for sockets that do.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
    except OSError:
        sock.close()
        raise
    return sock


class SandboxServer:
    """A simulator served from a thread: ``with SandboxServer(simulator("github")) as server: server.url, server.admin``.

    ``port`` 0 takes a free one, known as soon as the object is made. Raises `OSError` if the port is taken.
    """

    def __init__(self, app: Simulator, port: int = 0) -> None:
        self.app = app
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}"
        self.admin = Admin(HOST, self.port)
        self._server = uvicorn.Server(_configuration(app))
        self._thread = threading.Thread(target=self._run, name=f"sandbox-{app.provider}", daemon=True)

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def start(self) -> SandboxServer:
        """Serve; returns when requests are answered."""
        self._socket.listen(2048)  # connections made before the thread runs wait instead of being refused
        self._thread.start()
        self.admin.settings()
        return self

    def stop(self) -> None:
        """End the thread; connections that are held open are cut."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(START_S)
        self._socket.close()

    def __enter__(self) -> SandboxServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def run_forever(ports: Mapping[str, int], *, say: Callable[[str], None] = print) -> None:
    """Serve simulators until SIGINT or SIGTERM: ``{"github": 9101, "semaphore": 0}``; 0 takes a free port. Prints each URL once."""
    sockets = {provider: _listen(port) for provider, port in ports.items()}
    for provider, sock in sockets.items():
        say(f"{provider}: http://{HOST}:{sock.getsockname()[1]}  (steer it below {PREFIX})")
    asyncio.run(_serve_all({provider: (simulator(provider), sock) for provider, sock in sockets.items()}))


async def _serve_all(parts: Mapping[str, tuple[Simulator, socket.socket]]) -> None:
    import signal

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    servers = [(uvicorn.Server(_configuration(app)), sock) for app, sock in parts.values()]
    for server, _ in servers:
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    tasks = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in servers]
    waiter = asyncio.create_task(stop.wait())
    await asyncio.wait([*tasks, waiter], return_when=asyncio.FIRST_COMPLETED)
    for server, _ in servers:
        server.should_exit = server.force_exit = True
    waiter.cancel()
    await asyncio.gather(*tasks)
