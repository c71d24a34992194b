"""What an engine knows from moment to moment: the source's revisions, and the newest findings of each integration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.statuses import EventStatus
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.model.resources import ResourceId
from reconciler.model.status import ResourceStatus
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
