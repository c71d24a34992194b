"""The driver: connection, credential, and the reading that an event source with a pattern needs.

Putting a GitHub token on a request.

Trying a credential: who it is, what it may do, when it ends.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from reconciler.drivers.base import (
    Api,
    ApiResponse,
    Authenticator,
    CompileContext,
    Connection,
    Executor,
    ManagedType,
    Receiver,
    Reporter,
)
from reconciler.drivers.github import api as names
from reconciler.drivers.github import errors
from reconciler.drivers.github.executor import GitHubExecutor
from reconciler.drivers.github.receiver import GitHubReceiver
from reconciler.drivers.github.reports import GitHubReporter
from reconciler.drivers.github.spec import SPEC
from reconciler.drivers.github.webhooks import HookType, compile_source, matching
from reconciler.drivers.http.paging import ListBound, paginate
from reconciler.model.errors import NotFound, NotImplementedYet, PermissionDenied, ProviderProtocolError, ValidationFailed
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import Kind, Resource, SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.model.values import JsonObject

MAX_REPOSITORIES = 5_000
_ALL_REPOSITORIES_BYTES = 128 << 20
"""Only names are kept of these pages, one page at a time."""
_PER_PAGE = 100
_POINTERS = {"token": "/token", "basic": "/basic/password"}


class GitHubDriver:
    """Implements `reconciler.drivers.base.Driver` for github.com, ghe.com and GitHub Enterprise Server."""

    provider = SPEC.name
    hosts = SPEC.hosts
    limits = SPEC.limits
    receiver: Receiver | None = GitHubReceiver()
    executors: Mapping[str, Executor] = MappingProxyType({GitHubExecutor.type: GitHubExecutor()})
    reporter: Reporter | None = GitHubReporter()

    def __init__(self) -> None:
        kinds = (HookType(names.REPOSITORY), HookType(names.ORGANIZATION))
        self.types: Mapping[str, ManagedType] = MappingProxyType({kind.type: kind for kind in kinds})

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """Return the connection; the account is the first part of the path in ``spec.url``.

        Raises `ValidationFailed` for a URL that names no account, `NotImplementedYet` for an auth form that has no support yet.
        """
        url = str(resource.spec.get("url", "")).rstrip("/")
        auth = resource.spec.get("auth", {})
        if auth.get("use") not in _POINTERS:
            raise NotImplementedYet(
                f"{resource.id}: auth '{auth.get('use')}' with GitHub is not part of this version yet",
                hint="Use `token` meanwhile; the manifest is valid, and nothing is done at GitHub until then.",
                location=resource.location,
            )
        parts = urlsplit(url)
        path = [part for part in parts.path.split("/") if part]
        if not parts.hostname or not 1 <= len(path) <= 2:
            raise ValidationFailed(
                f"{resource.id}: '{url}' names no GitHub account", hint="Set `spec.url` to https://github.com/ACCOUNT."
            )
        api_url = str(resource.spec.get("apiUrl") or _api_root(parts.scheme, parts.netloc)).rstrip("/")
        return Connection(resource.id, self.provider, url, api_url, names.organization_key(path[0]), auth, dict(secrets))

    def authenticator(self, connection: Connection, read: Callable[[SecretRef], SecretValue]) -> Authenticator:
        """Return the authenticator of ``connection``; raises `ValidationFailed` if it names no secret."""
        use = str(connection.auth.get("use"))
        ref = connection.secrets.get(_POINTERS.get(use, ""))
        if ref is None:
            raise ValidationFailed(
                f"{connection.integration}: auth '{use}' names no secret", hint=f"Set `auth.{use}` with a `valueFrom.secret`."
            )
        basic = connection.auth.get("basic") if use == "basic" else None
        return TokenAuthenticator(ref, read, username=str(basic.get("username", "")) if isinstance(basic, Mapping) else "")

    def classify(self, status: int, headers: Mapping[str, str], body: Any, request: str, *, now: float) -> Exception | None:
        """Return the typed error of an answer; see `errors.classify`."""
        return errors.classify(status, headers, body, request, now=now)

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Try the credential; see `check_credential`."""
        return await check_credential(api, needs)

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """An event source writes webhooks, and reads their deliveries; a stage what it runs here, and what it reports."""
        if resource.id.kind == Kind.STAGE.value:
            return self._needs_of_stage(resource.spec)
        if resource.id.kind != Kind.EVENT_SOURCE.value:
            return {}
        wanted = resource.spec.get("resource")
        organization = isinstance(wanted, Mapping) and wanted.get("type") == "organization"
        return {"organization_hooks": "write"} if organization else {"webhooks": "write"}

    def _needs_of_stage(self, spec: JsonObject) -> Mapping[str, str]:
        """Where a stage reports to is where its event came from; it is asked of the integration that the stage names."""
        executor, report = spec.get("executor") or {}, spec.get("report") or {}
        runs_here = self.executors.get(str(executor.get("type")))
        found = dict(runs_here.permissions(executor)) if runs_here is not None else {}
        if report.get("deploymentStatus") or (report.get("deployment") or {}).get("create"):
            found["deployments"] = "write"
        if report.get("commitStatus"):
            found["statuses"] = "write"
        return found

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Return the repositories that ``resource.match`` finds among those the credential sees; archived ones take no hooks.

        Raises `ValidationFailed` when there is none, or more than may be handled at once.
        """
        pattern = _pattern(resource)
        if pattern is None:
            return {}
        owner = pattern.partition("/")[0] if "/" in pattern else api.connection.account
        found = matching(pattern, api.connection.account, await _visible(api, names.organization_key(owner)))
        if not found:
            raise ValidationFailed(
                f"{resource.id}: no repository that the credential sees matches '{pattern}'",
                hint="Mend `resource.match`, or give the credential access to the repositories.",
            )
        return {"repositories": found}

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Show the pattern in place of the names."""
        pattern = _pattern(resource)
        return {"pattern": pattern} if pattern is not None else {}

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        """Return the hooks that an event source declares."""
        return compile_source(resource, context) if resource.id.kind == Kind.EVENT_SOURCE.value else ()


def _api_root(scheme: str, netloc: str) -> str:
    """Return where the API is: a host of its own on github.com and ghe.com, a path on an Enterprise server."""
    host = netloc.lower()
    if host in {"github.com", "www.github.com"}:
        return "https://api.github.com"
    return f"{scheme}://api.{host}" if host.endswith(".ghe.com") else f"{scheme}://{netloc}/api/v3"


def _pattern(resource: Resource) -> str | None:
    wanted = resource.spec.get("resource")
    if not isinstance(wanted, Mapping) or wanted.get("type") != "repository":
        return None
    return str(wanted["match"]) if wanted.get("match") else None


async def _visible(api: Api, owner: str) -> list[str]:
    """Return the repositories of ``owner`` that the credential sees: an organization's, else a user's, else an installation's."""
    try:
        return await _names(api, f"/orgs/{owner}/repos")
    except NotFound:
        pass
    try:
        found = await _names(api, "/user/repos")
    except PermissionDenied:
        found = await _names(api, "/installation/repositories")
    return [name for name in found if name.partition("/")[0].lower() == owner]


async def _names(api: Api, path: str) -> list[str]:
    found: list[str] = []
    bound = ListBound(path, max_bytes=_ALL_REPOSITORIES_BYTES)
    async for page in paginate(
        api, path, params={"per_page": _PER_PAGE}, max_pages=MAX_REPOSITORIES // _PER_PAGE + 1, bound=bound
    ):
        found += [str(row["full_name"]) for row in _rows(page) if row.get("archived") is not True]
        if len(found) > MAX_REPOSITORIES:
            raise ValidationFailed(
                f"GET {path}: the credential sees more than {MAX_REPOSITORIES} repositories",
                hint="Name the repositories with `names`, or use an organization webhook.",
            )
    return found


def _rows(page: ApiResponse) -> list[Mapping[str, Any]]:
    body = page.json()
    rows = body.get("repositories") if isinstance(body, Mapping) else body
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) and isinstance(row.get("full_name"), str) for row in rows):
        raise ProviderProtocolError("GitHub's list of repositories is of another shape than its API promises")
    return rows


API_VERSION = "2022-11-28"
ACCEPT = "application/vnd.github+json"


class TokenAuthenticator:
    """``Authorization: Bearer TOKEN``; with a user name ``Basic``, as old GitHub Enterprise servers have it."""

    def __init__(self, ref: SecretRef, read: Callable[[SecretRef], SecretValue], *, username: str = "") -> None:
        self._ref = ref
        self._read = read
        self._username = username
        self._used: SecretValue | None = None

    async def authorize(self, headers: dict[str, str]) -> None:
        """Add the token, and the version of the API that this driver speaks. Raises `SecretUnavailable`."""
        if self._used is None:
            self._used = self._read(self._ref)
        headers["accept"] = ACCEPT
        headers["x-github-api-version"] = API_VERSION
        if self._username:
            pair = f"{self._username}:{self._used.reveal()}".encode()
            headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            headers["authorization"] = f"Bearer {self._used.reveal()}"

    async def refresh(self) -> bool:
        """Read the secret again; True only when it changed, since the same token would be refused again."""
        before, self._used = self._used, self._read(self._ref)
        return before is None or before.reveal() != self._used.reveal()


_ANY_REPO = ("repo",)
SCOPES: Mapping[str, tuple[str, ...]] = {
    "webhooks": ("repo", "admin:repo_hook", "write:repo_hook"),
    "organization_hooks": ("admin:org_hook",),
    "deployments": ("repo", "repo_deployment"),
    "statuses": ("repo", "repo:status"),
    "actions": _ANY_REPO,
    "contents": _ANY_REPO,
    "checks": (),  # no classic token may write checks
}
"""Scopes of a classic token of which one covers the permission (GitHub's "scopes for OAuth apps")."""
_READ_SCOPES = {"webhooks": ("read:repo_hook",)}
_RATE = {"limit": "x-ratelimit-limit", "remaining": "x-ratelimit-remaining", "resetAt": "x-ratelimit-reset"}


async def check_credential(api: Api, needs: Mapping[str, str]) -> CredentialReport:
    """Return what GitHub says of the credential; raises `AuthFailed` if it is refused.

    Only classic tokens tell their scopes. What a fine-grained or an installation token may do is not told by any cheap
    call: it shows in the first refusal, which names the missing permission.
    """
    try:
        answer = await api.request("GET", "/user")
        body = answer.json()
        identity = body.get("login") if isinstance(body, Mapping) else None
    except PermissionDenied:
        answer = await api.request("GET", "/installation/repositories", params={"per_page": 1})
        identity = f"an installation of a GitHub App on {api.connection.account}"
    scopes = _scopes(answer)
    return CredentialReport(
        valid=True,
        identity=identity if isinstance(identity, str) else "",
        expires_at=expiry(answer.headers.get("github-authentication-token-expiration", "")),
        granted=tuple(sorted(scopes or ())),
        missing=() if scopes is None else missing(scopes, needs),
        rate=_rate(answer.headers),
    )


def missing(scopes: frozenset[str], needs: Mapping[str, str]) -> tuple[str, ...]:
    """Return which of ``needs`` no scope of a classic token covers, each with the scopes that would."""
    lacking = []
    for name, level in sorted(needs.items()):
        covering = SCOPES.get(name)
        if covering is None:
            continue
        covering += _READ_SCOPES.get(name, ()) if level == "read" else ()
        if not scopes & set(covering):
            lacking.append(f"{name}: {level}" + (f" (scope {' or '.join(covering)})" if covering else ""))
    return tuple(lacking)


def expiry(text: str) -> str:
    """Return the end of a token in RFC 3339 from either of GitHub's two spellings; empty if there is none.

    Seen: ``2024-10-04 11:29:00 UTC`` and ``2026-02-06 07:42:23 +0100``.
    """
    try:
        at = datetime.strptime(text.strip().replace(" UTC", " +0000"), "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return ""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _scopes(answer: ApiResponse) -> frozenset[str] | None:
    header = answer.headers.get("x-oauth-scopes")
    return None if header is None else frozenset(scope.strip() for scope in header.split(",") if scope.strip())


def _rate(headers: Mapping[str, Any]) -> dict[str, int]:
    found = {name: str(headers.get(header, "")) for name, header in _RATE.items()}
    return {name: int(value) for name, value in found.items() if value.isascii() and value.isdigit()}


driver = GitHubDriver()

__all__ = ["GitHubDriver", "driver"]
