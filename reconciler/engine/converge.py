"""One full pass, as ``run --once`` does: it repeats until no outcome is unknown."""

from __future__ import annotations

import asyncio
import enum

from reconciler.engine.controller import Controller
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
    if engine.live.empty and engine.state.error is not None:
        raise engine.state.error
    await engine.run_all(explicit=True)
    deadline = engine.deps.clock() + engine.deps.config.reconcile.settle * 2 + 10
    for _ in range(MAX_ROUNDS):
        unsettled = await unsettled_of(engine)
        pause = pause_before(engine, unsettled)
        if not unsettled or not wait_settle or engine.deps.clock() + pause > deadline:
            break
        engine.deps.log.info("settling", integrations=len(unsettled), wait_s=round(pause, 1))
        await asyncio.sleep(pause)
        await engine.run_all(ignore_backoff=True, only=unsettled)
    return verdict_of(engine)


async def unsettled_of(engine: Controller) -> tuple[ResourceId, ...]:
    """Return the integrations with writes of unknown outcome, changes that wait for a time, or unfinished batches."""
    doubtful = {intent.integration for intent in await engine.deps.store.unsettled()}
    for integration, result in engine.view.results.items():
        waiting = any(
            c.disposition is Disposition.WAITING and c.reason in _SELF_SETTLING
            for c in (result.plan.changes if result.plan else ())
        )
        tombstones = any(record.tombstone for record in result.recorded) and not result.report.failed and result.error is None
        if waiting or (tombstones and any(s.change.action == "delete" for s in result.report.steps)):
            doubtful.add(integration)
    return tuple(sorted(i for i in doubtful if i in engine.view.results and engine.view.results[i].error is None))


def pause_before(engine: Controller, integrations: tuple[ResourceId, ...]) -> float:
    now = engine.deps.clock()
    soonest = min((engine.view.next_at.get(one, now) for one in integrations), default=now)
    return min(max(soonest - now, 0.2), engine.deps.config.reconcile.settle + 1.0)


def verdict_of(engine: Controller) -> PassOutcome:
    """Return the most severe outcome of the newest pass."""
    if engine.state.error is not None:
        return PassOutcome.SOURCE_FAILED
    if any(problem.is_error for problem in engine.live.problems):
        return PassOutcome.INVALID
    for result in engine.view.results.values():
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
