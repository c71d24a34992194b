"""Stages at work: what waits, what runs, what became of it, and what is written back."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.resources import ResourceId
from reconciler.model.values import JsonObject, too_deep

UNSETTABLE_HEADERS = frozenset({
    "idempotency-key", "x-reconciler-execution", "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te",
    "trailer", "upgrade", "expect", "accept-encoding",
})  # fmt: skip
"""Headers that the spec of an HTTP request cannot set: the execution's id, and those that say how a message is framed
(RFC 9110 §7.6.1)."""


class ItemState(enum.StrEnum):
    """Where an item of a stage's queue is."""

    QUEUED = "queued"  # waits: for a free place, an approval, a time window (`Item.reason` says what for)
    RUNNING = "running"  # has an execution
    DONE = "done"
    DISCARDED = "discarded"


class ExecutionState(enum.StrEnum):
    """Where an execution is."""

    STARTING = "starting"  # the intent is stored; the call may or may not have been made
    RUNNING = "running"  # the run outside is known
    FINISHED = "finished"


class Result(enum.StrEnum):
    """How an execution ended."""

    PASSED = "passed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EndReason(enum.StrEnum):
    """Why an execution ended as it did."""

    OK = "ok"
    FAILED = "failed"  # the run outside did
    REFUSED = "refused"  # the provider did not take it
    ERROR = "error"  # it could not be started: a secret, a template
    MISSING_OUTPUTS = "missing-outputs"
    TIMED_OUT = "timed-out"
    USER = "user"
    LOST = "lost"  # the run vanished, or whether there is one cannot be told


@dataclass(frozen=True, slots=True)
class Item:
    """An event that waits in a stage's queue. Everything in it was fixed when it was queued."""

    id: str
    stage: ResourceId
    event_id: str
    connection: str
    """Name of the connection it came by."""
    state: ItemState
    created_at: float
    revision: str
    """The commit that was live when it was queued."""
    spec_digest: str
    """Digest of the stage's pinned spec (see `reconciler.state`): what runs, whatever is committed later."""
    label: str = ""
    inputs: JsonObject = field(default_factory=dict)
    event: JsonObject = field(default_factory=dict)
    """The parts of the payload that templates name; nothing else of it."""
    origin: JsonObject = field(default_factory=dict)
    """Where it all began: ``integration`` (path), ``repository``, ``sha``, ``ref``, ``deployment``, ``automatic``; handed on from
    stage to stage, so that results can be written back."""
    reason: str = ""
    """What it waits for, or why it was discarded: ``approval``, ``time-window``, ``concurrency``, ``suspended``, ``superseded`` …"""
    message: str = ""
    rerun_of: str = ""
    """Execution that it repeats."""
    attempt: int = 1
    """Counts further tries after a failure (`spec.retry`)."""
    not_before: float = 0.0
    failure: str = ""
    """How the try before this one ended."""
    resource: str = ""
    """What is run, where ``executor.resource.name`` is made of the event; empty where the manifest fixes it."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's approval of one item."""

    item_id: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run outside: what `Executor.start` and `Executor.find` return, and `Executor.poll` wants back."""

    external_id: str
    url: str = ""
    attempt: int = 1
    detail: JsonObject = field(default_factory=dict)
    """What the driver needs to know of it besides (a pipeline's id); JSON, small, no secret."""


class RunStatus(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # for a person or a gate at the provider: not a hang
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run is like now, as its provider says."""

    run: Run
    status: RunStatus
    result: Result | None = None
    """Set exactly when ``status`` is finished."""
    conclusion: str = ""
    """The provider's own word."""
    message: str = ""
    outputs: JsonObject = field(default_factory=dict)
    """What the run hands on, where the provider has a place for it; complete once it is finished."""


@dataclass(frozen=True, slots=True)
class RunIntent:
    """A run that is about to be started; committed before the call.

    ``correlation`` travels inside the run, so that it is found again: 32 characters of ``[a-z0-9-]``, unique to the execution.
    """

    execution_id: str
    correlation: str
    type: str
    """``executor.type``."""
    resource: str
    """``executor.resource.name``; empty where the executor has none."""
    spec: JsonObject
    """``executor.spec`` in canonical form, all templates replaced: may hold secret values, is never stored."""
    intended_at: float
    """When the intent was stored (seconds since the epoch), by the provider's clock as far as that is known."""
    tries: int = 0
    """How often the start was refused before, surely without an effect."""
    resource_id: int = 0
    """``executor.resource.id``, where it is given in place of a name."""


@dataclass(frozen=True, slots=True)
class LogLines:
    """A piece of a run's log. ``cursor`` continues after it; ``complete`` when there will be no more."""

    lines: tuple[str, ...]
    cursor: str
    complete: bool


@dataclass(frozen=True, slots=True)
class Later:
    """An attempt of the same run that somebody started at the provider after its execution had ended, once it ended too.

    It is shown, and changes nothing: the execution's result stands, nothing is reported or started by it.
    """

    attempt: int
    result: Result
    conclusion: str
    url: str
    at: float
    """When it was seen to have ended."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One try to run an item."""

    id: str
    item_id: str
    stage: ResourceId
    state: ExecutionState
    created_at: float
    spec_digest: str
    revision: str
    integration: str = ""
    """Path of the Integration that its executor works with; empty where it needs none."""
    version: int = 0
    """Raised by every write: one under an older version changes nothing."""
    label: str = ""
    resource: str = ""
    """That of the item."""
    correlation: str = ""
    started_at: float = 0.0
    """When the start was intended first: what the timeout counts from."""
    intended_at: float = 0.0
    """When the newest start was intended."""
    ahead_s: float | None = None
    """How far the provider's clock was ahead then; None: that was not known."""
    finished_at: float = 0.0
    next_at: float = 0.0
    """When it is looked at next."""
    failures: int = 0
    """Polls that failed in a row."""
    run: Run | None = None
    status: str = ""
    result: Result | None = None
    why: EndReason | None = None
    message: str = ""
    cancel_at: float = 0.0
    """When its end was asked for; 0: not."""
    cancel_by: str = ""
    cancelled: bool = False
    """Whether the provider took the request to end it."""
    timed_out: bool = False
    resent: bool = False
    """Whether the start was repeated after it was proved that no run exists."""
    later: Later | None = None


class ReportKind(enum.StrEnum):
    DEPLOYMENT = "deployment"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A status to write back. ``state`` is the target's own word: ``queued``, ``in_progress``, ``success`` … on a Deployment,
    ``pending``, ``success``, ``failure``, ``error`` on a commit.
    """

    kind: ReportKind
    repository: str
    """``owner/name``."""
    target: str
    """The Deployment's id, or the commit's sha."""
    state: str
    description: str
    """At most 140 characters; ends with ``marker``, which is how a status of ours is found again."""
    marker: str
    context: str = ""
    environment_url: str = ""
    log_url: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """A Deployment to make; ``marker`` and ``through`` go into its payload: the one to find it again, the other to end circles.

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


def outputs_of(declared: Mapping[str, bool], given: JsonObject) -> tuple[dict[str, object], list[str]]:
    """Return the declared outputs among ``given``, and the required ones that are missing. ``declared``: name → required.

    One that is nested too deep to be handed on is missing.
    """
    kept = {name: given[name] for name in declared if name in given and not too_deep(given[name])}
    return kept, sorted(name for name, required in declared.items() if required and name not in kept)
