"""The credential check of New Relic: the user and the accounts of a user key.

Facts: NerdGraph, New Relic's GraphQL API. It answers 200 with ``errors`` for most failures. A key is valid in the region of its
account only: elsewhere it is refused like a wrong one. The API tells neither the capabilities of a user nor an end of the key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from reconciler.drivers.auth import AuthContext, AuthRequest
from reconciler.drivers.connection import Api, Authenticator, Connection
from reconciler.drivers.newrelic.spec import HOSTS, SPEC
from reconciler.drivers.provider import ProviderDriver
from reconciler.drivers.wire import find, matches
from reconciler.model.errors import (
    AuthFailed,
    PermissionDenied,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    RateLimited,
    ReconcilerError,
    ValidationFailed,
)
from reconciler.model.resources import Resource, SecretRef
from reconciler.model.status import CredentialReport

_PATH = "/graphql"
_REQUEST = f"QUERY {_PATH}"
_QUERY = "{ actor { user { id email name } accounts { id name } } }"
_TRANSIENT = frozenset({"TIMEOUT", "INTERNAL_SERVER_ERROR", "SERVER_ERROR"})
_REGIONS = {
    "one.newrelic.com": "us",
    "newrelic.com": "us",
    "one.eu.newrelic.com": "eu",
    "one.jp.newrelic.com": "jp",
    **{host: region for region, host in HOSTS.items()},
}
_SHOWN_ACCOUNTS = 3


class NewRelicUser(msgspec.Struct, frozen=True):
    email: str | None = None
    name: str | None = None
    id: int | str | None = None


class NewRelicAccount(msgspec.Struct, frozen=True):
    id: int
    name: str | None = None


class Actor(msgspec.Struct, frozen=True):
    """Whom the key belongs to, and the accounts that it reaches."""

    user: NewRelicUser | None = None
    accounts: list[NewRelicAccount] | None = None


class _Extensions(msgspec.Struct, frozen=True, rename="camel"):
    error_class: str | None = None


class _GraphError(msgspec.Struct, frozen=True):
    message: str = ""
    extensions: _Extensions | None = None


class _Answer(msgspec.Struct, frozen=True):
    errors: list[_GraphError] | None = None


class UserKeyAuthenticator:
    """Sends the user key; implements `reconciler.drivers.connection.Authenticator`."""

    def __init__(self, ref: SecretRef, context: AuthContext) -> None:
        self._ref, self._context, self._sent = ref, context, ""

    async def authorize(self, request: AuthRequest) -> None:
        """Add the key. Raises `SecretUnavailable`, and `AuthFailed` for a licence key, which NerdGraph never accepts."""
        key = self._context.read(self._ref).reveal()
        if key.endswith("NRAL") or key.startswith("NRII-"):
            raise AuthFailed(
                "the secret is a licence or ingest key of New Relic, which opens no API",
                code="RC4070",
                hint="Provide a user key (it begins with NRAK-): one.newrelic.com > API keys > Create a key > User.",
            )
        self._sent = key
        request.headers["api-key"] = key

    async def refresh(self) -> bool:
        """Read the key again; True only if it changed."""
        return self._context.read(self._ref).reveal() != self._sent


class NewRelicDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver`."""

    spec = SPEC
    default_url = "https://one.newrelic.com"

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """``spec.region`` selects the API, else the host of ``spec.url``. ``spec.accountId`` must be among the key's accounts."""
        connection = super().connect(resource, secrets)
        region = str(resource.spec.get("region") or "").lower()
        if region and region not in HOSTS:
            raise ValidationFailed(
                f"{resource.id}: New Relic has no region '{region}'", hint=f"Set `spec.region` to {', '.join(HOSTS)}."
            )
        named = _REGIONS.get(urlsplit(connection.url).hostname or "")
        if region and resource.spec.get("url") and named not in {None, region}:
            raise ValidationFailed(
                f"{resource.id}: `spec.url` is in the region {named}, `spec.region` is {region}", hint="Remove one of the two."
            )
        if region and not resource.spec.get("apiUrl"):
            connection = dataclasses.replace(connection, api_url=f"https://{HOSTS[region]}")
        return dataclasses.replace(connection, account=str(resource.spec.get("accountId") or ""))

    def address(self, url: str) -> tuple[str, str]:
        """The host names the region."""
        region = _REGIONS.get(urlsplit(url).hostname or "")
        return (f"https://{HOSTS[region]}" if region else url), ""

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Raises `ValidationFailed` if the connection names no secret."""
        ref = connection.secrets.get("/token")
        return UserKeyAuthenticator(ref, context) if ref is not None else super().authenticator(connection, context)

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        """Return the error of a refused key; every other status means what it means everywhere."""
        return _refused(request, status, body) if status == 401 else None

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Read the user and the accounts of the key."""
        try:
            answer = await api.request("QUERY", _PATH, json={"query": _QUERY})
        except AuthFailed as error:
            raise _with_region(error, api.connection.api_url) from None
        body = answer.json()
        actor = find(body, Actor, "data", "actor")
        if actor is None or actor.user is None:
            raise _with_region(_failed(body), api.connection.api_url)
        accounts = actor.accounts or []
        account = api.connection.account
        reached = not account or any(str(row.id) == account for row in accounts)
        unknown = {"granted": "New Relic does not tell what a user may do", "expiresAt": "New Relic tells no end of a user key"}
        if reached:
            unknown["missing"] = "New Relic does not tell what a user may do"
        return CredentialReport(
            True,
            _identity(actor.user, accounts),
            missing=() if reached else (f"account {account}",),
            unknown=unknown,
        )


def _identity(user: NewRelicUser, accounts: list[NewRelicAccount]) -> str:
    who = user.email or user.name or f"user {user.id}"
    shown = ", ".join(f"{row.id} {row.name or ''}".strip() for row in accounts[:_SHOWN_ACCOUNTS])
    more = f" and {len(accounts) - _SHOWN_ACCOUNTS} more" if len(accounts) > _SHOWN_ACCOUNTS else ""
    return f"{who} (accounts {shown}{more})" if shown else f"{who} (no account)"


def _failed(body: object) -> ReconcilerError:
    """Return the error that a 200 without a user stands for. The first error decides, as in New Relic's own client."""
    answer = matches(body, _Answer)
    first = answer.errors[0] if answer is not None and answer.errors else None
    if first is None:
        return ProviderProtocolError(
            f"{_REQUEST}: the answer has neither a user nor errors",
            request=_REQUEST,
            hint="Check `apiUrl`: a proxy may answer in place of the API.",
        )
    name = (first.extensions.error_class if first.extensions is not None else None) or ""
    text = f"{_REQUEST}: {name or 'error'}: {' '.join(first.message.split())[:200]}"
    if name == "TOO_MANY_REQUESTS":
        return RateLimited(text, request=_REQUEST)
    if name in _TRANSIENT:
        return ProviderUnavailable(text, request=_REQUEST)
    if name == "ACCESS_DENIED":
        return PermissionDenied(text, request=_REQUEST, hint="The user of the key may not read itself: use another user's key.")
    if "key" in first.message.lower() or "not found" in first.message.lower():
        return AuthFailed(text, request=_REQUEST)
    return ProviderError(text, request=_REQUEST)


def _refused(request: str, status: int, body: object) -> AuthFailed:
    answer = matches(body, _Answer)
    text = answer.errors[0].message if answer is not None and answer.errors else ""
    shown = f": {' '.join(text.split())[:200]}" if text else ""
    return AuthFailed(f"{request}: New Relic refused the key ({status}{shown})", status=status, request=request)


def _with_region(error: ReconcilerError, api_url: str) -> ReconcilerError:
    """Return a refusal with the hint that the key may belong to another region: New Relic answers both alike."""
    if not isinstance(error, AuthFailed) or error.hint:
        return error
    region = _REGIONS.get(urlsplit(api_url).hostname or "", "")
    others = " or ".join(name for name in HOSTS if name != region)
    asked = f"region {region}" if region else api_url
    hint = f"The key is wrong or deleted, or belongs to another region than {asked}: set `spec.region` to {others}, or provide a user key."
    return AuthFailed(error.message, code=error.code, status=error.status, request=error.request, hint=hint)


driver = NewRelicDriver()

__all__ = ["NewRelicDriver", "driver"]
