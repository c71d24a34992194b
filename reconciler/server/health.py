"""``/healthz`` (the loops advance), ``/readyz`` (the first pass has ended) and ``/metrics`` (Prometheus).

They need no authentication, so the probes show no details.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'",
    "referrer-policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class Probes:
    """The state of the daemon, as the endpoints read it."""

    dead_loops: Callable[[], list[str]]
    ready: Callable[[], bool]
    scrape: Callable[[Request], Awaitable[Response]]


def routes(probes: Probes) -> list[Route]:
    """Return the routes of the probes."""

    async def healthz(_: Request) -> Response:
        dead = probes.dead_loops()
        return PlainTextResponse("ok\n" if not dead else "stuck\n", 200 if not dead else 503, SECURITY_HEADERS)

    async def readyz(_: Request) -> Response:
        ready = probes.ready()
        return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503, SECURITY_HEADERS)

    async def metrics(request: Request) -> Response:
        return await probes.scrape(request)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
