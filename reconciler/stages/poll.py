"""Following a run to its end. What it is like is always read from the provider: an event only says "look now"."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Mapping
from typing import Any

from reconciler.model.errors import NotFound, ReconcilerError, ScopeGone
from reconciler.model.executions import EndReason, ExecutionState, Later, Result, RunReport, RunStatus
from reconciler.stages.context import FIRST_POLL_S, Stepping, Work
from reconciler.stages.finish import Ended

CANCEL_AGAIN_S = 60.0
REFUSED_AGAIN_S = 10.0
CANCEL_GRACE_S = 600.0
"""A run that has not ended this long after it was asked to is given up: `cancelled`, with that said."""
LOOKS_AGAIN = 8


class Following:
    """Looks at runs until they have ended, and ends them where that is wanted."""

    def __init__(self, tools: Stepping) -> None:
        self._tools = tools

    async def follow(self, work: Work) -> None:
        """Look at the run as the provider shows it, and end the execution if the run has ended."""
        execution, run = work.execution, work.execution.run
        if run is None:
            await self._tools.save(work, state=ExecutionState.STARTING, next_at=work.now)
            return
        try:
            spec = self._tools.resolved(work)
            api = await self._tools.reach.api(execution, work.stage, spec)
            work = await self._ask_to_end(work, api, spec)
            report = await work.executor.poll(api, self._tools.intent(work, spec), work.execution.run or run)
        except ScopeGone as error:  # lost rights answer 404 too: that is no lost run
            await self._unreachable(work, error)
            return
        except NotFound:
            await self._vanished(work)
            return
        except ReconcilerError as error:
            await self._unreachable(work, error)
            return
        if report.status is RunStatus.FINISHED and report.result is not None:
            await self._tools.end(work, self._ended(work, report))
        elif work.execution.cancel_at and work.now - work.execution.cancel_at > CANCEL_GRACE_S:
            why = EndReason.TIMED_OUT if work.execution.timed_out else EndReason.USER
            result = Result.FAILED if work.execution.timed_out else Result.CANCELLED
            message = "it was asked to end, but the provider has not confirmed it"
            await self._tools.end(work, Ended(result, why, message, report, terminated=False))
        else:
            await self._goes_on(work, report)

    async def _ask_to_end(self, work: Work, api: Any, spec: Mapping[str, Any]) -> Work:
        """When its time is over, or somebody asked for it, end the run outside; asked again each minute until it has ended."""
        execution = work.execution
        if not execution.cancel_at and work.now > work.deadline:
            work = await self._tools.save(
                work, cancel_at=work.now, timed_out=True, cancel_by="timeout", message="its time is over"
            )
            execution = work.execution
        if not execution.cancel_at or execution.run is None:
            return work
        asked = float(execution.run.detail.get("asked_at", 0.0))
        if asked and work.now - asked < CANCEL_AGAIN_S:
            return work
        detail = {**execution.run.detail, "asked_at": work.now}
        try:
            await work.executor.cancel(api, self._tools.intent(work, spec), execution.run)
        except ReconcilerError as error:  # it is looked at all the same: perhaps it ends by itself, or has ended
            refused = {**detail, "asked_at": work.now - CANCEL_AGAIN_S + REFUSED_AGAIN_S, "refused": error.message}
            return await self._tools.save(work, run=dataclasses.replace(execution.run, detail=refused))
        told = dataclasses.replace(execution.run, detail={**detail, "cancelled": True, "refused": ""})
        await self._tools.log("execution_cancelled", execution, by=execution.cancel_by)
        return await self._tools.save(work, run=told, cancelled=True)

    async def _goes_on(self, work: Work, report: RunReport) -> None:
        execution = work.execution
        age = work.now - execution.intended_at
        every = float(report.run.detail.get("poll_s", 0)) or work.executor.poll_s
        pause = min(every, max(FIRST_POLL_S, age / 4))
        if execution.cancel_at:
            pause = min(pause, 5.0)
        kept = dict(execution.run.detail) if execution.run is not None else {}
        run = dataclasses.replace(report.run, detail={**kept, **report.run.detail})
        refused = f"it cannot be ended: {kept['refused']}" if kept.get("refused") else ""
        wake = min(work.now + pause * random.uniform(0.9, 1.0), max(work.deadline, work.now + FIRST_POLL_S))  # noqa: S311 - jitter
        await self._tools.save(
            work, run=run, status=report.status.value, message=refused or report.message, failures=0, next_at=wake
        )

    async def _vanished(self, work: Work) -> None:
        """A run that answers 404: at first it may only be late to appear; after that it is lost, if it stays away."""
        execution = work.execution
        young = work.now - execution.intended_at < self._tools.settle(work)
        if not young and execution.failures >= 2:
            await self._tools.end(
                work, Ended(Result.FAILED, EndReason.LOST, "the run is not there any more (404, asked three times)")
            )
            return
        pause = 2.0 if young else self._tools.pause(execution.failures)
        counted = execution.failures if young else execution.failures + 1
        await self._tools.save(work, failures=counted, message="the run is not there (404)", next_at=work.now + pause)

    async def _unreachable(self, work: Work, error: ReconcilerError) -> None:
        execution = work.execution
        if work.now > work.deadline + CANCEL_GRACE_S:
            message = f"its time is over, and it cannot be looked at: {error.message}"
            await self._tools.end(work, Ended(Result.FAILED, EndReason.TIMED_OUT, message, terminated=False))
            return
        pause = self._tools.pause(execution.failures, error)
        await self._tools.save(
            work, failures=execution.failures + 1, message=f"cannot be looked at: {error.message}", next_at=work.now + pause
        )

    def _ended(self, work: Work, report: RunReport) -> Ended:
        execution = work.execution
        result = report.result or Result.FAILED
        why = {Result.PASSED: EndReason.OK, Result.FAILED: EndReason.FAILED, Result.CANCELLED: EndReason.USER}[result]
        message = report.conclusion if result is Result.PASSED else report.message or report.conclusion
        if execution.timed_out and result is not Result.PASSED:
            result, why, message = Result.FAILED, EndReason.TIMED_OUT, f"ended after its timeout ({report.conclusion})"
        elif result is Result.CANCELLED:
            message = f"cancelled by {execution.cancel_by}" if execution.cancel_by else f"cancelled outside ({report.conclusion})"
        return Ended(result, why, message, report, simulated=work.executor.type == "noop")

    async def look_again(self, work: Work) -> None:
        """An event told that a later attempt of an ended execution's run has ended: note it, as the provider shows it."""
        execution, run, report = work.execution, work.execution.run, None
        with contextlib.suppress(ReconcilerError):
            if run is not None:
                spec = self._tools.resolved(work)
                api = await self._tools.reach.api(execution, work.stage, spec)
                report = await work.executor.poll(api, self._tools.intent(work, spec), run)
        known = execution.later.attempt if execution.later is not None else run.attempt if run is not None else 0
        if (
            report is not None
            and report.status is RunStatus.FINISHED
            and report.result is not None
            and report.run.attempt > known
        ):
            later = Later(report.run.attempt, report.result, report.conclusion, report.run.url, work.now)
            saved = await self._tools.save(work, later=later, next_at=0.0, failures=0)
            await self._tools.log(
                "execution_run_again", saved.execution, attempt=later.attempt, outcome=later.result.value, url=later.url
            )
        elif run is None or execution.failures + 1 >= LOOKS_AGAIN or (report is not None and report.run.attempt <= known):
            await self._tools.save(work, next_at=0.0, failures=0)
        else:  # out of reach, or not over yet
            await self._tools.save(
                work, next_at=work.now + self._tools.pause(execution.failures), failures=execution.failures + 1
            )
