"""Retries: when an object, an integration or a stage is retried. Pauses grow, have jitter, and survive a restart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler.engine.context import Context
from reconciler.model.backoff import exponential, jittered
from reconciler.model.errors import AuthFailed, PermissionDenied, ProviderError, ReconcilerError, RetryKind, SecretUnavailable
from reconciler.model.objects import ManagedObject, Scope
from reconciler.model.plan import Action, Change, ChangeClass, Disposition, Plan
from reconciler.model.records import Retry
from reconciler.model.values import Address, Digest

if TYPE_CHECKING:
    from reconciler.state import Store

FORBIDDEN_S = 600.0
"""A call without permission is retried at most once in ten minutes."""
REFUSED_S = 60.0
"""A refused credential is tried at most once a minute, unless its secret changed."""
SOON_S = 1.0
"""A retry time of the provider counts only if it is later than this: a past one would mean no pause."""
QUARANTINE_AFTER = 5
"""Consecutive failures after which an object that crashes its driver is not retried until its spec changes (Quarantined)."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All retries by key: an object's address or an integration's path."""

    retries: Mapping[str, Retry] = field(default_factory=dict)

    @classmethod
    def load(cls, store: Store) -> Schedule:
        """Load the retries of the state."""
        return cls({retry.key: retry for retry in store.retries()})

    def refused(self) -> dict[Address, Digest]:
        """Return the digests that the provider refused permanently, by address."""
        return {Address(r.key): Digest(r.digest) for r in self.retries.values() if r.terminal and r.digest}

    def refusals(self) -> dict[Address, str]:
        """Return the messages of permanent refusals, by address."""
        return {Address(r.key): r.message for r in self.retries.values() if r.terminal and r.digest}


def hold_back(plan: Plan, schedule: Schedule, now: float) -> Plan:
    """Return ``plan`` with each failed, unchanged change waiting for its retry time."""
    return dataclasses.replace(plan, changes=tuple(_held(change, schedule, now) for change in plan.changes))


def _held(change: Change, schedule: Schedule, now: float) -> Change:
    retry = schedule.retries.get(change.address)
    if (
        retry is None
        or change.disposition is not Disposition.EXECUTE
        or retry.next_at <= now
        or retry.digest != digest_of_change(change)
    ):
        return change
    return dataclasses.replace(
        change, disposition=Disposition.WAITING, reason=retry.reason or "Backoff", message=retry.message, retry_at=retry.next_at
    )


def outlived(schedule: Schedule, plan: Plan | None, objects: Iterable[ManagedObject], unread: frozenset[Scope]) -> list[str]:
    """Return the keys of retries whose object is as declared now: an old refusal must not delay a later change."""
    if plan is None or not schedule.retries:
        return []
    changing = {change.address for change in plan.changes}
    return [o.address for o in objects if o.address in schedule.retries and o.address not in changing and o.scope not in unread]


def keep_reserve(plan: Plan, reset_at: float) -> Plan:
    """Return ``plan`` with commits waiting for the reset of the rate limit: the rest of it is reserved for drift repairs."""

    def hold(change: Change) -> Change:
        if (
            change.disposition is not Disposition.EXECUTE
            or change.cls is not ChangeClass.COMMIT
            or change.action in {Action.RECORD, Action.FORGET}
        ):
            return change
        return dataclasses.replace(
            change,
            disposition=Disposition.WAITING,
            reason="RateReserve",
            retry_at=reset_at,
            message="the rest of the hourly rate is reserved for drift repairs",
        )

    return dataclasses.replace(plan, changes=tuple(hold(change) for change in plan.changes))


def digest_of_change(change: Change) -> str:
    """Return the digest that a retry is bound to: a changed object is tried at once."""
    return change.desired.digest if change.desired is not None else f"{change.action}:{change.external_id}"


def pause_after(deps: Context, failures: int, error: ReconcilerError | None = None) -> float:
    """Return the seconds until a stage tries again after ``failures`` failures, not before the time that ``error`` names.

    After a refused credential it is a minute at most: a person repairs it, and the stage goes on soon after that.
    """
    config = deps.config.reconcile
    longest = min(config.retry_max, REFUSED_S) if isinstance(error, AuthFailed) else config.retry_max
    pause = jittered(exponential(failures, max(1.0, config.retry_min), longest), 0.8, 1.0)
    if isinstance(error, ProviderError) and error.retry_at is not None:
        pause = max(pause, error.retry_at - deps.clock())
    # A store is asked at most once a minute however often this is tried: when it answers again, the stage continues within a minute.
    return min(pause, REFUSED_S) if isinstance(error, SecretUnavailable) else pause


def next_try(
    key: str, error: ReconcilerError, before: Retry | None, *, digest: str, now: float, low_s: float, high_s: float
) -> Retry:
    """Return the retry after ``error``: at the provider's time, or after a pause from ``low_s`` to ``high_s`` with ±20 % jitter."""
    attempts = (before.attempts if before is not None and before.digest == digest else 0) + 1
    pause = jittered(exponential(attempts - 1, low_s, high_s), 0.8, 1.2)
    if isinstance(error, PermissionDenied):
        pause = max(pause, FORBIDDEN_S)
    if isinstance(error, AuthFailed):
        pause = max(pause, REFUSED_S)
    at = now + pause
    retry_at = getattr(error, "retry_at", None)
    if retry_at is not None and retry_at > now + SOON_S:
        at = float(retry_at)
    terminal = isinstance(error, ProviderError) and error.retry is RetryKind.SPEC
    terminal = terminal or (error.is_defect and attempts >= QUARANTINE_AFTER)
    message = f"{error.code}: {error.message}" + (f" ({error.hint})" if error.hint else "")
    return Retry(key, attempts, at, digest, error.code, type(error).__name__, message, terminal)
