"""Keys of service accounts: the JSON file that Google gives out.

The file names the address of its token endpoint. It comes out of a secret, so it is compared and never followed: another address
would get a signed assertion of the account.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from reconciler.model.errors import AuthFailed
from reconciler.model.printable import plain
from reconciler.model.secrets import SecretValue

UNIVERSE = "googleapis.com"
MAX_SHOWN = 100
_OTHER_TYPES = {
    "authorized_user": "it belongs to a person (gcloud auth application-default login)",
    "external_account": "it configures workload identity federation: use `auth.use: oidc` with its audience",
    "impersonated_service_account": "it configures impersonation: use a key, or `auth.use: oidc` with `serviceAccount`",
}


class KeyFile(msgspec.Struct, frozen=True):
    """What is read of the file."""

    type: str = ""
    client_email: str = ""
    private_key_id: str = ""
    private_key: str = ""
    token_uri: str = ""
    universe_domain: str = UNIVERSE


@dataclass(frozen=True, slots=True)
class AccountKey:
    """A usable key. ``token_uri`` is the audience of its assertions."""

    client_email: str
    private_key_id: str
    token_uri: str
    universe: str
    _private: RSAKey

    def __repr__(self) -> str:
        return f"AccountKey({self.client_email!r}, {self.private_key_id!r})"

    def signed(self, claims: dict[str, object]) -> SecretValue:
        """Return a JWT with ``claims``, signed by this key."""
        from joserfc import jwt

        header = {"alg": "RS256", "typ": "JWT", "kid": self.private_key_id}
        return SecretValue(jwt.encode(header, claims, self._private, algorithms=["RS256"]))


def read_key(secret: SecretValue, what: str, root: str = "") -> AccountKey:
    """Return the key in ``secret``; ``what`` names it in errors. ``root``: an API root that stands in for Google's hosts.

    Raises `AuthFailed` (RC4068) for anything but the JSON key of a service account with a token endpoint of Google's.
    """
    try:
        file = msgspec.json.decode(secret.reveal(), type=KeyFile)
    except (msgspec.MsgspecError, UnicodeError):
        raise _invalid(what, "it is not the JSON file of a service account key") from None
    if file.type != "service_account":
        raise _invalid(what, _OTHER_TYPES.get(file.type, f"its type is '{_shown(file.type)}', not service_account"))
    for name in ("client_email", "private_key_id", "private_key"):
        if not getattr(file, name):
            raise _invalid(what, f"{name} is missing")
    universe = file.universe_domain or UNIVERSE
    allowed = {f"https://oauth2.{universe}/token"}
    if universe == UNIVERSE:
        allowed.add("https://accounts.google.com/o/oauth2/token")  # in keys before 2018
    if root:
        allowed.add(f"{root}/token")
    if file.token_uri not in allowed:
        raise _invalid(what, f"its token_uri {_shown(file.token_uri)} is not Google's; nothing was sent there")
    return AccountKey(file.client_email, file.private_key_id, file.token_uri, universe, _private(file.private_key, what))


def _private(pem: str, what: str) -> RSAKey:
    try:
        key = RSAKey.import_key(pem.encode())
    except (ValueError, TypeError, JoseError):
        key = None
    if key is None or not key.is_private:
        raise _invalid(what, "private_key is no RSA private key in PEM form")
    return key


def _shown(text: str) -> str:
    return plain(text)[:MAX_SHOWN]


def _invalid(what: str, why: str) -> AuthFailed:
    return AuthFailed(
        f"{what} cannot be used: {why}",
        code="RC4068",
        hint="Provide the whole JSON file that Google gave out (`gcloud iam service-accounts keys create`), or use `auth.use: oidc`.",
    )


__all__ = ["AccountKey", "read_key"]
