"""Managed objects: what lives at a provider. Everything after compiling knows these only, and no provider."""

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
    """Whose object this is, as read from or written into the object itself (a URL path or a name)."""

    owner: str
    uid: Uid


@dataclass(frozen=True, slots=True)
class WriteOnly:
    """A value the provider takes and never shows again. ``pointer`` is where it goes in the attributes."""

    pointer: str
    ref: ValueRef
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class ManagedObject:
    """Desired form of one remote object.

    ``attributes`` are normalized (lists that mean sets are sorted) and hold no secret. Only what is named here is compared:
    whatever else the provider shows is its own. ``immutable`` are pointers whose change needs a replace.
    ``marker`` is None where the provider has no place for one: ownership is then the recorded id.
    """

    address: Address
    resource: ResourceId
    integration: ResourceId
    scope: Scope
    attributes: JsonObject
    natural_key: str
    """What the provider itself keeps unique in the scope (hook URL, name, identifier)."""
    marker: Marker | None = None
    write_only: tuple[WriteOnly, ...] = ()
    immutable: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Pointers in ``attributes`` that the provider never shows though they are no secret: compared with what was recorded."""
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
        """Digest over attributes and write-only fingerprints: what was applied."""
        return digest_of({"a": self.attributes, "w": {w.pointer: w.fingerprint for w in self.write_only}})


@dataclass(frozen=True, slots=True)
class ObservedObject:
    """One remote object as the provider shows it now, normalized; masks are never among ``attributes``."""

    external_id: ExternalId
    attributes: JsonObject
    natural_key: str
    marker: Marker | None = None
    url: str = ""
    updated_at: str = ""
    """The provider's own change stamp, where it has one: moves without us when a hidden value was changed."""
    present_write_only: frozenset[str] | None = None
    """Pointers of write-only values the provider says are set (masked); None where it does not tell."""
    health: Mapping[str, str] = field(default_factory=dict)
    """What the provider says of deliveries and state: ``{"last_response": "502"}``; shown, never diffed."""
    unshown: tuple[str, ...] = ()
    """Pointers just written of which its answer says nothing, though this provider usually masks them."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A complete list (all pages) of one scope, with what makes the next read conditional (ETags …)."""

    scope: Scope
    objects: tuple[ObservedObject, ...]
    validators: JsonObject = field(default_factory=dict)
    redirected_to: str = ""
    """The scope's new key after a rename at the provider (301 followed by id)."""


@dataclass(frozen=True, slots=True)
class Container:
    """What a scope names at the provider (a repository, a workspace). It keeps ``id`` when it is renamed or changes its owner."""

    id: str
    key: str
    """Its name now, as the key of a scope."""
    read_only: str = ""
    """Why nothing in it can be changed ("archived"); empty if it can."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """The provider says that nothing changed since ``validators`` were taken: the stored observation stands."""

    scope: Scope


class IntentState(enum.StrEnum):
    PENDING = "pending"  # committed before the call; a crash leaves it so
    DONE = "done"
    REFUSED = "refused"  # the provider said no: nothing happened
    UNKNOWN = "unknown"  # sent, no outcome: list, match, adopt
    ADOPTED = "adopted"  # found again after a doubt
    ABSENT = "absent"  # settled: it never took effect


@dataclass(frozen=True, slots=True)
class Intent:
    """A write that is about to be made, committed before the call."""

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
    """What we own: identity and what was applied last; never the truth about the world.

    ``tombstone`` is set when it is to be deleted and stays until the provider says it is gone.
    ``connection`` of its integration is kept apart (`reconciler.state`), so that it outlives the manifest.
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
    """Whether it was seen in a list since the write: absence then counts at once (drift), without the settle time."""
    tombstone: bool = False
    repairs: tuple[float, ...] = ()
    """Times of the latest drift repairs, for fight detection (3 in 10 minutes: Contended)."""
    unshown: tuple[str, ...] = ()
    """Write-only values that this server did not show when they were written: not seeing them later proves nothing."""
    depends_on: tuple[Address, ...] = ()
    container: str = ""
    """`Container.id` of what the scope named when the object was seen there: names are reused, this id is not."""
