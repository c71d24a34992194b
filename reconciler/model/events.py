"""Events: what came in, from whom, and what a sender's proof was worth."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.resources import ResourceId
from reconciler.model.values import JsonObject


class Refusal(enum.StrEnum):
    """Why a delivery is not believed. Told to the log and the metrics, never to the sender."""

    UNSIGNED = "unsigned"  # a key is set and no signature came: never "skip verification"
    WRONG = "wrong-signature"
    STALE = "stale"  # a signed timestamp outside of the tolerance
    UNKNOWN = "unknown-endpoint"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A delivery that is not believed."""

    reason: Refusal
    detail: str = ""
    """For the log; nothing out of the body or of a header's value."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that was believed: what is stored before it is answered."""

    id: str
    """The sender's id of the event: the same over its retries and redeliveries. At most 200 characters."""
    type: str
    """The event as the provider names it: ``push``, ``pipeline_done``, ``EXECUTION_FINISHED``."""
    body: bytes
    """The payload, a JSON document; without what only proves who sent it."""
    identity: str = ""
    """What the event is about, where its sender can say the same thing under two ids (a webhook and a poll, a replayed body):
    two deliveries to one source with equal identities have one effect. Empty: the id alone counts."""
    occurred_at: float | None = None
    """When it happened, by the payload (seconds since the epoch)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The headers that filters may ask for, names in lower case; no signature, no credential."""
    key: int = 0
    """Which of the keys proved it, counted from 0 (the one in force)."""
    problem: str = ""
    """What is wrong with a payload that is signed but cannot be read: it is stored as rejected."""
    also: tuple[str, ...] = ()
    """Further names of the event, where the sender has several for one occasion and its payload does not say which is meant
    (a run that failed may be both ``EXECUTION_FINISHED`` and ``EXECUTION_FAILED``). The first of ``type`` and these that the
    source asks for is the event's type; it is one event all the same."""


class Origin(enum.StrEnum):
    """How an event got here."""

    DELIVERED = "delivered"  # the sender's own request
    RECOVERED = "recovered"  # read from the provider's list of deliveries, since none arrived
    POLLED = "polled"  # made from what the provider shows, where it keeps no deliveries
    SCHEDULED = "scheduled"
    MANUAL = "manual"
    INTERNAL = "internal"  # a stage that finished, a connection group that is complete


class EventState(enum.StrEnum):
    PENDING = "pending"  # stored, not looked at yet
    PROCESSED = "processed"  # handed to every stage and group that wants it
    REJECTED = "rejected"  # nobody may have it: unreadable, too old, filtered by its source
    FAILED = "failed"  # it led to nothing, since a filter, mapping or groupBy could not be evaluated
    QUARANTINED = "quarantined"  # evaluating it took the process down, or more time or memory than it may


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


@dataclass(frozen=True, slots=True)
class RejectedBy:
    """A stage or group that an event was not handed to, and why."""

    event_id: str
    target: ResourceId
    reason: str  # "filtered", "circle", "suspended", "error" or "overrun"
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook of ours at a provider, whose deliveries can be asked for."""

    source: ResourceId
    scope_type: str
    scope_key: str
    external_id: str


@dataclass(frozen=True, slots=True)
class PastDelivery:
    """One event in a provider's list of deliveries, all its attempts folded into one."""

    id: str
    """Equal to `Delivery.id` of the same event."""
    ref: str
    """What the provider wants to see to show it or send it again."""
    type: str
    at: float
    """When the first attempt was made (seconds since the epoch)."""
    arrived: bool
    """Whether any attempt was answered well."""
    detail: JsonObject = field(default_factory=dict)
