"""Requests to token endpoints: one attempt, checked like every other request, without the credential of the integration."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from reconciler.drivers.auth import TokenRequest
from reconciler.drivers.http.client import USER_AGENT
from reconciler.drivers.http.clock import ProviderClock
from reconciler.drivers.http.errors import Response, is_page
from reconciler.drivers.http.network import NetworkPolicy
from reconciler.drivers.http.transport import HttpSession, OutgoingRequest
from reconciler.model.errors import OutcomeUnknown, ProviderUnavailable


class TokenEndpoints:
    """Implements `reconciler.drivers.auth.SendTokenRequest` over the shared connections of the process.

    Each answer with a date corrects ``clock``: providers judge the times in a signed token by their own clock.
    """

    def __init__(self, session: HttpSession, clock: ProviderClock, *, provider: str = "other") -> None:
        self._session, self._clock, self._provider = session, clock, provider

    async def __call__(self, request: TokenRequest) -> Response:
        """Send ``request`` once and return its answer, whatever the status. Raises typed errors, never `OutcomeUnknown`."""
        NetworkPolicy(request.hosts, self._session.allow).check_url(request.url)
        name = f"{request.method} {_shown(request.url)}"
        headers = {"user-agent": USER_AGENT, "accept": "application/json", "accept-encoding": "gzip"}
        headers.update({key.lower(): value for key, value in request.headers.items()})
        outgoing = OutgoingRequest(request.method, request.url, name, headers, request.content, provider=self._provider)
        now = asyncio.get_running_loop().time
        started = now()
        try:
            answer = await self._session.send(outgoing, deadline_s=self._session.bounds.read_s)
        except OutcomeUnknown as error:
            raise ProviderUnavailable(error.message.partition(";")[0], request=name) from None
        self._clock.record_date(answer.headers, now() - started)
        response = Response(answer.status, answer.headers, answer.content, name)
        if is_page(response):
            raise ProviderUnavailable(
                f"{name}: the answer ({answer.status}) is an HTML page: a proxy or a login page answered in place of the token endpoint",
                status=answer.status,
                request=name,
            )
        return response


def _shown(url: str) -> str:
    """Return host and path of ``url``: a query may contain a secret."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{parts.path}"


__all__ = ["TokenEndpoints"]
