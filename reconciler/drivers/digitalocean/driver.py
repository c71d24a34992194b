"""The credential check of DigitalOcean: the account that a token belongs to.

Facts: the provider's OpenAPI description. ``GET /v2/account`` needs the scope ``account:read``; a token without it is valid all
the same. A token's scopes and its end are in a call on another host that the provider's own command-line client uses; it is in no
description, so what it refuses proves nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from reconciler.drivers.auth import AuthContext, Expiring, TokenRequest
from reconciler.drivers.connection import Api, Authenticator, Connection
from reconciler.drivers.digitalocean.spec import SPEC
from reconciler.drivers.provider import ProviderDriver, SecretHeader, TokenAuthenticator
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import AuthFailed, PermissionDenied, ProviderError, ReconcilerError
from reconciler.model.resources import SecretRef
from reconciler.model.status import CredentialReport
from reconciler.model.times import iso

_API, _CONTROL = "https://api.digitalocean.com", "https://cloud.digitalocean.com"
_INFO = "/v1/oauth/token/info"
_VERBS = {"read": ("read",), "write": ("read", "create", "update"), "admin": ("read", "create", "update", "delete")}
_FACTS_S = 3_600.0
"""How long the facts of a token are not read again."""


class Account(msgspec.Struct, frozen=True):
    """What is read of ``account``; ``status`` is active, warning or locked."""

    status: str
    email: str = ""
    status_message: str = ""


class TokenInfo(msgspec.Struct, frozen=True):
    """What a token is; without ``expires_in_seconds`` it does not end."""

    scopes: list[str]
    expires_in_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """The scopes of a token, and when it ends (RFC 3339; empty: never)."""

    scopes: tuple[str, ...]
    expires_at: str


class DigitalOceanAuthenticator(TokenAuthenticator):
    """Sends the token, and asks what it is."""

    def __init__(self, connection: Connection, ref: SecretRef, context: AuthContext) -> None:
        super().__init__(ref, context.read, SecretHeader())
        self._connection, self._token_ref, self._context = connection, ref, context

    async def facts(self) -> TokenFacts:
        """Return the scopes and the end of the token. Raises typed errors; 401 and 404 there do not mean that it is invalid."""
        secret = self._context.read(self._token_ref).reveal()
        digest = hashlib.sha256(secret.encode()).hexdigest()[:16]
        return await self._context.tokens.get(digest, lambda: self._ask(secret))

    async def _ask(self, secret: str) -> Expiring[TokenFacts]:
        root = _CONTROL if self._connection.api_url == _API else self._connection.api_url
        headers = {"authorization": f"Bearer {secret}"}
        answer = await self._context.send(TokenRequest("GET", f"{root}{_INFO}", headers, hosts=SPEC.hosts))
        if answer.status != 200:
            raise ProviderError(f"{answer.request}: {answer.status}", status=answer.status, request=answer.request)
        info, now = decode(answer.json(), TokenInfo, f"GET {_INFO}"), self._context.clock()
        end = iso(round((now + info.expires_in_seconds) / 60) * 60.0) if info.expires_in_seconds else ""  # steady between reads
        return Expiring(TokenFacts(tuple(sorted(info.scopes)), end), now + _FACTS_S)


class DigitalOceanDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver`."""

    spec = SPEC

    def address(self, url: str) -> tuple[str, str]:
        """Return the one API root; a token belongs to one account, which no URL names."""
        return _API, ""

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Raises `ValidationFailed` if the connection names no secret."""
        ref = connection.secrets.get("/token")
        return super().authenticator(connection, context) if ref is None else DigitalOceanAuthenticator(connection, ref, context)

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        """Return the error of a refused token; every other status means what it means everywhere."""
        if status != 401:
            return None
        return AuthFailed(
            f"{request}: DigitalOcean refused the token (401)",
            status=status,
            request=request,
            hint="Provide a personal access token that is neither expired nor revoked.",
        )

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Read the account. Raises `AuthFailed` for a refused token and for an account that is locked."""
        try:
            answer = await api.request("GET", "/v2/account")
        except PermissionDenied as error:
            if find(error.body, str, "id") != "forbidden":
                raise  # not in DigitalOcean's own words: it tells nothing of the token
            return await _report(api, "a token that may not read its account (no scope account:read)", "", needs)
        account = decode(answer.json(), Account, "GET /v2/account", "account")
        if account.status == "locked":
            reason = f": {account.status_message}" if account.status_message else ""
            raise AuthFailed(
                f"the DigitalOcean account {account.email} is locked{reason}",
                request="GET /v2/account",
                hint="Unlock it in the control panel, or ask the provider's support.",
            )
        warning = f"acts as {account.email}; the account has a warning: {account.status_message}"
        return await _report(api, account.email, warning if account.status == "warning" else "", needs)


async def _report(api: Api, identity: str, message: str, needs: Mapping[str, str]) -> CredentialReport:
    """Return the report, with the scopes and the end of the token if the provider tells them."""
    try:
        facts = await api.authenticator.facts() if isinstance(api.authenticator, DigitalOceanAuthenticator) else None
    except ReconcilerError as error:
        facts, reason = None, f"DigitalOcean did not tell what the token is ({error.message})"
    else:
        reason = "DigitalOcean does not tell what the token is"
    if facts is None:
        return CredentialReport(
            True, identity, message=message, unknown=dict.fromkeys(("granted", "missing", "expiresAt"), reason)
        )
    needed = {f"{name}:{verb}" for name, level in needs.items() for verb in _VERBS.get(level, (level,))}
    missing = tuple(sorted(needed.difference(facts.scopes)))
    unknown = {} if facts.expires_at else {"expiresAt": "the token has no end"}
    return CredentialReport(True, identity, facts.expires_at, facts.scopes, missing, message=message, unknown=unknown)


driver = DigitalOceanDriver()

__all__ = ["DigitalOceanDriver", "driver"]
