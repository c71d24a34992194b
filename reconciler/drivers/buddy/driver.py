"""The driver: connection, credential, and compiling manifests to managed objects."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from reconciler.drivers.auth import AuthContext
from reconciler.drivers.base import Executor, ManagedType, Receiver
from reconciler.drivers.buddy import errors, lookup
from reconciler.drivers.buddy.compile import compile_integration, compile_source, targets_of
from reconciler.drivers.buddy.executor import BuddyExecutor
from reconciler.drivers.buddy.integrations import IntegrationType
from reconciler.drivers.buddy.receiver import BuddyReceiver
from reconciler.drivers.buddy.spec import SPEC
from reconciler.drivers.buddy.tokens import ExchangeAuthenticator
from reconciler.drivers.buddy.webhooks import WebhookType
from reconciler.drivers.common import target_of
from reconciler.drivers.connection import Api, Authenticator, CompileContext, Connection
from reconciler.drivers.provider import ProviderDriver, by_type
from reconciler.drivers.wire import decode
from reconciler.model.errors import NotFound, PermissionDenied, ProviderProtocolError
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import Kind, Resource
from reconciler.model.status import CredentialReport
from reconciler.model.values import JsonObject

_ROOTS = {
    "app.buddy.works": "https://api.buddy.works",
    "api.buddy.works": "https://api.buddy.works",
    "eu.buddy.works": "https://api.eu.buddy.works",
    "app.eu.buddy.works": "https://api.eu.buddy.works",
    "api.eu.buddy.works": "https://api.eu.buddy.works",
}
_SCOPES = {
    "integrations": ("INTEGRATION_INFO", "INTEGRATION_ADD", "INTEGRATION_MANAGE"),
    "webhooks": ("WEBHOOK_INFO", "WEBHOOK_ADD", "WEBHOOK_MANAGE"),
    "workspace": ("WORKSPACE",),
    "pipelines": ("EXECUTION_INFO",),
    "executions": ("EXECUTION_INFO", "EXECUTION_RUN", "EXECUTION_MANAGE"),
}
_RENEWED = "short-lived tokens are requested again before they end"
_SAME = {"INTEGRATION_READ": "INTEGRATION_INFO"}  # two pages of the provider name one scope differently


class _TokenInfo(msgspec.Struct, frozen=True):
    """What the token's own page shows."""

    name: str | None = None
    expires_at: str | None = None
    scopes: list[str] | None = None


class BuddyDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver` for Buddy's regions and self-hosted installations."""

    spec = SPEC
    pointers: Mapping[str, str] = {"token": "/token", "oidc": ""}
    default_url = "https://app.buddy.works"
    types: Mapping[str, ManagedType] = by_type(IntegrationType(), WebhookType())
    receiver: Receiver | None = BuddyReceiver()
    executors: Mapping[str, Executor] = by_type(BuddyExecutor())

    def address(self, url: str) -> tuple[str, str]:
        """API root and workspace follow from host and path."""
        parts = urlsplit(url)
        root = _ROOTS.get(parts.hostname or "") or f"{parts.scheme}://{parts.netloc}/api"
        return root, parts.path.strip("/").partition("/")[0]

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Raises `ValidationFailed` if the connection names no secret, or no identity provider."""
        if connection.auth.get("use") == "oidc":
            return ExchangeAuthenticator(connection, context)
        return super().authenticator(connection, context)

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        return errors.classify(status, headers, body, request, now=now)

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Read the token's own page; a token that may not is tried on the list of workspaces."""
        try:
            body = (await api.request("GET", "/user/token")).json()
        except (PermissionDenied, NotFound):
            await api.request("GET", "/workspaces")
            reason = "the token may not read itself (no scope TOKEN_INFO)"
            return CredentialReport(
                True,
                "a token that may not read its own scopes",
                unknown=dict.fromkeys(("granted", "missing", "expiresAt"), reason),
            )
        token = decode(body, _TokenInfo, "GET /user/token")
        if token == _TokenInfo():
            raise ProviderProtocolError(
                "GET /user/token: the answer tells nothing of a token",
                request="GET /user/token",
                hint="Check `apiUrl`: a proxy or a login page may answer in place of the API.",
            )
        exchanged = api.connection.auth.get("use") == "oidc"
        unknown = {"expiresAt": _RENEWED if exchanged else "the token has no end"} if exchanged or not token.expires_at else {}
        if not token.name and not exchanged:
            unknown["identity"] = "Buddy does not tell whose token it is"
        granted = tuple(sorted(token.scopes or ()))
        return CredentialReport(
            True,
            f"token '{token.name}'" if token.name else "an exchanged token" if exchanged else "a personal access token",
            "" if exchanged else token.expires_at or "",
            granted,
            _missing(granted, needs),
            unknown=unknown,
        )

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """An integration needs its own scopes and those to look up names; a source those of webhooks and those to find missed
        executions; a stage those of its executor.
        """
        if resource.id.kind == Kind.STAGE.value:
            return super().needs(resource)
        if resource.id.kind == Kind.EVENT_SOURCE.value:
            return {"webhooks": "write", "workspace": "read", "pipelines": "read"}
        references = lookup.references_of(resource)
        result = {"integrations": "write"}
        if references.users or references.groups:
            result["workspace"] = "read"
        if references.pipelines:
            result["pipelines"] = "read"
        return result

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Return ids by name, and the projects that ``resource.match`` matches.

        Raises `ValidationFailed` for an unknown name, and `ScopeGone` for an unknown project.
        """
        account = api.connection.account
        if resource.id.kind == Kind.BUDDY_INTEGRATION.value:
            workspace = lookup.required_workspace(resource, str(resource.spec.get("workspace") or ""), account)
            project = resource.spec.get("project_name")
            with contextlib.suppress(PermissionDenied):  # a token without the scope WORKSPACE: the provider checks the name
                await lookup.require_projects(api, workspace, [str(project)] if project else [], resource.id)
            return await lookup.resolve(api, workspace, lookup.references_of(resource))
        facts = await lookup.matched(api, resource)
        for workspace, projects in targets_of(resource, account, facts).items():
            await lookup.require_projects(api, workspace, projects, resource.id)
        return facts

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Show names in place of ids, and the pattern in place of projects."""
        references, target = lookup.references_of(resource), target_of(resource, "project")
        return {
            "pipelines": {
                name.key: f"{name.project}/{name.text}" if name.project else name.text for name in references.pipelines
            },
            "users": {name: name for name in references.users},
            "groups": {name: name for name in references.groups},
            ("workspaces" if target.type == "workspace" else "projects"): [target.match] if target.match else [],
        }

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        if resource.id.kind == Kind.BUDDY_INTEGRATION.value:
            return compile_integration(resource, context)
        return compile_source(resource, context) if resource.id.kind == Kind.EVENT_SOURCE.value else ()


def _missing(granted: tuple[str, ...], needs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the scopes that are needed and not granted. MANAGE is taken to include ADD, INFO and RUN: no false alarms."""
    have = {_SAME.get(scope, scope) for scope in granted}
    managed = [scope.removesuffix("_MANAGE") for scope in have if scope.endswith("_MANAGE")]
    have |= {f"{family}_{verb}" for family in managed for verb in ("ADD", "INFO", "RUN")}
    needed: set[str] = set()
    for name, level in needs.items():
        scopes = _SCOPES.get(name, (name,) if name.isupper() else ())
        needed.update(scopes if level != "read" else scopes[:1])
    return tuple(sorted(needed - have))


driver = BuddyDriver()

__all__ = ["BuddyDriver", "driver"]
