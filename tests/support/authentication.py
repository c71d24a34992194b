"""The context of authenticators, as the engine builds it."""

from __future__ import annotations

import time
from collections.abc import Callable

from reconciler.drivers.auth import AuthContext, IssueIdToken, SendTokenRequest, TokenCache, TokenRequest, no_issuer
from reconciler.drivers.base import ApiResponse
from reconciler.drivers.http.clock import ProviderClock
from reconciler.drivers.http.exchange import TokenEndpoints
from reconciler.drivers.http.transport import HttpSession
from reconciler.model.resources import SecretRef
from reconciler.model.secrets import SecretValue


async def send_nothing(request: TokenRequest) -> ApiResponse:
    """Fail: the authenticator under test must not send a request of its own."""
    raise AssertionError(f"{request.method} {request.url} was sent")


def auth_context(
    read: Callable[[SecretRef], SecretValue],
    *,
    session: HttpSession | None = None,
    id_token: IssueIdToken = no_issuer,
    clock: Callable[[], float] = time.time,
    tokens: TokenCache | None = None,
) -> AuthContext:
    """Return a context with ``read``; token endpoints are reachable through ``session`` only."""
    provider = ProviderClock(clock)
    send: SendTokenRequest = send_nothing if session is None else TokenEndpoints(session, provider)
    return AuthContext(read, send, id_token, tokens or TokenCache(clock), lambda _value: None, clock, provider.now)
