"""The plan: immutable, totally ordered, serialisable, with a digest. The reviewed plan is the plan that runs."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reconciler.model.errors import Problem
from reconciler.model.objects import IntentState, ManagedObject, Marker, Scope
from reconciler.model.resources import Location, Resource, ResourceId
from reconciler.model.values import Address, Digest, ExternalId, JsonObject, JsonValue, digest_of


class Action(enum.StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"  # delete and create: the external id changes
    DELETE = "delete"
    ADOPT = "adopt"  # take over a foreign object (its URL and secret are overwritten)
    REMARK = "remark"  # a rename: our marker, or a new address for the recorded id; also an own object found without a record
    RECORD = "record"  # our own object, found by its marker and already as desired: only the state is written
    FORGET = "forget"  # delete from the state only (deletionPolicy Orphan, or proven absent)


class ChangeClass(enum.StrEnum):
    COMMIT = "commit"  # Git changed
    DRIFT = "drift"  # the provider changed
    UNVERIFIABLE = "unverifiable"  # a write-only value may differ: its fingerprint or the provider's stamp changed


class Disposition(enum.StrEnum):
    EXECUTE = "execute"
    BLOCKED = "blocked"  # waits for an approval of the digest of the blocked set
    HELD = "held"  # the policy forbids writes (observe, warn, create-only, suspended)
    WAITING = "waiting"  # cannot be decided yet: settle time, fight back-off, dependency stalled


class BlockReason(enum.StrEnum):
    DELETE_PERCENT = "DeletePercent"
    DELETE_MAX = "DeleteMax"
    PREVENT_DESTROY = "PreventDestroy"
    REPLACE_FORBIDDEN = "ReplaceForbidden"


class Reason(enum.StrEnum):
    """Why a change without a commit is made, or why a change is not executed now (besides `BlockReason`)."""

    # why it is made
    MISSING = "Missing"  # recorded, and proven absent
    DUPLICATE = "Duplicate"  # two objects with our marker: the newer one is deleted
    FOUND = "Found"  # our marker without a record: the state was lost
    ADOPTED = "Adopted"  # a write with unknown outcome took effect
    AS_DECLARED = "AsDeclared"  # no difference at the provider; only the record is updated
    MOVED = "Moved"  # ``movedFrom``, or the container was renamed at the provider
    GONE = "Gone"  # proven absent: only the record is left
    ORPHANED = "Orphaned"  # ``deletionPolicy: Orphan``
    READ_ONLY = "ReadOnly"  # to be deleted in a read-only container (an archived repository): released
    APPROVED = "Approved"  # was blocked; a person approved the digest of the blocked set
    # held: the policy forbids writes
    OBSERVE_ONLY = "ObserveOnly"
    CREATE_ONLY = "CreateOnly"
    NO_DELETE = "NoDelete"
    DRIFT_WARN = "DriftWarn"
    SUSPENDED = "Suspended"
    REFUSED = "Refused"  # the provider refused exactly these values
    CONFLICT = "Conflict"  # a foreign object has our place
    PRUNE_NOT_ALLOWED = "PruneNotAllowed"
    STILL_USED = "StillUsed"  # a declared address has the same object
    # waiting: cannot be decided yet
    SETTLING = "Settling"
    UNCONFIRMED = "Unconfirmed"  # absence was read only once
    CONTENDED = "Contended"
    NAME_TAKEN = "NameTaken"  # by an own object that must be deleted first
    DEPENDENCY_NOT_READY = "DependencyNotReady"
    NOT_REPLACED = "NotReplaced"  # what takes its place is not known to work yet
    NOT_APPROVED = "NotApproved"  # not part of the approved plan


@dataclass(frozen=True, slots=True, order=True)
class FieldChange:
    """One difference, at a JSON pointer. ``sensitive`` values are None on both sides and rendered as "(secret)"."""

    path: str
    before: JsonValue = None
    after: JsonValue = None
    cls: ChangeClass = ChangeClass.COMMIT
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """What ends with a removed object: its attributes as they were read or recorded last, and where it has write-only values."""

    attributes: JsonObject
    write_only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a plan."""

    address: Address
    action: Action
    cls: ChangeClass
    resource: ResourceId
    integration: ResourceId
    scope: Scope
    fields: tuple[FieldChange, ...] = ()
    disposition: Disposition = Disposition.EXECUTE
    reason: str = ""
    """A `BlockReason` or `Reason` value."""
    message: str = ""
    external_id: ExternalId | None = None
    desired: ManagedObject | None = None
    depends_on: tuple[Address, ...] = ()
    """Changes that must succeed first: of objects that it needs, and for a delete of objects that referred to it."""
    location: Location = Location("")
    previous: Address | None = None
    retry_at: float | None = None
    """For WAITING: when to reconcile again (seconds since the epoch)."""
    loss: Loss | None = None
    """For a removal. Shown only: the digest names the object, so that an approval does not depend on what a provider shows."""

    def decision(self) -> JsonValue:
        """Return what the digest covers: the action, without volatile data (times, lines, messages)."""
        return [
            self.address,
            self.action.value,
            self.disposition.value,
            self.external_id or "",
            self.previous or "",
            self.desired.digest if self.desired else "",
            [[f.path, f.cls.value] for f in self.fields],
        ]

    def blocked_digest(self) -> Digest:
        """Return the digest of this one change as a member of a blocked set (whatever its disposition is now)."""
        as_blocked = self if self.disposition is Disposition.BLOCKED else replace(self, disposition=Disposition.BLOCKED)
        return digest_of([self.integration.path, as_blocked.decision()])


@dataclass(frozen=True, slots=True, order=True)
class Orphan:
    """An object with our owner's marker that neither Git nor the state knows: reported, and left to ``orphans``."""

    scope: Scope
    external_id: ExternalId
    marker: Marker
    url: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One integration's plan: the unit of work and of approval."""

    integration: ResourceId
    changes: tuple[Change, ...]
    owned: int = 0
    """How many objects are recorded as ours on this integration: what the delete limits are counted against."""
    notes: tuple[str, ...] = field(default=())
    settlements: tuple[tuple[str, IntentState, ExternalId | None], ...] = ()
    """Writes without a known outcome that this observation answers: (intent id, its state now, the object's id)."""
    orphans: tuple[Orphan, ...] = ()
    approved: tuple[Digest, ...] = ()
    """Digests of the single changes that are executed because of an approval of their set. Kept as approvals themselves, they let
    a set that was executed only in part (a rate limit, a crash) go on without asking again."""

    @property
    def sha256(self) -> Digest:
        """Digest over every decision, in order."""
        return digest_of([change.decision() for change in self.changes])

    @property
    def blocked(self) -> tuple[Change, ...]:
        """The blocked set: what an approval names."""
        return tuple(c for c in self.changes if c.disposition is Disposition.BLOCKED)

    @property
    def blocked_sha256(self) -> Digest | None:
        """Digest of the blocked set alone, so that unrelated drift does not void an approval; None if empty."""
        blocked = self.blocked
        return digest_of([[c.integration.path, c.decision()] for c in blocked]) if blocked else None

    @property
    def executable(self) -> tuple[Change, ...]:
        """What apply does, in order."""
        return tuple(c for c in self.changes if c.disposition is Disposition.EXECUTE)


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """A manifest that differs from the one in force: it changes what the daemon runs, when, and on whose behalf.

    Only CREATE, UPDATE and DELETE occur. Remote objects that follow from it are `Change`s of their own.
    """

    resource: ResourceId
    action: Action
    fields: tuple[FieldChange, ...] = ()
    digest: str = ""
    """Digest of the new spec, and of new labels or targets of references if the spec is the same; empty for a delete."""
    location: Location = Location("")
    """Where it is declared; for a delete, where it was."""

    def decision(self) -> JsonValue:
        """Return what the digest covers: nothing volatile (no lines)."""
        return [self.resource.path, self.action.value, self.digest]


@dataclass(frozen=True, slots=True)
class Manifests:
    """The resources in force, and those of the planned revision: what a person needs to understand the changes."""

    before: Mapping[ResourceId, Resource] = field(default_factory=dict)
    after: Mapping[ResourceId, Resource] = field(default_factory=dict)

    def latest(self, identity: ResourceId) -> Resource | None:
        """Return the planned manifest of ``identity``, or the one in force if it is no longer declared."""
        return self.after.get(identity) or self.before.get(identity)


@dataclass(frozen=True, slots=True)
class PlanSet:
    """What a user sees: the plans of all integrations and the changed manifests, with one digest over both."""

    revision: str
    plans: tuple[Plan, ...]
    resources: tuple[ResourceChange, ...] = ()
    unread: tuple[Problem, ...] = ()
    """What could not be read: the plans say nothing about it, and nothing there is changed."""
    manifests: Manifests = field(default_factory=Manifests, repr=False, compare=False)
    """Shown only; not part of the digest."""

    @property
    def sha256(self) -> Digest:
        """Digest over the digests of the plans that hold any change, and over the changed manifests."""
        plans: list[JsonValue] = [[p.integration.path, p.sha256] for p in self.plans if p.changes]
        return digest_of([*plans, [change.decision() for change in self.resources]] if self.resources else plans)

    @property
    def empty(self) -> bool:
        """Whether it would change nothing at all."""
        return not self.resources and not any(plan.changes for plan in self.plans)

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes, in order."""
        return tuple(change for plan in self.plans for change in plan.changes)
