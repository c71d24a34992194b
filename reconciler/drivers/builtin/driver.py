"""The driver that needs no Integration: requests to any host in ``network.allow``, without a credential of ours."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.drivers.auth import AuthContext
from reconciler.drivers.base import Authenticator, Connection, Executor
from reconciler.drivers.builtin.executor import PROVIDER, Evaluate, HttpExecutor, NoopExecutor
from reconciler.drivers.capabilities import ProviderLimits, ProviderSpec
from reconciler.drivers.provider import NoCredential, ProviderDriver, by_type


class WebDriver(ProviderDriver):
    """No Integration has this type: `connection_to` makes the connections, and nothing is declared, checked or compiled.

    ``evaluate`` evaluates the conditions of ``poll``; without it, an execution with a ``poll`` is not started. ``hosts`` are allowed
    in addition to ``network.allow``: the issuer of a provider's job tokens.
    """

    spec = ProviderSpec(name=PROVIDER, title="HTTP", auth=(), limits=ProviderLimits(concurrent=16))
    pointers: Mapping[str, str] = {}

    def __init__(self, evaluate: Evaluate | None = None, *, hosts: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.hosts = hosts
        self.executors: Mapping[str, Executor] = by_type(HttpExecutor(evaluate), NoopExecutor())

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Return an authenticator that adds nothing."""
        return NoCredential()


driver = WebDriver()

__all__ = ["WebDriver", "driver"]
