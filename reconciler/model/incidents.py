"""Incidents: what a Notification sends messages about, from its start to its end. Values only; see `reconciler.engine.incidents`."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from reconciler.model.resources import ResourceId

MEMBERS = 20
"""Resources that an incident lists by name; it counts the others."""
TEXT = 600
"""Characters of a message of a condition that an incident keeps."""
TITLE = 200


class Topic(enum.StrEnum):
    """The values of ``spec.on``."""

    SYNC_FAILED = "sync-failed"
    DRIFT = "drift"
    REPAIRED = "repaired"
    PLAN_BLOCKED = "plan-blocked"
    CREDENTIAL_EXPIRING = "credential-expiring"
    CREDENTIAL_INVALID = "credential-invalid"
    DELIVERY_FAILING = "delivery-failing"
    STAGE_FAILED = "stage-failed"
    STAGE_FINISHED = "stage-finished"
    APPROVAL_NEEDED = "approval-needed"


DEFAULT_TOPICS = tuple(topic for topic in Topic if topic not in {Topic.REPAIRED, Topic.STAGE_FINISHED})


class IncidentSeverity(enum.StrEnum):
    """How grave an incident is, the least first."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """A number that grows with the severity."""
        return list(IncidentSeverity).index(self)


class NoticePhase(enum.StrEnum):
    """What a message reports of an incident."""

    START = "start"
    UPDATE = "update"
    FLAPPING = "flapping"
    """It started and ended so often that further edges are not reported until it is stable."""
    END = "end"
    RELEASE = "release"
    """It may last, but it is not reported there any more: the Notification was removed, or its filter or its sink changed."""
    TEST = "test"
    """A person asked for a message."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One condition of one resource that an incident may consist of.

    Signals with the same ``key`` have one cause and are one incident. ``topics``: what it counts as; a Notification uses the first
    that its ``spec.on`` names.
    """

    topics: tuple[Topic, ...]
    resource: str
    """Path of the resource, or of the Integration that is the cause."""
    key: str
    severity: IncidentSeverity
    title: str
    reason: str
    message: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An event that is stored together with the change that it reports: the end of an execution, a repair."""

    topic: Topic
    resource: str
    key: str
    severity: IncidentSeverity
    title: str
    message: str = ""
    url: str = ""
    at: float = 0.0
    ends: bool = False
    """It ends the incident ``key`` and starts none."""
    instant: bool = False
    """The incident ends as it starts."""
    trace: str = ""
    """``traceparent`` of the execution that it reports; empty without tracing."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident of one Notification, with the newest facts. Times are seconds since the epoch."""

    id: str
    notification: str
    """Path of the Notification."""
    key: str
    topic: Topic
    severity: IncidentSeverity
    title: str
    reason: str
    message: str = ""
    url: str = ""
    members: tuple[str, ...] = ()
    """The first `MEMBERS` resources, by path."""
    count: int = 1
    opened_at: float = 0.0
    closed_at: float = 0.0
    """0 while it lasts."""
    changed_at: float = 0.0
    edges: tuple[float, ...] = ()
    """Times of its newest starts and ends."""
    flapping: bool = False
    occurred: bool = False
    """It consists of occurrences: another occurrence ends it, and no condition."""
    sink: str = ""
    """`destination_of` the Notification when it started."""
    released: str = ""
    """Why it is not reported any more although it may last; empty otherwise."""
    digest: str = ""
    """Of what a change is reported for; without texts that change by themselves."""
    unreported: bool = False
    """It started while its Notification was suspended."""
    trace: str = ""
    """That of its occurrence."""

    @property
    def open(self) -> bool:
        """Whether it lasts."""
        return not self.closed_at


@dataclass(frozen=True, slots=True)
class SinkUse:
    """Where an incident was reported: enough to end it there when the manifests do not say it any more. It holds no value of a Secret."""

    destination: str
    resource: str
    """The Notification as JSON (`reconciler.model.codec.resource_to_json`)."""
    secrets: tuple[str, ...] = ()
    """The Secrets that it refers to, likewise."""
    target: dict[str, str] = field(default_factory=dict)
    """What the sink returned for the incident's first message: where to edit it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message that waits in the outbox. ``seq`` orders the messages of all sinks."""

    seq: int
    phase: NoticePhase
    incident: Incident
    version: int = 1
    """Raised when a newer update replaces it before it was sent."""
    failures: int = 0
    failed_at: float = 0.0
    """When the first of the failures in a row was."""
    attempted_at: float = 0.0
    """When it was sent without a known outcome; 0 if it was not."""
    refresh: bool = False
    """The incident was reported, and is reported again before the sink forgets it."""
    error: str = ""
    """Of the newest attempt, if it failed."""
    unsent: str = ""
    """Why it is done without being sent: ``skipped``, or ``abandoned`` (it is tried again only if the sink changes)."""
    sent_with: SinkUse | None = None
    """Where its incident was reported so far; None if nowhere yet."""


@dataclass(frozen=True, slots=True)
class WaitingNotices:
    """What waits in the outbox for one Notification."""

    count: int = 0
    since: float = 0.0
    """When the incident of the oldest one changed."""
    due_at: float = 0.0
    """When the next one is sent."""


@dataclass(frozen=True, slots=True)
class IncidentChange:
    """The result of comparing an incident with the present signals."""

    incident: Incident
    phases: tuple[NoticePhase, ...] = ()
    """Messages to send."""
    delay_s: float = 0.0
    """How long the messages wait for further changes."""
    suppressed: str = ""
    """Why an edge is not reported; empty if it is, or if there is none."""


@dataclass(frozen=True, slots=True)
class SinkRecord:
    """What is known of the messages of one Notification."""

    sent: int = 0
    suppressed: int = 0
    why: str = ""
    """Why the newest one was suppressed."""
    abandoned: int = 0
    error: str = ""
    """Of the newest failure in a row; empty after a success."""
    code: str = ""
    failed_at: float = 0.0
    sent_at: float = 0.0
    failures: int = 0
    """Attempts that failed since the last success."""
    former: str = ""
    """The newest error of a former sink, which still shows an incident; empty if there is none."""


def shown(path: str) -> str:
    """Return a resource path as users type it."""
    return str(ResourceId.from_path(path)) if path.count("/") == 2 else path


__all__ = [
    "DEFAULT_TOPICS",
    "MEMBERS",
    "TEXT",
    "TITLE",
    "Incident",
    "IncidentChange",
    "IncidentSeverity",
    "Notice",
    "NoticePhase",
    "Occurrence",
    "Signal",
    "SinkRecord",
    "SinkUse",
    "Topic",
    "WaitingNotices",
    "shown",
]
