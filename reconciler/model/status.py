"""Status: conditions as in Kubernetes, computed once at the end of a pass."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.resources import Location, ResourceId
from reconciler.model.values import JsonValue


class ConditionType(enum.StrEnum):
    READY = "Ready"  # always present
    RECONCILING = "Reconciling"  # the rest only while they hold
    STALLED = "Stalled"
    DRIFTED = "Drifted"
    SUSPENDED = "Suspended"
    PLAN_BLOCKED = "PlanBlocked"
    CREDENTIALS_VALID = "CredentialsValid"
    DELIVERING = "Delivering"


class ConditionStatus(enum.StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """``metav1.Condition``; ``last_transition_time`` (RFC 3339) changes only with ``status``."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """One row of ``resources[]`` in the status file, and of the ``resource`` table."""

    id: ResourceId
    location: Location
    generation: int = 1
    observed_generation: int = 0
    spec_digest: str = ""
    conditions: tuple[Condition, ...] = ()
    objects: tuple[Mapping[str, str], ...] = ()  # {address, externalId, url}
    drift: tuple[Mapping[str, str], ...] = ()  # {path, class}
    attempts: int = 0
    last_changed_at: str = ""
    next_reconcile_at: str = ""
    history: tuple[JsonValue, ...] = ()
    deleting: bool = False
    integration: str = ""
    """Path of the Integration that deletes its objects; empty while it is declared."""

    def condition(self, kind: ConditionType) -> Condition | None:
        """Return the condition of this type, if present."""
        return next((c for c in self.conditions if c.type is kind), None)

    @property
    def ready(self) -> bool:
        """Whether Ready is True."""
        ready = self.condition(ConditionType.READY)
        return ready is not None and ready.status is ConditionStatus.TRUE


@dataclass(frozen=True, slots=True)
class CredentialReport:
    """The result of the cheapest authenticated call with a credential."""

    valid: bool
    identity: str = ""
    expires_at: str = ""  # RFC 3339; empty when it does not expire or the provider does not report it
    granted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    rate: Mapping[str, int] = field(default_factory=dict)  # limit, remaining, resetAt (epoch s)
    message: str = ""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Question (`identity`, `granted`, `missing`, `expiresAt`) → why the provider does not answer it."""
    surplus: tuple[str, ...] = ()
    """Permissions that are granted and that no manifest needs."""
