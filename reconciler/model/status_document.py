"""The status document (``StatusReport``) as the commands read it. `reconciler.engine.statusfile` writes it; a test compares the two.

A field that older versions did not write has a default.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from reconciler.model.views import ExecutionView, JsonView


class DaemonRow(JsonView, frozen=True):
    """The process that wrote the file. ``phase``: once, starting, running, draining or stopped."""

    version: str
    pid: int
    started_at: str
    heartbeat_at: str
    phase: str


class ErrorRow(JsonView, frozen=True):
    code: str
    message: str
    hint: str = ""


class SourceProblem(JsonView, frozen=True):
    location: str
    code: str
    message: str
    severity: str = "error"


class SourceRow(JsonView, frozen=True):
    """The source and its revisions (``main@sha1:…``); a revision is empty until there is one."""

    url: str = ""
    branch: str = ""
    path: str = ""
    last_fetched: str = ""
    last_fetched_at: str = ""
    last_valid: str = ""
    last_applied: str = ""
    last_attempted: str = ""
    error: ErrorRow | None = None
    problems: tuple[SourceProblem, ...] = ()
    notices: tuple[str, ...] = ()


class EventCounts(JsonView, frozen=True):
    pending: int = 0
    failed: int = 0
    quarantined: int = 0


class Summary(JsonView, frozen=True):
    """The number of resources in each state."""

    total: int = 0
    ready: int = 0
    progressing: int = 0
    stalled: int = 0
    drifted: int = 0
    suspended: int = 0
    blocked: int = 0


class BlockedChange(JsonView, frozen=True):
    address: str
    action: str
    reason: str
    message: str


class BlockedRow(JsonView, frozen=True):
    """The blocked changes of a plan. ``approve`` is the command that approves them."""

    sha256: str
    approve: str
    changes: tuple[BlockedChange, ...]


class PlanRow(JsonView, frozen=True):
    integration: str
    sha256: str
    changes: int
    blocked: BlockedRow | None


class RateRow(JsonView, frozen=True):
    limit: int | float | None
    remaining: int | float | None
    reset_at: str | None


class CredentialRow(JsonView, frozen=True):
    """Five answers for one credential. ``unknown``: question → why the provider does not answer it; ``valid`` is null then."""

    name: str
    valid: bool | None
    identity: str
    expires_at: str
    missing: tuple[str, ...]
    rate: RateRow
    granted: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    unknown: Mapping[str, str] = {}
    message: str = ""
    dependents: tuple[str, ...] = ()
    """What stops with it: manifests, stages, and objects at the provider."""


class ConditionRow(JsonView, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class DriftRow(msgspec.Struct, frozen=True, rename={"cls": "class"}):
    path: str
    cls: str
    address: str = ""


class ObjectRow(JsonView, frozen=True):
    address: str
    external_id: str
    url: str = ""


class ResourceRow(JsonView, frozen=True):
    """One resource. The first condition is Ready."""

    kind: str
    canvas: str
    name: str
    file: str
    line: int
    generation: int
    observed_generation: int
    deleting: bool
    objects: tuple[ObjectRow, ...]
    drift: tuple[DriftRow, ...]
    last_changed_at: str
    next_reconcile_at: str
    attempts: int
    history: tuple[object, ...]
    conditions: tuple[ConditionRow, ...]

    @property
    def ready(self) -> ConditionRow:
        """The condition Ready."""
        return self.conditions[0]


class StageRow(JsonView, frozen=True):
    name: str
    canvas: str
    queue: int
    running: int
    concurrency: int
    last: ExecutionView | None


class ScheduleRow(JsonView, frozen=True):
    """``next_at`` is empty if the schedule does not fire. ``suspended`` is the reason, or empty."""

    name: str
    canvas: str
    next_at: str
    suspended: str


class StatusDocument(JsonView, frozen=True, kw_only=True, tag_field="kind", tag="StatusReport"):
    api_version: str = "v1"
    daemon: DaemonRow
    source: SourceRow
    events: EventCounts = EventCounts()
    summary: Summary = Summary()
    plans: tuple[PlanRow, ...] = ()
    credentials: tuple[CredentialRow, ...] = ()
    resources: tuple[ResourceRow, ...]
    stages: tuple[StageRow, ...] = ()
    schedules: tuple[ScheduleRow, ...] = ()
