"""The credential check of Google Cloud: which account it is, and when its key ends.

Facts: Google publishes a certificate of each usable key of a service account at ``/service_accounts/v1/metadata/x509/EMAIL``. It needs
no permission; ``notAfter`` is the end of the key, and a key that is not there was deleted or disabled.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote, urlsplit

from cryptography import x509

from reconciler.drivers.auth import AuthContext
from reconciler.drivers.connection import Api, Authenticator, Connection
from reconciler.drivers.google.identity import ROOT, GoogleAuthenticator
from reconciler.drivers.google.key import AccountKey
from reconciler.drivers.google.spec import SPEC
from reconciler.drivers.oauth import granted
from reconciler.drivers.provider import ProviderDriver
from reconciler.model.errors import ReconcilerError, ValidationFailed
from reconciler.model.status import CredentialReport
from reconciler.model.times import iso

END_READ_S = 1200.0
"""How long the end of a key is remembered. It is read again five minutes before that."""
FOREVER = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


class GoogleDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver`."""

    spec = SPEC
    pointers = MappingProxyType({"service-account-key": "/serviceAccountKey", "oidc": ""})
    default_url = "https://console.cloud.google.com"

    def address(self, url: str) -> tuple[str, str]:
        """Return the root of Google's APIs. Raises `ValidationFailed` for a host that is not Google's."""
        host = (urlsplit(url).hostname or "").lower()
        if host not in {"console.cloud.google.com", "cloud.google.com", "www.googleapis.com"}:
            raise ValidationFailed(
                f"{host} is not Google Cloud", hint="Use https://console.cloud.google.com, or leave `url` out."
            )
        return ROOT, ""

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Raises `ValidationFailed` for a workload identity provider that is no resource name, and without a secret."""
        return GoogleAuthenticator(connection, context)

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Get a token. Raises `AuthFailed` for a key or an ID token that is refused."""
        identity = api.authenticator
        assert isinstance(identity, GoogleAuthenticator)  # noqa: S101  `authenticator` made it
        unknown = {"granted": "roles are not part of a token, and are not read"}
        if identity.federated:
            await identity.token()
            unknown["expiresAt"] = "a federated identity has no end"
            who = identity.account or f"{await identity.own_subject()} of {identity.provider}"
            renewed = iso(identity.ends_at())
            message = f"acts as {who} by impersonation; the token ends at {renewed}" if identity.account else ""
            return CredentialReport(True, who, message=message, unknown=unknown)
        key = identity.account_key()
        end, why = await identity.cached("key-end", END_READ_S, lambda: _key_end(identity, key))
        if not end and not why:
            # Deleted, disabled or so new that it is not published yet: a new token tells.
            await identity.refresh()
            why = "Google does not publish this key, as for some minutes after its creation"
        await identity.token()
        if why:
            unknown["expiresAt"] = why
        return CredentialReport(True, f"{key.client_email} (key {key.private_key_id})", expires_at=end, unknown=unknown)


async def _key_end(identity: GoogleAuthenticator, key: AccountKey) -> tuple[str, str]:
    """Return the end of ``key`` (RFC 3339), or why there is none; both are empty for a key that is not published."""
    path = f"/service_accounts/v1/metadata/x509/{quote(key.client_email, safe='')}"
    try:
        answer = await identity.public(path, key.universe)
        if answer.status != 200:
            return "", f"Google answered {answer.status} for the account's certificates"
        certificates = granted(answer, dict[str, str], "the certificates of the account")
        if key.private_key_id not in certificates:
            return "", ""
        end = x509.load_pem_x509_certificate(certificates[key.private_key_id].encode()).not_valid_after_utc
    except (ReconcilerError, ValueError) as error:
        return "", f"Google did not say it: {error}"
    return ("", "the key never ends") if end >= FOREVER else (iso(end.timestamp()), "")


driver = GoogleDriver()

__all__ = ["GoogleDriver", "driver"]
