"""GitHub Apps: the App's own JWT, its installation, and installation tokens that are as narrow as the call.

Facts: docs.github.com, "Generating a JSON Web Token (JWT) for a GitHub App" and "Generating an installation access token".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import msgspec
import orjson

from reconciler.drivers.auth import RETRY_AFTER_S, ApiResponse, AuthContext, AuthRequest, Expiring, TokenRequest
from reconciler.drivers.connection import Api, Connection
from reconciler.drivers.github.api import ACCEPT, API_VERSION, renamed_to
from reconciler.drivers.github.app_key import UNKNOWN_APP, hint_of, private_key
from reconciler.drivers.github.app_records import GitHubApp, Installation
from reconciler.drivers.github.app_tags import retag
from reconciler.drivers.github.app_tokens import OutsideInstallation, RepositoryTokens
from reconciler.drivers.github.errors import classify, message_of
from reconciler.drivers.github.permissions import Need, covers, gaps, need_of, needs_jwt, surplus
from reconciler.drivers.github.spec import SPEC
from reconciler.drivers.http.errors import REDIRECTS, shared_error
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import AuthFailed, NotFound, PermissionDenied, ProviderError, ProviderProtocolError, ValidationFailed
from reconciler.model.resources import SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.model.times import epoch_of

BACKDATE_S = 60
"""GitHub's advice for ``iat``, against clocks that differ."""
JWT_LIFE_S = 540
"""GitHub accepts at most ten minutes, counted by its own clock."""
INSTALLATION_LIFE_S = 3600.0
CLOCK_MOVED_S = 30.0
LAG_S = 5.0
"""A token that is younger may be unknown to some of GitHub's servers."""
LAG_PAUSES_S = (0.5, 1.0, 1.5, 2.0)
_REVOKED_AT_ONCE = 20
_HEADERS = {"accept": ACCEPT, "x-github-api-version": API_VERSION}


class AccessToken(msgspec.Struct, frozen=True):
    """The answer of ``POST /app/installations/{id}/access_tokens``. The token is opaque, and may have 520 characters."""

    token: str
    expires_at: str
    permissions: Mapping[str, str] | None = None


class AppAuthenticator:
    """Implements `reconciler.drivers.connection.Authenticator`: calls of the App carry its JWT, all others a narrowed token."""

    def __init__(self, connection: Connection, context: AuthContext) -> None:
        self._context, self._connection = context, connection
        settings = find(connection.auth, dict[str, object], "githubApp") or {}
        key = connection.secrets.get("/githubApp/privateKey")
        issuer = settings.get("clientId") or settings.get("appId")
        if key is None or not issuer:
            raise ValidationFailed(
                f"{connection.integration}: auth.githubApp needs `privateKey` and `appId` or `clientId`",
                hint="Set `auth.githubApp.privateKey.valueFrom.secret` and `auth.githubApp.clientId`.",
            )
        self._key: SecretRef = key
        self._issuer = str(issuer)
        self._fixed = str(settings.get("installationId") or "")
        self._root = urlsplit(connection.api_url).path.rstrip("/")
        self._prefix = f"{self._issuer}|"
        self._issued = RepositoryTokens(self._mint, context.clock)
        self._revoking = asyncio.Semaphore(_REVOKED_AT_ONCE)
        self._refreshed_at = float("-inf")
        self._refreshing = asyncio.Lock()
        self._newest: tuple[SecretValue, float] | None = None  # the newest token, and when it was issued
        self._known: SecretValue | None = None  # the newest token that was refused and then arrived
        self._ahead_s = 0.0  # of GitHub's clock, as the last call knew it

    async def authorize(self, request: AuthRequest) -> None:
        """Add the App's JWT or a token for this call. Raises `AuthFailed` and other typed errors of GitHub's refusal."""
        request.headers.update(_HEADERS)
        self._ahead_s = self._ahead()
        path = urlsplit(request.url).path.removeprefix(self._root) or "/"
        if needs_jwt(path):
            request.headers["authorization"] = f"Bearer {self.jwt().reveal()}"
            return
        need = need_of(request.method, path)
        self._require_own(need, f"{request.method} {path}")
        token = await self._context.tokens.get(self._cache_key(need), lambda: self._issued.issue(need))
        request.headers["authorization"] = f"Bearer {token.reveal()}"
        retag(request.headers)

    def _require_own(self, need: Need, request: str) -> None:
        """A token names repositories without their owner: for another owner it would be one for our repository of the same name."""
        account = self._connection.account
        if need.owner and need.owner != account.lower():
            raise PermissionDenied(
                f"{request}: {need.owner}/{need.repository} does not belong to {account}, on which the GitHub App acts here",
                request=request,
                hint=f"Use an Integration whose `spec.url` ends in /{need.owner}, and install the App there.",
            )

    async def refresh(self) -> bool:
        """After a 401: look up the installation again and drop its tokens, at most once a minute; True if a repetition may help.

        All tokens are dropped, since calls run side by side and GitHub does not name the refused one.
        """
        if abs(self._ahead() - self._ahead_s) > CLOCK_MOVED_S:
            return True  # the answer has shown GitHub's clock: the next JWT has its times
        async with self._refreshing:
            return await self._arrives_late() or self._drop()

    async def _arrives_late(self) -> bool:
        """Wait for a new token that not every server of GitHub knows yet: that takes some seconds (octokit/auth-app.js#65).

        ``GET /rate_limit`` costs nothing and needs no permission.
        """
        newest = self._newest
        if newest is None or not 0 <= self._context.clock() - newest[1] < LAG_S:
            return False
        if newest[0] is self._known:  # a call beside this one has waited
            return True
        for pause_s in LAG_PAUSES_S:
            await asyncio.sleep(pause_s)
            answer = await self._send("GET", "/rate_limit", {**_HEADERS, "authorization": f"Bearer {newest[0].reveal()}"})
            if answer.status != 401:
                self._known = newest[0]
                return True
        return False

    def _drop(self) -> bool:
        tokens, now = self._context.tokens, self._context.clock()
        if now - self._refreshed_at < RETRY_AFTER_S:
            return True  # a call beside this one has just done it
        self._newest = None
        dropped = [tokens.forget(key) for key in tokens.values(self._account_prefix)]
        self._issued.forget()
        tokens.forget(self._installation_key)
        if dropped:
            self._refreshed_at = now
        return bool(dropped)

    def _ahead(self) -> float:
        return self._context.provider_time() - self._context.clock()

    def jwt(self) -> SecretValue:
        """Return a JWT of the App, with times by GitHub's clock. Raises `AuthFailed` for a key that is not an RSA key in PEM form."""
        from joserfc import jwt

        now = int(self._context.provider_time())
        claims = {"iat": now - BACKDATE_S, "exp": now + JWT_LIFE_S, "iss": self._issuer}
        key = private_key(self._context.read(self._key), f"{self._connection.integration}: auth.githubApp.privateKey")
        return SecretValue(jwt.encode({"alg": "RS256", "typ": "JWT"}, claims, key, algorithms=["RS256"]))

    async def close(self) -> None:
        """Revoke the tokens of this App that are still valid: nobody can use them once the process is gone."""
        tokens = self._context.tokens.values(self._prefix)
        for key in tokens:
            self._context.tokens.forget(key)
        values = {token.reveal(): token for token in tokens.values() if isinstance(token, SecretValue)}  # some share one
        await asyncio.gather(*map(self._revoke, values.values()))

    async def _revoke(self, token: SecretValue) -> None:
        async with self._revoking:
            with contextlib.suppress(ProviderError):  # it ends by itself within the hour
                headers = {**_HEADERS, "authorization": f"Bearer {token.reveal()}"}
                await self._send("DELETE", "/installation/token", headers)

    # -- the installation -------------------------------------------------------------------------------------------

    @property
    def _installation_key(self) -> str:
        return f"{self._prefix}installation|{self._connection.account}"

    async def installation(self) -> str:
        """Return the id of the installation on the account of ``spec.url``. Raises `AuthFailed` if the App is not installed there."""
        if self._fixed:
            return self._fixed
        return await self._context.tokens.get(self._installation_key, self._look_up)

    async def _look_up(self) -> Expiring[str]:
        account = self._connection.account
        for path in (f"/orgs/{account}/installation", f"/users/{account}/installation"):
            answer = await self._as_app("GET", path)
            if answer.status != 404 or UNKNOWN_APP in message_of(_body(answer)).lower():
                found = decode(self._checked(answer).json(), Installation, f"GET {path}")
                return Expiring(str(found.id), self._context.clock() + INSTALLATION_LIFE_S)
        raise AuthFailed(
            f"the GitHub App {self._issuer} is not installed on {account}",
            status=404,
            request=f"GET /orgs/{account}/installation",
            hint=f"Install the App on {account}, on its page under Settings > Developer settings > GitHub Apps, or fix `spec.url`.",
        )

    # -- tokens -----------------------------------------------------------------------------------------------------

    @property
    def _account_prefix(self) -> str:
        return f"{self._prefix}{self._connection.account}|"

    def _cache_key(self, need: Need) -> str:
        return f"{self._account_prefix}{need.repository or need.repository_id or '*'}|{need.permission}:{need.level}"

    async def _mint(self, need: Need, repositories: Sequence[str]) -> Expiring[SecretValue]:
        """Request a token of ``need`` for repositories by name, or for the one that ``need`` names by id. Implements `Mint`."""
        number = await self.installation()
        path = f"/app/installations/{number}/access_tokens"
        where: dict[str, object] = {"repositories": list(repositories)} if repositories else {}
        if need.repository_id:
            where = {"repository_ids": [need.repository_id]}
        answer = await self._request_token(path, need, where)
        if answer.status == 422 and len(repositories) == 1:
            moved = await self._present_id(repositories[0])
            if moved:
                answer = await self._request_token(path, need, {"repository_ids": [moved]})
        if answer.status == 404:  # it was removed, and may be installed again with another id
            self._context.tokens.forget(self._installation_key)
        if answer.status == 422:
            raise self._too_narrow(need, repositories, answer)
        token = decode(self._checked(answer).json(), AccessToken, f"POST {path}")
        if token.permissions is not None and not covers(token.permissions, need.permission, need.level):
            raise PermissionDenied(
                f"{answer.request}: GitHub issued a token without {need.permission}: {need.level}",
                request=answer.request,
                hint="Approve the App's permissions on the page of its installation.",
            )
        ends_at = epoch_of(token.expires_at) or self._context.provider_time()
        value, now = SecretValue(token.token), self._context.clock()
        self._context.conceal(value)
        self._newest = value, now
        return Expiring(value, now + ends_at - self._context.provider_time())

    async def _request_token(self, path: str, need: Need, where: Mapping[str, object]) -> ApiResponse:
        return await self._as_app("POST", path, orjson.dumps({"permissions": {need.permission: need.level}, **where}))

    async def _present_id(self, repository: str) -> int:
        """Return the id of a repository that is called otherwise now: GitHub issues no token for a former name. 0 for any other."""
        answer = await self._as_app("GET", f"/repos/{self._connection.account}/{repository}/installation")
        if answer.status not in REDIRECTS:
            return 0
        return int(renamed_to(answer.headers.get("location", "")).rpartition("/")[2] or 0)

    def _too_narrow(self, need: Need, repositories: Sequence[str], answer: ApiResponse) -> PermissionDenied:
        """GitHub's 422 is about a permission that is not granted, or about a repository outside the installation."""
        account, text = self._connection.account, message_of(_body(answer))
        where = f" on repository {need.repository_id} of {account}" if need.repository_id else ""
        if len(repositories) == 1:
            where = f" on {account}/{repositories[0]}"
        kind = OutsideInstallation if "repositor" in text.lower() else PermissionDenied
        return kind(
            f"{answer.request}: the installation does not give {need.permission}: {need.level}{where} (422: {text})",
            status=422,
            request=answer.request,
            hint="Give the App this permission and approve it for the installation, or add the repository to the installation.",
        )

    # -- requests as the App ----------------------------------------------------------------------------------------

    async def _as_app(self, method: str, path: str, content: bytes | None = None) -> ApiResponse:
        """Send a request with the App's JWT. Where GitHub's clock turns out to be another one, it is sent once more."""
        before = self._ahead()
        answer = await self._send(method, path, {**_HEADERS, "authorization": f"Bearer {self.jwt().reveal()}"}, content)
        moved = abs(self._ahead() - before) > CLOCK_MOVED_S
        if answer.status == 401 and moved:
            answer = await self._send(method, path, {**_HEADERS, "authorization": f"Bearer {self.jwt().reveal()}"}, content)
        return answer

    async def _send(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None = None) -> ApiResponse:
        extra = {"content-type": "application/json"} if content is not None else {}
        url = self._connection.api_url + path
        return await self._context.send(TokenRequest(method, url, {**headers, **extra}, content, hosts=SPEC.hosts))

    def _checked(self, answer: ApiResponse) -> ApiResponse:
        """Return a successful answer; raise the typed error of any other."""
        if 200 <= answer.status < 300:
            return answer
        body, now = _body(answer), self._context.provider_time()
        text = message_of(body)
        if answer.status in (401, 404) or (answer.status == 403 and "suspended" in text.lower()):
            raise AuthFailed(
                f"{answer.request}: GitHub refused the App {self._issuer} ({answer.status}{': ' + text if text else ''})",
                status=answer.status,
                request=answer.request,
                hint=hint_of(answer.status, text),
            )
        error = classify(answer.status, answer.headers, body, answer.request, now=now) or shared_error(answer, now)
        if isinstance(error, ProviderError) and error.retry_at is not None:
            error.retry_at -= self._ahead()  # it was by GitHub's clock
        raise error


async def check_app(api: Api, needs: Mapping[str, str]) -> CredentialReport:
    """Return as which App and account it acts, and which permissions are granted, missing and not needed.

    Raises `AuthFailed` for an App that GitHub refuses, that is not installed on the account, or whose installation is suspended.
    """
    app = decode((await api.request("GET", "/app")).json(), GitHubApp, "GET /app")
    account = api.connection.account
    installation = await installation_on(api, app)
    if installation.suspended_at:
        raise AuthFailed(
            f"the installation of the GitHub App {app.slug} on {account} is suspended since {installation.suspended_at}",
            request="GET /app",
            hint=f"An owner of {account} can unsuspend it: {installation.html_url or 'Settings > GitHub Apps'}.",
        )
    selection = "all repositories" if installation.repository_selection == "all" else "selected repositories"
    return CredentialReport(
        valid=True,
        identity=f"GitHub App {app.slug} on {account} ({selection})",
        granted=tuple(f"{name}: {level}" for name, level in sorted(installation.permissions.items())),
        missing=missing_permissions(app, installation, needs),
        surplus=surplus(installation.permissions, needs),
        unknown={"expiresAt": "private keys of a GitHub App do not expire"},
    )


async def installation_on(api: Api, app: GitHubApp) -> Installation:
    """Return the installation of ``app`` that ``api`` uses. Raises `AuthFailed` if there is none."""
    settings = find(api.connection.auth, dict[str, object], "githubApp") or {}
    account, number = api.connection.account, settings.get("installationId")
    paths = (f"/app/installations/{number}",) if number else (f"/orgs/{account}/installation", f"/users/{account}/installation")
    for path in paths:
        try:
            return decode((await api.request("GET", path)).json(), Installation, f"GET {path}")
        except NotFound:
            continue
    raise AuthFailed(
        f"the GitHub App {app.slug} is not installed on {account}"
        if not number
        else f"the GitHub App {app.slug} has no installation {number}",
        request=f"GET {paths[0]}",
        hint=f"Install it: {app.html_url}/installations/new" if app.html_url else "Install the App on the account.",
    )


def missing_permissions(app: GitHubApp, installation: Installation, needs: Mapping[str, str]) -> tuple[str, ...]:
    """Return each missing permission with the page where a person grants it: GitHub has no API for that."""
    update = f"{installation.html_url}/permissions/update" if installation.html_url else "the page of the installation"
    answer = []
    for gap in gaps(installation.permissions, needs):
        name, _, level = gap.partition(": ")
        page = update if covers(app.permissions, name, level) else f"the App's settings, {app.settings_url}, then on {update}"
        answer.append(f"{gap} (grant it on {page})")
    return tuple(answer)


def _body(answer: ApiResponse) -> object:
    try:
        body: object = answer.json()
    except ProviderProtocolError:
        return answer.text
    return body


__all__ = [
    "AppAuthenticator",
    "check_app",
    "installation_on",
    "missing_permissions",
    "private_key",
]
