"""The driver: connection, credential, and the way from an event source to managed objects."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Mapping
from functools import partial
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
from reconciler.drivers.common import once
from reconciler.drivers.semaphore import errors
from reconciler.drivers.semaphore.api import project_id, project_names
from reconciler.drivers.semaphore.compile import compile_source, matching, projects_of
from reconciler.drivers.semaphore.executor import SemaphoreExecutor
from reconciler.drivers.semaphore.notifications import NotificationType, SecretType
from reconciler.drivers.semaphore.receiver import SemaphoreReceiver
from reconciler.drivers.semaphore.spec import SPEC
from reconciler.model.errors import NotFound, NotImplementedYet, PermissionDenied, ScopeGone, ValidationFailed
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import Kind, Resource, SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.model.values import JsonObject

_CLOUD = ".semaphoreci.com"
_PROBES = {"notifications": "/api/v1alpha/notifications", "secrets": "/api/v1beta/secrets"}


class SemaphoreTokenAuthenticator:
    """``Authorization: Token …``. No other header: one that starts with ``X-Semaphore-`` makes the edge answer 404."""

    def __init__(self, ref: SecretRef, read: Callable[[SecretRef], SecretValue]) -> None:
        self._ref = ref
        self._read = read
        self._used: SecretValue | None = None

    async def authorize(self, headers: dict[str, str]) -> None:
        """Add the token."""
        if self._used is None:
            self._used = self._read(self._ref)
        headers["authorization"] = f"Token {self._used.reveal()}"

    async def refresh(self) -> bool:
        """Read the secret again; True only when it changed, since the same token would be refused again."""
        before, self._used = self._used, self._read(self._ref)
        return before is None or before.reveal() != self._used.reveal()


class SemaphoreDriver:
    """Implements `reconciler.drivers.base.Driver` for semaphoreci.com and for installations of one's own."""

    provider = SPEC.name
    hosts = SPEC.hosts
    limits = SPEC.limits
    receiver: Receiver | None = SemaphoreReceiver()
    executors: Mapping[str, Executor] = MappingProxyType({SemaphoreExecutor.type: SemaphoreExecutor()})
    reporter: Reporter | None = None

    def __init__(self) -> None:
        self.types: Mapping[str, ManagedType] = MappingProxyType({kind.type: kind for kind in (SecretType(), NotificationType())})

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """Return the connection: the organization is the first label of the host in ``spec.url``."""
        url = str(resource.spec.get("url", "")).rstrip("/")
        auth = resource.spec.get("auth", {})
        if auth.get("use") != "token":
            raise NotImplementedYet(
                f"{resource.id}: Semaphore takes an API token, not '{auth.get('use')}'",
                hint="Set `auth.use` to `token`; a service account's token is the best choice.",
                location=resource.location,
            )
        api_url = str(resource.spec.get("apiUrl") or url).rstrip("/")
        return Connection(resource.id, self.provider, url, api_url, _organization(url), auth, dict(secrets))

    def authenticator(self, connection: Connection, read: Callable[[SecretRef], SecretValue]) -> Authenticator:
        """Return the authenticator of ``connection``."""
        ref = connection.secrets.get("/token")
        if ref is None:
            raise ValidationFailed(
                f"{connection.integration}: auth.token names no secret", hint="Set `auth.token.valueFrom.secret`."
            )
        return SemaphoreTokenAuthenticator(ref, read)

    def classify(self, status: int, headers: Mapping[str, str], body: Any, request: str, *, now: float) -> Exception | None:
        """Return the typed error of an answer; see `errors.classify`."""
        return errors.classify(status, headers, body, request, now=now)

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Try the token where it is needed. Nothing tells whose it is, what it may change, or when it expires."""
        granted, missing = [], []
        for name in sorted({"notifications", *(name for name in needs if name in _PROBES)}):
            try:
                await api.request("GET", _PROBES[name], params={"page_size": 1})
                granted.append(f"organization.{name}.view")
            except ScopeGone:
                raise
            except PermissionDenied:
                missing.append(f"organization.{name}.view")
        return CredentialReport(
            True, f"an API token of the organization {api.connection.account}", granted=tuple(granted), missing=tuple(missing)
        )

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """An event source manages a secret and a notification."""
        return {"notifications": "manage", "secrets": "manage"} if resource.id.kind == Kind.EVENT_SOURCE.value else {}

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Return the projects that ``resource.match`` finds; raises `ValidationFailed` when there is none.

        Raises `ScopeGone` for a named project that the token does not see: Semaphore would never send an event of it.
        """
        target = resource.spec.get("resource", {})
        pattern = target.get("match")
        if resource.id.kind != Kind.EVENT_SOURCE.value or target.get("type", "project") != "project":
            return {}
        if not pattern:
            await _require_projects(api, resource)
            return {}
        known = await once(api, "projects", lambda: project_names(api))
        found = matching(str(pattern), known)
        if not found:
            raise ValidationFailed(
                f"{resource.id}: no project that the token may view matches '{pattern}'",
                hint="Mend `resource.match`, or grant the token `project.view`.",
            )
        return {"projects": found}

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Show the pattern in place of the names."""
        pattern = resource.spec.get("resource", {}).get("match")
        return {"projects": [str(pattern)]} if pattern else {}

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        """Return the objects that ``resource`` declares: a secret and a notification for an event source."""
        return compile_source(resource, context) if resource.id.kind == Kind.EVENT_SOURCE.value else ()


async def _require_projects(api: Api, resource: Resource) -> None:
    """Raise `ScopeGone` unless every project that ``resource`` names is there and to be seen."""
    wanted = projects_of(resource, {})
    try:
        known = await once(api, "projects", lambda: project_names(api))
    except PermissionDenied:  # a token may see single projects and not their list
        known = [name for name in wanted if await once(api, f"project/{name}", partial(_is_there, api, name))]
    there = frozenset(known)
    for name in wanted:
        if name not in there:
            meant = difflib.get_close_matches(name, known, n=1)
            raise ScopeGone(
                f"{resource.id}: there is no project '{name}', or the token does not see it: no event of it would arrive",
                hint=(f"Did you mean '{meant[0]}'? " if meant else "")
                + "A renamed project has another name. The token's owner needs `project.view`.",
            )


async def _is_there(api: Api, name: str) -> bool:
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

__all__ = ["SemaphoreDriver", "SemaphoreTokenAuthenticator", "driver"]
