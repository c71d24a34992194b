"""Signed calls of services with a JSON protocol. Facts: "AWS JSON 1.1 protocol" of the Smithy specification.

A call reads: a lost answer is a failure, not an unknown outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import orjson

from reconciler.drivers.auth import ApiResponse, AuthContext, AuthRequest, TokenRequest
from reconciler.drivers.aws.answers import SESSION_CODES, shown
from reconciler.drivers.aws.regions import SigningScope, domain_of, scope_of
from reconciler.drivers.connection import Connection
from reconciler.drivers.wire import find
from reconciler.model.values import JsonObject

SignFor = Callable[[AuthRequest, SigningScope], Awaitable[None]]


class ServiceCalls:
    """Calls services with the credential of one connection, in its region unless a call names another.

    If ``apiUrl`` is set to an address that is not AWS, every service is called there, as SDKs do with ``AWS_ENDPOINT_URL``.
    """

    def __init__(
        self, connection: Connection, sign: SignFor, refresh: Callable[[], Awaitable[bool]], context: AuthContext, region: str
    ) -> None:
        self.integration = connection.integration
        self._sign, self._refresh, self._send, self._region = sign, refresh, context.send, region
        self.clock = context.provider_time
        self._override = "" if scope_of(urlsplit(connection.api_url).hostname or "") is not None else connection.api_url

    async def call(self, service: str, action: str, fields: JsonObject, *, region: str = "") -> ApiResponse:
        """Return any answer to ``action`` (``secretsmanager.GetSecretValue``). Raises the errors of the credential and the network.

        A refused session or signature is sent once more, if the session could be renewed or the answer has corrected the clock.
        """
        answer = await self._signed(service, action, fields, region or self._region)
        if answer.status in {400, 401, 403} and json_refusal(answer)[0] in SESSION_CODES and await self._refresh():
            answer = await self._signed(service, action, fields, region or self._region)
        return answer

    async def _signed(self, service: str, action: str, fields: JsonObject, region: str) -> ApiResponse:
        host = f"{service}.{region}.{domain_of(region)}"
        url = f"{self._override or f'https://{host}'}/"
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": action, "accept": "application/x-amz-json-1.1"}
        request = AuthRequest("POST", url, headers, orjson.dumps(fields))
        await self._sign(request, SigningScope(service, region))
        return await self._send(TokenRequest(request.method, url, request.headers, request.content, hosts=(host,)))


def json_refusal(answer: ApiResponse) -> tuple[str, str]:
    """Return code and message of a refusal; both are empty if it is not one of the protocol."""
    try:
        body: object = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return "", ""
    code = (find(body, str, "__type") or "").rpartition("#")[2].partition(":")[0][:80]
    return code, shown(find(body, str, "message") or find(body, str, "Message") or "")


__all__ = ["ServiceCalls", "json_refusal"]
