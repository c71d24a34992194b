"""The contracts between the engine and a provider driver. Read this before writing one.

A driver is a folder ``reconciler/drivers/<provider>/`` and one line in `reconciler.drivers.registry`. It makes one attempt
and raises a typed `reconciler.model.errors.ProviderError`; when to try again is decided in the engine. It keeps no state:
whatever it needs to remember between calls comes back to it as ``validators``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from reconciler.model.objects import Container, ManagedObject, NotModified, Observed, ObservedObject, Scope
from reconciler.model.plan import FieldChange
from reconciler.model.resources import Resource, ResourceId, SecretRef, ValueRef
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.model.values import Address, ExternalId, Fingerprint, JsonObject

if TYPE_CHECKING:
    from reconciler.drivers.receiving import Receiver
    from reconciler.drivers.running import Executor, Reporter


@dataclass(frozen=True, slots=True)
class Connection:
    """Where an integration lives and how it authenticates: references only, so it may be stored.

    It is kept in the state until the last tombstone of the integration is gone.
    """

    integration: ResourceId
    provider: str
    url: str
    api_url: str
    """Effective API root without a trailing slash (``https://api.github.com``)."""
    account: str
    """Account taken from ``url``: the GitHub owner, the Semaphore organization; empty where there is none."""
    auth: JsonObject
    """``spec.auth`` in canonical form: ``{"use": "token", "token": {"valueFrom": {"secret": {"name", "key"}}}}``."""
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    """Where each credential lies, by JSON pointer into ``auth``: ``{"/token": SecretRef(...)}``."""

    @property
    def credential_id(self) -> str:
        """What a rate budget is shared by: provider, API root and the credential's reference."""
        refs = ",".join(f"{pointer}={ref}" for pointer, ref in sorted(self.secrets.items()))
        return f"{self.provider}|{self.api_url}|{refs}"


@dataclass(frozen=True, slots=True)
class CompileContext:
    """All a pure compiler may know besides the resource."""

    owner: str
    public_url: str
    """``server.publicUrl`` without a trailing slash; the marker is ``<public_url>/hooks/<owner>/<uid>``."""
    key_id: str
    """Id of the master key: the ``key`` query parameter of the marker URL."""
    connection: Connection
    facts: JsonObject
    """What `Driver.resolve` read: JSON only."""
    fingerprint: Callable[[Address, str, ValueRef], Fingerprint]
    """(address, pointer, reference) → fingerprint of the value it stands for; offline a reference fingerprint."""

    def hook_url(self, resource: ResourceId) -> str:
        """Return the marker URL of ``resource``: where its events are to be sent."""
        return f"{self.public_url}/hooks/{self.owner}/{resource.uid(self.owner)}?key={self.key_id}"


class ApiResponse(Protocol):
    """One whole answer, size-capped."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, names in lower case."""

    def json(self) -> Any:
        """Return the decoded body; raise `ProviderProtocolError` if it is not JSON."""

    @property
    def text(self) -> str:
        """The body as text, undecodable bytes replaced."""

    @property
    def content(self) -> bytes:
        """The body as it came, decoded."""


class Api(Protocol):
    """An authenticated client bound to one `Connection` (see `reconciler.drivers.http.client`)."""

    @property
    def connection(self) -> Connection:
        """What it is bound to."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        ok: frozenset[int] = frozenset(),
    ) -> ApiResponse:
        """Send one request. ``path`` is relative to the API root, or an absolute URL on the same host (a Link).

        Returns any 2xx and 304, and every status in ``ok``; all else becomes the typed error that the driver's
        `Driver.classify` makes of it. Reads are retried locally a bounded number of times on transient failures;
        writes never are: after a write was sent, a timeout, reset or 5xx is `OutcomeUnknown`.
        """

    async def download(self, path: str) -> ApiResponse:
        """Return what the API redirects ``path`` to (a log, an archive): one redirect is followed, over https to a public address
        or on the API's own host, and without the credential. An answer that is no redirect is returned as it is.
        """


@dataclass(frozen=True, slots=True)
class Write:
    """What a create or update is to send."""

    desired: ManagedObject
    attributes: JsonObject
    """The whole object to write: desired attributes, with every ignored field as it was observed."""
    secrets: Mapping[str, SecretValue]
    """Values of the write-only attributes by pointer; always all of them."""
    changes: tuple[FieldChange, ...] = ()
    observed: ObservedObject | None = None
    """What was there before, on an update."""


class ManagedType(Protocol):
    """One type of remote object. ``observe`` lists a scope; writes are idempotent: create tolerates "exists" only by
    raising `Conflict` (the engine looks up and adopts), delete tolerates "gone".
    """

    type: str
    write_only_fixed: bool
    """True when the provider cannot change a write-only value in place: such a change is delete and create, in the
    order that `replace_order` says loses no event, and it needs no ``replace: allow`` because nothing else refers to it."""

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Return attributes in the one form that is compared: sets sorted, defaults filled, equal spellings folded. Pure, idempotent."""

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Whether the foreign ``observed`` is the object that ``desired`` would take over. Pure.

        ``identical``: the type's strict rule (``adopt: ifIdentical``); else the natural key alone (``adopt: always``).
        """

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Return all objects of ``scope`` (every page), or `NotModified` when ``validators`` still hold for every page.

        Raises `ScopeGone` when the scope itself answers 404; a 404 is never returned as an empty list.
        """

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return what ``scope`` names now; with ``known`` what has this id, wherever it is now.

        None where the provider has no such ids, and where nothing with the id can be seen. Raises `ScopeGone` for a name that
        answers 404.
        """

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Create it with the marker inside. Raises `Conflict` on a duplicate, `OutcomeUnknown` when in doubt."""

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Make it as desired, never wiping what it does not mention. Raises `NotFound` when the id is gone."""

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Delete it; gone already is success. Raises `ScopeGone` when that cannot be told."""


class Authenticator(Protocol):
    """Puts the credential on a request. Never logs; asks for the narrowest token that serves."""

    async def authorize(self, headers: dict[str, str]) -> None:
        """Add the authentication headers."""

    async def refresh(self) -> bool:
        """After a 401: fetch a new token if this kind can (read the secret again); False when there is nothing to refresh."""


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """A provider's published limits; 0 is "none"."""

    writes_per_minute: int = 0
    writes_per_hour: int = 0
    points_per_minute: int = 0
    read_points: int = 1
    write_points: int = 5
    concurrent: int = 64


class Driver(Protocol):
    """A provider."""

    provider: str
    hosts: tuple[str, ...]
    """Global hosts of the provider that need no ``network.allow``; ``*.semaphoreci.com`` covers one label."""
    limits: ProviderLimits
    types: Mapping[str, ManagedType]
    receiver: Receiver | None
    """How its webhooks are verified; None: it sends none."""
    executors: Mapping[str, Executor]
    """What it runs for stages, by ``executor.type``."""
    reporter: Reporter | None
    """How results are written back; None: it is no code host."""

    def connect(self, resource: Resource, secrets: Mapping[str, SecretRef]) -> Connection:
        """Return the connection that an Integration resource declares. Pure. Raises `ValidationFailed` for a URL it cannot use."""

    def authenticator(self, connection: Connection, read: Callable[[SecretRef], SecretValue]) -> Authenticator:
        """Return the authenticator of ``connection``; ``read`` fetches a secret when it is needed."""

    def classify(self, status: int, headers: Mapping[str, str], body: Any, request: str, *, now: float) -> Exception | None:
        """Return the typed error of an answer that is not 2xx/304, or None for the shared mapping. Pure; ``now`` is epoch seconds."""

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Try the credential with the cheapest authenticated call; ``needs`` are permissions ``{"webhooks": "write"}``."""

    def needs(self, resource: Resource) -> Mapping[str, str]:
        """Return the permissions that ``resource`` asks of its integration. Pure."""

    async def resolve(self, api: Api, resource: Resource) -> JsonObject:
        """Do the reading that compiling ``resource`` needs (patterns → names, names → ids). Raises typed errors;
        `ValidationFailed` for a name that does not exist.
        """

    def offline_facts(self, resource: Resource) -> JsonObject:
        """Return facts that show names instead of ids, for a plan without credentials. Pure."""

    def compile(self, resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
        """Return the managed objects that ``resource`` declares, in the order of work. Pure."""
