"""The two public documents of the OIDC issuer, under ``/.well-known`` and, where the issuer has a path, below that path too."""

from __future__ import annotations

from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.credentials.id_tokens import IdTokenIssuer
from reconciler.credentials.issuer import DISCOVERY_PATH, KEYS_PATH, MAX_AGE_S
from reconciler.model.errors import StateError

HEADERS = {
    "cache-control": f"public, max-age={MAX_AGE_S}",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'",
    "access-control-allow-origin": "*",
}

UNAVAILABLE = {**HEADERS, "cache-control": "no-store", "retry-after": "60"}


def routes(issuer: IdTokenIssuer) -> list[Route]:
    """Return the routes of ``issuer``. A proxy in front may strip the path of the issuer or not, so both forms are served."""

    async def discovery(_: Request) -> Response:
        return Response(orjson.dumps(issuer.discovery()), 200, HEADERS, media_type="application/json")

    async def keys(_: Request) -> Response:
        try:
            found = await issuer.key_set()
        except StateError:  # relying parties keep the key set that they have, and ask again
            return Response(b'{"error":"unavailable"}', 503, UNAVAILABLE, media_type="application/json")
        return Response(orjson.dumps(found), 200, HEADERS, media_type="application/json")

    prefixes = dict.fromkeys(("", urlsplit(issuer.issuer).path.rstrip("/")))
    return [
        Route(prefix + path, endpoint)
        for prefix in prefixes
        for path, endpoint in ((DISCOVERY_PATH, discovery), (KEYS_PATH, keys))
    ]


__all__ = ["routes"]
