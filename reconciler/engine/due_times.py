"""When an integration is reconciled next."""

from __future__ import annotations

import random
from collections.abc import Iterable

from reconciler.engine.compile import integration_of, secrets_of
from reconciler.engine.current import Current
from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.errors import ProviderError, RetryKind, SecretUnavailable
from reconciler.model.records import Retry
from reconciler.planning.removal import out_of_reach

JITTER = 0.05


def next_reconcile_at(current: Current, result: ReconcileResult, retries: Iterable[Retry], now: float) -> float:
    """Return when the integration is reconciled next: after the interval with jitter, or earlier if a change waits for a time."""
    resource = current.active.resources.get(result.integration)
    intervals = [
        r.lifecycle.interval_s
        for r in current.active.resources.values()
        if integration_of(r) == result.integration and r.lifecycle.interval_s
    ]
    if resource is not None and resource.lifecycle.interval_s:
        intervals.append(resource.lifecycle.interval_s)
    interval = min(intervals) if intervals else current.context.config.reconcile.interval
    regular = now + interval * random.uniform(1 - JITTER, 1)  # noqa: S311 - spreads load; never beyond the interval
    due_in_s = current.secrets.due_in_s(secrets_of(result.integration, current.active.resources))
    due = current.context.clock() + due_in_s
    times = [max(regular, due) if due_in_s <= interval else regular]  # not shortly before a store may be asked again
    times += [due] if isinstance(result.error, SecretUnavailable) and due_in_s else []
    times += [retry.next_at for retry in retries if not retry.terminal]
    if result.plan is not None:
        times += [c.retry_at for c in result.plan.changes if c.retry_at is not None]
    if result.report.skipped and not retries:
        times.append(now + current.context.config.reconcile.retry_min)
    times += [now + 1.0] if any(getattr(e, "unknown_outcome", False) for e in result.report.failed.values()) else []
    for error in result.scope_errors.values():
        at = error.retry_at if isinstance(error, ProviderError) else None
        if at is not None:
            times.append(max(at, now + current.context.config.reconcile.retry_min))
        elif getattr(error, "retry", None) is RetryKind.BACKOFF and not out_of_reach(error):
            times.append(now + min(interval, current.context.config.reconcile.retry_max) / 4)
    return max(min(times), now + 0.2)


__all__ = ["next_reconcile_at"]
