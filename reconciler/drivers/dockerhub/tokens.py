"""Short-lived tokens of Docker Hub: one of the Hub API (10 minutes), and one of the registry that shows what is granted.

The user name and the access token are sent to these two token endpoints only.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec
import orjson

from reconciler.drivers.auth import ApiResponse, AuthContext, AuthRequest, Expiring, TokenRequest
from reconciler.drivers.connection import Connection
from reconciler.drivers.dockerhub.spec import SPEC
from reconciler.drivers.http.errors import shared_error
from reconciler.drivers.wire import decode, find, matches
from reconciler.model.errors import AuthFailed, ProviderProtocolError, RateLimited
from reconciler.model.resources import SecretRef
from reconciler.model.secrets import SecretValue

HUB_TOKEN_S = 600.0
"""Life of a token of the Hub API; the answer does not tell it."""
_GRANTED_S = 300.0
_HUB, _REGISTRY = "https://hub.docker.com", "https://auth.docker.io"
_SECOND_FACTOR = ("mfa", "2fa", "two-factor", "secondary authentication")


class HubLogin(msgspec.Struct, frozen=True):
    access_token: str


class RegistryToken(msgspec.Struct, frozen=True):
    token: str


class RegistryAccess(msgspec.Struct, frozen=True):
    """One entry of the claim ``access``."""

    name: str
    actions: list[str]
    type: str = "repository"


class HubAuthenticator:
    """Logs in and sends the token; implements `reconciler.drivers.connection.Authenticator`."""

    def __init__(self, connection: Connection, ref: SecretRef, user: str, context: AuthContext) -> None:
        self.user = user
        self._connection, self._ref, self._context = connection, ref, context
        self._key = ""

    @property
    def organization(self) -> bool:
        """Whether the credential is an organization's access token. Raises `SecretUnavailable`."""
        return self._context.read(self._ref).reveal().startswith("dckr_oat_")

    async def authorize(self, request: AuthRequest) -> None:
        """Add the token. Raises `AuthFailed` if the login is refused, with what Docker Hub says about a second factor or SSO."""
        self._key = self._cached("hub")
        token = await self._context.tokens.get(self._key, self._log_in)
        request.headers["authorization"] = f"Bearer {token.reveal()}"

    async def refresh(self) -> bool:
        """Log in again: tokens are short-lived, and a refused one may only be too old."""
        return self._context.tokens.forget(self._key)

    async def granted(self, repository: str) -> tuple[str, ...]:
        """Return what the registry grants on ``repository``: ``acme/web: pull, push``; empty if nothing. Raises typed errors."""
        return await self._context.tokens.get(self._cached(f"registry|{repository}"), lambda: self._ask_registry(repository))

    def _cached(self, what: str) -> str:
        """Return the key in the cache. A replaced secret has another one, so that it is tried at once."""
        secret = self._context.read(self._ref).reveal()
        digest = hashlib.sha256(f"{self.user}\0{secret}".encode()).hexdigest()[:16]
        return f"{what}|{digest}"

    async def _log_in(self) -> Expiring[SecretValue]:
        secret = self._context.read(self._ref).reveal()
        body = orjson.dumps({"identifier": self.user, "secret": secret})
        answer = await self._context.send(
            TokenRequest(
                "POST", f"{self._connection.api_url}/v2/auth/token", {"content-type": "application/json"}, body, SPEC.hosts
            )
        )
        if answer.status != 200:
            raise self._refusal(answer)
        token = SecretValue(decode(answer.json(), HubLogin, "the login at Docker Hub").access_token)
        self._context.conceal(token)
        return Expiring(token, self._context.clock() + HUB_TOKEN_S)

    def _refusal(self, answer: ApiResponse) -> Exception:
        body = _json(answer)
        text = " ".join((find(body, str, "detail") or find(body, str, "message") or "").split())[:200]
        if answer.status in {401, 403}:
            return AuthFailed(
                f"{answer.request}: Docker Hub refused the login of '{self.user}' ({answer.status}{': ' + text if text else ''})",
                code="RC4071" if _hint_of(text) else None,
                status=answer.status,
                request=answer.request,
                hint=_hint_of(text)
                or "Check `auth.basic.username` (for an organization's token: the organization) and the access token: it may be deleted,"
                " deactivated or expired.",
            )
        if answer.status == 404:
            return ProviderProtocolError(
                f"{answer.request}: there is no login here: not found (404)",
                status=404,
                request=answer.request,
                hint="Check `apiUrl`: it is the root of the Hub API, without /v2.",
            )
        until = answer.headers.get("x-retry-after", "")
        if answer.status == 429 and until.isdecimal():
            at = float(until[:12]) + self._context.clock() - self._context.provider_time()
            return RateLimited(f"{answer.request}: rate limit (429)", status=429, request=answer.request, retry_at=at)
        return shared_error(answer, self._context.clock())

    async def _ask_registry(self, repository: str) -> Expiring[tuple[str, ...]]:
        root = _REGISTRY if self._connection.api_url == _HUB else self._connection.api_url
        query = urlencode({"service": "registry.docker.io", "scope": f"repository:{repository}:pull,push,delete"})
        pair = f"{self.user}:{self._context.read(self._ref).reveal()}".encode()
        headers = {"authorization": "Basic " + base64.b64encode(pair).decode()}
        answer = await self._context.send(TokenRequest("GET", f"{root}/token?{query}", headers, hosts=SPEC.hosts))
        if answer.status != 200:
            raise self._refusal(answer)
        token = SecretValue(decode(answer.json(), RegistryToken, "the registry's token").token)
        self._context.conceal(token)
        rows = [f"{row.name}: {', '.join(sorted(row.actions))}" for row in _access(token, answer.request) if row.actions]
        return Expiring(tuple(rows), self._context.clock() + _GRANTED_S)


def _access(token: SecretValue, request: str) -> list[RegistryAccess]:
    """Return the claim ``access`` of a token that came straight from the registry; its signature is for the registry to check."""
    try:
        part = token.reveal().split(".")[1]
        claims: object = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        raise ProviderProtocolError(f"{request}: the registry's token is no JWT", request=request) from None
    access = claims.get("access") if isinstance(claims, Mapping) else None
    return matches(access, list[RegistryAccess]) or []


def _hint_of(text: str) -> str:
    lower = text.lower()
    if any(word in lower for word in _SECOND_FACTOR):
        return "The account has two-factor authentication, so its password opens no API: create a personal access token, and use it as the password."
    if "sso" in lower or "single sign" in lower:
        return "The organization enforces single sign-on, so a password opens no API: create a personal access token, and use it as the password."
    return ""


def _json(answer: ApiResponse) -> object:
    try:
        body: object = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return None
    return body


__all__ = ["HUB_TOKEN_S", "HubAuthenticator"]
