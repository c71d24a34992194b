"""Session cookies: sealed with the master key, so that nothing is stored, and so that only the installation that made one can read it."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.credentials.keys import KeyRing

LIFETIME_S = 12 * 3_600
LOGIN_S = 600
"""Time to fill in the login form, or to come back from the OIDC provider."""
MAX_COOKIE = 4_000
MAX_ENDED = 4_096
"""Sessions that were ended by hand and are remembered until they would have ended by themselves."""
_PURPOSE = "dashboard"
_NONCE = 12
T = TypeVar("T", bound="Sealed")


class Sealed(msgspec.Struct, frozen=True):
    """Content of a cookie. ``id`` is random; ``until`` is seconds since the epoch."""

    id: str
    until: float


class LoginSession(Sealed, frozen=True):
    """A person who is logged in."""

    name: str = ""
    role: str = ""
    """Role by the claims of an OIDC provider; empty for a token, whose role is that of the configuration."""
    proof: str = ""
    """Fingerprint of what the login rests on (the configured token, or `server.login.oidc`): when that changes, the session ends."""


class LoginAttempt(Sealed, frozen=True):
    """A login that has begun: it binds the form, or the answer of the OIDC provider, to this browser."""

    back: str = ""
    """The page that was asked for."""
    nonce: str = ""
    verifier: str = ""
    """PKCE code verifier (RFC 7636)."""


class CookieSealer:
    """Seals and opens cookies of one installation: AES-256-GCM with a key derived for ``owner``, bound to the kind of the cookie."""

    def __init__(self, keyring: KeyRing, owner: str) -> None:
        keys = [key for key in (keyring.current, keyring.previous) if key is not None]
        self._ciphers = [AESGCM(key.derive(_PURPOSE, owner, "cookie")) for key in keys]
        self._forms = keyring.current.derive(_PURPOSE, owner, "form")
        self._proofs = keyring.current.derive(_PURPOSE, owner, "proof")
        self.installation = keyring.current.derive(_PURPOSE, owner, "name", length=4).hex()
        """Part of the cookie's name: browsers share cookies between the ports of a host."""
        self._ended: OrderedDict[str, float] = OrderedDict()
        self.refuse_before = float("-inf")
        """Sessions that began before this time (seconds since the epoch) are over: a restored state does not know which were ended."""

    def seal(self, content: Sealed) -> str:
        """Return the text of a cookie."""
        nonce = secrets.token_bytes(_NONCE)
        raw = self._ciphers[0].encrypt(nonce, msgspec.json.encode(content), type(content).__name__.encode())
        return base64.urlsafe_b64encode(nonce + raw).decode().rstrip("=")

    def open(self, kind: type[T], text: str, now: float) -> T | None:
        """Return the content; None if it was made by another installation, was changed, is over, or was ended."""
        if not text or len(text) > MAX_COOKIE or not text.isascii():
            return None
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        for cipher in self._ciphers:
            try:
                opened = cipher.decrypt(raw[:_NONCE], raw[_NONCE:], kind.__name__.encode())
                content = msgspec.json.decode(opened, type=kind)
            except (InvalidTag, ValueError, msgspec.MsgspecError):
                continue
            lifetime_s = LIFETIME_S if isinstance(content, LoginSession) else LOGIN_S
            began = content.until - lifetime_s
            return content if content.until > now and began >= self.refuse_before and content.id not in self._ended else None
        return None

    def learn(self, ended: Mapping[str, float], now: float) -> None:
        """Refuse these sessions too: they were ended at another daemon, or before a restart."""
        self._ended.update(ended)
        self._forget(now)

    def end(self, content: Sealed, now: float) -> None:
        """Refuse this cookie from now on."""
        self._ended[content.id] = content.until
        self._forget(now)

    def _forget(self, now: float) -> None:
        for known in [name for name, until in self._ended.items() if until <= now]:
            del self._ended[known]
        while len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    def form_token(self, content: Sealed) -> str:
        """Return the token that every form of this cookie's owner carries."""
        return hmac.new(self._forms, content.id.encode(), sha256).hexdigest()

    def is_form_token(self, content: Sealed, token: str) -> bool:
        """Whether a form with ``token`` was made for this cookie."""
        return hmac.compare_digest(self.form_token(content).encode(), token.encode("utf-8", "surrogateescape"))

    def proof(self, *parts: str) -> str:
        """Return the fingerprint of what a login rests on."""
        return hmac.new(self._proofs, "\0".join(parts).encode(), sha256).hexdigest()[:32]


def new_id() -> str:
    """Return a random id of a cookie."""
    return secrets.token_urlsafe(18)
