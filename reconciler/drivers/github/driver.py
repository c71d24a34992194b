"""The GitHub driver: connection, credential and its check, and the lookup of repositories that match a pattern."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from reconciler.drivers.auth import AuthContext
from reconciler.drivers.base import ApiResponse, AppRegistrar, AppWebhooks, Executor, ManagedType, Receiver, Reporter
from reconciler.drivers.common import matching
from reconciler.drivers.connection import Api, Authenticator, CompileContext, Connection
from reconciler.drivers.github import api as names
from reconciler.drivers.github import errors
from reconciler.drivers.github.app import AppAuthenticator, check_app
from reconciler.drivers.github.app_events import GitHubAppWebhooks
from reconciler.drivers.github.app_reach import reach_of
from reconciler.drivers.github.app_registration import GitHubAppRegistrar
from reconciler.drivers.github.app_webhook import AppHookType, compile_app_webhook
from reconciler.drivers.github.compile import compile_source, full_pattern, pattern_of
from reconciler.drivers.github.executor import GitHubExecutor
from reconciler.drivers.github.pulls import GitHubPullRequests
from reconciler.drivers.github.receiver import GitHubReceiver
from reconciler.drivers.github.reports import GitHubReporter
from reconciler.drivers.github.spec import SPEC
from reconciler.drivers.github.webhooks import HookType
from reconciler.drivers.http.paging import ListBound, paginate
from reconciler.drivers.provider import ProviderDriver, SecretHeader, by_type
from reconciler.drivers.pulls import PullRequests
from reconciler.drivers.wire import find
from reconciler.model.errors import NotFound, PermissionDenied, ValidationFailed
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import Kind, Resource
from reconciler.model.status import CredentialReport
from reconciler.model.values import JsonObject

MAX_REPOSITORIES = 5_000
_ALL_REPOSITORIES_BYTES = 128 << 20
"""Higher than for other lists: only names are kept, and one page at a time."""
_INSTALLATION = "/installation/repositories"
SCOPES: Mapping[str, tuple[str, ...]] = {
    "webhooks": ("repo", "admin:repo_hook", "write:repo_hook"),
    "organization_hooks": ("admin:org_hook",),
    "deployments": ("repo", "repo_deployment"),
    "statuses": ("repo", "repo:status"),
    "actions": ("repo",),
    "contents": ("repo",),
    "checks": (),  # no scope of a classic token grants it
    "pull_requests": ("repo",),
}
"""Permission → the scopes of a classic token that grant it, any one of them (GitHub's "scopes for OAuth apps")."""
_READ_SCOPES = {"webhooks": ("read:repo_hook",)}
_SCOPES_HEADER = "x-oauth-scopes"
_RATE = {"limit": "x-ratelimit-limit", "remaining": "x-ratelimit-remaining", "resetAt": "x-ratelimit-reset"}


class ListedRepository(msgspec.Struct, frozen=True):
    full_name: str
    archived: bool | None = None


class GitHubDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver` for github.com, ghe.com and GitHub Enterprise Server."""

    spec = SPEC
    pointers: Mapping[str, str] = {"token": "/token", "basic": "/basic/password", "github-app": "/githubApp/privateKey"}
    types: Mapping[str, ManagedType] = by_type(HookType(names.REPOSITORY), HookType(names.ORGANIZATION), AppHookType())
    receiver: Receiver | None = GitHubReceiver()
    executors: Mapping[str, Executor] = by_type(GitHubExecutor())
    reporter: Reporter | None = GitHubReporter()
    apps: AppWebhooks | None = GitHubAppWebhooks()
    registrar: AppRegistrar | None = GitHubAppRegistrar()
    pulls: PullRequests | None = GitHubPullRequests()

    def address(self, url: str) -> tuple[str, str]:
        """The account is the first part of the path."""
        parts = urlsplit(url)
        path = [part for part in parts.path.split("/") if part]
        if not parts.hostname or not 1 <= len(path) <= 2:
            raise ValidationFailed(f"'{url}' names no GitHub account", hint="Set `spec.url` to https://github.com/ACCOUNT.")
        return _api_root(parts.scheme, parts.netloc), names.organization_key(path[0])

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Raises `ValidationFailed` if the connection names no secret."""
        if connection.auth.get("use") == "github-app":
            return AppAuthenticator(connection, context)
        return super().authenticator(connection, context)

    def header(self, connection: Connection) -> SecretHeader:
        basic = connection.auth.get("use") == "basic"
        username = find(connection.auth, str, "basic", "username") if basic else None
        return SecretHeader(username=username or "", extra={"accept": names.ACCEPT, "x-github-api-version": names.API_VERSION})

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        return errors.classify(status, headers, body, request, now=now)

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Return the identity, scopes, expiry and rate limit of the credential; raises `AuthFailed` if GitHub refuses it.

        Only classic tokens report their scopes. No cheap call reports the permissions of a fine-grained or an installation token:
        the first refusal names the missing permission.
        """
        if api.connection.auth.get("use") == "github-app":
            return await check_app(api, needs)
        try:
            answer = await api.request("GET", "/user")
            identity = names.decoded(answer, names.GitHubUser, "/user").login or ""
        except PermissionDenied:
            answer = await api.request("GET", _INSTALLATION, params={"per_page": 1})
            identity = f"an installation of a GitHub App on {api.connection.account}"
        scopes = _scopes(answer)
        return CredentialReport(
            valid=True,
            identity=identity,
            expires_at=expiry(answer.headers.get("github-authentication-token-expiration", "")),
            granted=tuple(sorted(scopes or ())),
            missing=() if scopes is None else missing(scopes, needs),
            rate=_rate(answer.headers),
            unknown=_open_questions(answer.headers),
        )

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """Return the permissions of an event source (webhooks and their deliveries), a stage (its runs and reports) or a notification.

        A stage reports to the provider of its event; the integration that the stage names needs the permission for it.
        """
        if resource.id.kind == Kind.EVENT_SOURCE.value:
            organization = find(resource.spec, str, "resource", "type") == "organization"
            return {"organization_hooks": "write"} if organization else {"webhooks": "write"}
        if resource.id.kind == Kind.NOTIFICATION.value:
            return {"statuses": "write"}
        needs, report = dict(super().needs(resource)), resource.spec.get("report") or {}
        if report.get("deploymentStatus") or (report.get("deployment") or {}).get("create"):
            needs["deployments"] = "write"
        if report.get("commitStatus"):
            needs["statuses"] = "write"
        return needs

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Return the repositories visible to the credential that ``resource.match`` selects; archived ones take no hooks.

        Raises `ValidationFailed` if none matches, or if the credential sees more than `MAX_REPOSITORIES`.
        """
        if api.connection.auth.get("use") == "github-app":
            return await reach_of(api, resource) if resource.id.kind == Kind.EVENT_SOURCE.value else {}
        pattern = pattern_of(resource)
        if not pattern:
            return {}
        full = full_pattern(pattern, api.connection.account)
        visible = await _visible(api, names.organization_key(full.partition("/")[0]))
        repositories = matching(full, map(str.lower, visible))
        if not repositories:
            raise ValidationFailed(
                f"{resource.id}: no repository that the credential sees matches '{pattern}'",
                hint="Fix `resource.match`, or give the credential access to the repositories.",
            )
        return {"repositories": repositories}

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Return the pattern in place of the names."""
        pattern = pattern_of(resource)
        return {"pattern": pattern} if pattern else {}

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        if resource.id.kind == Kind.INTEGRATION.value:
            return compile_app_webhook(resource, context)
        return compile_source(resource, context) if resource.id.kind == Kind.EVENT_SOURCE.value else ()


def _api_root(scheme: str, netloc: str) -> str:
    """Return the API's root: a host of its own at github.com and ghe.com, a path at an Enterprise server."""
    host = netloc.lower()
    if host in {"github.com", "www.github.com"}:
        return "https://api.github.com"
    return f"{scheme}://api.{host}" if host.endswith(".ghe.com") else f"{scheme}://{netloc}/api/v3"


async def _visible(api: Api, owner: str) -> list[str]:
    """Return the repositories of ``owner`` that the credential sees: as an organization, a user or an App's installation."""
    try:
        return await _names(api, f"/orgs/{owner}/repos")
    except NotFound:
        pass
    try:
        repositories = await _names(api, "/user/repos")
    except PermissionDenied:
        repositories = await _names(api, _INSTALLATION)
    return [name for name in repositories if name.partition("/")[0].lower() == owner]


async def _names(api: Api, path: str) -> list[str]:
    repositories: list[str] = []
    within = ("repositories",) if path == _INSTALLATION else ()  # the one list that is an object
    bound = ListBound(path, max_bytes=_ALL_REPOSITORIES_BYTES)
    params, max_pages = {"per_page": names.PER_PAGE}, MAX_REPOSITORIES // names.PER_PAGE + 1
    async for page in paginate(api, path, params=params, max_pages=max_pages, bound=bound):
        repositories += [row.full_name for row in names.decoded(page, list[ListedRepository], path, *within) if not row.archived]
        if len(repositories) > MAX_REPOSITORIES:
            raise ValidationFailed(
                f"GET {path}: the credential sees more than {MAX_REPOSITORIES} repositories",
                hint="Name the repositories with `names`, or use an organization webhook.",
            )
    return repositories


def missing(scopes: frozenset[str], needs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ``needs`` that no scope of a classic token covers, each with the scopes that would."""
    gaps = []
    for name, level in sorted(needs.items()):
        covering = SCOPES.get(name)
        if covering is None:
            continue
        covering += _READ_SCOPES.get(name, ()) if level == "read" else ()
        if not scopes & set(covering):
            gaps.append(f"{name}: {level}" + (f" (scope {' or '.join(covering)})" if covering else ""))
    return tuple(gaps)


def expiry(text: str) -> str:
    """Return the expiry of a token in RFC 3339; empty if there is none.

    GitHub writes it in two forms: ``2024-10-04 11:29:00 UTC`` and ``2026-02-06 07:42:23 +0100``.
    """
    try:
        at = datetime.strptime(text.strip().replace(" UTC", " +0000"), "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return ""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _open_questions(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what GitHub does not tell of a token, with the reason."""
    unknown = {}
    if _SCOPES_HEADER not in headers:
        unknown = dict.fromkeys(("granted", "missing"), "GitHub tells the scopes of classic tokens only")
    elif not headers[_SCOPES_HEADER].strip():
        unknown = {"granted": "the token has no scope: it may read what is public"}
    if "github-authentication-token-expiration" not in headers:
        unknown["expiresAt"] = "the token has no end date"
    return unknown


def _scopes(answer: ApiResponse) -> frozenset[str] | None:
    header = answer.headers.get(_SCOPES_HEADER)
    return None if header is None else frozenset(scope.strip() for scope in header.split(",") if scope.strip())


def _rate(headers: Mapping[str, str]) -> dict[str, int]:
    values = {name: headers.get(header, "") for name, header in _RATE.items()}
    return {name: int(value) for name, value in values.items() if value.isascii() and value.isdigit()}


driver = GitHubDriver()

__all__ = ["GitHubDriver", "driver"]
