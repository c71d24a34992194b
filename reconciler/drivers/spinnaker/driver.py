"""The credential check of Spinnaker: the user that its API, Gate, recognizes.

Facts: Gate's source (AuthController, BasicAuthConfig, the rate limiter). How it authenticates is up to each installation: it answers a
request that it does not accept with 401, 403 or a redirect to a login page. One that takes requests without a credential may take no
notice of ours: the user is anonymous then.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

import msgspec

from reconciler.drivers.auth import AuthContext
from reconciler.drivers.base import ApiResponse
from reconciler.drivers.connection import Api, Authenticator, Connection
from reconciler.drivers.http.errors import REDIRECTS, is_page, shared_error
from reconciler.drivers.provider import NoCredential, ProviderDriver, SecretHeader
from reconciler.drivers.spinnaker.spec import SPEC
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import AuthFailed, ProviderProtocolError, ProviderUnavailable, RateLimited, ValidationFailed
from reconciler.model.printable import plain
from reconciler.model.status import CredentialReport

USER, HEALTH = "/auth/user", "/health"
ANONYMOUS = "anonymous"
MAX_SHOWN = 50
"""Roles and accounts that are listed; the rest is counted."""
_LOGIN = frozenset({"login", "saml", "saml2", "oauth2", "sso", "auth"})
"""Parts of a path that lead to a login page."""
_RESET = "x-ratelimit-reset"
_NO_RIGHTS = "Gate does not tell what the roles of a user may do"
_NO_END = {
    "token": "Gate does not tell when a token ends",
    "basic": "Gate does not tell when a password ends",
    "none": "there is no credential that could end",
}


class GateUser(msgspec.Struct, frozen=True, rename="camel"):
    """``GET /auth/user``."""

    username: str = ""
    email: str | None = None
    roles: list[str] | None = None
    allowed_accounts: list[str] | None = None


class SpinnakerDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver`."""

    spec = SPEC
    pointers = MappingProxyType({"token": "/token", "basic": "/basic/password", "none": ""})

    def address(self, url: str) -> tuple[str, str]:
        """Return the root of Gate. Raises `ValidationFailed` for a URL without a host."""
        if not urlsplit(url).hostname:
            raise ValidationFailed(f"'{url}' names no host", hint="Set `spec.url` to the address of Gate: https://HOST:8084.")
        return url, ""

    def header(self, connection: Connection) -> SecretHeader:
        basic = connection.auth.get("use") == "basic"
        return SecretHeader(username=(find(connection.auth, str, "basic", "username") or "") if basic else "")

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Raises `ValidationFailed` if the connection needs a secret and names none."""
        return NoCredential() if connection.auth.get("use") == "none" else super().authenticator(connection, context)

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        """Return the errors of a refused credential, and of the rate limit, whose reset is in milliseconds."""
        if status == 401:
            return AuthFailed(f"{request}: Gate refused the credential (401)", status=status, request=request, hint=_hint())
        if status == 429 and headers.get(_RESET, "").isdecimal():
            return RateLimited(
                f"{request}: rate limit (429)", status=status, request=request, retry_at=int(headers[_RESET][:15]) / 1000
            )
        return None

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Read the user. Raises `AuthFailed` if Gate wants a login, or takes no notice of the credential."""
        use = str(api.connection.auth.get("use"))
        if use == "none":
            await _check_health(api)
        answer = await api.request("GET", USER, ok=REDIRECTS | {303, 403})
        if answer.status != 200:
            raise _refused(answer, use)
        if not answer.content.strip() and use != "none":
            await _check_health(api)  # no user; whether it is Gate that says so, its health shows
        user = decode(answer.json(), GateUser, f"GET {USER}") if answer.content.strip() else GateUser()
        name = plain(user.username) or ANONYMOUS
        if use != "none" and name == ANONYMOUS:
            raise AuthFailed(
                f"GET {USER}: Gate took no notice of the credential: the user is {ANONYMOUS}",
                request=f"GET {USER}",
                code="RC4500",
                hint=f"Enable {use} authentication for API clients in Gate, or use `auth.use: none`.",
            )
        who = f"{name} ({plain(user.email)})" if user.email and user.email != name else name
        granted = _listed(user)
        unknown = {"missing": _NO_RIGHTS, "expiresAt": _NO_END[use]}
        if not granted:
            unknown["granted"] = "the user has no role and no account" if use != "none" else _NO_RIGHTS
        return CredentialReport(True, who, granted=granted, unknown=unknown)


async def _check_health(api: Api) -> None:
    """Read the health of Gate: without a user, nothing else proves that it is Gate. Raises `ProviderUnavailable`."""
    answer = await api.request("GET", HEALTH, ok=REDIRECTS | {303, 403, 503})
    if answer.status in {503, 200}:
        if answer.status == 503 and is_page(answer):
            raise shared_error(answer, 0.0)
        state = find(answer.json(), str, "status")
        if state is None:
            raise ProviderProtocolError(
                f"GET {HEALTH}: the answer has no status",
                status=answer.status,
                request=f"GET {HEALTH}",
                hint="Check `url` and `apiUrl`: Gate listens on port 8084, and is not the web interface (Deck).",
            )
        if state != "UP":
            raise ProviderUnavailable(f"GET {HEALTH}: Gate is {plain(state)[:40]}", status=answer.status, request=f"GET {HEALTH}")
        return
    raise _refused(answer, "none")


def _refused(answer: ApiResponse, use: str) -> Exception:
    """Return the error for a redirect or a 403, which is how Gate answers a request without a user."""
    name, status = answer.request, answer.status
    if status == 403:
        return AuthFailed(f"{name}: Gate refused the request (403)", status=status, request=name, hint=_hint(use))
    parts = urlsplit(answer.headers.get("location", ""))
    if _LOGIN.isdisjoint(part.lower() for part in parts.path.split("/")):
        return ProviderProtocolError(
            f"{name}: redirected to {plain(parts.hostname or parts.path)[:100]}; not followed",
            status=status,
            request=name,
            hint="Check `url` and `apiUrl`: the scheme, the port and the path of Gate.",
        )
    return AuthFailed(
        f"{name}: Gate wants a login ({status} to {plain(parts.path)[:100]})", status=status, request=name, hint=_hint(use)
    )


def _hint(use: str = "") -> str:
    if use == "none":
        return "This Gate takes no requests without a credential: use `auth.use: token` or `basic`."
    return "Check the secret, and that Gate accepts this form of authentication from API clients (basic form login, or OAuth2 tokens)."


def _listed(user: GateUser) -> tuple[str, ...]:
    rows = [f"role {plain(name)}" for name in sorted(user.roles or ())]
    rows += [f"account {plain(name)}" for name in sorted(user.allowed_accounts or ())]
    extra = len(rows) - MAX_SHOWN
    return (*rows[:MAX_SHOWN], f"and {extra} more") if extra > 0 else tuple(rows)


driver = SpinnakerDriver()

__all__ = ["SpinnakerDriver", "driver"]
