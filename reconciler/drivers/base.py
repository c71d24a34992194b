"""The contracts between the engine and a provider driver. Read this before writing one.

A driver is a folder ``reconciler/drivers/<provider>/`` (``spec.py``: what it is, ``driver.py``: what it does) and one
line each in `reconciler.drivers.specs` and `reconciler.drivers.registry`. It makes one attempt
and raises a typed `reconciler.model.errors.ProviderError`; when to try again is decided in the engine. It keeps no state:
whatever it needs to remember between calls comes back to it as ``validators``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reconciler.drivers.capabilities import ProviderLimits as ProviderLimits
from reconciler.model.events import Delivery, Hook, PastDelivery, Rejection
from reconciler.model.executions import DeploymentRequest, LogLines, Run, RunIntent, RunReport, StatusReport
from reconciler.model.objects import Container, ManagedObject, NotModified, Observed, ObservedObject, Scope
from reconciler.model.plan import FieldChange
from reconciler.model.resources import Resource, ResourceId, SecretRef, ValueRef
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.model.values import Address, ExternalId, Fingerprint, JsonObject


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


class Receiver(Protocol):
    """How a provider sends events."""

    keeps_deliveries: bool
    """Whether the provider lists its past deliveries: `missed` then reads that list, and `fetch` and `redeliver` work.
    Where it does not, `missed` is made of the objects the events are about, and carries their payloads."""

    signs_body: bool
    """Whether `verify` hashes the body, once with each key; False: the proof stands in the body, which is read as JSON."""

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of ``keys`` proves it. Pure; never raises for anything that a sender can send.

        Names of ``headers`` are in lower case. Compares bytes in constant time, tries every key (no early exit), reads no JSON
        before the proof. A body that is proved but cannot be read is a `Delivery` with a ``problem``. ``now``: epoch seconds.
        """

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return every event after ``since`` (epoch seconds) that ``source`` should have got, oldest first: all pages.

        The caller leaves out what it has. With `keeps_deliveries` False, each carries its ``detail`` for `fetch`.
        """

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Ask the provider to send it again; False where it cannot. Raises typed errors."""

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event itself, equal (id, identity) to what a webhook would have brought. Raises typed errors."""


class Executor(Protocol):
    """Starts runs and follows them.

    ``settle_s``: how late a run that was started may appear in what `find` reads. After a start in doubt, absence counts only
    that long after the intent. ``poll_s``: how often `poll` is worth its cost while a run goes on; a run whose ``detail`` has a
    ``poll_s`` says so for itself. A run that `start` or `find` returns with ``done`` in its ``detail`` is over already.
    """

    type: str
    needs_integration: bool
    settle_s: float
    poll_s: float
    by_clock: bool
    """Whether `find` looks by time: then the absence of a run proves something only while the provider's clock is known."""

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """Return the permissions that ``executor`` (a Stage's ``spec.executor``) asks of its integration. Pure."""

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Start the run with the correlation id inside. None: it was taken, and its id is to be found with `find`.

        Raises a typed error; `OutcomeUnknown` when in doubt. `ValidationFailed`, `NotFound`, `PermissionDenied` mean: nothing
        was started.
        """

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the run that carries the correlation id, looking at everything since ``intent.intended_at`` less two minutes.

        None: a complete look did not show it, or starting twice does what starting once does: it may be started again. Raises
        `Ambiguous` when there may be a run and none can be told.
        """

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return what the run is like now. Raises `NotFound` when it is not there any more; a run that was started again at the
        provider (another attempt) is followed: the report's `Run` has the newest attempt.
        """

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Ask the provider to end it; already ended is success."""

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return the log after ``cursor`` (empty: from the start), as far as the provider shows it now."""

    def run_id_of(self, event_type: str, payload: Any) -> str:
        """Return the external id of the run that an event of the provider is about; empty if it is about none. Pure."""

    def attempt_of(self, event_type: str, payload: Any) -> int:
        """Return which attempt of its run an event says the end of; 0 where it says none, or the provider counts none. Pure."""

    def matches_job_token(self, claims: Mapping[str, Any], run: Run) -> bool:
        """Whether a job token's ``claims`` (issuer and audience checked already) are of this run's own job. Pure."""

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """Return the claims that a job token of this run has, each with the values that it may have. Pure."""

    def issuer(self, api: Api) -> str:
        """Return the issuer of the provider's job tokens (OIDC); empty where it has none."""


class Reporter(Protocol):
    """Writes results to a code host, each once."""

    async def report(self, api: Api, status: StatusReport) -> bool:
        """Write ``status`` unless the target's list shows that state with our marker already; False if it did. Reads all pages."""

    async def deployment(self, api: Api, request: DeploymentRequest) -> str:
        """Return the id of the Deployment that carries the marker; make it if a complete list has none."""

    async def commit(self, api: Api, repository: str, ref: str) -> str:
        """Return the commit that ``ref`` leads to; raises `NotFound` where it does not exist."""


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
