"""Tokens of Buddy for an ID token of this daemon: nothing secret is stored.

Facts: Buddy's documentation of OIDC identity providers (``POST /user/oidc/tokens``). A provider decides by issuer, audience and trust
conditions, and how long its tokens live: 10 minutes at least.
"""

from __future__ import annotations

import msgspec
import orjson

from reconciler.drivers.auth import AuthContext, AuthRequest, Expiring, TokenRequest
from reconciler.drivers.base import Connection
from reconciler.drivers.buddy.errors import message_of
from reconciler.drivers.buddy.spec import SPEC
from reconciler.drivers.common import epoch_of_iso
from reconciler.drivers.http.errors import shared_error
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import AuthFailed, ValidationFailed
from reconciler.model.secrets import SecretValue

SHORTEST_S = 600.0
"""The shortest life that a provider can be configured with: assumed where the answer names no end."""
_PATH = "/user/oidc/tokens"


class ExchangedToken(msgspec.Struct, frozen=True):
    token: str
    expires_at: str | None = None


class ExchangeAuthenticator:
    """Exchanges an ID token and sends what it gets; implements `reconciler.drivers.base.Authenticator`."""

    def __init__(self, connection: Connection, context: AuthContext) -> None:
        self._connection, self._context = connection, context
        self._provider = find(connection.auth, str, "oidc", "providerId") or ""
        self._audience = find(connection.auth, str, "oidc", "audience") or SPEC.audience
        self._subject = find(connection.auth, str, "oidc", "subject") or ""
        if not self._provider:
            raise ValidationFailed(
                f"{connection.integration}: auth.oidc names no identity provider of Buddy",
                hint="Set `auth.oidc.providerId` to the id under Workspace settings > Identity providers.",
            )
        self._key = f"{self._provider}|{self._audience}|{self._subject}|{connection.integration}"

    async def authorize(self, request: AuthRequest) -> None:
        """Add a token. Raises `SecretUnavailable` without an issuer, `AuthFailed` if Buddy refuses the ID token."""
        token = await self._context.tokens.get(self._key, self._exchange)
        request.headers["authorization"] = f"Bearer {token.reveal()}"

    async def refresh(self) -> bool:
        """Drop the refused token, so that a new one is requested."""
        return self._context.tokens.forget(self._key)

    async def _exchange(self) -> Expiring[SecretValue]:
        proof = await self._context.id_token(self._connection.integration, self._audience, subject=self._subject)
        body = orjson.dumps({"provider_id": self._provider, "web_identity_token": proof.reveal()})
        answer = await self._context.send(
            TokenRequest("POST", f"{self._connection.api_url}{_PATH}", {"content-type": "application/json"}, body, SPEC.hosts)
        )
        if answer.status in {400, 401, 403, 404}:
            text = message_of(_json(answer.content))
            raise AuthFailed(
                f"{answer.request}: Buddy refused the ID token ({answer.status}{': ' + text if text else ''})",
                code="RC4072",
                status=answer.status,
                request=answer.request,
                hint=f"Compare the identity provider {self._provider} at Buddy with the token: issuer, audience '{self._audience}', and the"
                " trust conditions (sub). Buddy reads the keys at the issuer, which must be reachable from there.",
            )
        if not 200 <= answer.status < 300:
            raise shared_error(answer, self._context.clock())
        made = decode(answer.json(), ExchangedToken, "the exchange of the ID token")
        token, now = SecretValue(made.token), self._context.clock()
        self._context.conceal(token)
        end = epoch_of_iso(made.expires_at) if made.expires_at else None
        ahead_s = self._context.provider_time() - now
        return Expiring(token, end - ahead_s if end is not None else now + SHORTEST_S)


def _json(content: bytes) -> object:
    try:
        body: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return body


__all__ = ["ExchangeAuthenticator"]
