"""Start a run: store the intent, make the call, store the run. After an unknown outcome, find the run before starting again."""

from __future__ import annotations

import dataclasses

from reconciler.drivers.builtin.identity import CallIdentity
from reconciler.drivers.http.client import ApiClient
from reconciler.drivers.http.clock import TOO_FAR_S
from reconciler.failpoints import failpoint
from reconciler.model.errors import (
    Ambiguous,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ReconcilerError,
    RetryKind,
    SecretUnavailable,
    StateError,
)
from reconciler.model.executions import EndReason, ExecutionState, Result, Run, RunStatus
from reconciler.stages import statuses, traces
from reconciler.stages.context import FIRST_POLL_S, Ended, StepContext, StepOutcome, Work, stored_run
from reconciler.stages.exclusion import Guard

FIND_S = 600.0
"""How long to search for a run that the provider accepted without returning an id."""
NOT_FOUND_TRIES = 3
"""Number of 404 answers after which a start fails: the first ones may be transient (lists lag, permissions arrive late)."""


async def start(steps: StepContext, work: Work, guard: Guard) -> StepOutcome:
    """Start the run, or find the one that may have been started."""
    execution = work.execution
    if execution.cancel_at and not execution.intended_at:
        message = f"cancelled by {execution.cancel_by} before it started"
        return StepOutcome(work, Ended(Result.CANCELLED, EndReason.USER, message))
    if work.now > work.deadline:
        message = execution.message or "it could not be started in time"
        return StepOutcome(work, Ended(Result.FAILED, EndReason.TIMED_OUT, message, terminated=not execution.intended_at))
    if work.spec.dry_run:
        return StepOutcome(work, Ended(Result.PASSED, EndReason.OK, "dry run: nothing was started", simulated=True))
    if execution.intended_at:
        return await _find(steps, work, guard)
    return await _dispatch(steps, work, guard)


async def _dispatch(steps: StepContext, work: Work, guard: Guard) -> StepOutcome:
    """Store the intent, make the call, store the run."""
    try:
        spec = await steps.resolved(work)
        api = guard(await steps.api(work, spec))
        await _ready(api)
        ahead_s = await _ahead_s(steps, work, api)
    except StateError:
        raise
    except ProviderError as error:  # the issuer of the credential may be unavailable for a moment
        return await _not_started(steps, work, error)
    except ReconcilerError as error:
        if isinstance(error, SecretUnavailable) and error.may_return:
            return await _waits(steps, work, error)
        return StepOutcome(work, Ended(Result.FAILED, EndReason.ERROR, error.message))
    next_at = work.now + FIRST_POLL_S
    intended = await steps.save(work, intended_at=work.now, ahead_s=ahead_s, next_at=next_at, status="starting", message="")
    failpoint("execution-after-intent")
    try:
        run = await steps.executor(work).start(api, steps.intent(intended, spec))
    except StateError:  # of the guard: nothing was sent, and the process that has the lease now handles it
        raise
    except OutcomeUnknown as error:
        return StepOutcome(await steps.save(intended, message=error.message, next_at=work.now + FIRST_POLL_S))
    except ReconcilerError as error:
        return await _not_started(steps, intended, error)
    failpoint("execution-after-start")
    return await _started(steps, intended, run)


async def _ready(api: ApiClient) -> None:
    """Get the identity of the request before the intent: a crash meanwhile leaves no start with unknown outcome."""
    if isinstance(api.authenticator, CallIdentity):
        await api.authenticator.prepare()


async def _ahead_s(steps: StepContext, work: Work, api: ApiClient) -> float | None:
    """Return how far the provider's clock is ahead of the database's (seconds), for executors that search by the provider's time."""
    if not steps.executor(work).by_clock:
        return None
    await api.learn_time()
    known = api.clock.ahead_s is not None
    return api.clock.now() - await steps.context.store.now() if known else None


async def _started(steps: StepContext, work: Work, run: Run | None) -> StepOutcome:
    """Store the run; None: the provider accepted the start, but returned no run yet."""
    if run is None:
        message, next_at = "accepted by the provider; searching for its run", work.now + FIRST_POLL_S
        return StepOutcome(await steps.save(work, status="accepted", message=message, next_at=next_at))
    over = bool(run.detail.get("done"))
    changed = dataclasses.replace(
        work.execution,
        state=ExecutionState.RUNNING,
        run=stored_run(run, steps.context.redactor),
        status=RunStatus.QUEUED.value,
        message="",
        failures=0,
        next_at=work.now if over else work.now + FIRST_POLL_S,
    )
    reports = statuses.at_phase(work.item, work.spec, statuses.RUNNING, work.now, url=run.url)
    spans = traces.started(steps.context.tracer, work, changed)
    saved = await steps.context.store.save_execution(changed, reports=reports, spans=spans)
    await steps.log("execution_started", saved, external_id=run.external_id, url=run.url)
    failpoint("execution-after-record")
    return StepOutcome(dataclasses.replace(work, execution=saved), poll_now=over)


async def _not_started(steps: StepContext, work: Work, error: ReconcilerError) -> StepOutcome:
    """Handle a start that failed, so that nothing runs. An error of the values is final: the values of an item are fixed."""
    failures = work.execution.failures
    retry = error.retry if isinstance(error, ProviderError) else RetryKind.SPEC
    gone = isinstance(error, NotFound) and failures + 1 >= NOT_FOUND_TRIES
    if retry is RetryKind.SPEC or gone:
        return StepOutcome(work, Ended(Result.FAILED, EndReason.REFUSED, error.message))
    return await _waits(steps, work, error)


async def _waits(steps: StepContext, work: Work, error: ReconcilerError) -> StepOutcome:
    """Try the start again after a pause, until the execution times out."""
    failures = work.execution.failures
    pause_s = await steps.pause_after_refusal_s(work, error)
    next_at = work.now + pause_s
    return StepOutcome(
        await steps.save(work, intended_at=0.0, failures=failures + 1, status="waiting", message=error.message, next_at=next_at)
    )


async def _find(steps: StepContext, work: Work, guard: Guard) -> StepOutcome:
    """Handle a start with unknown outcome: search for the run, and start again only after proof that none exists."""
    execution = work.execution
    try:
        spec = await steps.resolved(work)
        api = await steps.api(work, spec)
        run = await steps.executor(work).find(api, steps.intent(work, spec))
    except Ambiguous as error:
        return StepOutcome(work, Ended(Result.FAILED, EndReason.LOST, error.message))
    except ReconcilerError as error:
        next_at = work.now + steps.pause_s(execution.failures)
        return StepOutcome(await steps.save(work, failures=execution.failures + 1, message=error.message, next_at=next_at))
    if run is None:
        return await _not_found(steps, work, api, guard)
    await steps.log("execution_found", execution, external_id=run.external_id)
    return await _started(steps, work, run)


async def _not_found(steps: StepContext, work: Work, api: ApiClient, guard: Guard) -> StepOutcome:
    """Handle a complete list without the run: wait, give up, or start again if the list proves its absence."""
    execution = work.execution
    age_s = work.now - execution.intended_at
    if execution.ahead_s is not None and api.clock.ahead_s is not None:
        age_s = api.clock.now() - execution.intended_at - execution.ahead_s  # our own clock may have been set meanwhile
    if execution.status == "accepted":
        if age_s > FIND_S:
            message = "the provider accepted it, but no run carries the execution's id; see docs/stages.md on `run-name`"
            return StepOutcome(work, Ended(Result.FAILED, EndReason.LOST, message))
    elif age_s > steps.settle_s(work):
        if not _proves_absence(steps, work, api):
            return await _cannot_prove(steps, work)
        if execution.cancel_at:
            message = f"cancelled by {execution.cancel_by}; no run was started"
            return StepOutcome(work, Ended(Result.CANCELLED, EndReason.USER, message))
        again = await steps.save(work, intended_at=0.0, resent=True, message="no run was found: it is started again")
        return await _dispatch(steps, again, guard)
    return StepOutcome(await steps.save(work, next_at=work.now + min(10.0, FIRST_POLL_S + max(0.0, age_s) / 4)))


def _proves_absence(steps: StepContext, work: Work, api: ApiClient) -> bool:
    """Whether a list by time without the run proves its absence: the offset of the clocks was, and is, small."""
    ahead_s = work.execution.ahead_s
    return not steps.executor(work).by_clock or (ahead_s is not None and abs(ahead_s) <= TOO_FAR_S and api.clock.trusted)


async def _cannot_prove(steps: StepContext, work: Work) -> StepOutcome:
    """Handle clocks that cannot prove anything: keep searching for the run, and never start a second one."""
    execution = work.execution
    if execution.cancel_at and work.now - execution.cancel_at > FIND_S:
        message = f"cancelled by {execution.cancel_by}; no run was found, and whether one was started cannot be proved"
        return StepOutcome(work, Ended(Result.CANCELLED, EndReason.USER, message, terminated=False))
    message = (
        "RC5052: unknown outcome of the start: no run is found, and the provider's clock is unknown or far from this host's, "
        "so the search continues and it is not started again; see `reconciler doctor`"
    )
    next_at = work.now + steps.pause_s(execution.failures)
    return StepOutcome(await steps.save(work, failures=execution.failures + 1, message=message, next_at=next_at))
