"""The OIDC provider by which people log in: code flow with PKCE, state and nonce (OpenID Connect Core 1.0 §3.1, RFC 7636, RFC 9207)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec
import orjson

from reconciler.config.settings import OidcLoginConfig
from reconciler.drivers.auth import SendTokenRequest, TokenRequest
from reconciler.drivers.oauth import FORM
from reconciler.model.errors import ReconcilerError
from reconciler.model.printable import plain
from reconciler.server.dashboard.sessions import LoginAttempt

CALLBACK = "/login/oidc/callback"
SCOPE = "openid profile email"
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
METADATA_S = 3_600.0
LEEWAY_S = 60
MAX_ANSWER = 1 << 20
MAX_SECRET = 4_096
T = TypeVar("T")


class LoginRefused(ReconcilerError):
    """The login by the OIDC provider failed."""

    code = "RC8306"


class ProviderMetadata(msgspec.Struct, frozen=True):
    """OpenID Connect Discovery 1.0 §3."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str


class IdentityProvider:
    """Exchanges codes for the verified claims of a person."""

    def __init__(self, config: OidcLoginConfig, send: SendTokenRequest, redirect_uri: str) -> None:
        self._config = config
        self._send = send
        self._redirect_uri = redirect_uri
        self._metadata: tuple[float, ProviderMetadata] | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """What a login rests on: if it changes, sessions end."""
        config = self._config
        return (config.issuer, config.client_id, *(f"{row.claim}={row.value}:{row.role}" for row in config.roles))

    async def address(self, attempt: LoginAttempt, state: str) -> str:
        """Return the address at the provider where a person logs in. Raises `ReconcilerError` if the provider cannot be read."""
        endpoint = (await self._discovered()).authorization_endpoint
        challenge = base64.urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self._config.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": SCOPE,
            "state": state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return endpoint + ("&" if "?" in endpoint else "?") + urlencode(query)

    async def person(self, attempt: LoginAttempt, query: Mapping[str, str]) -> tuple[str, str]:
        """Return name and role of the person that the provider sent back. Raises `LoginRefused`, and errors of the provider."""
        if "error" in query:
            reason = plain(" ".join((query["error"], query.get("error_description", ""))))[:300]
            raise LoginRefused(f"the OIDC provider refused the login: {reason}", hint="Try again, or ask the people who run it.")
        if query.get("iss", self._config.issuer) != self._config.issuer or not query.get("code"):
            raise LoginRefused("the answer is not one of the configured OIDC provider", hint="Begin the login again.")
        claims = await self._claims(await self._exchanged(query["code"], attempt.verifier))
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), attempt.nonce.encode()):
            raise LoginRefused("the ID token belongs to another login (nonce)", hint="Begin the login again.")
        return _name_of(claims), self._role_of(claims)

    def _role_of(self, claims: Mapping[str, Any]) -> str:
        for row in self._config.roles:
            value = claims.get(row.claim)
            if row.value in (value if isinstance(value, list) else [value]):
                return row.role
        raise LoginRefused(
            f"{_name_of(claims)} has no role here",
            hint="Add a row that matches a claim of this person to `server.login.oidc.roles`.",
        )

    async def _discovered(self) -> ProviderMetadata:
        known = self._metadata
        if known is not None and time.monotonic() - known[0] < METADATA_S:
            return known[1]
        url = self._config.issuer.rstrip("/") + "/.well-known/openid-configuration"
        metadata = await self._asked(TokenRequest("GET", url, hosts=_hosts(self._config.issuer)), ProviderMetadata)
        if metadata.issuer != self._config.issuer:
            raise LoginRefused(
                f"the OIDC provider calls itself {plain(metadata.issuer)[:200]}",
                hint="Write `server.login.oidc.issuer` exactly like that, if it is the right one.",
            )
        self._metadata = (time.monotonic(), metadata)
        return metadata

    async def _exchanged(self, code: str, verifier: str) -> str:
        """Return the ID token for ``code``. The client secret is read now, so that a new one needs no restart."""
        metadata = await self._discovered()
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect_uri, "code_verifier": verifier}
        headers = {"content-type": FORM}
        secret = await asyncio.to_thread(self._secret)
        methods = metadata.token_endpoint_auth_methods_supported
        if secret and ("client_secret_basic" in methods or "client_secret_post" not in methods):
            pair = f"{quote_plus(self._config.client_id)}:{quote_plus(secret)}"  # RFC 6749 §2.3.1
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            fields |= {"client_id": self._config.client_id, **({"client_secret": secret} if secret else {})}
        content = urlencode(fields).encode()
        request = TokenRequest("POST", metadata.token_endpoint, headers, content, _hosts(metadata.token_endpoint))
        return (await self._asked(request, _Tokens)).id_token

    def _secret(self) -> str:
        if not self._config.client_secret_file:
            return ""
        try:
            with Path(self._config.client_secret_file).open(encoding="utf-8") as file:
                return file.read(MAX_SECRET).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LoginRefused(
                f"the client secret cannot be read: {type(error).__name__}", hint="Check `server.login.oidc.clientSecretFile`."
            ) from None

    async def _claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of an ID token after verifying it (OpenID Connect Core 1.0 §3.1.3.7)."""
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet, KeySetSerialization

        metadata = await self._discovered()
        raw = await self._asked(TokenRequest("GET", metadata.jwks_uri, hosts=_hosts(metadata.jwks_uri)), dict[str, Any])
        client, issuer = self._config.client_id, self._config.issuer
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        try:
            keys = await asyncio.to_thread(KeySet.import_key_set, cast("KeySetSerialization", raw))
            decoded = jwt.decode(token, keys, algorithms=ALGORITHMS)
            registry.validate(decoded.claims)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise LoginRefused(f"the ID token is not valid: {type(error).__name__}", hint="Begin the login again.") from None
        claims: Mapping[str, Any] = decoded.claims
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client:
            raise LoginRefused("the ID token was made for another client (azp)", hint="Check `server.login.oidc.clientId`.")
        return claims

    async def _asked(self, request: TokenRequest, kind: type[T]) -> T:
        answer = await self._send(request)
        path = urlsplit(request.url).path
        if answer.status != 200 or len(answer.content) > MAX_ANSWER:
            raise LoginRefused(
                f"the OIDC provider answered {answer.status} at {path}{_reason(answer.content)}",
                hint="Check `server.login.oidc`: issuer, client id, client secret, and the redirect URI at the provider.",
            )
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.MsgspecError, UnicodeError):
            raise LoginRefused(
                f"the OIDC provider gave no valid answer at {path}", hint="Check `server.login.oidc.issuer`."
            ) from None


def _reason(content: bytes) -> str:
    """Return the error of a token endpoint (RFC 6749 §5.2) for a message."""
    try:
        body: object = orjson.loads(content[:MAX_ANSWER])
    except orjson.JSONDecodeError:
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    return f" ({plain(error)[:60]})" if isinstance(error, str) else ""


def _name_of(claims: Mapping[str, Any]) -> str:
    """Return the name for the audit log: the address if the provider verified it, else the subject. Neither can be that of a token, unless
    the configuration gives a token such a name.
    """
    email = claims.get("email")
    if (
        claims.get("email_verified") is True
        and isinstance(email, str)
        and "@" in email
        and email.isprintable()
        and len(email) < 200
    ):
        return email.lower()
    return f"oidc:{plain(str(claims['sub']))[:190]}"


def _hosts(*urls: str) -> tuple[str, ...]:
    return tuple(host for url in urls if (host := urlsplit(url).hostname))


__all__: Sequence[str] = ("CALLBACK", "IdentityProvider", "LoginRefused")
