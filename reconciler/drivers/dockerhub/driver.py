"""The credential check of Docker Hub: what a user's or an organization's access token opens.

Facts: the OpenAPI description of the Hub API, and the token protocol of the registry. The registry drops a scope that the credential
lacks without a word, so only the ``access`` claim of its token shows what is granted.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from reconciler.drivers.auth import AuthContext
from reconciler.drivers.connection import Api, Authenticator, Connection
from reconciler.drivers.dockerhub.spec import SPEC
from reconciler.drivers.dockerhub.tokens import HubAuthenticator
from reconciler.drivers.provider import ProviderDriver
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import AuthFailed, NotFound, PermissionDenied, ProviderError, RateLimited, ValidationFailed
from reconciler.model.status import CredentialReport

_NO_END = "Docker Hub does not tell an access token when it ends"


class HubRepository(msgspec.Struct, frozen=True):
    name: str


class DockerHubDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver`."""

    spec = SPEC
    pointers: Mapping[str, str] = {"basic": "/basic/password"}
    default_url = "https://hub.docker.com"

    def address(self, url: str) -> tuple[str, str]:
        """Return the one API root; the user name is in ``spec.auth``."""
        return "https://hub.docker.com", ""

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Raises `ValidationFailed` if the connection names no user or no secret."""
        user, ref = find(connection.auth, str, "basic", "username") or "", connection.secrets.get("/basic/password")
        if not user or ref is None:
            raise ValidationFailed(
                f"{connection.integration}: auth.basic needs a username and a password",
                hint="Set `auth.basic.username` and `auth.basic.password.valueFrom.secret`.",
            )
        return HubAuthenticator(connection, ref, user, context)

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        """Return the errors of a refused token and of the rate limit, whose ``X-Retry-After`` is a time, not a duration."""
        if status == 401:
            return AuthFailed(f"{request}: Docker Hub refused the token (401)", status=status, request=request)
        until = headers.get("x-retry-after", "")
        if status == 429 and until.isdecimal():
            return RateLimited(f"{request}: rate limit (429)", status=status, request=request, retry_at=float(until[:12]))
        return None

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Log in, and ask the registry what is granted for one repository of the user or organization."""
        hub = api.authenticator
        if not isinstance(hub, HubAuthenticator):
            raise ValidationFailed("the connection to Docker Hub has no credential")
        path = f"/v2/namespaces/{quote(hub.user, safe='')}/repositories"
        unknown = {"expiresAt": _NO_END}
        try:
            answer = await api.request("GET", path, params={"page": 1, "page_size": 1})
            rows = decode(answer.json(), list[HubRepository], f"GET {path}", "results")
        except (NotFound, PermissionDenied):
            rows = []
        granted: tuple[str, ...] = ()
        if rows:
            try:
                granted = await hub.granted(f"{hub.user}/{rows[0].name}")
            except ProviderError as error:
                unknown["granted"] = f"the registry did not answer: {error.message}"
        else:
            unknown["granted"] = (
                f"{hub.user} has no repository that the token can see, and Docker Hub tells rights by repository only"
            )
        if "granted" in unknown:
            unknown["missing"] = unknown["granted"]
        return CredentialReport(
            True,
            f"organization {hub.user}" if hub.organization else hub.user,
            granted=granted,
            missing=() if "granted" in unknown else _missing(granted, needs),
            unknown=unknown,
        )


def _missing(granted: tuple[str, ...], needs: Mapping[str, str]) -> tuple[str, ...]:
    actions = {action for row in granted for action in row.rpartition(": ")[2].split(", ")}
    needed = {"pull"} if needs else set()
    needed |= {"push"} if any(level != "read" for level in needs.values()) else set()
    return tuple(sorted(needed - actions))


driver = DockerHubDriver()

__all__ = ["DockerHubDriver", "driver"]
