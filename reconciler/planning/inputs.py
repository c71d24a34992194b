"""Everything a plan is made of: frozen, and nothing else is looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.model.errors import ReconcilerError
from reconciler.model.objects import Intent, ManagedObject, ObservedObject, RecordedObject, Scope, WriteOnly
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address, Digest, Fingerprint


class PlannedType(Protocol):
    """The pure part of a driver's managed type that a plan asks (see `reconciler.drivers.base.ManagedType`)."""

    write_only_fixed: bool

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Whether the foreign ``observed`` is the object that ``desired`` would take over."""


@dataclass(frozen=True, slots=True)
class ScopeView:
    """What is known of a scope now. ``reads`` is how many independent complete lists agree on ``objects``.

    With ``error`` nothing is known: nothing in the scope is changed, and nothing in it counts as absent.
    """

    objects: tuple[ObservedObject, ...] = ()
    reads: int = 1
    error: ReconcilerError | None = None
    place: Scope | None = None
    """The scope's present name, where the provider redirected from a former one."""
    container: str = ""
    """`Container.id` of what the scope names, where it was looked up."""
    read_only: str = ""
    """Why nothing in the scope can be changed, where that was looked up."""


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """Delete limits of one integration; 0 switches one off.

    Blocked: at least ``minimum`` deletes that are more than ``percent`` of what we own there, or more than ``maximum`` deletes.
    """

    percent: int = 30
    minimum: int = 3
    maximum: int = 25


@dataclass(frozen=True, slots=True)
class PlanInput:
    """The three states of one integration and the policy in force. Times are seconds (since the epoch for ``now``)."""

    integration: ResourceId
    now: float
    owner: str
    desired: tuple[ManagedObject, ...] = ()
    recorded: tuple[RecordedObject, ...] = ()
    views: Mapping[Scope, ScopeView] = field(default_factory=dict)
    intents: tuple[Intent, ...] = ()
    """Writes without a known outcome."""
    types: Mapping[str, PlannedType] = field(default_factory=dict)
    untouchable: frozenset[ResourceId] = frozenset()
    """Resources whose desired form is not known now (invalid, stalled): what they own is neither changed nor pruned."""
    suspended: frozenset[ResourceId] = frozenset()
    """Resources, or the integration itself, on which nothing is written."""
    approvals: frozenset[str] = frozenset()
    """Digests of blocked sets, or of single blocked changes, that a human approved."""
    refused: Mapping[Address, Digest] = field(default_factory=dict)
    """Digests of desired objects that the provider refused for good: not tried again before they change."""
    refusals: Mapping[Address, str] = field(default_factory=dict)
    """The provider's own words for each of ``refused``."""
    prune_allowed: bool = True
    """False when the revision has errors, or pruning is switched off."""
    limits: PlanLimits = field(default_factory=PlanLimits)
    settle_s: float = 60.0
    claim_natural_keys: bool = False
    """`recover`: objects of types without a marker are ours by their natural key alone."""
    fingerprint: Callable[[Address, WriteOnly], Fingerprint] | None = None
    """Fingerprint of a value as it would be at another address: fingerprints are bound to theirs, and records move."""
