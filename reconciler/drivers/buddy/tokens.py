"""Tokens of Buddy for an ID token of this daemon: nothing secret is stored.

Facts: Buddy's documentation of OIDC identity providers (``POST /user/oidc/tokens``). The answer is the token as a JSON text. A
provider decides by issuer, audience and trust conditions, and how long its tokens live: 10 minutes at least.
"""

from __future__ import annotations

import msgspec
import orjson

from reconciler.drivers.auth import ApiResponse, AuthContext, AuthRequest, Expiring, TokenRequest
from reconciler.drivers.buddy.errors import message_of
from reconciler.drivers.buddy.spec import SPEC
from reconciler.drivers.common import epoch_of_iso
from reconciler.drivers.connection import Connection
from reconciler.drivers.http.errors import shared_error
from reconciler.drivers.oauth import Bearer, bearer, forget_refused, granted
from reconciler.drivers.refusals import claims_in, explain
from reconciler.drivers.wire import find, matches
from reconciler.model.errors import AuthFailed, ValidationFailed
from reconciler.model.printable import plain
from reconciler.model.secrets import SecretValue

SHORTEST_S = 600.0
"""The shortest life that a provider can be configured with: assumed where the answer names no end."""
_PATH = "/user/oidc/tokens"
_WHAT = "the exchange of the ID token"


class ExchangedToken(msgspec.Struct, frozen=True):
    """The form of the answer in the style of the other endpoints for tokens, with the end."""

    token: str
    expires_at: str | None = None


class ExchangeAuthenticator:
    """Exchanges an ID token and sends what it gets; implements `reconciler.drivers.connection.Authenticator`."""

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
        kept = await self._context.tokens.get(self._key, self._exchange)
        request.headers["authorization"] = f"Bearer {kept.token.reveal()}"

    async def refresh(self) -> bool:
        """After a 401: drop the token, so that another one is requested, unless it is new."""
        return forget_refused(self._context.tokens, self._key, self._context.clock())

    async def _exchange(self) -> Expiring[Bearer]:
        proof = await self._context.id_token(self._connection.integration, self._audience, subject=self._subject)
        body = orjson.dumps({"provider_id": self._provider, "web_identity_token": proof.reveal()})
        answer = await self._context.send(
            TokenRequest("POST", f"{self._connection.api_url}{_PATH}", {"content-type": "application/json"}, body, SPEC.hosts)
        )
        if answer.status in {400, 401, 403, 404}:
            raise self._refused(answer, proof)
        if not 200 <= answer.status < 300:
            raise shared_error(answer, self._context.clock())
        return self._kept(answer)

    def _refused(self, answer: ApiResponse, proof: SecretValue) -> AuthFailed:
        """Return the error of a refusal: the claim that differs, as far as Buddy's words name it, and these words."""
        words = plain(message_of(_json(answer.content)))
        said = f"{answer.status}: {words}" if words else str(answer.status)
        why = explain("buddy", claims_in(proof.reveal()), answer.status, words, provider_now=self._context.provider_time())
        if why is not None:
            return AuthFailed(
                f"{why.message} ({said})", code="RC4050", status=answer.status, request=answer.request, hint=why.hint
            )
        return AuthFailed(
            f"{answer.request}: Buddy refused the ID token ({said})",
            code="RC4072",
            status=answer.status,
            request=answer.request,
            hint=f"Compare the identity provider {self._provider} at Buddy with the token: issuer, audience '{self._audience}', and the"
            " trust conditions (sub). Buddy reads the keys at the issuer, which must be reachable from there.",
        )

    def _kept(self, answer: ApiResponse) -> Expiring[Bearer]:
        text = matches(granted(answer, object, _WHAT), str)
        made = ExchangedToken(text) if text is not None else granted(answer, ExchangedToken, _WHAT)
        end = epoch_of_iso(made.expires_at or "")
        life_s = end - self._context.provider_time() if end is not None else SHORTEST_S
        kept = bearer(made.token, life_s, self._context.clock(), answer.request)
        self._context.conceal(kept.value.token)
        return kept


def _json(content: bytes) -> object:
    try:
        body: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return body


__all__ = ["ExchangeAuthenticator"]
