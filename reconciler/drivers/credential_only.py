"""What providers have in common whose credential is all that is managed here: no objects, no events, no executors."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from reconciler.drivers.auth import AuthContext
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
from reconciler.drivers.capabilities import ProviderLimits, ProviderSpec
from reconciler.drivers.common import SecretHeader, token_authenticator
from reconciler.model.errors import NotImplementedYet, ValidationFailed
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import Resource, SecretRef
from reconciler.model.values import JsonObject


class CredentialOnlyDriver:
    """All of `reconciler.drivers.base.Driver` but ``check`` and ``classify``, for a provider that takes a token."""

    types: Mapping[str, ManagedType] = MappingProxyType({})
    receiver: Receiver | None = None
    executors: Mapping[str, Executor] = MappingProxyType({})
    reporter: Reporter | None = None

    def __init__(self, spec: ProviderSpec, api_url: str) -> None:
        self._spec, self._api_url = spec, api_url
        self.provider: str = spec.name
        self.hosts: tuple[str, ...] = spec.hosts
        self.limits: ProviderLimits = spec.limits

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """Return the connection. Raises `NotImplementedYet` unless ``auth.use`` is ``token``."""
        auth = resource.spec.get("auth", {})
        if auth.get("use") != "token":
            raise NotImplementedYet(
                f"{resource.id}: {self._spec.title} takes a token, not '{auth.get('use')}'",
                hint="Set `auth.use` to `token`.",
                location=resource.location,
            )
        api_url = str(resource.spec.get("apiUrl") or self._api_url).rstrip("/")
        return Connection(resource.id, self.provider, str(resource.spec.get("url", "")), api_url, "", auth, dict(secrets))

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Return the authenticator of ``connection``. Raises `ValidationFailed` if no secret is set."""
        return token_authenticator(connection, context, SecretHeader())

    def classify(self, status: int, headers: Mapping[str, str], body: Any, request: str, *, now: float) -> Exception | None:
        """Return None: statuses mean what they mean everywhere."""
        return None

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """Return nothing: no resource is managed with the credential."""
        return {}

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Return nothing: `compile` reads no names."""
        return {}

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Return nothing: `compile` reads no names."""
        return {}

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        """Raise `ValidationFailed`: nothing can be declared at this provider."""
        raise ValidationFailed(
            f"{resource.id}: {self._spec.title} has neither events nor objects that are managed here",
            hint=f"An Integration of type {self.provider} is for its credential only.",
        )
