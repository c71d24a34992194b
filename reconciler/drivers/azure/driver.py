"""The credential check of Azure: which application it is, what it may read, and when its secret ends.

Facts: Microsoft Learn, "Subscriptions - Get" and the resource type passwordCredential of Microsoft Graph.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote, urlsplit

import msgspec

from reconciler.drivers.auth import AuthContext
from reconciler.drivers.azure.identity import AzureAuthenticator
from reconciler.drivers.azure.spec import CLOUDS, PUBLIC, SPEC
from reconciler.drivers.connection import Api, Authenticator, Connection
from reconciler.drivers.provider import ProviderDriver
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import AuthFailed, ReconcilerError, ValidationFailed
from reconciler.model.printable import plain
from reconciler.model.status import CredentialReport
from reconciler.model.times import epoch_of, iso

END_READ_S = 1200.0
"""How long the end of a secret is remembered. It is read again five minutes before that."""
HINT_CHARS = 3
_USABLE = frozenset({"Enabled", "Warned", "PastDue"})


class AzureClaims(msgspec.Struct, frozen=True):
    """What is read of an access token: who has it. Nothing depends on it, since such tokens are opaque to their clients."""

    appid: str = ""
    oid: str = ""
    tid: str = ""
    roles: tuple[str, ...] = ()


class PasswordCredential(msgspec.Struct, frozen=True, rename="camel"):
    """A client secret of an application. ``hint``: its first three characters."""

    end_date_time: str | None = None
    hint: str | None = None


class AzureSubscription(msgspec.Struct, frozen=True, rename="camel"):
    """``GET /subscriptions/{id}``."""

    display_name: str = ""
    state: str = ""


class AzureDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver`."""

    spec = SPEC
    pointers = MappingProxyType({"client-secret": "/clientSecret/secret", "oidc": ""})
    default_url = f"https://{PUBLIC.portal}"

    def address(self, url: str) -> tuple[str, str]:
        """Return the root of Resource Manager in the cloud that ``url`` names. Raises `ValidationFailed` for another host."""
        host = (urlsplit(url).hostname or "").lower()
        for cloud in CLOUDS:
            if host in {cloud.portal, cloud.arm}:
                return f"https://{cloud.arm}", ""
        raise ValidationFailed(
            f"{host} is not the portal of an Azure cloud",
            hint=f"Use one of {', '.join(f'https://{cloud.portal}' for cloud in CLOUDS)}, or leave `url` out.",
        )

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Raises `ValidationFailed` if the block of ``auth`` is incomplete."""
        return AzureAuthenticator(connection, context)

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        """Return the error of a token that Resource Manager refuses; every other status means what it means everywhere."""
        if status != 401:
            return None
        code = plain(find(body, str, "error", "code") or "")[:100]
        return AuthFailed(
            f"{request}: Azure Resource Manager refused the token (401{' ' + code if code else ''})",
            status=status,
            request=request,
            hint="Check that `tenantId` is the tenant of the subscription, and that `url` names its cloud.",
        )

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Get a token and, with `subscriptionId`, read the subscription. Raises `AuthFailed` for a refused credential."""
        identity = api.authenticator
        assert isinstance(identity, AzureAuthenticator)  # noqa: S101  `authenticator` made it
        claims = _claims((await identity.token(identity.arm_scope)).reveal())
        unknown = {"granted": "roles on resources are not part of a token, and are not read"}
        missing, message = await _subscription(api, identity.subscription)
        ends_at = ""
        if identity.federated:
            unknown["expiresAt"] = "a federated credential has no end"
        else:
            ends_at, why = await _secret_end(identity)
            if why:
                unknown["expiresAt"] = why
            else:
                advice = "a federated credential (`auth.use: oidc`) has no secret and no end"
                message = "; ".join(filter(None, (message, f"the client secret ends at {ends_at}: {advice}")))
        who = plain(f"application {claims.appid or identity.client} in tenant {claims.tid or identity.tenant}")
        if claims.oid.isprintable() and claims.oid:
            who += f" (service principal {claims.oid})"
        return CredentialReport(
            valid=True,
            identity=who,
            expires_at=ends_at,
            granted=tuple(plain(role) for role in claims.roles),
            missing=missing,
            message=f"acts as {who}; {message}" if message else "",
            unknown=unknown,
        )


def _claims(token: str) -> AzureClaims:
    try:
        part = token.split(".")[1]
        return msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=AzureClaims)
    except (IndexError, ValueError, msgspec.MsgspecError):
        return AzureClaims()


async def _subscription(api: Api, number: str) -> tuple[tuple[str, ...], str]:
    """Return what is missing on the subscription, and what is wrong with it."""
    if not number:
        return (), ""
    path = f"/subscriptions/{quote(number, safe='')}"
    answer = await api.request("GET", path, params={"api-version": "2022-12-01"}, ok=frozenset({400, 403, 404}))
    if answer.status != 200:
        return (f"a role on the subscription {number} (such as Reader); a new role takes up to 10 minutes",), ""
    found = decode(answer.json(), AzureSubscription, f"GET {path}")
    return (), "" if found.state in _USABLE else f"the subscription {found.display_name} is {found.state}"


async def _secret_end(identity: AzureAuthenticator) -> tuple[str, str]:
    """Return the end of our client secret (RFC 3339), or why it is not known."""

    async def read() -> tuple[str, str]:
        try:
            return await _read_end(identity)
        except (ReconcilerError, ValueError) as error:
            return "", f"Microsoft Graph did not say it: {error}"

    return await identity.cached("secret-end", END_READ_S, read)


async def _read_end(identity: AzureAuthenticator) -> tuple[str, str]:
    path = f"/v1.0/applications(appId='{quote(identity.client, safe='')}')?$select=passwordCredentials"
    answer = await identity.get(identity.cloud.graph, path, identity.graph_scope)
    if answer.status == 403:
        return (
            "",
            "the application may not read itself: Microsoft Graph needs Application.Read.All, or the application as its own owner",
        )
    if answer.status != 200:
        return "", f"Microsoft Graph answered {answer.status}"
    rows = decode(answer.json(), list[PasswordCredential], "the application", "passwordCredentials")
    start = identity.secret_start(HINT_CHARS)
    ends = [epoch_of(row.end_date_time) for row in rows if row.end_date_time and row.hint == start]
    now = identity.now()
    alive = [end for end in ends if end > now]
    if not alive:
        return "", "none of the application's secrets is recognizable as this one"
    return iso(min(alive)), ""


driver = AzureDriver()

__all__ = ["AzureDriver", "driver"]
