"""The contracts between the engine and a provider driver. Read this before writing one.

A driver is a folder ``reconciler/drivers/<provider>/`` (``spec.py``: what it is, ``driver.py``: what it does) and one line each in
`reconciler.drivers.specs` and `reconciler.drivers.registry`. It starts from `reconciler.drivers.provider.ProviderDriver` and from what
`reconciler.drivers.delivery` (receivers), `reconciler.drivers.execution` (executors) and `reconciler.drivers.common` offer. The files
of a driver have the same names for every provider: api, compile, webhooks or notifications, receiver, executor, reports, errors.

It makes one attempt and raises a typed `reconciler.model.errors.ProviderError`; the engine decides about retries. A driver keeps no
state: the engine passes ``validators`` back to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from reconciler.drivers.apps import AppEvent, AppForm, AppInstallation, AppReport, AppTarget, AppWish, RegisteredApp
from reconciler.drivers.auth import ApiResponse as ApiResponse
from reconciler.drivers.auth import AuthContext, SendTokenRequest
from reconciler.drivers.capabilities import ProviderLimits as ProviderLimits
from reconciler.drivers.connection import Api, Authenticator, CompileContext, Connection
from reconciler.model.events import Delivery, Hook, PastDelivery, Rejection
from reconciler.model.executions import DeploymentRequest, LogLines, Run, RunIntent, RunReport, StatusReport
from reconciler.model.objects import Container, ManagedObject, NotModified, Observed, ObservedObject, Scope
from reconciler.model.plan import FieldChange
from reconciler.model.resources import Resource, SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.model.values import ExternalId, JsonObject


@dataclass(frozen=True, slots=True)
class Write:
    """The content of a create or update."""

    desired: ManagedObject
    attributes: JsonObject
    """The whole object to write: desired attributes, with every ignored field as it was observed."""
    secrets: Mapping[str, SecretValue]
    """Values of all write-only attributes by pointer."""
    changes: tuple[FieldChange, ...] = ()
    observed: ObservedObject | None = None
    """The object before an update."""


class ManagedType(Protocol):
    """One type of remote object. ``observe`` lists a scope. Writes are idempotent: create raises `Conflict` if the object exists (the
    engine looks it up and adopts it), delete succeeds if it is gone.
    """

    type: str
    write_only_fixed: bool
    """True if the provider cannot change a write-only value in place. Such a change is delete and create, in the order that loses no
    event (`replace_order`), and it needs no ``replace: allow`` because nothing else refers to the object."""

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Return attributes in the normal form that is compared: sets sorted, defaults filled, spellings unified. Pure, idempotent."""

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Whether ``desired`` may adopt the foreign ``observed``. Pure.

        ``identical``: the type's strict rule (``adopt: ifIdentical``); else the natural key alone (``adopt: always``).
        """

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Return all objects of ``scope`` (every page), or `NotModified` if ``validators`` still hold for every page.

        Raises `ScopeGone` when the scope itself answers 404; a 404 is never returned as an empty list.
        """

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return the container that ``scope`` names now; with ``known`` the container with this id, whatever its name is now.

        None if the provider has no such ids, or if none with the id is visible. Raises `ScopeGone` for a name that answers 404.
        """

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Create it with the marker. Raises `Conflict` on a duplicate, `OutcomeUnknown` if the outcome is unknown."""

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Update it; fields that are not desired keep their values. Raises `NotFound` if the id is gone."""

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Delete it; already gone is success. Raises `ScopeGone` if that cannot be determined."""


@runtime_checkable
class Pingable(Protocol):
    """A managed type whose provider can send a test delivery to one of its objects."""

    async def ping(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Request a test delivery. Raises `NotFound` if the object is gone."""


class Receiver(Protocol):
    """Receives a provider's events."""

    keeps_deliveries: bool
    """Whether the provider lists its past deliveries: then `missed` reads that list, and `fetch` and `redeliver` work. Otherwise
    `missed` reads the objects that the events are about, and carries their payloads."""

    signs_body: bool
    """Whether `verify` hashes the body, once with each key; False: the proof is in the body, which is parsed as JSON."""

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of ``keys`` proves it. Pure; never raises, whatever a sender sends.

        Header names are in lower case. Compares in constant time, tries every key (no early exit), parses no JSON before the proof.
        A proven body that cannot be read is a `Delivery` with a ``problem``. ``now``: epoch seconds.
        """

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return every event after ``since`` (epoch seconds) that ``source`` should have received, oldest first: all pages.

        The caller drops the events that it has. With `keeps_deliveries` False, each carries its ``detail`` for `fetch`.
        """

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Ask the provider to send it again; False if the provider cannot. Raises typed errors."""

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event, with the id and identity that its webhook would have. Raises typed errors."""


class Executor(Protocol):
    """Starts runs and follows them.

    ``settle_s``: how late a started run may appear in `find`. After a start with unknown outcome, absence counts only this long after
    the intent. ``poll_s``: the interval of `poll` while a run continues; a ``poll_s`` in the run's ``detail`` overrides it. A run that
    `start` or `find` returns with ``done`` in its ``detail`` has already ended.
    """

    type: str
    needs_integration: bool
    settle_s: float
    poll_s: float
    by_clock: bool
    """Whether `find` searches by time: then absence proves something only while the provider's clock is known."""

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """Return the permissions that ``executor`` (a Stage's ``spec.executor``) needs from its integration. Pure."""

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Start the run with the correlation id. None: it was accepted, and `find` must look up its id.

        Raises a typed error; `OutcomeUnknown` if the outcome is unknown. `ValidationFailed`, `NotFound` and `PermissionDenied` mean
        that nothing was started.
        """

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the run with the correlation id among all runs since ``intent.intended_at`` less two minutes.

        None: a complete search did not find it, or the start is idempotent, so it may be started again. Raises `Ambiguous` if a run
        may exist but cannot be identified.
        """

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return the current state of the run. Raises `NotFound` if it no longer exists. A rerun at the provider is followed: the
        report's `Run` has the newest attempt.
        """

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Cancel the run; already ended is success."""

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return the log after ``cursor`` (empty: from the start) that is available now."""

    def run_id_of(self, event_type: str, payload: object) -> str:
        """Return the external id of the run that a provider's event is about; empty if there is none. Pure."""

    def attempt_of(self, event_type: str, payload: object) -> int:
        """Return the attempt whose end an event reports; 0 if it reports none, or the provider counts no attempts. Pure."""

    def matches_job_token(self, claims: Mapping[str, object], run: Run) -> bool:
        """Whether a job token's ``claims`` (issuer and audience already checked) belong to a job of this run. Pure."""

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """Return the claims that a job token of this run must have, each with its allowed values. Pure."""

    def issuer(self, api: Api) -> str:
        """Return the issuer of the provider's job tokens (OIDC); empty if it has none."""


class Reporter(Protocol):
    """Writes results to a code host, each only once."""

    async def report(self, api: Api, status: StatusReport) -> bool:
        """Write ``status`` unless the target already has that state with our marker; then return False. Reads all pages."""

    async def deployment(self, api: Api, request: DeploymentRequest) -> str:
        """Return the id of the Deployment with the marker; create it if a complete list has none."""

    async def commit(self, api: Api, repository: str, ref: str) -> str:
        """Return the commit of ``ref``; raises `NotFound` if it does not exist."""


class AppWebhooks(Protocol):
    """The webhooks of a provider's Apps. Everything but `gaps` and `identities` is pure: the core verifies, routes and stores."""

    scope_type: str
    """The type of the webhook's scope: in a `Hook` of a receiver."""

    def installation_of(self, connection: Connection) -> AppInstallation | None:
        """Return how ``connection`` uses an App; None if its credential is no App."""

    def target_of(self, source: Resource, account: str) -> AppTarget:
        """Return what ``source`` asks for; ``account`` is that of its Integration. Raises `ValidationFailed`."""

    def needs_of(self, source: Resource) -> Mapping[str, str]:
        """Return the permissions that ``source`` needs: those of its events, since it makes no webhooks."""

    def read(self, delivery: Delivery) -> AppEvent:
        """Return where ``delivery`` comes from; an empty `AppEvent` for a payload of an unknown form."""

    async def identities(self, api: Api) -> frozenset[str]:
        """Return each `AppInstallation.identity` that the App of this credential may have. Raises typed errors."""

    async def gaps(self, api: Api, url: str) -> tuple[str, ...]:
        """Return what a person has to set, so that the App's webhook delivers to ``url``. Raises typed errors."""

    def places_of(self, facts: JsonObject) -> Mapping[str, str]:
        """Return the ids of the repositories that `Driver.resolve` saw, by the name in the manifest, in lower case."""


@dataclass(frozen=True, slots=True)
class StoredText:
    """What a provider keeps under one name, and the version that it gives this state of it."""

    text: SecretValue
    version: str


class SecretStore(Protocol):
    """The values that a provider keeps for Secrets. An ``entry`` is one item of the Secret's ``data``."""

    def source(self, entry: JsonObject) -> str:
        """Return the name of what ``entry`` reads: entries with one name are read by one request. Pure."""

    async def version(self, api: Api, source: str) -> str:
        """Return the present version without the value; empty if the credential may not ask. Raises as `read`."""

    async def read(self, api: Api, source: str) -> StoredText:
        """Return the present text.

        Raises `SecretUnavailable` if this source alone cannot be read, and other typed errors if none can.
        """

    def value(self, entry: JsonObject, source: str, text: SecretValue) -> SecretValue:
        """Return the part of ``text`` that ``entry`` names. Raises `SecretUnavailable`. Pure."""


class AppRegistrar(Protocol):
    """Registers Apps of a provider in a browser, and reads how they are set.

    ``web_root``: the provider's own web site; ``max_name``: characters of an App's name; ``useful_events``: events that every App
    should get, and may have without a permission.
    """

    web_root: str
    max_name: int
    useful_events: frozenset[str]

    def auth(self, client_id: str, key: JsonObject, webhook_secret: JsonObject | None) -> JsonObject:
        """Return ``spec.auth`` of an Integration that uses the App. Pure."""

    def form(self, wish: AppWish, state: str) -> AppForm:
        """Return the form that registers ``wish``; its answer carries ``state``. Pure. Raises `ValidationFailed` for names that the
        provider does not know, and for events whose permission is not requested.
        """

    async def convert(self, send: SendTokenRequest, api_url: str, code: str, *, now: float) -> RegisteredApp:
        """Exchange the ``code`` of the answer, once. ``now``: epoch seconds. Raises `ValidationFailed` and other typed errors."""

    def permissions_of(self, events: Iterable[str]) -> Mapping[str, str]:
        """Return the permissions of those ``events`` that only one permission gives. Pure."""

    async def report(self, api: Api, needs: Mapping[str, str], events: Mapping[str, bool], hook_url: str) -> AppReport:
        """Return the App of ``api`` against what is needed of it; of ``events`` those are missing that are required (True).

        Raises typed errors; `AuthFailed` if the App is not installed.
        """


class Driver(Protocol):
    """A provider."""

    provider: str
    hosts: tuple[str, ...]
    """Global hosts of the provider that need no ``network.allow``; ``*.semaphoreci.com`` covers one label."""
    limits: ProviderLimits
    types: Mapping[str, ManagedType]
    receiver: Receiver | None
    """Receives its webhooks; None if it sends none."""
    executors: Mapping[str, Executor]
    """The executors of stages, by ``executor.type``."""
    reporter: Reporter | None
    """Writes results back; None if it is not a code host."""
    apps: AppWebhooks | None
    """The webhooks of its Apps; None if its credentials bring none."""
    secret_store: SecretStore | None
    """Values for Secrets; None if it keeps none."""
    registrar: AppRegistrar | None
    """Registers its Apps; None if it has none."""

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """Return the connection that an Integration resource declares. Pure. Raises `ValidationFailed` for an invalid URL."""

    def authenticator(self, connection: Connection, context: AuthContext) -> Authenticator:
        """Return the authenticator of ``connection``. Raises `ValidationFailed` if it names no secret. Reads nothing yet."""

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        """Return the typed error of an answer that is not 2xx/304; None for the shared mapping. Pure; ``now`` is epoch seconds."""

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Try the credential with the cheapest authenticated call; ``needs`` are permissions ``{"webhooks": "write"}``."""

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """Return the permissions that ``resource`` needs from its integration. Pure."""

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Read the facts for compiling ``resource`` (patterns → names, names → ids). Raises typed errors; `ValidationFailed` for a
        name that does not exist.
        """

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Return facts with names instead of ids, for a plan without credentials. Pure."""

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        """Return the managed objects that ``resource`` declares, in the order of work. Pure."""
