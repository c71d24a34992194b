"""The driver that needs no Integration: requests to any host in ``network.allow``, without a credential of ours."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from reconciler.drivers.auth import AuthContext, AuthRequest
from reconciler.drivers.base import (
    Api,
    Authenticator,
    CompileContext,
    Connection,
    Executor,
    ManagedType,
    ProviderLimits,
    Receiver,
    Reporter,
)
from reconciler.drivers.builtin.executor import PROVIDER, Evaluate, HttpExecutor, NoopExecutor
from reconciler.model.errors import ReconcilerError
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import Resource, SecretRef
from reconciler.model.status import CredentialReport
from reconciler.model.values import JsonObject


class NoCredential:
    """Implements `reconciler.drivers.base.Authenticator`: only the headers in the spec are sent."""

    async def authorize(self, request: AuthRequest) -> None:
        """Add nothing."""

    async def refresh(self) -> bool:
        """Return False: there is nothing to refresh."""
        return False


class WebDriver:
    """Implements `reconciler.drivers.base.Driver`. No Integration has this type, so nothing is declared, checked or compiled.

    ``evaluate`` evaluates the conditions of ``poll``; without it, an execution with a ``poll`` is not started. ``hosts`` are allowed
    in addition to ``network.allow``: the issuer of a provider's job tokens.
    """

    provider = PROVIDER
    limits = ProviderLimits(concurrent=16)
    types: Mapping[str, ManagedType] = MappingProxyType({})
    receiver: Receiver | None = None
    reporter: Reporter | None = None

    def __init__(self, evaluate: Evaluate | None = None, *, hosts: tuple[str, ...] = ()) -> None:
        self.hosts = hosts
        executors: tuple[Executor, ...] = (HttpExecutor(evaluate), NoopExecutor())
        self.executors: Mapping[str, Executor] = MappingProxyType({executor.type: executor for executor in executors})

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """Raise `ReconcilerError`: `connection_to` makes this driver's connections."""
        _never()

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Return an authenticator that adds nothing."""
        return NoCredential()

    def classify(self, status: int, headers: Mapping[str, str], body: Any, request: str, *, now: float) -> Exception | None:
        """Leave every answer to the shared mapping."""
        return None

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Raise `ReconcilerError`: there is no credential."""
        _never()

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """Raise `ReconcilerError`: there is no integration to ask."""
        _never()

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Raise `ReconcilerError`: nothing is compiled."""
        _never()

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Raise `ReconcilerError`: nothing is compiled."""
        _never()

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        """Raise `ReconcilerError`: nothing is compiled."""
        _never()


def _never() -> NoReturn:
    raise ReconcilerError(f"no Integration has the type '{PROVIDER}'", code="RC9001")


driver = WebDriver()

__all__ = ["NoCredential", "WebDriver", "driver"]
