"""Poll a run until it has ended. Its state is always read from the provider: an event only triggers the next poll."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from reconciler.drivers.http.client import ApiClient
from reconciler.model.backoff import jittered
from reconciler.model.errors import NotFound, ReconcilerError, ScopeGone
from reconciler.model.executions import EndReason, ExecutionState, Later, Result, RunReport, RunStatus
from reconciler.stages.context import FIRST_POLL_S, Ended, StepContext, StepOutcome, Work, stored_run

CANCEL_AGAIN_S = 60.0
REFUSED_AGAIN_S = 10.0
CANCEL_GRACE_S = 600.0
"""A run that has not ended this long after its cancellation is given up; the message says so."""
LOOKS_AGAIN = 8
_REASONS = {Result.PASSED: EndReason.OK, Result.FAILED: EndReason.FAILED, Result.CANCELLED: EndReason.USER}


async def poll(steps: StepContext, work: Work) -> StepOutcome:
    """Read the run from the provider; cancel it there if that was requested or it timed out."""
    run = work.execution.run
    if run is None:
        return StepOutcome(await steps.save(work, state=ExecutionState.STARTING, next_at=work.now))
    try:
        spec = await steps.resolved(work)
        api = await steps.api(work, spec)
        work = await _cancel(steps, work, api, spec)
        report = await steps.executor(work).poll(api, steps.intent(work, spec), work.execution.run or run)
    except ScopeGone as error:  # missing permissions answer 404, too: that is no lost run
        return await _unreachable(steps, work, error)
    except NotFound:
        return await _vanished(steps, work)
    except ReconcilerError as error:
        return await _unreachable(steps, work, error)
    if report.status is RunStatus.FINISHED and report.result is not None:
        return StepOutcome(work, _ended(steps, work, report))
    execution = work.execution
    if execution.cancel_at and work.now - execution.cancel_at > CANCEL_GRACE_S:
        why = EndReason.TIMED_OUT if execution.timed_out else EndReason.USER
        result = Result.FAILED if execution.timed_out else Result.CANCELLED
        message = "its cancellation was requested, but the provider has not confirmed it"
        return StepOutcome(work, Ended(result, why, message, report, terminated=False))
    return await _still_running(steps, work, report)


async def _cancel(steps: StepContext, work: Work, api: ApiClient, spec: Mapping[str, Any]) -> Work:
    """Cancel the run at the provider after its timeout or on request; repeated each minute until it has ended."""
    execution = work.execution
    if not execution.cancel_at and work.now > work.deadline:
        work = await steps.save(work, cancel_at=work.now, timed_out=True, cancel_by="timeout", message="it timed out")
        execution = work.execution
    if not execution.cancel_at or execution.run is None:
        return work
    asked_at = float(execution.run.detail.get("asked_at", 0.0))
    if asked_at and work.now - asked_at < CANCEL_AGAIN_S:
        return work
    detail = {**execution.run.detail, "asked_at": work.now}
    try:
        await steps.executor(work).cancel(api, steps.intent(work, spec), execution.run)
    except ReconcilerError as error:  # it is polled all the same: it may end by itself, or has ended
        refused = {**detail, "asked_at": work.now - CANCEL_AGAIN_S + REFUSED_AGAIN_S, "refused": error.message}
        return await steps.save(work, run=dataclasses.replace(execution.run, detail=refused))
    cancelled = dataclasses.replace(execution.run, detail={**detail, "cancelled": True, "refused": ""})
    await steps.log("execution_cancelled", execution, by=execution.cancel_by)
    return await steps.save(work, run=cancelled, cancelled=True)


def _ended(steps: StepContext, work: Work, report: RunReport) -> Ended:
    """Return how a run that has finished ends its execution."""
    execution, result = work.execution, report.result or Result.FAILED
    why, simulated = _REASONS[result], steps.executor(work).type == "noop"
    message = report.conclusion if result is Result.PASSED else report.message or report.conclusion
    if execution.timed_out and result is not Result.PASSED:
        result, why, message = Result.FAILED, EndReason.TIMED_OUT, f"ended after its timeout ({report.conclusion})"
    elif result is Result.CANCELLED:
        message = f"cancelled by {execution.cancel_by}" if execution.cancel_by else f"cancelled outside ({report.conclusion})"
    return Ended(result, why, message, report, simulated=simulated)


async def _still_running(steps: StepContext, work: Work, report: RunReport) -> StepOutcome:
    """Store the state of the run and the time of the next poll: rarely for an old run, soon for a run that is being cancelled."""
    execution = work.execution
    interval_s = float(report.run.detail.get("poll_s", 0)) or steps.executor(work).poll_s
    pause_s = min(interval_s, max(FIRST_POLL_S, (work.now - execution.intended_at) / 4))
    if execution.cancel_at:
        pause_s = min(pause_s, 5.0)
    kept = dict(execution.run.detail) if execution.run is not None else {}
    run = stored_run(dataclasses.replace(report.run, detail={**kept, **report.run.detail}), steps.context.redactor)
    message = f"it cannot be cancelled: {kept['refused']}" if kept.get("refused") else report.message
    next_at = min(work.now + jittered(pause_s, 0.9, 1.0), max(work.deadline, work.now + FIRST_POLL_S))
    return StepOutcome(await steps.save(work, run=run, status=report.status.value, message=message, failures=0, next_at=next_at))


async def _vanished(steps: StepContext, work: Work) -> StepOutcome:
    """Handle a 404 for the run: soon after the start it may still appear; later, repeated, it means that the run is lost."""
    execution = work.execution
    young = work.now - execution.intended_at < steps.settle_s(work)
    if not young and execution.failures >= 2:
        return StepOutcome(work, Ended(Result.FAILED, EndReason.LOST, "the run is gone (404, three times)"))
    failures = execution.failures if young else execution.failures + 1
    next_at = work.now + (2.0 if young else steps.pause_s(execution.failures))
    return StepOutcome(await steps.save(work, failures=failures, message="the run is not there (404)", next_at=next_at))


async def _unreachable(steps: StepContext, work: Work, error: ReconcilerError) -> StepOutcome:
    """Handle a run that cannot be read: retry until `CANCEL_GRACE_S` after its deadline."""
    failures = work.execution.failures
    if work.now > work.deadline + CANCEL_GRACE_S:
        message = f"it timed out, and cannot be read: {error.message}"
        return StepOutcome(work, Ended(Result.FAILED, EndReason.TIMED_OUT, message, terminated=False))
    next_at = work.now + steps.pause_s(failures, error)
    return StepOutcome(await steps.save(work, failures=failures + 1, message=f"cannot be read: {error.message}", next_at=next_at))


async def poll_finished(steps: StepContext, work: Work) -> None:
    """Record a later attempt of the run of a finished execution, whose end an event reported. The result does not change."""
    execution, run, report = work.execution, work.execution.run, None
    with contextlib.suppress(ReconcilerError):
        if run is not None:
            spec = await steps.resolved(work)
            report = await steps.executor(work).poll(await steps.api(work, spec), steps.intent(work, spec), run)
    known = execution.later.attempt if execution.later is not None else run.attempt if run is not None else 0
    newer = report is not None and report.run.attempt > known
    if report is not None and newer and report.status is RunStatus.FINISHED and report.result is not None:
        later = Later(report.run.attempt, report.result, report.conclusion, report.run.url, work.now)
        saved = await steps.save(work, later=later, next_at=0.0, failures=0)
        await steps.log("execution_run_again", saved.execution, attempt=later.attempt, outcome=later.result.value, url=later.url)
    elif run is None or execution.failures + 1 >= LOOKS_AGAIN or (report is not None and not newer):
        await steps.save(work, next_at=0.0, failures=0)
    else:  # unreachable, or not over yet
        next_at = work.now + steps.pause_s(execution.failures)
        await steps.save(work, next_at=next_at, failures=execution.failures + 1)
