"""One full pass, as ``run --once`` does: it repeats until no outcome is unknown."""

from __future__ import annotations

import asyncio
import enum

from reconciler.engine.controller import Controller
from reconciler.engine.current import Current
from reconciler.model.plan import Disposition
from reconciler.model.resources import ResourceId

MAX_ROUNDS = 12
_SELF_SETTLING = frozenset({"Settling", "Unconfirmed", "NameTaken", "DependencyNotReady"})

STUCK = frozenset({"Conflict", "Refused"})
"""Reasons of held changes that need a person."""


class PassOutcome(enum.Enum):
    """How a pass ended."""

    DONE = "done"
    PARTIAL = "partial"  # a resource is stalled or blocked, or a change failed
    INVALID = "invalid"  # the revision has errors; its valid part was applied
    SOURCE_FAILED = "source-failed"  # the source could not be read; the last good revision was kept


async def full_pass(engine: Controller, *, wait_settle: bool, sync: bool = True) -> PassOutcome:
    """Sync, reconcile everything, and repeat until no outcome is unknown (at most the settle time)."""
    if sync:
        await engine.sync()
    current, context = engine.current, engine.deps
    if current.active.empty and current.source.error is not None:
        raise current.source.error
    await engine.run_all(explicit=True)
    deadline = context.clock() + context.config.reconcile.settle * 2 + 10
    for _ in range(MAX_ROUNDS):
        unsettled = await unsettled_of(current)
        pause = pause_before(current, unsettled)
        if not unsettled or not wait_settle or context.clock() + pause > deadline:
            break
        context.log.info("settling", integrations=len(unsettled), wait_s=round(pause, 1))
        await asyncio.sleep(pause)
        await engine.run_all(ignore_backoff=True, only=unsettled)
    return verdict_of(current)


async def unsettled_of(current: Current) -> tuple[ResourceId, ...]:
    """Return the integrations with writes of unknown outcome, changes that wait for a time, or unfinished batches."""
    results = current.view.results
    unsettled = {intent.integration for intent in await current.context.store.unsettled()}
    for integration, result in results.items():
        waiting = any(
            c.disposition is Disposition.WAITING and c.reason in _SELF_SETTLING
            for c in (result.plan.changes if result.plan else ())
        )
        tombstones = any(record.tombstone for record in result.recorded) and not result.report.failed and result.error is None
        if waiting or (tombstones and any(s.change.action == "delete" for s in result.report.steps)):
            unsettled.add(integration)
    return tuple(sorted(i for i in unsettled if i in results and results[i].error is None))


def pause_before(current: Current, integrations: tuple[ResourceId, ...]) -> float:
    """Return the seconds until the first of ``integrations`` is due, at least 0.2 and at most the settle time and a second."""
    now = current.context.clock()
    soonest = min((current.view.next_at.get(integration, now) for integration in integrations), default=now)
    return min(max(soonest - now, 0.2), current.context.config.reconcile.settle + 1.0)


def verdict_of(current: Current) -> PassOutcome:
    """Return the most severe outcome of the newest pass."""
    if current.source.error is not None:
        return PassOutcome.SOURCE_FAILED
    if any(problem.is_error for problem in current.active.problems):
        return PassOutcome.INVALID
    for result in current.view.results.values():
        if (
            result.error is not None
            or result.report.failed
            or result.compiled.stalled
            or result.scope_errors
            or result.report.skipped
        ):
            return PassOutcome.PARTIAL
        if result.plan is not None and any(
            c.disposition in {Disposition.BLOCKED, Disposition.WAITING} or c.reason in STUCK for c in result.plan.changes
        ):
            return PassOutcome.PARTIAL
    return PassOutcome.DONE
