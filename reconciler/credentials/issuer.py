"""The OIDC issuer: signing keys with their life, subjects, claims, ID tokens, and the two public documents.

Facts: OpenID Connect Discovery 1.0 §3 and §4, RFC 7517 (JWK), RFC 7638 (thumbprint as `kid`), RFC 7519 (JWT). RS256 with 2,048 bits
is the one algorithm that all relying parties accept. Relying parties cache the key set for up to a day: a key is
published for `PUBLISH_AHEAD_S` before it signs, and stays published as long after its last token ended.

Everything here is pure except for `new_key`, which generates a key. `reconciler.credentials.id_tokens` keeps the keys.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.credentials.keys import KeyRing
from reconciler.model.errors import StateError
from reconciler.model.issuer_keys import IssuerKey
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonValue

ALGORITHM = "RS256"
KEY_BITS = 2048
PUBLISH_AHEAD_S = 86_400.0
"""A relying party may cache the key set for a day ."""
MAX_AGE_S = 900
"""``Cache-Control: max-age`` of the two documents."""
NOT_BEFORE_S = 30
"""Clocks of relying parties may be this late."""
MAX_SUBJECT = 127
"""Bytes: the smallest limit of all relying parties (`reconciler.drivers.trust`)."""
SUBJECT_PREFIX = "reconciler:"
RESERVED = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "amr", "acr", "nonce", "auth_time", "typ"})
"""Claims with a meaning of their own (RFC 7519, OpenID Connect Core): only the issuer sets them."""
DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/.well-known/jwks.json"
_HASH_CHARS = 32
_PLAIN = re.compile(r"[A-Za-z0-9._/@-]")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long keys sign and tokens live, in seconds."""

    rotation_s: float
    token_s: float


def new_key(number: int, ring: KeyRing, now: float, sign_from: float) -> IssuerKey:
    """Generate a key. It takes about 0.1 s of CPU, so call it in a thread."""
    from joserfc.jwk import RSAKey

    key = RSAKey.generate_key(KEY_BITS, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    public = {
        name: str(value) for name, value in key.as_dict(private=False).items() if name in {"kty", "use", "alg", "kid", "n", "e"}
    }
    private = key.as_dict(private=True)
    kid = key.kid or ""
    material = orjson.dumps({name: private[name] for name in sorted(private)})
    return IssuerKey(number, kid, public, seal(material, kid, ring), ring.current.key_id, now, sign_from)


def seal(material: bytes, kid: str, ring: KeyRing) -> bytes:
    """Encrypt a private key under the master key in force: AES-256-GCM, bound to ``kid``."""
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(ring.current.derive("oidc-key")).encrypt(nonce, material, kid.encode())


def unseal(key: IssuerKey, ring: KeyRing) -> bytes:
    """Return the private JWK as JSON. Raises `StateError` if no master key at hand opens it, or if its row is damaged."""
    master = ring.by_id(key.seal_key_id)
    if master is None:
        raise _unusable(key, "cannot be decrypted with this master key")
    try:
        material = AESGCM(master.derive("oidc-key")).decrypt(key.sealed[:12], key.sealed[12:], key.kid.encode())
    except (InvalidTag, ValueError):  # ValueError: less than a nonce is left
        raise _unusable(key, "cannot be decrypted with this master key, or is damaged") from None
    if key.public.get("kid") != key.kid:
        raise _unusable(key, "has a damaged public part, which cannot be published")
    return material


def _unusable(key: IssuerKey, why: str) -> StateError:
    hint = "Restore the master key or the state, or run `reconciler oidc rotate --emergency` to replace the key."
    return StateError(f"the OIDC signing key {key.kid} {why}", code="RC4021", hint=hint)


def resealed(key: IssuerKey, ring: KeyRing) -> IssuerKey:
    """Return ``key``, sealed under the master key in force."""
    return replace(key, sealed=seal(unseal(key, ring), key.kid, ring), seal_key_id=ring.current.key_id)


# -- the life of the keys -------------------------------------------------------------------------------------------------


def signing_key_at(keys: Iterable[IssuerKey], now: float) -> IssuerKey | None:
    """Return the key that signs at ``now``: the newest that may; None if all are revoked, or there is none.

    If none may sign yet, the clock was set back, and the oldest signs: it is published for longest.
    """
    alive = sorted((key for key in keys if key.revoked_at is None), key=lambda key: key.number)
    usable = [key for key in alive if key.sign_from <= now]
    return usable[-1] if usable else next(iter(alive), None)


def published_at(keys: Sequence[IssuerKey], now: float, lifetimes: Lifetimes) -> tuple[IssuerKey, ...]:
    """Return the keys in the key set at ``now``: those that will sign, that sign, and whose last tokens may still be cached."""
    kept = []
    for key in keys:
        successor = min(
            (other.sign_from for other in keys if other.number > key.number and other.revoked_at is None), default=None
        )
        ended = successor is not None and now >= max(successor, key.sign_from) + lifetimes.token_s + PUBLISH_AHEAD_S
        if key.revoked_at is None and not ended:
            kept.append(key)
    return tuple(sorted(kept, key=lambda key: key.number))


def next_sign_from(keys: Sequence[IssuerKey], now: float, lifetimes: Lifetimes) -> float | None:
    """Return when a new key shall sign if one is due at ``now``; None if none is due.

    The first key signs at once, because nobody has cached a key set without it.
    """
    alive = [key for key in keys if key.revoked_at is None]
    if not alive:
        return now
    newest = max(alive, key=lambda key: key.number)
    if newest.sign_from > now:
        return None
    due = newest.sign_from + max(lifetimes.rotation_s - PUBLISH_AHEAD_S, 0.0)
    return now + PUBLISH_AHEAD_S if now >= due else None


# -- documents ------------------------------------------------------------------------------------------------------------


def discovery_document(issuer: str) -> dict[str, JsonValue]:
    """Return the discovery document of an issuer that only signs: there is no login, so it has no authorization endpoint."""
    return {
        "issuer": issuer,
        "jwks_uri": issuer + KEYS_PATH,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "scopes_supported": ["openid"],
        "claims_supported": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "owner", "canvas", "kind", "name"],
    }


def key_set(keys: Iterable[IssuerKey]) -> dict[str, JsonValue]:
    """Return the JSON Web Key Set: public members only, without keys that are damaged."""
    return {"keys": [dict(key.public) for key in keys if key.public]}


# -- tokens ---------------------------------------------------------------------------------------------------------------


def subject_of(owner: str, resource: ResourceId) -> str:
    """Return the default ``sub`` of a resource: ``reconciler:<owner>:<canvas>:<kind>:<name>``, at most `MAX_SUBJECT` bytes.

    Two resources never share one: ``:`` and other special characters of a part are percent-encoded, and a subject that would be
    too long ends in a hash of the whole.
    """
    whole = SUBJECT_PREFIX + ":".join(_escaped(part) for part in (owner, resource.canvas, resource.kind, resource.name))
    if len(whole) <= MAX_SUBJECT:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH_CHARS]
    # `*` is never in an escaped part, so that no short subject equals a shortened one.
    return f"{whole[: MAX_SUBJECT - _HASH_CHARS - 1]}*{digest}"


def _escaped(part: str) -> str:
    return "".join(chr(byte) if _PLAIN.match(chr(byte)) else f"%{byte:02X}" for byte in part.encode())


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """What an ID token says."""

    issuer: str
    subject: str
    audience: str
    context: Mapping[str, JsonValue]
    """Further claims. Raises `ValueError` in `claims_of` if one is reserved."""


def claims_of(spec: TokenSpec, now: float, life_s: float, token_id: str) -> dict[str, JsonValue]:
    """Return the claims of an ID token. Times are whole seconds, since some relying parties refuse fractions; the audience is one text."""
    taken = sorted(RESERVED & set(spec.context))
    if taken:
        raise ValueError(f"the claims {', '.join(taken)} are reserved")
    issued = int(now)
    return {
        **spec.context,
        "iss": spec.issuer,
        "sub": spec.subject,
        "aud": spec.audience,
        "iat": issued,
        "nbf": issued - NOT_BEFORE_S,
        "exp": issued + int(life_s),
        "jti": token_id,
    }


def sign(claims: Mapping[str, JsonValue], key: IssuerKey, private: bytes) -> SecretValue:
    """Return the signed token (JWS compact form) with the header members alg, kid and typ."""
    from joserfc import jwt
    from joserfc.jwk import RSAKey

    header = {"alg": ALGORITHM, "kid": key.kid, "typ": "JWT"}
    return SecretValue(jwt.encode(header, dict(claims), RSAKey.import_key(orjson.loads(private)), algorithms=[ALGORITHM]))


__all__ = [
    "DISCOVERY_PATH",
    "KEYS_PATH",
    "IssuerKey",
    "Lifetimes",
    "TokenSpec",
    "claims_of",
    "discovery_document",
    "key_set",
    "new_key",
    "next_sign_from",
    "published_at",
    "resealed",
    "seal",
    "sign",
    "signing_key_at",
    "subject_of",
    "unseal",
]
