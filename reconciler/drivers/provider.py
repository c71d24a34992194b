"""What a driver starts from: a provider whose credential is managed, and nothing else. A driver overrides what its provider has."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeVar

from reconciler.drivers.auth import AuthContext, AuthRequest
from reconciler.drivers.base import AppRegistrar, AppWebhooks, Executor, ManagedType, Receiver, Reporter, SecretStore
from reconciler.drivers.capabilities import ProviderLimits, ProviderSpec
from reconciler.drivers.connection import Api, Authenticator, CompileContext, Connection
from reconciler.model.errors import NotImplementedYet, ValidationFailed
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import Kind, Resource, SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.model.values import JsonObject


@dataclass(frozen=True, slots=True)
class SecretHeader:
    """How a provider takes its credential.

    ``Authorization: <scheme> <secret>``; with ``username``, HTTP basic authentication (RFC 7617). ``extra`` headers are sent as they
    are.
    """

    scheme: str = "Bearer"
    username: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def put(self, headers: dict[str, str], secret: SecretValue) -> None:
        headers.update(self.extra)
        if self.username:
            pair = f"{self.username}:{secret.reveal()}".encode()
            headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            headers["authorization"] = f"{self.scheme} {secret.reveal()}"


class TokenAuthenticator:
    """Sends one secret with every request; implements `reconciler.drivers.connection.Authenticator`."""

    def __init__(self, ref: SecretRef, read: Callable[[SecretRef], SecretValue], header: SecretHeader) -> None:
        self._ref = ref
        self._read = read
        self._header = header
        self._secret: SecretValue | None = None

    async def authorize(self, request: AuthRequest) -> None:
        """Add the credential as it is now: a rotated one is used at once. Raises `SecretUnavailable`."""
        self._secret = self._read(self._ref)
        self._header.put(request.headers, self._secret)

    async def refresh(self) -> bool:
        """Read the secret again; True only if it changed, since the provider would refuse the same token again."""
        before, self._secret = self._secret, self._read(self._ref)
        return before is None or before.reveal() != self._secret.reveal()


class NoCredential:
    """Implements `reconciler.drivers.connection.Authenticator`: nothing proves who sends a request."""

    async def authorize(self, request: AuthRequest) -> None:
        """Add nothing."""

    async def refresh(self) -> bool:
        """Return False: there is nothing to refresh."""
        return False


class _Part(Protocol):
    type: str


PartT = TypeVar("PartT", bound=_Part)


def by_type(*parts: PartT) -> Mapping[str, PartT]:
    """Return ``parts`` (managed types, executors) by their type."""
    return MappingProxyType({part.type: part for part in parts})


class ProviderDriver:
    """Implements `reconciler.drivers.base.Driver`, except for `address` and `check`."""

    spec: ProviderSpec
    pointers: Mapping[str, str] = MappingProxyType({"token": "/token"})
    """Supported values of ``auth.use`` → the pointer of the secret in ``spec.auth``."""
    default_url = ""
    """``spec.url`` of an Integration that has none."""
    types: Mapping[str, ManagedType] = MappingProxyType({})
    receiver: Receiver | None = None
    executors: Mapping[str, Executor] = MappingProxyType({})
    reporter: Reporter | None = None
    apps: AppWebhooks | None = None
    secret_store: SecretStore | None = None
    registrar: AppRegistrar | None = None

    def __init__(self) -> None:
        self.provider: str = self.spec.name
        self.hosts: tuple[str, ...] = self.spec.hosts
        self.limits: ProviderLimits = self.spec.limits

    def address(self, url: str) -> tuple[str, str]:
        """Return the API root and the account that ``spec.url`` names; raises `ValidationFailed` for an invalid URL."""
        raise NotImplementedError

    def header(self, connection: Connection) -> SecretHeader:
        return SecretHeader()

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """Raises `NotImplementedYet` for a form of authentication that is not in `pointers`."""
        auth = resource.spec.get("auth", {})
        if auth.get("use") not in self.pointers:
            raise NotImplementedYet(
                f"{resource.id}: auth '{auth.get('use')}' with {self.spec.title} is not part of this version yet",
                hint=f"Use `{'` or `'.join(self.pointers)}` for now. The manifest is valid; nothing is done at {self.spec.title} "
                "until a version supports the form.",
                location=resource.location,
            )
        url = str(resource.spec.get("url") or self.default_url).rstrip("/")
        root, account = self.address(url)
        api_url = str(resource.spec.get("apiUrl") or root).rstrip("/")
        return Connection(resource.id, self.provider, url, api_url, account, auth, dict(secrets))

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Raises `ValidationFailed` if the connection names no secret."""
        pointer = self.pointers.get(str(connection.auth.get("use")), "")
        ref = connection.secrets.get(pointer)
        if ref is None:
            name = "auth" + pointer.replace("/", ".")
            raise ValidationFailed(f"{connection.integration}: {name} names no secret", hint=f"Set `{name}.valueFrom.secret`.")
        return TokenAuthenticator(ref, context.read, self.header(connection))

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        """Return None: statuses mean what they mean everywhere."""
        return None

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        raise NotImplementedError

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """Return what the executor of a stage needs; nothing for other resources."""
        if resource.id.kind != Kind.STAGE.value:
            return {}
        executor = resource.spec.get("executor") or {}
        own = self.executors.get(str(executor.get("type")))
        return own.permissions(executor) if own is not None else {}

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Return nothing: `compile` reads no names."""
        return {}

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Return nothing: `compile` reads no names."""
        return {}

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        """Raises `ValidationFailed`: nothing can be declared at this provider."""
        raise ValidationFailed(
            f"{resource.id}: {self.spec.title} has neither events nor objects that are managed here",
            hint=f"An Integration of type {self.provider} is for its credential only.",
        )
