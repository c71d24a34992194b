"""Stages: queued items, executions, their results, and the statuses written back."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.resources import ResourceId
from reconciler.model.values import JsonObject, too_deep

UNSETTABLE_HEADERS = frozenset({
    "idempotency-key", "x-reconciler-execution", "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te",
    "trailer", "upgrade", "expect", "accept-encoding",
})  # fmt: skip
"""Headers that the spec of an HTTP request cannot set: the execution's id, and those that frame a message (RFC 9110 §7.6.1)."""


class ItemState(enum.StrEnum):
    """Where an item of a stage's queue is."""

    QUEUED = "queued"  # waits for a free slot, an approval or a time window (`Item.reason`)
    RUNNING = "running"  # has an execution
    DONE = "done"
    DISCARDED = "discarded"


class ExecutionState(enum.StrEnum):
    """Where an execution is."""

    STARTING = "starting"  # the intent is stored; the call has an unknown outcome
    RUNNING = "running"  # the run at the provider is known
    FINISHED = "finished"


class Result(enum.StrEnum):
    """How an execution ended."""

    PASSED = "passed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EndReason(enum.StrEnum):
    """Why an execution ended as it did."""

    OK = "ok"
    FAILED = "failed"  # the run failed
    REFUSED = "refused"  # the provider refused the start
    ERROR = "error"  # it could not be started: a secret, a template
    MISSING_OUTPUTS = "missing-outputs"
    TIMED_OUT = "timed-out"
    USER = "user"
    LOST = "lost"  # the run vanished, or it is unknown whether one exists


@dataclass(frozen=True, slots=True)
class Item:
    """An event in a stage's queue. Its content was fixed when it was queued."""

    id: str
    stage: ResourceId
    event_id: str
    connection: str
    """Name of the connection it came by."""
    state: ItemState
    created_at: float
    revision: str
    """The active revision when it was queued."""
    spec_digest: str
    """Digest of the stage's pinned spec (see `reconciler.state`): later commits do not change what runs."""
    label: str = ""
    inputs: JsonObject = field(default_factory=dict)
    event: JsonObject = field(default_factory=dict)
    """The parts of the payload that templates use, and no others."""
    origin: JsonObject = field(default_factory=dict)
    """The first cause: ``integration`` (path), ``repository``, ``sha``, ``ref``, ``deployment``, ``automatic``; passed from
    stage to stage, so that results can be written back."""
    reason: str = ""
    """Why it waits, or why it was discarded: ``approval``, ``time-window``, ``concurrency``, ``suspended``, ``superseded`` …"""
    message: str = ""
    rerun_of: str = ""
    """The execution that it repeats."""
    attempt: int = 1
    """Number of the attempt; more than 1 after a retry (`spec.retry`)."""
    not_before: float = 0.0
    failure: str = ""
    """How the previous attempt ended."""
    resource: str = ""
    """``executor.resource.name`` after templates; empty where the manifest fixes it."""
    trace: str = ""
    """``traceparent`` of the span of its event; empty if it was queued without tracing."""
    queued_at: float = 0.0
    """When it was queued for a further attempt; 0 for the first one."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an event led to at one stage: an item, and its newest execution with its result (empty while there is none)."""

    event_id: str
    item_id: str
    stage: ResourceId
    state: ItemState
    execution_id: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's approval of one item."""

    item_id: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run at a provider: `Executor.start` and `Executor.find` return it, `Executor.poll` takes it."""

    external_id: str
    url: str = ""
    attempt: int = 1
    detail: JsonObject = field(default_factory=dict)
    """Further data of the driver (a pipeline's id); small JSON without secrets."""


class RunStatus(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # for a person or a gate at the provider; it does not hang
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class RunReport:
    """The state of a run, as its provider reports it."""

    run: Run
    status: RunStatus
    result: Result | None = None
    """Set exactly when ``status`` is finished."""
    conclusion: str = ""
    """The provider's term."""
    message: str = ""
    outputs: JsonObject = field(default_factory=dict)
    """The outputs of the run, where the provider can hold them; complete once it is finished."""


@dataclass(frozen=True, slots=True)
class RunIntent:
    """A run to start; committed before the call.

    ``correlation`` is part of the run, so that the run can be found: 32 characters of ``[a-z0-9-]``, unique to the execution.
    """

    execution_id: str
    correlation: str
    type: str
    """``executor.type``."""
    resource: str
    """``executor.resource.name``; empty where the executor has none."""
    spec: JsonObject
    """``executor.spec`` in canonical form, all templates replaced: may contain secret values, is never stored."""
    intended_at: float
    """When the intent was stored (seconds since the epoch), by the provider's clock if its offset is known."""
    tries: int = 0
    """How many earlier starts were refused without an effect."""
    resource_id: int = 0
    """``executor.resource.id``, if the manifest gives an id instead of a name."""


@dataclass(frozen=True, slots=True)
class LogLines:
    """A part of a run's log. ``cursor`` continues after it; ``complete``: there are no further lines."""

    lines: tuple[str, ...]
    cursor: str
    complete: bool


@dataclass(frozen=True, slots=True)
class Later:
    """A finished attempt of the same run that was started at the provider after the execution had finished.

    It is shown only: the execution's result stays, and nothing is reported or started.
    """

    attempt: int
    result: Result
    conclusion: str
    url: str
    at: float
    """When its end was observed."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt to run an item."""

    id: str
    item_id: str
    stage: ResourceId
    state: ExecutionState
    created_at: float
    spec_digest: str
    revision: str
    integration: str = ""
    """Path of the Integration of its executor; empty if it needs none."""
    version: int = 0
    """Incremented by every write; a write with an older version is refused."""
    label: str = ""
    resource: str = ""
    """The item's ``resource``."""
    correlation: str = ""
    started_at: float = 0.0
    """When the first start was intended; the timeout counts from here."""
    intended_at: float = 0.0
    """When the newest start was intended."""
    ahead_s: float | None = None
    """How far the provider's clock was ahead then, in seconds; None if unknown."""
    finished_at: float = 0.0
    next_at: float = 0.0
    """When it is due next."""
    failures: int = 0
    """Consecutive failed polls."""
    run: Run | None = None
    status: str = ""
    result: Result | None = None
    why: EndReason | None = None
    message: str = ""
    cancel_at: float = 0.0
    """When its cancellation was requested; 0: never."""
    cancel_by: str = ""
    cancelled: bool = False
    """Whether the provider accepted the cancellation."""
    timed_out: bool = False
    resent: bool = False
    """Whether the start was repeated after proof that no run exists."""
    later: Later | None = None


class ReportKind(enum.StrEnum):
    DEPLOYMENT = "deployment"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A status to write back. ``state`` is the target's own term: ``queued``, ``in_progress``, ``success`` … on a Deployment,
    ``pending``, ``success``, ``failure``, ``error`` on a commit.
    """

    kind: ReportKind
    repository: str
    """``owner/name``."""
    target: str
    """The Deployment's id, or the commit's sha."""
    state: str
    description: str
    """At most 140 characters; ends with ``marker``, by which our own status is found."""
    marker: str
    context: str = ""
    environment_url: str = ""
    log_url: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """A Deployment to create. Its payload contains ``marker``, to find it, and ``through``, to detect circles.

    ``through``: the stages that led to it, as ``Stage/canvas/name``.
    """

    repository: str
    ref: str
    environment: str
    marker: str
    task: str = "deploy"
    description: str = ""
    transient: bool = False
    production: bool | None = None
    through: tuple[str, ...] = ()


def as_lost(execution: Execution, message: str, at: float) -> Execution:
    """Return ``execution``, ended at ``at`` (epoch seconds) because its outcome will not be known."""
    return dataclasses.replace(
        execution,
        state=ExecutionState.FINISHED,
        result=Result.FAILED,
        why=EndReason.LOST,
        message=message,
        finished_at=at,
        next_at=0.0,
    )


def outputs_of(declared: Mapping[str, bool], given: JsonObject) -> tuple[dict[str, object], list[str]]:
    """Return the declared outputs among ``given``, and the missing required ones. ``declared``: name → required.

    An output that is nested too deeply counts as missing.
    """
    kept = {name: given[name] for name in declared if name in given and not too_deep(given[name])}
    return kept, sorted(name for name, required in declared.items() if required and name not in kept)
