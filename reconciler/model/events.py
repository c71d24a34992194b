"""Events: deliveries, their verification, and their processing."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.resources import ResourceId
from reconciler.model.values import JsonObject


class Refusal(enum.StrEnum):
    """Why a delivery is not authentic. Shown in the log and the metrics, never to the sender."""

    UNSIGNED = "unsigned"  # a key is set and the delivery has no signature: verification is never skipped
    WRONG = "wrong-signature"
    STALE = "stale"  # a signed timestamp outside the tolerance
    UNKNOWN = "unknown-endpoint"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A delivery that is not authentic."""

    reason: Refusal
    detail: str = ""
    """For the log; never a part of the body or of a header's value."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An authentic delivery; it is stored before it is answered."""

    id: str
    """The sender's id of the event: the same over its retries and redeliveries. At most 200 characters."""
    type: str
    """The event as the provider names it: ``push``, ``pipeline_done``, ``EXECUTION_FINISHED``."""
    body: bytes
    """The payload, a JSON document; without the sender's secret."""
    identity: str = ""
    """Identifies the occurrence, where the sender can report one occurrence under two ids (a webhook and a poll, a replayed body):
    two deliveries to one source with equal identities have one effect. Empty: the id alone counts."""
    occurred_at: float | None = None
    """When it happened according to the payload (seconds since the epoch)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The headers that filters may use, names in lower case; no signature, no credential."""
    key: int = 0
    """Index of the key that verified it; 0 is the active one."""
    problem: str = ""
    """Why a signed payload cannot be read: the event is stored as rejected."""
    also: tuple[str, ...] = ()
    """Further names of the event, where the sender has several for one occurrence and the payload does not name one
    (a run that failed may be both ``EXECUTION_FINISHED`` and ``EXECUTION_FAILED``). The first of ``type`` and these that the
    source asks for is the event's type; it remains one event."""
    digest: str = ""
    """SHA-256 (hex) of the part of the payload that is the same in every copy of the event; empty: that of ``body``."""
    trace: str = ""
    """``traceparent`` that its sender names; empty if that is of no interest."""


class Origin(enum.StrEnum):
    """How an event arrived."""

    DELIVERED = "delivered"  # the sender's own request
    RECOVERED = "recovered"  # read from the provider's list of deliveries, since the delivery was missed
    POLLED = "polled"  # made from the provider's objects, where it keeps no deliveries
    SCHEDULED = "scheduled"
    MANUAL = "manual"
    INTERNAL = "internal"  # a stage that finished, a connection group that is complete


NOT_ROUTED = frozenset({"ping", "meta"})
"""Events of a sender about its own webhook: stored, never routed."""


class EventState(enum.StrEnum):
    PENDING = "pending"  # stored, not processed yet
    PROCESSED = "processed"  # routed to every stage and group that accepts it
    REJECTED = "rejected"  # never routed: unreadable, too old, filtered by its source
    FAILED = "failed"  # no effect, since a filter, mapping or groupBy could not be evaluated
    QUARANTINED = "quarantined"  # its evaluation crashed the process, or exceeded the limits of time or memory


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the inbox. ``id`` sorts by arrival."""

    id: str
    source: ResourceId
    delivery_id: str
    type: str
    origin: Origin
    state: EventState
    received_at: float
    occurred_at: float | None = None
    identity: str = ""
    body_digest: str = ""
    also: tuple[str, ...] = ()
    """Narrower names of the same event (see `Delivery.also`)."""
    reason: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    trace: str = ""
    """``traceparent`` of what led to it: the execution of a stage, or what its sender names. Empty without tracing."""
    links: tuple[str, ...] = ()
    """``traceparent`` of the other events of a group's set."""
    replays: int = 0
    """How often it was made pending again."""


@dataclass(frozen=True, slots=True)
class RejectedBy:
    """A stage or group that did not get an event, and why."""

    event_id: str
    target: ResourceId
    reason: str  # "filtered", "circle", "suspended", "error" or "overrun"
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class Hook:
    """One of our webhooks at a provider, whose deliveries can be listed."""

    source: ResourceId
    scope_type: str
    scope_key: str
    external_id: str


@dataclass(frozen=True, slots=True)
class PastDelivery:
    """One event in a provider's list of deliveries, with all its attempts combined."""

    id: str
    """Equal to `Delivery.id` of the same event."""
    ref: str
    """The provider's reference for reading or redelivering it."""
    type: str
    at: float
    """When the first attempt was made (seconds since the epoch)."""
    arrived: bool
    """Whether any attempt was accepted."""
    detail: JsonObject = field(default_factory=dict)
