"""What an engine knows from moment to moment: the source's revisions, and the newest findings of each integration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.engine.conditions import ConditionCause
from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.model.resources import ResourceId
from reconciler.model.status import ConditionStatus, ResourceStatus
from reconciler.source.base import Revision


class Busy(StateError):
    """Another process works on it: nothing was done here, and nothing has to be."""

    code = "RC7006"


@dataclass(slots=True)
class SourceState:
    """What is known of the source: the four revisions of the status file, and the last error."""

    fetched: Revision | None = None
    fetched_at: float = 0.0
    valid: str = ""
    applied: str = ""
    attempted: str = ""
    error: ReconcilerError | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventStatus:
    """What is known of sources and stages beside the reconciling itself; empty where no events are taken in."""

    delivering: Mapping[ResourceId, tuple[ConditionStatus, ConditionCause]] = field(default_factory=dict)
    stalled: Mapping[ResourceId, ConditionCause] = field(default_factory=dict)
    """Stages that cannot run, and why."""
    suspended: Mapping[ResourceId, str] = field(default_factory=dict)
    """Sources without an integration, stages and groups that are suspended, with the reason."""
    stages: tuple[Mapping[str, Any], ...] = ()
    """Rows of ``stages[]`` in the status file."""
    pending: int = 0
    """Events that nobody has looked at yet."""
    schedules: tuple[Mapping[str, Any], ...] = ()
    """Rows of ``schedules[]`` in the status file."""
    failed: int = 0
    """Events that led to nothing because of a mistake in a filter or mapping."""
    quarantined: int = 0
    """Events that are put aside, since evaluating them took the process down or too much time or memory."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the statuses of one pass are made of."""

    live: ActiveRevision
    results: Mapping[ResourceId, ReconcileResult]
    secrets: Mapping[ResourceId, ReconcilerError]
    """Secret resources whose value is missing."""
    next_at: Mapping[ResourceId, float] = field(default_factory=dict)
    """When each integration is looked at again (seconds since the epoch)."""
    outside: EventStatus = field(default_factory=EventStatus)


@dataclass(slots=True)
class View:
    """The newest findings of this process: what the status file shows."""

    results: dict[ResourceId, ReconcileResult] = field(default_factory=dict)
    statuses: Mapping[ResourceId, ResourceStatus] = field(default_factory=dict)
    """Replaced as a whole by every pass."""
    secrets: dict[ResourceId, ReconcilerError] = field(default_factory=dict)
    next_at: dict[ResourceId, float] = field(default_factory=dict)
    passed_at: float = 0.0
    outside: EventStatus = field(default_factory=EventStatus)
