"""The daemon's ASGI application and its listener: uvicorn in the daemon's event loop, without signal handlers and access log.

``/hooks`` comes first and bypasses the router; everything else goes through Starlette.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from reconciler.model.errors import ConfigError
from reconciler.server.health import Probes, routes
from reconciler.server.webhooks import Receive, Scope, Send, WebhookEndpoint

if TYPE_CHECKING:
    import uvicorn


class App:
    """Dispatches a request. Webhooks bypass the router, so that the busiest path pays for nothing else."""

    def __init__(self, probes: Probes, hooks: WebhookEndpoint | None = None, more: tuple[BaseRoute, ...] = ()) -> None:
        self._hooks = hooks
        self._rest = Starlette(routes=[*routes(probes), *more])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if self._hooks is not None and scope["type"] == "http" and str(scope["path"]).startswith("/hooks/"):
            await self._hooks(scope, receive, send)
            return
        await self._rest(scope, receive, send)  # type: ignore[arg-type]


class HttpServer:
    """Serves ``app`` (ASGI) on ``listen`` (``host:port``; port 0 picks a free one, see `port`)."""

    def __init__(self, listen: str, app: App) -> None:
        self._listen = listen
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._server: uvicorn.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Bind and serve. Raises `ConfigError` if the address is not available."""
        import uvicorn

        from reconciler.server.connection import LIMIT, GuardedProtocol

        host, _, port = self._listen.rpartition(":")
        host = host.strip("[]")
        try:
            sock = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._listen}: {error.strerror}",
                code="RC8004",
                hint="Another process has the port, or the address is not this machine's: change server.listen.",
            ) from error
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # accepted sockets inherit it; asyncio sets it only on sockets that it creates
        self.port = sock.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=5,
            limit_concurrency=LIMIT,
            server_header=False,
            http=GuardedProtocol,
            ws="none",
        )
        server = uvicorn.Server(config)
        self._server = server
        self._task = asyncio.create_task(server._serve([sock]))  # noqa: SLF001  see tests/test_structure.py

    async def stop(self) -> None:
        """Stop accepting, and wait up to 3 s for requests in progress."""
        if self._task is None or self._server is None:
            return
        self._server.should_exit = True
        await asyncio.wait({self._task}, timeout=3)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
