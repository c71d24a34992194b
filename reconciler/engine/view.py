"""The present knowledge of the engine: the revisions of the source, and the newest result of each integration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.engine.conditions import ConditionCause
from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.model.incidents import WaitingNotices
from reconciler.model.resources import ResourceId
from reconciler.model.status import ConditionStatus, ResourceStatus
from reconciler.source.base import Revision


class Busy(StateError):
    """Another process works on the integration: nothing was done here."""

    code = "RC7006"


@dataclass(slots=True)
class SourceState:
    """The source: the four revisions of the status file, and the last error."""

    fetched: Revision | None = None
    fetched_at: float = 0.0
    valid: str = ""
    applied: str = ""
    attempted: str = ""
    error: ReconcilerError | None = None
    may_pass: bool = False
    """``error`` is the first after a success of this process: the next attempt may succeed."""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventStatus:
    """Status of sources and stages outside the reconcile loop; empty without events."""

    delivering: Mapping[ResourceId, tuple[ConditionStatus, ConditionCause]] = field(default_factory=dict)
    stalled: Mapping[ResourceId, ConditionCause] = field(default_factory=dict)
    """Stages that cannot run, and why."""
    suspended: Mapping[ResourceId, str] = field(default_factory=dict)
    """Sources without an integration, stages and groups that are suspended, with the reason."""
    stages: tuple[Mapping[str, Any], ...] = ()
    """Rows of ``stages[]`` in the status file."""
    pending: int = 0
    """Pending events."""
    schedules: tuple[Mapping[str, Any], ...] = ()
    """Rows of ``schedules[]`` in the status file."""
    failed: int = 0
    """Events without effect because of an error in a filter or mapping."""
    quarantined: int = 0
    """Quarantined events: their evaluation crashed the process or exceeded the limits."""
    waiting: Mapping[str, WaitingNotices] = field(default_factory=dict)
    """Messages in the outbox, by the kind of sink of the declared Notifications."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The inputs of the statuses of one pass."""

    live: ActiveRevision
    results: Mapping[ResourceId, ReconcileResult]
    secrets: Mapping[ResourceId, ReconcilerError]
    """Secret resources whose value is missing."""
    next_at: Mapping[ResourceId, float] = field(default_factory=dict)
    """When each integration is reconciled next (seconds since the epoch)."""
    outside: EventStatus = field(default_factory=EventStatus)


@dataclass(slots=True)
class View:
    """The newest results of this process, which the status file shows."""

    results: dict[ResourceId, ReconcileResult] = field(default_factory=dict)
    statuses: Mapping[ResourceId, ResourceStatus] = field(default_factory=dict)
    """Replaced by every pass."""
    secrets: dict[ResourceId, ReconcilerError] = field(default_factory=dict)
    next_at: dict[ResourceId, float] = field(default_factory=dict)
    passed_at: float = 0.0
    outside: EventStatus = field(default_factory=EventStatus)
