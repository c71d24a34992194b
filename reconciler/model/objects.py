"""Managed objects: what exists at a provider. Code after compiling knows only these, and no provider."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.resources import Lifecycle, Location, ResourceId, ValueRef
from reconciler.model.values import Address, Digest, ExternalId, Fingerprint, JsonObject, Uid, digest_of


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """What one complete list at the provider covers: ``("provider/webhook", "acme/payments")``."""

    type: str
    key: str

    def __str__(self) -> str:
        """Render as ``type[key]``."""
        return f"{self.type}[{self.key}]"


def address_of(resource: ResourceId, scope: Scope) -> Address:
    """Return the address of ``resource``'s object in ``scope``; a resource has at most one object a scope."""
    return Address(f"{resource.path}#{scope}")


@dataclass(frozen=True, slots=True, order=True)
class Marker:
    """The owner of an object, as read from or written into the object itself (a URL path or a name)."""

    owner: str
    uid: Uid


@dataclass(frozen=True, slots=True)
class WriteOnly:
    """A value that the provider accepts and never returns. ``pointer``: its place in the attributes."""

    pointer: str
    ref: ValueRef
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class ManagedObject:
    """Desired form of one remote object.

    ``attributes`` are normalized (lists that mean sets are sorted) and contain no secret. Only these are compared:
    other attributes belong to the provider. ``immutable``: pointers whose change needs a replace.
    ``marker`` is None if the provider has no place for one: the recorded id then proves ownership.
    """

    address: Address
    resource: ResourceId
    integration: ResourceId
    scope: Scope
    attributes: JsonObject
    natural_key: str
    """The key that is unique in the scope at the provider (hook URL, name, identifier)."""
    marker: Marker | None = None
    write_only: tuple[WriteOnly, ...] = ()
    immutable: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Pointers to attributes that the provider never returns though they are no secrets: compared with the recorded ones."""
    depends_on: tuple[Address, ...] = ()
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    location: Location = Location("")
    previous: Address | None = None
    """Address before a rename (``movedFrom``)."""
    previous_marker: Marker | None = None

    @property
    def type(self) -> str:
        """The managed type: ``provider/webhook``."""
        return self.scope.type

    @property
    def digest(self) -> Digest:
        """Digest of attributes and write-only fingerprints, to compare with what was applied."""
        return digest_of({"a": self.attributes, "w": {w.pointer: w.fingerprint for w in self.write_only}})


@dataclass(frozen=True, slots=True)
class ObservedObject:
    """A remote object as the provider shows it now, normalized; ``attributes`` never contain masked values."""

    external_id: ExternalId
    attributes: JsonObject
    natural_key: str
    marker: Marker | None = None
    url: str = ""
    updated_at: str = ""
    """The provider's own change stamp, if it has one: it changes without us when another writer changed a hidden value."""
    present_write_only: frozenset[str] | None = None
    """Pointers of write-only values that the provider reports as set (masked); None if it does not report that."""
    health: Mapping[str, str] = field(default_factory=dict)
    """The provider's report on deliveries and state: ``{"last_response": "502"}``; shown, never compared."""
    unshown: tuple[str, ...] = ()
    """Pointers just written that are missing in the answer, though this provider usually returns a mask for them."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A complete list (all pages) of one scope, with the validators of the next conditional read (ETags …)."""

    scope: Scope
    objects: tuple[ObservedObject, ...]
    validators: JsonObject = field(default_factory=dict)
    redirected_to: str = ""
    """The scope's new key after a rename at the provider (301 followed by id)."""


@dataclass(frozen=True, slots=True)
class Container:
    """The container of a scope at the provider (a repository, a workspace). ``id`` stays when it is renamed or transferred."""

    id: str
    key: str
    """Its present name, as the key of a scope."""
    read_only: str = ""
    """Why it is read-only ("archived"); empty if it is not."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """Nothing changed since the validators were taken: the stored observation is valid."""

    scope: Scope


class IntentState(enum.StrEnum):
    PENDING = "pending"  # committed before the call; a crash leaves it so
    DONE = "done"
    REFUSED = "refused"  # the provider refused it: no effect
    UNKNOWN = "unknown"  # sent, unknown outcome: list, match, adopt
    ADOPTED = "adopted"  # found after an unknown outcome
    ABSENT = "absent"  # settled: it had no effect


@dataclass(frozen=True, slots=True)
class Intent:
    """A write to make, committed before the call."""

    id: str
    address: Address
    integration: ResourceId
    action: str
    scope: Scope
    marker: Marker | None
    natural_key: str
    digest: Digest
    created_at: float
    state: IntentState = IntentState.PENDING
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    external_id: ExternalId | None = None
    settled_at: float | None = None
    plan: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class RecordedObject:
    """An object that we own: its identity and what was applied last, never its present state at the provider.

    ``tombstone`` is set when it is to be deleted, and stays until its absence is proven.
    The connection of its integration is stored separately (`reconciler.state`), so that it outlives the manifest.
    """

    address: Address
    resource: ResourceId
    integration: ResourceId
    scope: Scope
    external_id: ExternalId
    natural_key: str
    marker: Marker | None
    attributes: JsonObject
    fingerprints: Mapping[str, str]
    digest: Digest
    lifecycle: Lifecycle
    updated_at: str = ""
    url: str = ""
    applied_at: float = 0.0
    revision: str = ""
    seen: bool = False
    """Whether a list has shown it since the write: its absence then counts at once (drift), without the settle time."""
    tombstone: bool = False
    repairs: tuple[float, ...] = ()
    """Times of the latest drift repairs, for fight detection (3 in 10 minutes: Contended)."""
    unshown: tuple[str, ...] = ()
    """Write-only values that this server did not report when they were written: their absence proves nothing later."""
    depends_on: tuple[Address, ...] = ()
    container: str = ""
    """`Container.id` of the scope when the object was last seen: names are reused, this id is not."""


def recorded_of(desired: ManagedObject, external_id: ExternalId) -> RecordedObject:
    """Return ``desired`` as the object that was applied with the id ``external_id``."""
    return RecordedObject(
        address=desired.address,
        resource=desired.resource,
        integration=desired.integration,
        scope=desired.scope,
        external_id=external_id,
        natural_key=desired.natural_key,
        marker=desired.marker,
        attributes=desired.attributes,
        fingerprints={secret.pointer: secret.fingerprint for secret in desired.write_only},
        digest=desired.digest,
        lifecycle=desired.lifecycle,
        depends_on=desired.depends_on,
    )
