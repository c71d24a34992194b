"""Rows of the state other than recorded objects and intents: audit, outcomes, journal, budgets, retries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.objects import IntentState, RecordedObject
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address, ExternalId, JsonObject


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of the append-only, hash-chained audit log: committed before the remote write that it records.

    ``at`` is seconds since the epoch. ``request_digest`` covers the request without secret values.
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
class CredentialRefusal:
    """Why a provider refused a credential: the parts of an `AuthFailed`."""

    message: str
    code: str = ""
    hint: str = ""
    status: int = 0
    request: str = ""


@dataclass(frozen=True, slots=True)
class CredentialAlert:
    """What was announced of a credential: its refusal, and how near its end is."""

    refused: bool = False
    end: str = ""
    """RFC 3339; another end starts the warnings again."""
    warned: int | None = None
    """The smallest threshold in days that was announced for `end`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one intent, committed with its changes of the recorded state."""

    intent_id: str
    state: IntentState
    record: RecordedObject | None = None
    """The record to store, replacing the one at its address."""
    drop: Address | None = None
    """The address to delete (deleted, or moved to a new address)."""
    external_id: ExternalId | None = None
    error_code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One step in the causal chain that ``explain`` shows: commit → plan → calls → condition → next retry."""

    at: float
    resource: ResourceId
    event: str
    reconcile_id: str = ""
    revision: str = ""
    detail: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A credential's rate budget, shared by all processes. Times are seconds since the epoch; ``recent``: the times of the last writes."""

    credential_id: str
    blocked_until: float = 0.0
    reason: str = ""
    recent: tuple[float, ...] = ()
    rate: Mapping[str, int] = field(default_factory=dict)  # limit, remaining, resetAt
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failure is retried. ``key``: an object's address or an integration's path.

    ``next_at``: seconds since the epoch. ``terminal``: no retry until ``digest`` (of what was tried) changes.
    """

    key: str
    attempts: int
    next_at: float
    digest: str = ""
    code: str = ""
    reason: str = ""
    message: str = ""
    terminal: bool = False
