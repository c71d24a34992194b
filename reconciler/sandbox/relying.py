"""A relying party of ID tokens, for the simulators of clouds: reads the issuer's documents, and verifies signature and form.

State ``issuers`` maps an issuer to the URL at which its documents are read instead: issuers have https addresses that a sandbox
cannot reach.
"""

from __future__ import annotations

import base64
import binascii
import urllib.request
from collections.abc import Mapping
from typing import cast

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization

from reconciler.sandbox.app import parse_query
from reconciler.sandbox.shapes import is_object

FETCH_S = 5.0
MAX_BYTES = 1 << 20


class InvalidIdToken(Exception):
    """``reason``: ``form``, ``algorithm``, ``kid``, ``issuer`` (its documents cannot be read) or ``signature``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def unverified(token: str) -> tuple[dict[str, object], dict[str, object]]:
    """Return header and claims. Raises `InvalidIdToken`."""
    try:
        header, claims, _ = token.split(".")
        parts = [orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (header, claims)]
    except (ValueError, binascii.Error):
        raise InvalidIdToken("form") from None
    if not is_object(parts[0]) or not is_object(parts[1]):
        raise InvalidIdToken("form")
    return parts[0], parts[1]


def verify(token: str, algorithms: frozenset[str], documents: Mapping[str, str]) -> dict[str, object]:
    """Return the claims of a token with a valid signature. Times and audience are the caller's matter. Raises `InvalidIdToken`."""
    header, claims = unverified(token)
    if header.get("alg") not in algorithms:
        raise InvalidIdToken("algorithm")
    if not header.get("kid"):
        raise InvalidIdToken("kid")
    issuer = str(claims.get("iss", ""))
    keys = _keys(issuer, documents.get(issuer, issuer))
    try:
        chosen = [key for key in KeySet.import_key_set(keys).keys if key.kid == header["kid"]]
        jwt.decode(token, KeySet(chosen), algorithms=sorted(algorithms))
    except (JoseError, ValueError, KeyError, TypeError):
        raise InvalidIdToken("signature") from None
    return claims


def _keys(issuer: str, base: str) -> KeySetSerialization:
    found = _fetch(f"{base}/.well-known/openid-configuration")
    uri = str(found.get("jwks_uri", ""))
    if found.get("issuer") != issuer or not uri:
        raise InvalidIdToken("issuer")
    return cast("KeySetSerialization", _fetch(base + uri.removeprefix(issuer) if uri.startswith(issuer) else uri))


def _fetch(url: str) -> dict[str, object]:
    if not url.startswith(("http://", "https://")):
        raise InvalidIdToken("issuer")
    try:
        with urllib.request.urlopen(url, timeout=FETCH_S) as answer:  # noqa: S310  the scheme is checked
            found: object = orjson.loads(answer.read(MAX_BYTES))
    except (OSError, ValueError):
        raise InvalidIdToken("issuer") from None
    if not is_object(found):
        raise InvalidIdToken("issuer")
    return found


def form_of(content_type: str, body: bytes) -> dict[str, str] | None:
    """Return the fields of a form; None for a body of another type."""
    if not content_type.startswith("application/x-www-form-urlencoded"):
        return None
    return parse_query(body.decode("utf-8", "replace"))


__all__ = ["InvalidIdToken", "form_of", "unverified", "verify"]
