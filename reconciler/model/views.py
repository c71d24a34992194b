"""Answers of the daemon about events, items and executions, as the commands read them. `reconciler.stages.views` and
`reconciler.events` write them, `reconciler.server.api.answers` documents them; a test compares the three.

A struct names the fields that a command reads, in the form of the JSON: texts are empty and times are RFC 3339.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class JsonView(msgspec.Struct, frozen=True, rename="camel"):
    """A JSON object with camelCase names; unknown fields are ignored."""


class OriginView(JsonView, frozen=True):
    """Where an event came from. All texts are one line, and untrusted."""

    type: str
    source: str
    sender: str
    author: str
    message: str
    repository: str
    ref: str
    deleted_ref: str
    commit: str
    commit_url: str
    deployment: str
    environment: str


class ApprovalView(JsonView, frozen=True):
    by: str
    at: str


class ItemView(JsonView, frozen=True):
    """A queued item. ``reason`` and ``message`` say what it waits for."""

    id: str
    stage: str
    state: str
    reason: str
    message: str
    label: str
    event: str
    origin: OriginView
    connection: str
    revision: str
    inputs: Mapping[str, object]
    attempt: int
    created_at: str
    not_before: str
    rerun_of: str
    digest: str
    approvals: tuple[ApprovalView, ...]


class LaterView(JsonView, frozen=True):
    """A later attempt of a run, started at the provider after its execution had ended."""

    attempt: int
    result: str
    status: str
    url: str
    seen_at: str


class ExecutionView(JsonView, frozen=True, omit_defaults=True):
    """An execution. ``outputs`` and ``origin`` are None where the answer does not show them."""

    id: str
    item: str
    stage: str
    label: str
    state: str
    status: str
    result: str
    reason: str
    message: str
    revision: str
    created_at: str
    started_at: str
    finished_at: str
    cancel_requested_by: str
    external_id: str
    url: str
    run_attempt: int
    later: LaterView | None = None
    origin: OriginView | None = None
    outputs: Mapping[str, object] | None = None


class RunsView(JsonView, frozen=True):
    """What an item runs. All fields are empty if the stage is not known any more."""

    type: str = ""
    integration: str = ""
    resource: str = ""
    spec: Mapping[str, object] = {}


class PreviousView(JsonView, frozen=True):
    """The execution of the stage before this one."""

    id: str
    label: str
    result: str
    finished_at: str
    url: str
    origin: OriginView


class ReportView(JsonView, frozen=True):
    """A status that is written back to a provider. ``state`` is ``none`` if there is no target; ``error`` gives the reason."""

    kind: str
    state: str
    repository: str
    target: str
    written_at: str
    error: str


class RejectionView(JsonView, frozen=True):
    target: str
    reason: str
    message: str


class EffectView(JsonView, frozen=True):
    """What an event led to at one stage. ``execution`` and ``result`` are empty while there is none."""

    stage: str
    item: str
    state: str
    execution: str
    result: str


class EventView(JsonView, frozen=True):
    id: str
    source: str
    type: str
    delivery_id: str
    origin: str
    state: str
    reason: str
    message: str
    received_at: str
    occurred_at: str
    rejected_by: tuple[RejectionView, ...]
    effects: tuple[EffectView, ...] = ()


class UnreportedView(JsonView, frozen=True):
    """A report that a stage declares, and that has no target."""

    item: str
    kind: str
    reason: str


class SweptView(JsonView, frozen=True):
    """The deliveries of one source that a recovery handled."""

    source: str
    missed: int
    redelivered: int
    recovered: int
    failed: int
    error: str


# -- answers ------------------------------------------------------------------------------------------------------------


class EventList(JsonView, frozen=True):
    events: tuple[EventView, ...]
    next: str


class EventDetail(EventView, frozen=True, kw_only=True):
    payload: object
    items: tuple[ItemView, ...]
    unreported: tuple[UnreportedView, ...]


class ExecutionList(JsonView, frozen=True):
    queued: tuple[ItemView, ...]
    executions: tuple[ExecutionView, ...]
    next: str


class ExecutionDetail(JsonView, frozen=True):
    """An item with everything that belongs to it; ``executions`` oldest first."""

    item: ItemView
    runs: RunsView
    previous: PreviousView | None
    executions: tuple[ExecutionView, ...]
    reports: tuple[ReportView, ...]
    execution: ExecutionView | None = None


class LogView(JsonView, frozen=True):
    """A piece of a log; ``cursor`` continues after it."""

    lines: tuple[str, ...]
    cursor: str
    complete: bool


class TriggeredEvent(JsonView, frozen=True):
    event: str
    new: bool


class ApprovedItem(JsonView, frozen=True):
    item: str
    approvals: tuple[str, ...]


class ApprovedPlan(JsonView, frozen=True):
    integration: str


class NotifiedSink(JsonView, frozen=True):
    """``sink``: its key in the manifest."""

    notification: str
    sink: str


class ReviewedPull(JsonView, frozen=True):
    """The verdict on a pull request; ``digest`` is that of its blocked changes."""

    number: int
    head: str
    conclusion: str
    outcome: str
    url: str = ""
    digest: str = ""


class Cancelled(JsonView, frozen=True):
    """``item`` for an item that was discarded, ``execution`` for an execution that is being cancelled."""

    state: str
    item: str = ""
    execution: str = ""


class QueuedItem(JsonView, frozen=True):
    item: str
    new: bool


class ReplayedEvent(JsonView, frozen=True):
    event: str


class SweptList(JsonView, frozen=True):
    sources: tuple[SweptView, ...]


class SuspendedResource(JsonView, frozen=True):
    resource: str
    until: str


class ResumedResource(JsonView, frozen=True):
    resource: str


class ReconciledResource(JsonView, frozen=True):
    resource: str
    ready: str = "Unknown"
    reason: str = ""
    message: str = ""


class ForgottenResource(JsonView, frozen=True):
    """``objects``: addresses."""

    resource: str
    objects: tuple[str, ...]


class AdoptedObject(JsonView, frozen=True):
    address: str
    external_id: str


class AdoptedResource(JsonView, frozen=True):
    resource: str
    objects: tuple[AdoptedObject, ...]


class IssuerDocuments(JsonView, frozen=True):
    """The public documents of the issuer, as texts by path below its URL. ``keys``: the ids of the published keys."""

    issuer: str
    files: Mapping[str, str]
    keys: tuple[str, ...]


class RotatedKey(JsonView, frozen=True):
    """``elsewhere``: whether the documents have to be exported and published again."""

    kid: str
    signs_from: str
    elsewhere: bool


class ShownToken(JsonView, frozen=True):
    """``token`` is empty unless it was requested."""

    claims: Mapping[str, object]
    token: str
