"""Answers of OAuth token endpoints (RFC 6749 §5): tokens that were granted, refusals, and failures that say nothing of the credential.

Every failure is an `AuthFailed`, a `RateLimited` or a `ProviderUnavailable`: an integration without a token is never shown as valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from reconciler.drivers.auth import RETRY_AFTER_S, ApiResponse, Expiring, TokenCache
from reconciler.drivers.http.errors import limited_until, retry_after
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import AuthFailed, OutcomeUnknown, ProviderProtocolError, ProviderUnavailable, RateLimited
from reconciler.model.printable import plain
from reconciler.model.secrets import SecretValue

T = TypeVar("T")
MAX_SHOWN = 300
"""Characters of a refusal's description in a message."""
FORM = "application/x-www-form-urlencoded"


class GrantedToken(msgspec.Struct, frozen=True):
    """RFC 6749 §5.1. ``expires_in`` counts seconds."""

    access_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token, and when it was granted (epoch seconds of this host)."""

    token: SecretValue
    granted_at: float


@dataclass(frozen=True, slots=True)
class Refused:
    """An OAuth error: ``error`` is a fixed word, ``description`` free text that is shown as it is."""

    status: int
    request: str
    error: str
    description: str

    @property
    def text(self) -> str:
        """The refusal for a message."""
        return f"{self.status} {self.error}: {self.description}" if self.description else f"{self.status} {self.error}"


def refusal_of(answer: ApiResponse, who: str, now: float) -> Refused | None:
    """Return the refusal in ``answer``; None if a token was granted.

    ``who`` names the token endpoint, ``now`` is the time by its clock. Raises `RateLimited`, `ProviderUnavailable`, and `AuthFailed` for
    an answer that no token endpoint gives.
    """
    status, name = answer.status, answer.request
    if 200 <= status < 300:
        return None
    body = _body(answer)
    error = find(body, str, "error") or find(body, str, "error", "status") or ""
    text = find(body, str, "error_description") or find(body, str, "error", "message") or ""
    if status == 429:
        until = limited_until(answer.headers, now)
        raise RateLimited(
            f"{name}: {who} answers no more requests for tokens now (429)", status=429, request=name, retry_at=until
        )
    if status >= 500 or status == 408 or error in {"server_error", "temporarily_unavailable"}:
        until = retry_after(answer.headers, now)
        raise ProviderUnavailable(f"{name}: {who} failed ({status})", status=status, request=name, retry_at=until)
    if not error:
        raise AuthFailed(
            f"{name}: no token endpoint of {who} answers there ({status})",
            status=status,
            request=name,
            code="RC4067",
            hint="Check `apiUrl`, `network.proxy` and the firewall: something else answers in place of the token endpoint.",
        )
    return Refused(status, name, plain(error)[:60], " ".join(plain(text).split())[:MAX_SHOWN])


def granted(answer: ApiResponse, kind: type[T], what: str) -> T:
    """Return the body of a successful answer as a ``kind``. Raises `ProviderUnavailable` for any other body."""
    try:
        return decode(answer.json(), kind, what, request=answer.request)
    except (ProviderProtocolError, OutcomeUnknown) as error:
        raise ProviderUnavailable(error.message, status=answer.status, request=answer.request, hint=error.hint) from None


def bearer(token: str, life_s: float, now: float, request: str) -> Expiring[Bearer]:
    """Return ``token``, which lives for ``life_s`` from ``now`` on (epoch seconds of this host); ``request`` granted it.

    Raises `ProviderUnavailable` for one that has ended, which would be requested again at every call, or that no header can contain.
    """
    if life_s < 1 or not token or not token.isascii() or not token.isprintable():
        raise ProviderUnavailable(f"{request}: the token that was granted cannot be used", request=request)
    return Expiring(Bearer(SecretValue(token), now), now + life_s)


def fingerprint(secret: SecretValue) -> str:
    """Return a short hash for keys of the token cache: another secret has other tokens, and is tried at once."""
    return hashlib.sha256(secret.reveal().encode()).hexdigest()[:16]


def forget_refused(tokens: TokenCache, key: str, now: float) -> bool:
    """Drop the token of ``key`` after a 401; False if it is so new that another would be refused as well."""
    token = tokens.values(key).get(key)
    if isinstance(token, Bearer) and 0 <= now - token.granted_at < RETRY_AFTER_S:
        return False
    return tokens.forget(key)


def text_of(settings: Mapping[str, object], key: str) -> str:
    """Return a text of ``auth``; empty if it is missing."""
    value = settings.get(key)
    return value if isinstance(value, str) else ""


def _body(answer: ApiResponse) -> object:
    try:
        return answer.json()
    except (ProviderProtocolError, OutcomeUnknown):
        return None


__all__ = [
    "FORM",
    "Bearer",
    "GrantedToken",
    "Refused",
    "bearer",
    "fingerprint",
    "forget_refused",
    "granted",
    "refusal_of",
    "text_of",
]
