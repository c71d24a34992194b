"""The credential of AWS: an access key or a web identity, with a chain of roles, and the signature of each request.

Facts: AWS STS API Reference (2011-06-15). GetCallerIdentity needs no permission, and no policy can deny it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from reconciler.drivers.auth import AuthContext, AuthRequest
from reconciler.drivers.aws.answers import refused_credential, request_error, result
from reconciler.drivers.aws.calls import ServiceCalls
from reconciler.drivers.aws.regions import DEFAULT_REGION, REGION, SigningScope, scope_of, sts_endpoint
from reconciler.drivers.aws.secrets import AwsSecretStore
from reconciler.drivers.aws.signing import sign
from reconciler.drivers.aws.spec import SPEC
from reconciler.drivers.aws.sts import CLOCK_MOVED_S, VERSION, Sessions, chain_of
from reconciler.drivers.connection import Api, Connection
from reconciler.drivers.provider import ProviderDriver
from reconciler.model.errors import ValidationFailed
from reconciler.model.printable import plain
from reconciler.model.resources import Resource, SecretRef
from reconciler.model.status import CredentialReport

_NO_LIST = "AWS does not list the permissions of a principal"
_NO_END = "an access key has no end; AWS tells its age only to principals with iam:ListAccessKeys"
_SESSION_END = "the session is renewed before it ends"


class Caller(msgspec.Struct, frozen=True, rename="pascal"):
    """The result of GetCallerIdentity."""

    account: str
    arn: str


class AwsAuthenticator:
    """Signs each request; implements `reconciler.drivers.connection.Authenticator`."""

    def __init__(self, connection: Connection, context: AuthContext) -> None:
        self._connection, self._context = connection, context
        self.region = region_of(connection)
        self._sessions = Sessions(connection, context, self.region)
        self._sent: str | None = None
        self._ahead_s = 0.0

    async def authorize(self, request: AuthRequest) -> None:
        """Raises `SecretUnavailable`, `AuthFailed` and the errors of the token endpoint."""
        await self.sign(request, self._scope(request))

    async def sign(self, request: AuthRequest, scope: SigningScope) -> None:
        """Sign ``request`` for ``scope``."""
        key = await self._sessions.key()
        now = self._context.provider_time()
        self._sent, self._ahead_s = f"{key.id}\0{key.secret.reveal()}", now - self._context.clock()
        sign(request, key, scope, now)

    async def refresh(self) -> bool:
        """After a refusal: True if the clock was off, the session could be dropped, or the Secret has another key."""
        if abs(self._context.provider_time() - self._context.clock() - self._ahead_s) > CLOCK_MOVED_S:
            return self._sent is not None
        if self._sessions.forget():
            return True
        if self._connection.auth.get("use") == "oidc" or chain_of(self._connection):
            return False
        key = await self._sessions.key()
        return self._sent not in (None, f"{key.id}\0{key.secret.reveal()}")

    def services(self) -> ServiceCalls:
        """Return signed calls of other services with this credential."""
        return ServiceCalls(self._connection, self.sign, self.refresh, self._context, self.region)

    def refused(self, status: int, headers: Mapping[str, str], body: object) -> str:
        """Return the code with which a service refuses key, session or signature; empty for a lack of permissions."""
        return refused_credential(status, headers, body)

    def failure(self, headers: Mapping[str, str]) -> str:
        """Return how the function failed: Lambda answers an invocation with 200 also then."""
        kind = headers.get("x-amz-function-error", "")
        return f"the function failed ({plain(kind)[:40]})" if kind else ""

    def _scope(self, request: AuthRequest) -> SigningScope:
        """Return the scope of a request: of the called service or, for the API, by its host; an ``apiUrl`` of another kind is STS.

        Raises `ValidationFailed` (RC4405) for a service that neither the host nor the manifest names.
        """
        derived, called = scope_of(urlsplit(request.url).hostname or ""), request.called
        if called is None:
            return derived or SigningScope("sts", self.region)
        service = called.service or (derived.service if derived is not None else "")
        if not service:
            raise ValidationFailed(
                f"{self._connection.integration}: the host of the URL does not say for which service the request is signed",
                code="RC4405",
                hint="Write `service` (such as lambda or execute-api) and `region` into `auth`.",
            )
        return SigningScope(service, called.region or (derived.region if derived is not None else self.region))


class AwsDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver`."""

    spec = SPEC
    secret_store = AwsSecretStore()
    pointers: Mapping[str, str] = {"access-key": "/accessKey/secret", "oidc": ""}

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """Return a connection to the Security Token Service of ``spec.region``, which its ``auth`` keeps."""
        region = str(resource.spec.get("region") or DEFAULT_REGION)
        if not REGION.fullmatch(region):
            raise ValidationFailed(
                f"{resource.id}: {region!r} is no region of AWS", hint="Write `spec.region` as in `eu-central-1`."
            )
        connection = super().connect(resource, secrets)
        api_url = str(resource.spec.get("apiUrl") or sts_endpoint(region)).rstrip("/")
        return dataclasses.replace(connection, api_url=api_url, auth={**connection.auth, "region": region})

    def address(self, url: str) -> tuple[str, str]:
        """Return the endpoint of the default region; the account is that of the credential, which no URL names."""
        return sts_endpoint(DEFAULT_REGION), ""

    def authenticator(self, connection: Connection, context: AuthContext) -> AwsAuthenticator:
        """Raises `ValidationFailed` for ``oidc`` without a role."""
        return AwsAuthenticator(connection, context)

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        return request_error(status, headers, body, request, now)

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Ask who the caller is."""
        params = {"Action": "GetCallerIdentity", "Version": VERSION}
        answer = await api.request("GET", "/", params=params, headers={"accept": "text/xml"})
        caller = result(answer, "GetCallerIdentity", Caller)
        long_lived = api.connection.auth.get("use") == "access-key" and not chain_of(api.connection)
        unknown = {"granted": _NO_LIST, "missing": _NO_LIST, "expiresAt": _NO_END if long_lived else _SESSION_END}
        return CredentialReport(True, caller.arn, unknown=unknown)


def region_of(connection: Connection) -> str:
    """Return the region that `AwsDriver.connect` wrote into the connection."""
    return str(connection.auth.get("region") or DEFAULT_REGION)


driver = AwsDriver()

__all__ = ["AwsAuthenticator", "AwsDriver", "driver", "region_of"]
