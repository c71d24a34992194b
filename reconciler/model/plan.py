"""The plan: immutable, totally ordered, serialisable, with a digest. What was reviewed is what runs."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from reconciler.model.objects import ManagedObject, Scope
from reconciler.model.resources import Location, ResourceId
from reconciler.model.values import Address, Digest, ExternalId, JsonValue, digest_of


class Action(enum.StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"  # delete and create: the external id changes
    DELETE = "delete"
    ADOPT = "adopt"  # take over an object that is not ours (URL and secret are overwritten)
    REMARK = "remark"  # a rename: our marker, or a new address for the recorded id; also a re-found own object
    RECORD = "record"  # our own object, found again by marker and already as desired: only the state is written
    FORGET = "forget"  # drop from the state only (deletionPolicy Orphan, or proven gone)


class ChangeClass(enum.StrEnum):
    COMMIT = "commit"  # Git moved
    DRIFT = "drift"  # the world moved
    UNPROVABLE = "unprovable"  # a write-only value may differ: its fingerprint or the provider's stamp moved


class Disposition(enum.StrEnum):
    EXECUTE = "execute"
    BLOCKED = "blocked"  # waits for an approval that names the blocked set's digest
    HELD = "held"  # policy says look, do not touch (observe, warn, create-only, suspended)
    WAITING = "waiting"  # cannot be decided yet: settle time, fight back-off, dependency stalled


class BlockReason(enum.StrEnum):
    DELETE_PERCENT = "DeletePercent"
    DELETE_MAX = "DeleteMax"
    PREVENT_DESTROY = "PreventDestroy"
    REPLACE_FORBIDDEN = "ReplaceForbidden"


@dataclass(frozen=True, slots=True, order=True)
class FieldChange:
    """One difference, at a JSON pointer. ``sensitive`` values are None on both sides and rendered as "(secret)"."""

    path: str
    before: JsonValue = None
    after: JsonValue = None
    cls: ChangeClass = ChangeClass.COMMIT
    sensitive: bool = False


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
    """CamelCase reason where it is not executed (`BlockReason` value, ``ObserveOnly``, ``Suspended``, ``Contended`` …) or why (``Missing``, ``Duplicate``)."""
    message: str = ""
    external_id: ExternalId | None = None
    desired: ManagedObject | None = None
    depends_on: tuple[Address, ...] = ()
    location: Location = Location("")
    previous: Address | None = None
    retry_at: float | None = None
    """For WAITING: when to look again (seconds since the epoch)."""

    def decision(self) -> JsonValue:
        """Return what the digest covers: what would be done, and nothing volatile (no times, lines, messages)."""
        return [self.address, self.action.value, self.disposition.value, self.external_id or "",
                self.previous or "", self.desired.digest if self.desired else "",
                [[f.path, f.cls.value] for f in self.fields]]


@dataclass(frozen=True, slots=True)
class Plan:
    """One integration's plan: the unit of work and of approval."""

    integration: ResourceId
    changes: tuple[Change, ...]
    owned: int = 0
    """How many objects are recorded as ours on this integration: what the delete limits are counted against."""
    notes: tuple[str, ...] = field(default=())

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
class PlanSet:
    """What a user sees: the plans of all integrations, with a digest over theirs."""

    revision: str
    plans: tuple[Plan, ...]

    @property
    def sha256(self) -> Digest:
        """Digest over the digests of the plans that hold any change."""
        return digest_of([[p.integration.path, p.sha256] for p in self.plans if p.changes])

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes, in order."""
        return tuple(change for plan in self.plans for change in plan.changes)
