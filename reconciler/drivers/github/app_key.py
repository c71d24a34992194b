"""The private key of a GitHub App, and what to do when GitHub refuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.errors import AuthFailed
from reconciler.model.secrets import SecretValue

if TYPE_CHECKING:
    from joserfc.jwk import RSAKey

UNKNOWN_APP = "integration not found"
"""Part of GitHub's 404 for an App that does not exist."""


def private_key(pem: SecretValue, what: str) -> RSAKey:
    """Return the key in ``pem``; ``what`` names it in errors. Escaped line breaks, as in environment variables, are read too.

    Raises `AuthFailed` for anything but an RSA private key without a passphrase.
    """
    from joserfc.errors import JoseError  # only Apps have a key: with a token, nothing here needs cryptography
    from joserfc.jwk import RSAKey

    text = pem.reveal().strip()
    if "\\n" in text and "\n" not in text:
        text = text.replace("\\n", "\n")
    try:
        key = RSAKey.import_key(text.encode())
    except (ValueError, TypeError, JoseError):
        key = None
    if key is None or not key.is_private:
        reason = "it is encrypted" if "ENCRYPTED" in text else "it is no RSA private key in PEM form"
        raise AuthFailed(
            f"{what} cannot be used: {reason}",
            hint="Provide the whole .pem file that GitHub gave out, from -----BEGIN RSA PRIVATE KEY----- to -----END RSA PRIVATE KEY-----.",
        )
    return key


def hint_of(status: int, text: str) -> str:
    """Return what a person can do about a refusal with ``status`` and GitHub's ``text``."""
    lower = text.lower()
    if "suspended" in lower:
        return "An owner of the account can unsuspend the App under Settings > GitHub Apps."
    if "'iat'" in lower or "'exp'" in lower or "expiration" in lower:
        return "The clocks of this host and of GitHub differ: synchronize this host's (NTP)."
    if UNKNOWN_APP in lower or (status == 404 and not text):
        return "There is no App with this id: check `clientId` or `appId`."
    if status == 404:
        return "The installation was removed, or belongs to another App: check `installationId`, or leave it out."
    return "The private key does not belong to this App: check `clientId` (or `appId`) and `privateKey`."


__all__ = ["UNKNOWN_APP", "hint_of", "private_key"]
