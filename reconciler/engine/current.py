"""The current state of this process: the active revision with its secrets, suspensions and clients, and the newest results.

The `Controller` builds it, and only the controller calls `activate`. Events, stages, metrics and the status file read it, so that they
do not depend on the reconcile loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.credentials.backends import SecretResolver
from reconciler.drivers.builtin.identity import CallIdentity
from reconciler.drivers.connection import Connection
from reconciler.drivers.http.client import ApiClient
from reconciler.engine.connections import Client, ClientPool
from reconciler.engine.context import Context
from reconciler.engine.remote_secrets import remote_secrets
from reconciler.engine.revision import ActiveRevision
from reconciler.engine.suspensions import Suspensions
from reconciler.engine.view import SourceState, View
from reconciler.model.resources import Kind, Resource, ResourceId


class Current:
    """The inputs of a pass, an event or a stage at this moment. It owns no durable state: everything can be read again."""

    def __init__(self, context: Context, *, read_only: bool = False) -> None:
        self.context = context
        self.clients = ClientPool(context, read_only=read_only)
        """One client and one rate budget for each credential of this process."""
        self.view = View()
        self.source = SourceState()
        self._active = ActiveRevision()
        self.former: Mapping[ResourceId, Resource] = self._active.resources
        """The manifests before the newest revision; empty until this process has seen two."""
        self.remote = remote_secrets(context, lambda: self._active, self.clients, self._store)
        """Values of Secrets from servers and encrypted files; they outlive a revision."""
        self._secrets = self._resolver({})
        self._suspensions = Suspensions()
        self._clock_steps = 0

    # -- the active revision ----------------------------------------------------------------------------------------

    @property
    def active(self) -> ActiveRevision:
        """The revision in force. It is replaced as a whole and never changed, so the same object means the same manifests."""
        return self._active

    def activate(self, revision: ActiveRevision) -> None:
        """Put ``revision`` in force, with the values of its Secrets."""
        if revision.revision != self._active.revision:
            self.former = self._active.resources
        self._active = revision
        self._secrets = self._resolver(revision.resources)
        self.remote.keep(resource for resource in revision.resources if resource.kind == Kind.SECRET.value)

    def _resolver(self, resources: Mapping[ResourceId, Resource]) -> SecretResolver:
        context = self.context
        resolver = SecretResolver(
            {identity: resource for identity, resource in resources.items() if identity.kind == Kind.SECRET.value},
            context.config.secrets,
            sandbox=context.sandbox,
            redactor=context.redactor,
            reserved=context.config.own_files,
        )
        resolver.remote = self.remote
        return resolver

    @property
    def secrets(self) -> SecretResolver:
        """Reads values of the active revision's Secrets."""
        return self._secrets

    def former_secrets(self, former: Iterable[Resource]) -> SecretResolver:
        """Return a reader of Secrets that also knows those that the manifests do not declare any more."""
        return self._resolver({**{resource.id: resource for resource in former}, **self._active.resources})

    # -- suspensions ------------------------------------------------------------------------------------------------

    @property
    def suspensions(self) -> Suspensions:
        """Suspensions by command, as of the last `refresh_suspensions`."""
        return self._suspensions

    async def refresh_suspensions(self) -> None:
        """Read the suspensions by command from the state."""
        self._suspensions = Suspensions(await self.context.store.suspensions())

    def suspended(self, resource: Resource) -> str:
        """Return why ``resource``, or an Integration that it uses, is suspended now; empty if neither is."""
        now = self.context.clock()
        for identity in (resource.id, *(ref for ref in resource.references if ref.kind == Kind.INTEGRATION.value)):
            reason = self._suspensions.reason(identity, self._active.resources.get(identity), now)
            if reason is not None:
                return reason if identity == resource.id else f"{identity} is suspended: {reason}"
        return ""

    # -- clients ----------------------------------------------------------------------------------------------------

    async def client(self, integration: ResourceId, *, explicit: bool = False) -> Client:
        """Return the authenticated client of an Integration that is declared, or whose connection the state still holds.

        Raises `ReconcilerError` if it cannot be connected, or if its credential was refused and no person asks (``explicit``).
        """
        stored = await self.context.store.connections()
        client = await self.clients.link(integration, self._active, stored, self._secrets)
        if not explicit:
            await self.clients.require_accepted(client)
        return client

    async def _store(self, integration: ResourceId, *, explicit: bool) -> Client:
        """Return the client of an Integration that keeps values of Secrets; the credentials that open it are loaded already.

        Raises `ReconcilerError`, a remembered refusal too unless ``explicit``.
        """
        stored = await self.context.store.connections()
        return await self.clients.current(integration, self._active, stored, self._secrets, explicit=explicit, prepared=True)

    async def local_client(
        self, connection: Connection, *, hosts: tuple[str, ...] = (), identity: CallIdentity | None = None
    ) -> ApiClient:
        """Return a client for a host that no Integration declares, with ``identity`` or without a credential (`ClientPool.local`)."""
        return await self.clients.local(connection, self._secrets, hosts=hosts, identity=identity)

    # -- the clock --------------------------------------------------------------------------------------------------

    async def check_clock(self) -> int:
        """Return how often the clock was set back since the start. When the number grows, remembered times are no longer valid.

        Retries, due times and rate limits that are now too far in the future are moved back.
        """
        context = self.context
        now = await context.store.now()
        back_s = await context.store.look_at_clock(now)
        if back_s:
            self._clock_steps += 1
            self.view.next_at = dict.fromkeys(self.view.next_at, now)
            self.clients.pull_back(back_s)
            context.log.warning("clock_set_back", seconds=round(back_s))
        return self._clock_steps


__all__ = ["Current"]
