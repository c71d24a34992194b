"""Signed calls of services with a JSON protocol. Facts: "AWS JSON 1.1 protocol" of the Smithy specification.

A call reads: it is sent once, and a lost answer is a failure, not an unknown outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import orjson

from reconciler.drivers.auth import ApiResponse, AuthContext, AuthRequest, TokenRequest
from reconciler.drivers.aws.regions import SigningScope, domain_of, scope_of
from reconciler.drivers.base import Connection
from reconciler.model.values import JsonObject

SignFor = Callable[[AuthRequest, SigningScope], Awaitable[None]]


class ServiceCalls:
    """Calls services in one region with the credential of one connection.

    If ``apiUrl`` is set to an address that is not AWS, every service is called there, as SDKs do with ``AWS_ENDPOINT_URL``.
    """

    def __init__(self, connection: Connection, sign: SignFor, context: AuthContext, region: str) -> None:
        self.integration = connection.integration
        self._sign, self._send, self._region = sign, context.send, region
        self.clock = context.clock
        self._override = "" if scope_of(urlsplit(connection.api_url).hostname or "") is not None else connection.api_url

    async def call(self, service: str, action: str, fields: JsonObject) -> ApiResponse:
        """Return any answer to ``action`` (``secretsmanager.GetSecretValue``). Raises the errors of the credential and the network."""
        host = f"{service}.{self._region}.{domain_of(self._region)}"
        url = f"{self._override or f'https://{host}'}/"
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": action, "accept": "application/x-amz-json-1.1"}
        request = AuthRequest("POST", url, headers, orjson.dumps(fields))
        await self._sign(request, SigningScope(service, self._region))
        return await self._send(TokenRequest(request.method, url, request.headers, request.content, hosts=(host,)))


__all__ = ["ServiceCalls"]
