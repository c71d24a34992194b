"""The credential check of DigitalOcean: the account that a token belongs to.

Facts: the provider's OpenAPI description. ``GET /v2/account`` needs the scope ``account:read``; a token without it is valid all
the same. The public API does not show a token's scopes or expiry.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from reconciler.drivers.base import Api
from reconciler.drivers.digitalocean.spec import SPEC
from reconciler.drivers.provider import ProviderDriver
from reconciler.drivers.wire import decode
from reconciler.model.errors import AuthFailed, PermissionDenied
from reconciler.model.status import CredentialReport


class Account(msgspec.Struct, frozen=True):
    """What is read of ``account``; ``status`` is active, warning or locked."""

    status: str
    email: str = ""
    status_message: str = ""


class DigitalOceanDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver`."""

    spec = SPEC

    def address(self, url: str) -> tuple[str, str]:
        """Return the one API root; a token belongs to one account, which no URL names."""
        return "https://api.digitalocean.com", ""

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
        except PermissionDenied:
            return CredentialReport(True, "a token that may not read its account (no scope account:read)")
        account = decode(answer.json(), Account, "GET /v2/account", "account")
        if account.status == "locked":
            reason = f": {account.status_message}" if account.status_message else ""
            raise AuthFailed(
                f"the DigitalOcean account {account.email} is locked{reason}",
                request="GET /v2/account",
                hint="Unlock it in the control panel, or ask the provider's support.",
            )
        warning = f"acts as {account.email}; the account has a warning: {account.status_message}"
        return CredentialReport(True, account.email, message=warning if account.status == "warning" else "")


driver = DigitalOceanDriver()

__all__ = ["DigitalOceanDriver", "driver"]
