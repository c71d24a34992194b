"""The backends of remote Secrets, wired to the connections and the configuration of this process."""

from __future__ import annotations

import time
from collections.abc import Callable

from reconciler.credentials.remote import RemoteBackend, RemoteSecrets
from reconciler.credentials.sops import SopsBackend
from reconciler.credentials.vault import VaultBackend
from reconciler.drivers.http.clock import ProviderClock
from reconciler.drivers.http.exchange import TokenEndpoints
from reconciler.drivers.specs import SPECS
from reconciler.engine.connections import ClientPool
from reconciler.engine.context import Context
from reconciler.engine.provider_secrets import ConnectStore, ProviderSecrets
from reconciler.engine.revision import ActiveRevision


def remote_secrets(
    context: Context, active: Callable[[], ActiveRevision], clients: ClientPool, connect: ConnectStore
) -> RemoteSecrets:
    """Return the remote values of this process.

    ``active`` returns the revision in force, whose encrypted files are read; ``connect`` returns a client of it from ``clients``.
    """
    send = TokenEndpoints(context.session, ProviderClock(context.clock), provider="secret-store")
    conceal = context.redactor.add_passing
    vault = VaultBackend(send, context.id_token, clock=time.monotonic, conceal=conceal)  # leases are durations
    sops = SopsBackend(lambda: active().encrypted, context.config.secrets.sops_age_key_file)
    stored = ProviderSecrets(connect, clients, lambda: active().resources, clock=context.clock, monotonic=time.monotonic)
    backends: dict[str, RemoteBackend] = {
        "vault": vault,
        "sops": sops,
        **{name: stored for name, spec in SPECS.items() if spec.stores_secrets},
    }
    return RemoteSecrets(backends, conceal=context.redactor.add, monotonic=time.monotonic)


__all__ = ["remote_secrets"]
