"""Clients: one authenticated client per integration, kept as long as its connection does not change."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial

from reconciler.config.settings import Config
from reconciler.credentials.backends import SecretResolver
from reconciler.drivers.auth import AuthContext, TokenCache
from reconciler.drivers.base import Driver, ProviderLimits
from reconciler.drivers.builtin import WebDriver
from reconciler.drivers.builtin.identity import CallIdentity
from reconciler.drivers.connection import Authenticator, Connection
from reconciler.drivers.http.budget import UNLIMITED, Budget
from reconciler.drivers.http.client import ApiClient
from reconciler.drivers.http.clock import ProviderClock
from reconciler.drivers.http.exchange import TokenEndpoints
from reconciler.drivers.http.network import NetworkPolicy
from reconciler.drivers.registry import driver_for
from reconciler.engine.context import Context
from reconciler.engine.refused_credentials import CredentialProof, RefusedCredentials, proof_of
from reconciler.engine.revision import ActiveRevision
from reconciler.model.errors import AddressRefused, AuthFailed, NotImplementedYet, ReconcilerError
from reconciler.model.resources import Kind, ResourceId, SecretRef
from reconciler.model.secrets import SecretValue

REVOKE_S = 5.0
"""A shutdown waits no longer for the revocation of tokens."""


@dataclass(frozen=True, slots=True)
class Client:
    """The client of one integration."""

    connection: Connection
    driver: Driver
    api: ApiClient
    budget: Budget
    read: SecretResolver
    proof: CredentialProof = CredentialProof()

    def value(self, ref: SecretRef) -> SecretValue:
        """Return the value of ``ref``; raises `SecretUnavailable`."""
        return self.read.read(ref)


class ClientPool:
    """Builds and caches clients. All connections with the same credential share one rate budget."""

    def __init__(self, deps: Context, *, read_only: bool = False) -> None:
        self._deps = deps
        self._read_only = read_only
        self._links: dict[ResourceId, Client] = {}
        self._budgets: dict[str, Budget] = {}
        self._refused = RefusedCredentials(deps, read_only=read_only)
        self._rejected: set[ResourceId] = set()
        """Integrations whose last answer was a refusal: their tokens are requested again when they are tried again."""
        self._trials: dict[ResourceId, asyncio.Lock] = {}
        self._tokens = TokenCache(deps.clock)
        """Outlives the clients, so that a new revision of the manifests costs no new token."""

    def budgets(self) -> Mapping[str, Budget]:
        """Return the budgets by credential id, for status and metrics."""
        return self._budgets

    def pull_back(self, seconds: float) -> None:
        """Shift rate-limit stops and the ends of tokens by the time that the clock of this host was set back."""
        for budget in self._budgets.values():
            budget.pull_back(seconds)
        self._tokens.pull_back(seconds)

    def retry_tokens(self, integration: ResourceId) -> None:
        """Let refused requests for tokens of ``integration`` be sent again at once: a person asked, or an event says it helps."""
        link = self._links.get(integration)
        if link is not None:
            self._tokens.retry_now(f"{link.connection.credential_id}|")

    async def close(self) -> None:
        """Revoke short-lived credentials. After `REVOKE_S` seconds the rest is left to end by itself."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REVOKE_S):
                await asyncio.gather(*(link.api.close() for link in self._links.values()), return_exceptions=True)

    def rate_of(self, integration: ResourceId) -> Mapping[str, int]:
        """Return the rate that the provider last reported for the credential: limit, remaining, resetAt (epoch seconds)."""
        link = self._links.get(integration)
        return link.budget.rate if link is not None else {}

    def stopped_until(self, integration: ResourceId) -> float | None:
        """Return until when the provider refuses requests with the credential (epoch seconds); None if it was never used."""
        link = self._links.get(integration)
        return link.budget.blocked_until if link is not None else None

    def clock_of(self, integration: ResourceId) -> ProviderClock | None:
        """Return the clock of the provider of ``integration``; None if it was never reached."""
        link = self._links.get(integration)
        return link.api.clock if link is not None else None

    async def link(
        self,
        integration: ResourceId,
        live: ActiveRevision,
        stored: Mapping[ResourceId, Connection],
        secrets: SecretResolver,
        *,
        prepared: bool = False,
    ) -> Client:
        """Return the client of ``integration``, from its manifest or, once that is deleted, from the stored connection.

        ``prepared``: its secrets are loaded already, and this call waits for no backend.
        Raises `ReconcilerError` when it cannot be connected (no driver, a URL that is no account, an auth form not built yet, a store
        of its Secrets that fails).
        """
        connection, driver = self._connection(integration, live, stored)
        if not prepared:
            await secrets.prepare(connection.secrets.values())
        secrets.require(connection.secrets.values())
        known = self._links.get(integration)
        if known is not None and known.connection == connection and known.read is secrets:
            return known
        budget = self._budgets.get(connection.credential_id)
        if budget is None:
            budget = await self._deps.store.run(self._new_budget, connection, driver)
            self._budgets[connection.credential_id] = budget
        authenticator = driver.authenticator(connection, self._auth(connection, secrets))
        api = ApiClient(
            connection,
            driver,
            authenticator,
            session=self._deps.session,
            budget=budget,
            clock=self._deps.clock,
            read_only=self._read_only,
        )
        api.on_refusal = partial(self._suspect, connection, secrets)
        link = Client(connection, driver, api, budget, secrets)
        self._links[integration] = link
        return link

    async def current(
        self,
        integration: ResourceId,
        live: ActiveRevision,
        stored: Mapping[ResourceId, Connection],
        secrets: SecretResolver,
        *,
        explicit: bool,
        prepared: bool = False,
    ) -> Client:
        """Return the client of ``integration`` with the present values of its secrets: a replaced one is used from now on.

        Raises the last refusal again, without a request, if the same values were refused within a minute, by any process, and no
        person asks (``explicit``); else as `link`.
        """
        connection, _ = self._connection(integration, live, stored)
        proof = await asyncio.to_thread(proof_of, connection, secrets)
        known = self._links.get(integration)
        if known is not None and known.proof != proof:
            del self._links[integration]
        await self._refused.admit(integration, proof, explicit=explicit)
        if explicit or integration in self._rejected:
            self._tokens.retry_now(f"{connection.credential_id}|")
        link = await self.link(integration, live, stored, secrets, prepared=prepared)
        if link.proof != proof:
            link = self._links[integration] = dataclasses.replace(link, proof=proof)
        return link

    @contextlib.asynccontextmanager
    async def trying(self, integration: ResourceId) -> AsyncIterator[None]:
        """Try the credential of ``integration``: one at a time, so that whoever waits gets a refusal from memory."""
        async with self._trials.setdefault(integration, asyncio.Lock()):
            try:
                yield
            except AuthFailed as error:
                await self.note_refusal(integration, error)
                raise

    async def note_refusal(self, integration: ResourceId, error: AuthFailed | None) -> None:
        """Record that the credential was refused with ``error``, or accepted (None)."""
        link = self._links.get(integration)
        if link is None:
            return
        self._rejected.discard(integration)
        if error is not None:
            self._rejected.add(integration)
        await self._refused.note(integration, link.proof, error)

    async def require_accepted(self, client: Client) -> None:
        """Raise the refusal of the client's credential if no reconcile has seen it accepted since. Makes no request."""
        proof = proof_of(client.connection, client.read, fresh=False)
        await self._refused.require_accepted(client.connection.integration, proof)

    def _suspect(self, connection: Connection, secrets: SecretResolver, error: AuthFailed) -> None:
        self._refused.suspect(connection.integration, proof_of(connection, secrets, fresh=False), error)

    def authenticator(self, link: Client) -> Authenticator:
        """Return an authenticator of ``link`` for requests of one execution. It shares the tokens, and not which one was sent last."""
        return link.driver.authenticator(link.connection, self._auth(link.connection, link.read))

    def twins(
        self, connection: Connection, live: ActiveRevision, stored: Mapping[ResourceId, Connection]
    ) -> frozenset[ResourceId]:
        """Return the other Integrations, declared or stored, that use the account of ``connection``."""
        declared = {identity for identity in live.resources if identity.kind == Kind.INTEGRATION.value}
        twins = set()
        for other in {*declared, *stored} - {connection.integration}:
            with contextlib.suppress(ReconcilerError):  # an Integration without a connection uses no account
                if _account(self._connection(other, live, stored)[0]) == _account(connection):
                    twins.add(other)
        return frozenset(twins)

    async def local(
        self,
        connection: Connection,
        secrets: SecretResolver,
        *,
        hosts: tuple[str, ...] = (),
        identity: CallIdentity | None = None,
    ) -> ApiClient:
        """Return a client for a connection that no Integration declares: the host of an `http` executor's URL, or of a provider's OIDC
        issuer. Its requests carry ``identity``, or no credential.

        Raises `AddressRefused` unless ``hosts``, the hosts of the identity or `network.allow` name the host.
        """
        driver = WebDriver(hosts=hosts, identity=identity)
        budget = self._budgets.get(connection.credential_id)
        if budget is None:
            budget = await self._deps.store.run(self._new_budget, connection, driver)
            self._budgets[connection.credential_id] = budget
        return ApiClient(
            connection,
            driver,
            driver.authenticator(connection, self._auth(connection, secrets)),
            session=self._deps.session,
            budget=budget,
            clock=self._deps.clock,
            read_only=self._read_only,
        )

    def _connection(
        self, integration: ResourceId, live: ActiveRevision, stored: Mapping[ResourceId, Connection]
    ) -> tuple[Connection, Driver]:
        resource = live.resources.get(integration)
        if resource is None:
            kept = stored.get(integration)
            if kept is None:
                raise ReconcilerError(f"{integration} is neither declared nor recorded", code="RC6011")
            driver = driver_for(kept.provider)
            if driver is None:
                raise NotImplementedYet(f"no driver for {kept.provider!r} in this version")
            return kept, driver
        provider = str(resource.spec["type"])
        driver = driver_for(provider)
        if driver is None:
            raise NotImplementedYet(
                f"the {provider!r} driver is not part of this version yet",
                hint="The manifest is valid; this version does nothing at the provider.",
            )
        return driver.connect(resource, resource.secret_refs("/auth")), driver

    def _auth(self, connection: Connection, secrets: SecretResolver) -> AuthContext:
        clock = self._deps.session.clock_of(connection.api_url, self._deps.clock)
        return AuthContext(
            read=secrets.read,
            send=TokenEndpoints(self._deps.session, clock, provider=connection.provider),
            id_token=self._deps.id_token,
            tokens=self._tokens.scoped(f"{connection.credential_id}|"),
            conceal=lambda value: self._deps.redactor.add_passing(value.reveal()),
            clock=self._deps.clock,
            provider_time=clock.now,
        )

    def _new_budget(self, connection: Connection, driver: Driver) -> Budget:
        limits = limits_for(connection, driver, self._deps.config)
        return Budget(
            connection.credential_id,
            limits,
            store=None if self._read_only else self._deps.store.sync,
            clock=self._deps.clock,
            run=self._deps.store.run,
        )


def _account(connection: Connection) -> tuple[str, str, str]:
    return connection.provider, connection.api_url, connection.account.lower()


def limits_for(connection: Connection, driver: Driver, config: Config) -> ProviderLimits:
    """Return the configured rate limits, else the published limits, which apply to the provider's own hosts only."""
    pace = config.rate_limits.get(connection.provider)
    if pace is not None:
        return dataclasses.replace(
            driver.limits,
            writes_per_minute=pace.writes_per_minute,
            writes_per_hour=pace.writes_per_hour,
            points_per_minute=pace.points_per_minute,
        )
    own = NetworkPolicy(driver.hosts)
    try:
        own.check_url(connection.api_url)
    except AddressRefused:
        return UNLIMITED
    return driver.limits
