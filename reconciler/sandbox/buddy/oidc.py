"""Identity providers of the simulated Buddy: an ID token in exchange for a token of the API, which is the whole answer, a JSON text.

State: ``oidc_providers`` (``{ID: {"issuer", "audience", "conditions": {CLAIM: VALUE}, "scopes", "lifetime_s"}}``). The signature is
checked against the key set that the issuer publishes, as a relying party does: discovery document, ``jwks_uri``, ``kid``. ``issuers``
maps an issuer to the URL at which its documents are read instead.
"""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections.abc import Mapping

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from reconciler.sandbox.app import Call, Reply
from reconciler.sandbox.buddy.answers import body_of, iso, refuse
from reconciler.sandbox.buddy.state import BuddyState

_TIMEOUT_S = 5.0
_LEEWAY_S = 60.0


class TokenExchange:
    """``POST /user/oidc/tokens``."""

    def __init__(self, buddy: BuddyState) -> None:
        self._buddy = buddy

    def exchange(self, call: Call) -> Reply:
        """Return a token for a valid ID token; 401 for any other, with the first reason."""
        body = body_of(call)
        if set(body) != {"provider_id", "web_identity_token"}:
            refuse(400, "provider_id and web_identity_token are required")
        provider = self._buddy.records["oidc_providers"].get(str(body.get("provider_id")))
        if provider is None:
            refuse(404, "Identity provider not found")
        claims = self._claims(str(body.get("web_identity_token", "")), provider["issuer"])
        now = self._buddy.clock()
        audience = claims.get("aud")
        if claims.get("iss") != provider["issuer"]:
            refuse(401, "The issuer of the token is not trusted")
        wanted = provider.get("audience")
        if wanted and wanted not in (audience if isinstance(audience, list) else [audience]):
            refuse(401, "The audience of the token is wrong")
        if not _number(claims, "nbf") - _LEEWAY_S <= now < _number(claims, "exp") + _LEEWAY_S:
            refuse(401, "The token has expired or is not valid yet")
        for name, value in provider.get("conditions", {}).items():
            if claims.get(name) != value:
                refuse(401, f"The trust condition {name} does not hold")
        token, end = f"buddy-oidc-{secrets.token_hex(16)}", iso(now + provider.get("lifetime_s", 600.0))
        scopes = provider.get("scopes", [])
        self._buddy.records["tokens"][token] = {"name": "oidc", "scopes": scopes, "expires_at": end}
        return Reply(200, json.dumps(token).encode(), {"content-type": "application/json"})

    def _claims(self, token: str, issuer: str) -> Mapping[str, object]:
        try:
            keys = KeySet.import_key_set(self._keys_of(issuer))  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError):
            refuse(401, "The keys of the issuer cannot be read")
        try:
            return jwt.decode(token, keys, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            refuse(401, "The signature of the token is invalid")

    def _keys_of(self, issuer: str) -> dict[str, object]:
        base = self._buddy.records.get("issuers", {}).get(issuer, issuer)
        uri = str(_read(f"{base}/.well-known/openid-configuration")["jwks_uri"])
        return _read(base + uri.removeprefix(issuer) if uri.startswith(issuer) else uri)


def _read(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310  a simulator, on loopback
        body: dict[str, object] = json.loads(answer.read(1 << 20))
    return body


def _number(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
