"""The frozen inputs of a plan. It depends on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.model.errors import ReconcilerError
from reconciler.model.objects import Intent, ManagedObject, ObservedObject, RecordedObject, Scope, WriteOnly
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address, Digest, Fingerprint


class PlannedType(Protocol):
    """The pure part of a managed type that planning uses (see `reconciler.drivers.base.ManagedType`)."""

    write_only_fixed: bool

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Whether the foreign ``observed`` is the object that ``desired`` would take over."""


@dataclass(frozen=True, slots=True)
class ScopeView:
    """The observed state of a scope. ``reads`` is the number of independent complete lists that agree on ``objects``.

    With ``error`` the state is unknown: nothing in the scope is changed, and nothing counts as absent.
    """

    objects: tuple[ObservedObject, ...] = ()
    reads: int = 1
    error: ReconcilerError | None = None
    place: Scope | None = None
    """The current name of the scope, if the provider redirected from a former one."""
    container: str = ""
    """`Container.id` of the scope, if it was looked up."""
    read_only: str = ""
    """The reason why nothing in the scope can be changed, if it was looked up."""


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """Delete limits of one integration; 0 switches one off.

    Blocked: at least ``minimum`` deletes that are more than ``percent`` of the owned objects, or more than ``maximum`` deletes.
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
    """Writes with an unknown outcome."""
    types: Mapping[str, PlannedType] = field(default_factory=dict)
    untouchable: frozenset[ResourceId] = frozenset()
    """Resources whose desired form is unknown (invalid, stalled): their objects are neither changed nor pruned."""
    kept: Mapping[Address, str] = field(default_factory=dict)
    """Recorded objects that are not declared and stay for now, with the reason."""
    suspended: frozenset[ResourceId] = frozenset()
    """Suspended resources, or the integration itself: nothing is written for them."""
    approvals: frozenset[str] = frozenset()
    """Digests of blocked sets, or of single blocked changes, that a person approved."""
    refused: Mapping[Address, Digest] = field(default_factory=dict)
    """Digests of desired objects that the provider refused. They are not retried until they change."""
    refusals: Mapping[Address, str] = field(default_factory=dict)
    """The message of the provider for each of ``refused``."""
    prune_allowed: bool = True
    """False when the revision has errors, or pruning is switched off."""
    limits: PlanLimits = field(default_factory=PlanLimits)
    settle_s: float = 60.0
    claim_natural_keys: bool = False
    """Set by `recover`: objects of types without a marker are claimed by their natural key alone."""
    fingerprint: Callable[[Address, WriteOnly], Fingerprint] | None = None
    """Fingerprint of a value at another address: fingerprints depend on the address, and records move."""
