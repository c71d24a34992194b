"""The driver that needs no Integration: requests to any host in ``network.allow``, without a credential of ours."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.drivers.auth import AuthContext
from reconciler.drivers.base import Executor
from reconciler.drivers.builtin.executor import Evaluate, HttpExecutor, NoopExecutor
from reconciler.drivers.builtin.identity import CallIdentity
from reconciler.drivers.builtin.urls import PROVIDER
from reconciler.drivers.capabilities import ProviderLimits, ProviderSpec
from reconciler.drivers.connection import Authenticator, Connection
from reconciler.drivers.provider import NoCredential, ProviderDriver, by_type
from reconciler.model.errors import AuthFailed


class WebDriver(ProviderDriver):
    """No Integration has this type: `connection_to` makes the connections, and nothing is declared, checked or compiled.

    ``evaluate`` evaluates the conditions of ``poll``; without it, an execution with a ``poll`` is not started. ``hosts`` are allowed
    in addition to ``network.allow``: the issuer of a provider's job tokens. ``identity``: what requests carry; None for nothing.
    """

    spec = ProviderSpec(name=PROVIDER, title="HTTP", auth=(), limits=ProviderLimits(concurrent=16))
    pointers: Mapping[str, str] = {}

    def __init__(
        self, evaluate: Evaluate | None = None, *, hosts: tuple[str, ...] = (), identity: CallIdentity | None = None
    ) -> None:
        super().__init__()
        self.hosts = hosts if identity is None else identity.principal.hosts
        self._identity = identity
        self.executors: Mapping[str, Executor] = by_type(HttpExecutor(evaluate), NoopExecutor())

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Return the identity, or an authenticator that adds nothing."""
        return self._identity or NoCredential()

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        """Return `AuthFailed` for an answer that refuses the credential: the client asks once for a new one. Else None."""
        why = self._identity.refused(status, headers, body) if self._identity is not None else ""
        if self._identity is None or not why:
            return None
        return AuthFailed(
            f"{request}: the credential of {self._identity.principal.name} is refused ({why})",
            status=status,
            request=request,
            code="RC4404",
        )


driver = WebDriver()

__all__ = ["WebDriver", "driver"]
