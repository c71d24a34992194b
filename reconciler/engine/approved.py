"""`apply`: exactly the approved changes run, over several rounds whose results are combined.

The first round executes exactly the plans that were shown. Then everything is observed again: the remaining approved changes (which
waited for another change, or for the outcome of a write) are made, and other changes that became necessary are only reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field

from reconciler.engine.apply import Step, in_doubt
from reconciler.engine.controller import Controller
from reconciler.engine.converge import MAX_ROUNDS, STUCK, PassOutcome, pause_before, unsettled_of, verdict_of
from reconciler.engine.current import Current
from reconciler.engine.reconcile import Prepared, ReconcileResult
from reconciler.model.errors import PlanMoved, ReconcilerError
from reconciler.model.plan import Change, Disposition, Plan
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address
from reconciler.planning import policy
from reconciler.planning.approval import Approval, seen_in

_LOOKS = 8
"""How often, within the settle time, a list that does not show a finished write yet is read again."""


@dataclass(slots=True)
class Applied:
    """The combined result of all rounds of one ``apply``."""

    approvals: dict[ResourceId, Approval]
    planned: dict[Address, Change]
    """The approved changes."""
    steps: list[Step] = field(default_factory=list)
    last: dict[ResourceId, ReconcileResult] = field(default_factory=dict)
    """The newest result of each integration."""
    wrote_at: float = 0.0

    @classmethod
    def of(cls, prepared: Iterable[Prepared]) -> Applied:
        """Begin with the approved plans."""
        plans = tuple(prepared)
        planned = {c.address: c for item in plans if item.plan is not None for c in item.plan.executable}
        return cls({item.integration: item.approval() for item in plans}, planned)

    def take(self, results: Iterable[ReconcileResult], now: float) -> bool:
        """Add the result of one round. Returns True when it called a provider."""
        called = False
        for result in results:
            steps = tuple(result.report.steps)
            self._keep_failures(result)
            self.last[result.integration] = result
            self.steps += steps
            done = [s.change for s in steps if s.error is None or not in_doubt(s.change, s.error)]
            approval = self.approvals.get(result.integration, NOTHING)
            self.approvals[result.integration] = approval.after(done, seen_in(result.world.views), result.planned_at)
            called = called or any(step.change.action not in policy.STATE_ONLY for step in steps)
        self.wrote_at = now if called else self.wrote_at
        return called

    def _keep_failures(self, result: ReconcileResult) -> None:
        """A later observation of a change that failed must not hide its error."""
        pending = {change.address for change in _changes(result)} - {step.change.address for step in result.report.steps}
        before = {step.change.address: step for step in self.steps}
        result.report.steps[:0] = [step for address, step in before.items() if step.error is not None and address in pending]

    @property
    def outcomes(self) -> dict[Address, Step]:
        """The last step of each object: a later step may show that a write with unknown outcome was done."""
        return {step.change.address: step for step in self.steps}

    @property
    def failed(self) -> dict[Address, ReconcilerError]:
        """Steps whose objects are not as approved."""
        return {
            address: step.error
            for address, step in self.outcomes.items()
            if step.error is not None and not isinstance(step.error, PlanMoved) and not self._found_done(step)
        }

    @property
    def done(self) -> tuple[Address, ...]:
        """Objects that this command made as approved."""
        failed = self.failed
        return tuple(a for a, s in self.outcomes.items() if a not in failed and not isinstance(s.error, PlanMoved))

    @property
    def moved(self) -> tuple[Change, ...]:
        """Changes that became necessary and are not approved, without failed changes that will be retried."""
        failed = self.failed
        changes = [change for result in self.last.values() for change in result.moved]
        return tuple(c for c in changes if c.address not in failed or c.action is not self.outcomes[c.address].change.action)

    @property
    def left(self) -> tuple[Change, ...]:
        """Approved changes that were not tried: held by a suspension, dependent on a failed one, or after a stop."""
        named = {change.address for change in self.moved}
        untried = self.planned.keys() - self.outcomes.keys() - named
        return tuple(change for result in self.last.values() for change in _changes(result) if change.address in untried)

    @property
    def blocked(self) -> tuple[Change, ...]:
        """Changes that need an approval of their own."""
        return tuple(c for result in self.last.values() if result.plan is not None for c in result.plan.blocked)

    @property
    def stuck(self) -> tuple[Change, ...]:
        """Changes held by a foreign object in their place, or by a permanent refusal of the provider."""
        changes = [change for result in self.last.values() for change in _changes(result)]
        return tuple(c for c in changes if c.disposition is Disposition.HELD and c.reason in STUCK)

    @property
    def waiting(self) -> tuple[Change, ...]:
        """Changes that waited in the plan, and still wait."""
        named = {change.address for change in (*self.moved, *self.left)} | self.failed.keys()
        changes = [change for result in self.last.values() for change in _changes(result)]
        return tuple(c for c in changes if c.disposition is Disposition.WAITING and c.address not in named)

    def verdict(self, current: Current) -> PassOutcome:
        """Return the most severe outcome of all rounds."""
        outcome = verdict_of(current)
        if outcome is PassOutcome.DONE and (self.failed or self.moved or self.left):
            return PassOutcome.PARTIAL
        return outcome

    def _found_done(self, step: Step) -> bool:
        """Whether a write with unknown outcome succeeded: its list was read since, and it has no change any more."""
        result = self.last.get(step.change.integration)
        if step.error is None or result is None or result.error is not None or not in_doubt(step.change, step.error):
            return False
        view = result.world.views.get(step.change.scope)
        read = view is not None and view.error is None and all(other is not step for other in result.report.steps)
        return read and step.change.address not in {change.address for change in _changes(result)}

    def reverted(self, now: float, settle_s: float) -> set[ResourceId]:
        """Integrations whose lists do not show a finished write yet: they may lag for the settle time."""
        done = set(self.done)
        return {c.integration for c in self.moved if c.address in done and now < self.wrote_at + settle_s}


NOTHING = Approval(frozenset(), frozenset(), frozenset())
"""For an integration without a plan."""


def _changes(result: ReconcileResult) -> tuple[Change, ...]:
    plan = result.plan if result.plan is not None else Plan(result.integration, ())
    return plan.changes


async def apply_approved(engine: Controller, prepared: Sequence[Prepared], *, wait_settle: bool) -> Applied:
    """Execute ``prepared``, observe again, and continue with the approved changes until no outcome is unknown (at most the settle time)."""
    work = Applied.of(prepared)
    settle = engine.deps.config.reconcile.settle
    look = await _round(engine, work, [engine.execute(item) for item in prepared]) or bool(work.left)
    deadline = engine.deps.clock() + settle * 2 + 10
    for _ in range(MAX_ROUNDS):
        todo = await _todo(engine, work, everything=look)
        if not todo:
            break
        if not look:
            pause = _pause(engine.current, work, todo)
            if not wait_settle or engine.deps.clock() + pause > deadline:
                break
            engine.deps.log.info("settling", integrations=len(todo), wait_s=round(pause, 1))
            await asyncio.sleep(pause)
        slices = [engine.slice(i, ignore_backoff=True, approval=work.approvals.get(i, NOTHING)) for i in todo]
        look = await _round(engine, work, slices)
    return work


async def _round(engine: Controller, work: Applied, slices: Iterable[Awaitable[ReconcileResult]]) -> bool:
    called = work.take(await asyncio.gather(*slices), engine.deps.clock())
    await engine.finish_pass()
    engine.log_summary()
    return called


async def _todo(engine: Controller, work: Applied, *, everything: bool) -> tuple[ResourceId, ...]:
    """Return the integrations to observe next: all after writes, else those with unknown outcomes; never one that is rate-limited."""
    stopped = {
        integration for integration, result in work.last.items() if result.report.stopped is not None or result.error is not None
    }
    if everything:
        return tuple(integration for integration in await engine.integrations() if integration not in stopped)
    lagging = work.reverted(engine.deps.clock(), engine.deps.config.reconcile.settle)
    return tuple(sorted({*await unsettled_of(engine.current), *lagging} - stopped))


def _pause(current: Current, work: Applied, todo: tuple[ResourceId, ...]) -> float:
    settle = current.context.config.reconcile.settle
    pause = pause_before(current, todo)
    return min(pause, max(0.2, settle / _LOOKS)) if work.reverted(current.context.clock(), settle) else pause


__all__ = ["Applied", "apply_approved"]
