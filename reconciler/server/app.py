"""The daemon's one ASGI application: ``/hooks`` first and by itself, everything else through Starlette's router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from reconciler.server.health import Probes, routes
from reconciler.server.webhooks import Receive, Send, WebhookEndpoint


class App:
    """Sends a request where it belongs. The receiver is beside the router: the busiest path pays for nothing else."""

    def __init__(self, probes: Probes, hooks: WebhookEndpoint | None = None, more: tuple[BaseRoute, ...] = ()) -> None:
        self._hooks = hooks
        self._rest = Starlette(routes=[*routes(probes), *more])

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if self._hooks is not None and scope["type"] == "http" and str(scope["path"]).startswith("/hooks/"):
            await self._hooks(scope, receive, send)
            return
        await self._rest(scope, receive, send)  # type: ignore[arg-type]
