"""The driver: connection, credential, and the way from manifests to managed objects."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from reconciler.drivers.base import (
    Api,
    Authenticator,
    CompileContext,
    Connection,
    Executor,
    ManagedType,
    Receiver,
    Reporter,
)
from reconciler.drivers.buddy import errors
from reconciler.drivers.buddy import lookup as names
from reconciler.drivers.buddy.compile import compile_integration, compile_source, targets_of
from reconciler.drivers.buddy.executor import BuddyExecutor
from reconciler.drivers.buddy.integrations import IntegrationType
from reconciler.drivers.buddy.lookup import matched, required_workspace
from reconciler.drivers.buddy.receiver import BuddyReceiver
from reconciler.drivers.buddy.spec import SPEC
from reconciler.drivers.buddy.webhooks import WebhookType
from reconciler.model.errors import NotFound, NotImplementedYet, PermissionDenied, ProviderProtocolError, ValidationFailed
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import Kind, Resource, SecretRef
from reconciler.model.secrets import SecretValue
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
_SAME = {"INTEGRATION_READ": "INTEGRATION_INFO"}  # two pages of the provider name one scope differently


class BearerAuthenticator:
    """``Authorization: Bearer …`` with a personal access token or an OAuth 2 token."""

    def __init__(self, ref: SecretRef, read: Callable[[SecretRef], SecretValue]) -> None:
        self._ref = ref
        self._read = read
        self._used: SecretValue | None = None

    async def authorize(self, headers: dict[str, str]) -> None:
        """Add the token."""
        if self._used is None:
            self._used = self._read(self._ref)
        headers["authorization"] = f"Bearer {self._used.reveal()}"

    async def refresh(self) -> bool:
        """Read the secret again; True only when it changed, since the same token would be refused again."""
        before, self._used = self._used, self._read(self._ref)
        return before is None or before.reveal() != self._used.reveal()


class BuddyDriver:
    """Implements `reconciler.drivers.base.Driver` for Buddy's regions and for installations of one's own."""

    provider = SPEC.name
    hosts = SPEC.hosts
    limits = SPEC.limits
    receiver: Receiver | None = BuddyReceiver()
    executors: Mapping[str, Executor] = MappingProxyType({BuddyExecutor.type: BuddyExecutor()})
    reporter: Reporter | None = None

    def __init__(self) -> None:
        self.types: Mapping[str, ManagedType] = MappingProxyType({kind.type: kind for kind in (IntegrationType(), WebhookType())})

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """Return the connection: workspace and API root follow from path and host of ``spec.url``."""
        url = str(resource.spec.get("url") or "https://app.buddy.works").rstrip("/")
        auth = resource.spec.get("auth", {})
        if auth.get("use") != "token":
            raise NotImplementedYet(
                f"{resource.id}: this version connects to Buddy with a token, not '{auth.get('use')}'",
                hint="Set `auth.use` to `token`.",
                location=resource.location,
            )
        parts = urlsplit(url)
        root = str(
            resource.spec.get("apiUrl") or _ROOTS.get(parts.hostname or "") or f"{parts.scheme}://{parts.netloc}/api"
        ).rstrip("/")
        return Connection(resource.id, self.provider, url, root, parts.path.strip("/").partition("/")[0], auth, dict(secrets))

    def authenticator(self, connection: Connection, read: Callable[[SecretRef], SecretValue]) -> Authenticator:
        """Return the authenticator of ``connection``."""
        ref = connection.secrets.get("/token")
        if ref is None:
            raise ValidationFailed(
                f"{connection.integration}: auth.token names no secret", hint="Set `auth.token.valueFrom.secret`."
            )
        return BearerAuthenticator(ref, read)

    def classify(self, status: int, headers: Mapping[str, str], body: Any, request: str, *, now: float) -> Exception | None:
        """Return the typed error of an answer; see `errors.classify`."""
        return errors.classify(status, headers, body, request, now=now)

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Read what the token says of itself; one that may not is tried on the list of workspaces."""
        try:
            body = (await api.request("GET", "/user/token")).json()
        except (PermissionDenied, NotFound):
            await api.request("GET", "/workspaces")
            return CredentialReport(True, "a token that may not read its own scopes")
        if not isinstance(body, Mapping):
            raise ProviderProtocolError("GET /user/token: not an object", request="GET /user/token")
        granted = tuple(sorted(str(one) for one in body.get("scopes") or ()))
        return CredentialReport(
            True,
            f"token '{body['name']}'" if body.get("name") else "a personal access token",
            str(body.get("expires_at") or ""),
            granted,
            _missing(granted, needs),
        )

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """An integration needs its own scopes, and those to look up what it names; a source the webhooks', and those to find
        missed executions; a stage those of what it runs.
        """
        if resource.id.kind == Kind.STAGE.value:
            executor = resource.spec["executor"]
            return self.executors[executor["type"]].permissions(executor) if executor["type"] in self.executors else {}
        if resource.id.kind == Kind.EVENT_SOURCE.value:
            return {"webhooks": "write", "workspace": "read", "pipelines": "read"}
        wanted = names.wanted_by(resource)
        result = {"integrations": "write"}
        if wanted.users or wanted.groups:
            result["workspace"] = "read"
        if wanted.pipelines:
            result["pipelines"] = "read"
        return result

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Return ids by name, and the projects that ``resource.match`` finds.

        Raises `ValidationFailed` for a name that is not there, and `ScopeGone` for a project that is not.
        """
        account = api.connection.account
        if resource.id.kind == Kind.BUDDY_INTEGRATION.value:
            workspace = required_workspace(resource, str(resource.spec.get("workspace") or ""), account)
            project = resource.spec.get("project_name")
            with contextlib.suppress(PermissionDenied):  # a token without the scope WORKSPACE: the provider answers for it
                await names.require_projects(api, workspace, [str(project)] if project else [], resource.id)
            return await names.resolve(api, workspace, names.wanted_by(resource))
        facts = await matched(api, resource)
        for workspace, projects in targets_of(resource, account, facts).items():
            await names.require_projects(api, workspace, projects, resource.id)
        return facts

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Show names in place of ids, and the pattern in place of projects."""
        wanted = names.wanted_by(resource)
        target = resource.spec.get("resource") or {}
        pattern = target.get("match")
        pipelines = {one.key: f"{one.project}/{one.text}" if one.project else one.text for one in wanted.pipelines}
        return {
            "pipelines": pipelines,
            "users": {name: name for name in wanted.users},
            "groups": {name: name for name in wanted.groups},
            ("workspaces" if target.get("type") == "workspace" else "projects"): [str(pattern)] if pattern else [],
        }

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        """Return the one object that ``resource`` declares."""
        if resource.id.kind == Kind.BUDDY_INTEGRATION.value:
            return compile_integration(resource, context)
        return compile_source(resource, context) if resource.id.kind == Kind.EVENT_SOURCE.value else ()


def _missing(granted: tuple[str, ...], needs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the scopes that are needed and not there. MANAGE counts as ADD, INFO and RUN, too: better silent than wrong here."""
    have = {_SAME.get(scope, scope) for scope in granted}
    have |= {
        f"{scope.removesuffix('_MANAGE')}_{part}"
        for scope in tuple(have)
        if scope.endswith("_MANAGE")
        for part in ("ADD", "INFO", "RUN")
    }
    wanted: set[str] = set()
    for name, level in needs.items():
        scopes = _SCOPES.get(name, (name,) if name.isupper() else ())
        wanted.update(scopes if level != "read" else scopes[:1])
    return tuple(sorted(wanted - have))


driver = BuddyDriver()

__all__ = ["BearerAuthenticator", "BuddyDriver", "driver"]
