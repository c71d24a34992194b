"""Rows that the state keeps besides recorded objects and intents: audit, outcomes, journal, budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.objects import IntentState, RecordedObject
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address, ExternalId, JsonObject


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of the append-only, hash-chained audit log: committed before the remote write it tells of.

    ``at`` is seconds since the epoch. ``request_digest`` covers what is sent, without secret values.
    """

    at: float
    actor: str
    verb: str  # create, update, delete …; "outcome", "approve", "adopt", "suspend" …
    integration: str = ""
    resource: str = ""
    address: str = ""
    external_id: str = ""
    revision: str = ""
    plan: str = ""
    request_digest: str = ""
    outcome: str = ""
    detail: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one intent, committed together with what it changes in the recorded state."""

    intent_id: str
    state: IntentState
    record: RecordedObject | None = None
    """Recorded form to store, replacing what stands under its address."""
    drop: Address | None = None
    """Address to forget (deleted, or moved to a new address)."""
    external_id: ExternalId | None = None
    error_code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One step in the causal chain that ``explain`` tells: commit → plan → calls → condition → next try."""

    at: float
    resource: ResourceId
    event: str
    reconcile_id: str = ""
    revision: str = ""
    detail: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A credential's rate budget, shared by every process. Times are seconds since the epoch; ``recent`` are those of the last writes."""

    credential_id: str
    blocked_until: float = 0.0
    reason: str = ""
    recent: tuple[float, ...] = ()
    rate: Mapping[str, int] = field(default_factory=dict)  # limit, remaining, resetAt
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """When something that failed is tried again. ``key`` is an object's address or an integration's path.

    ``next_at`` is seconds since the epoch. ``terminal``: not before ``digest`` (what was tried) changes.
    """

    key: str
    attempts: int
    next_at: float
    digest: str = ""
    code: str = ""
    reason: str = ""
    message: str = ""
    terminal: bool = False
