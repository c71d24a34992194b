"""The driver: connection, credential, and compiling an event source to managed objects."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

from reconciler.drivers.base import ApiResponse, Executor, ManagedType, Receiver
from reconciler.drivers.common import did_you_mean, matching, once, target_of
from reconciler.drivers.connection import Api, CompileContext, Connection
from reconciler.drivers.provider import ProviderDriver, SecretHeader, by_type
from reconciler.drivers.semaphore import errors
from reconciler.drivers.semaphore.api import project_id, project_names
from reconciler.drivers.semaphore.compile import compile_source, projects_of
from reconciler.drivers.semaphore.executor import SemaphoreExecutor
from reconciler.drivers.semaphore.notifications import NotificationType, SecretType
from reconciler.drivers.semaphore.receiver import SemaphoreReceiver
from reconciler.drivers.semaphore.spec import SPEC
from reconciler.drivers.wire import find
from reconciler.model.errors import NotFound, PermissionDenied, ProviderProtocolError, ScopeGone, ValidationFailed
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import Kind, Resource
from reconciler.model.status import CredentialReport
from reconciler.model.values import JsonObject, JsonValue

_CLOUD = ".semaphoreci.com"
_UNKNOWN = {
    "missing": "Semaphore does not tell what a token may change: only reading is tried",
    "expiresAt": "Semaphore tells no end of an API token",
}
_PROBES = {"notifications": "/api/v1alpha/notifications", "secrets": "/api/v1beta/secrets"}


class SemaphoreDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver` for semaphoreci.com and self-hosted installations."""

    spec = SPEC
    types: Mapping[str, ManagedType] = by_type(SecretType(), NotificationType())
    receiver: Receiver | None = SemaphoreReceiver()
    executors: Mapping[str, Executor] = by_type(SemaphoreExecutor())

    def address(self, url: str) -> tuple[str, str]:
        """The API is below the organization's own host, whose first label is the organization."""
        return url, _organization(url)

    def header(self, connection: Connection) -> SecretHeader:
        """Return no other header: one that starts with ``X-Semaphore-`` makes the edge answer 404."""
        return SecretHeader("Token")

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        return errors.classify(status, headers, body, request, now=now)

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Try the token where it is needed. The API does not show its owner, what it may change, or when it expires."""
        granted, missing = [], []
        for name in sorted({"notifications", *(name for name in needs if name in _PROBES)}):
            try:
                _require_list(await api.request("GET", _PROBES[name], params={"page_size": 1}), name)
                granted.append(f"organization.{name}.view")
            except ScopeGone:
                raise
            except PermissionDenied:
                missing.append(f"organization.{name}.view")
        return CredentialReport(
            True,
            f"an API token of the organization {api.connection.account}",
            granted=tuple(granted),
            missing=tuple(missing),
            unknown=_UNKNOWN if not missing else {"expiresAt": _UNKNOWN["expiresAt"]},
        )

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """An event source manages a secret and a notification; a stage needs what its executor needs."""
        managed = {"notifications": "manage", "secrets": "manage"}
        return managed if resource.id.kind == Kind.EVENT_SOURCE.value else super().needs(resource)

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Return the projects that ``resource.match`` matches; raises `ValidationFailed` if there are none.

        Raises `ScopeGone` for a named project that the token cannot see: Semaphore would never send an event for it.
        """
        target = target_of(resource, "project")
        if resource.id.kind != Kind.EVENT_SOURCE.value or target.type != "project":
            return {}
        if not target.match:
            await _require_projects(api, resource)
            return {}
        projects = matching(target.match, await once(api, "projects", lambda: project_names(api)))
        if not projects:
            raise ValidationFailed(
                f"{resource.id}: no project that the token may view matches '{target.match}'",
                hint="Fix `resource.match`, or grant the token `project.view`.",
            )
        return {"projects": projects}

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Show the pattern in place of the names."""
        pattern = target_of(resource, "project").match
        return {"projects": [pattern]} if pattern else {}

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        """Return the objects that ``resource`` declares: a secret and a notification for an event source."""
        return compile_source(resource, context) if resource.id.kind == Kind.EVENT_SOURCE.value else ()


def _require_list(answer: ApiResponse, name: str) -> None:
    """Raise `ProviderProtocolError` for anything but a list of ``name``: a login page is no proof of a token."""
    body = answer.json()
    if find(body, list[JsonValue], name) is None and find(body, str, "next_page_token") is None:
        raise ProviderProtocolError(
            f"{answer.request}: the answer is no list of {name}",
            status=answer.status,
            request=answer.request,
            hint="Check `apiUrl`: a proxy or a login page may answer in place of the API.",
        )


async def _require_projects(api: Api, resource: Resource) -> None:
    """Raise `ScopeGone` unless the token sees every project that ``resource`` names."""
    expected = projects_of(resource, {})
    try:
        known = await once(api, "projects", lambda: project_names(api))
    except PermissionDenied:  # a token may see single projects and not their list
        known = [name for name in expected if await once(api, f"project/{name}", partial(_exists, api, name))]
    missing = next((name for name in expected if name not in frozenset(known)), None)
    if missing is not None:
        raise ScopeGone(
            f"{resource.id}: there is no project '{missing}', or the token cannot see it: none of its events would arrive",
            hint=did_you_mean(missing, known) + "A renamed project has another name. The token's owner needs `project.view`.",
        )


async def _exists(api: Api, name: str) -> bool:
    try:
        await project_id(api, name)
    except (NotFound, PermissionDenied):
        return False
    return True


def _organization(url: str) -> str:
    host = urlsplit(url).hostname or ""
    label, _, rest = host.partition(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    cloud = host == _CLOUD[1:] or host.endswith(_CLOUD)
    if not label or not rest or (cloud and f".{rest}" != _CLOUD):
        raise ValidationFailed(f"'{host}' names no organization", hint="Set `spec.url` to https://ORGANIZATION.semaphoreci.com.")
    return label


driver = SemaphoreDriver()

__all__ = ["SemaphoreDriver", "driver"]
