"""Starting a run: the intent first, then the call, then the run's id; in doubt the provider is asked, and nothing is guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from reconciler.drivers.http.client import ApiClient
from reconciler.drivers.http.clock import TOO_FAR_S
from reconciler.failpoints import failpoint
from reconciler.model.errors import Ambiguous, NotFound, OutcomeUnknown, ProviderError, ReconcilerError, RetryKind, StateError
from reconciler.model.executions import EndReason, ExecutionState, Result, Run, RunStatus
from reconciler.stages import statuses
from reconciler.stages.context import FIRST_POLL_S, Stepping, Work
from reconciler.stages.exclusion import Guard
from reconciler.stages.finish import Ended

FIND_S = 600.0
"""How long a run that was taken, but has no id yet, is looked for."""
NOT_FOUND_TRIES = 3
"""A 404 may pass (lists lag, rights come late): a start is refused for good when it was answered so this often."""


class Starting:
    """Starts runs, and finds those that may have been started."""

    def __init__(self, tools: Stepping, follow: Callable[[Work], Awaitable[None]]) -> None:
        self._tools = tools
        self._follow = follow

    async def start(self, work: Work, guard: Guard) -> None:
        """Start the run, or find the one that may have been started."""
        execution = work.execution
        if execution.cancel_at and not execution.intended_at:
            await self._tools.end(
                work, Ended(Result.CANCELLED, EndReason.USER, f"cancelled by {execution.cancel_by} before it began")
            )
        elif work.now > work.deadline:
            message = execution.message or "it could not be started in time"
            await self._tools.end(work, Ended(Result.FAILED, EndReason.TIMED_OUT, message, terminated=not execution.intended_at))
        elif work.spec.get("dryRun"):
            await self._tools.end(work, Ended(Result.PASSED, EndReason.OK, "dry run: nothing was started", simulated=True))
        elif execution.intended_at:
            await self._find(work, guard)
        else:
            await self._dispatch(work, guard)

    async def _dispatch(self, work: Work, guard: Guard) -> None:
        """Store the intent, make the call, store the run."""
        try:
            spec = self._tools.resolved(work)
            api = guard(await self._tools.reach.api(work.execution, work.stage, spec))
            ahead_s = await self._ahead_s(work, api)
        except StateError:
            raise
        except ProviderError as error:  # who gives the credential out is away, perhaps for a moment
            await self._not_started(work, error)
            return
        except ReconcilerError as error:
            await self._tools.end(work, Ended(Result.FAILED, EndReason.ERROR, error.message))
            return
        changed = await self._tools.save(
            work,
            intended_at=work.now,
            ahead_s=ahead_s,
            next_at=work.now + FIRST_POLL_S,
            status="starting",
            message="",
        )
        failpoint("execution-after-intent")
        intent = self._tools.intent(changed, spec)
        try:
            run = await work.executor.start(api, intent)
        except StateError:  # of the guard: nothing was sent, and whoever has the lease by now sees to it
            raise
        except OutcomeUnknown as error:
            await self._tools.save(changed, message=error.message, next_at=work.now + FIRST_POLL_S)
        except ReconcilerError as error:
            await self._not_started(changed, error)
        else:
            failpoint("execution-after-start")
            await self._started(changed, run)

    async def _ahead_s(self, work: Work, api: ApiClient) -> float | None:
        """Return how far the provider's clock is ahead of the database's: what is searched there by time, is searched by it."""
        if not work.executor.by_clock:
            return None
        await api.learn_time()
        known = api.clock.ahead_s is not None
        return api.clock.now() - await self._tools.context.store.now() if known else None

    async def _started(self, work: Work, run: Run | None) -> None:
        if run is None:
            await self._tools.save(
                work, status="accepted", message="taken; its run is looked for", next_at=work.now + FIRST_POLL_S
            )
            return
        reports = statuses.at_phase(work.item, work.spec, statuses.RUNNING, work.now, url=run.url)
        changed = dataclasses.replace(
            work.execution,
            state=ExecutionState.RUNNING,
            # A secret may stand in the path of an http executor.
            run=dataclasses.replace(run, url=self._tools.context.redactor.redact(run.url)),
            status=RunStatus.QUEUED.value,
            message="",
            failures=0,
            next_at=work.now if run.detail.get("done") else work.now + FIRST_POLL_S,
        )
        saved = await self._tools.context.store.save_execution(changed, reports=reports)
        await self._tools.log("execution_started", saved, external_id=run.external_id, url=run.url)
        failpoint("execution-after-record")
        if run.detail.get("done"):
            await self._follow(dataclasses.replace(work, execution=saved))

    async def _not_started(self, work: Work, error: ReconcilerError) -> None:
        """The provider said no, or was not reached: surely nothing runs. Only values are final: the item's are fixed."""
        retry = error.retry if isinstance(error, ProviderError) else RetryKind.SPEC
        gone = isinstance(error, NotFound) and work.execution.failures + 1 >= NOT_FOUND_TRIES
        if retry is RetryKind.SPEC or gone:
            await self._tools.end(work, Ended(Result.FAILED, EndReason.REFUSED, error.message))
            return
        pause = self._tools.pause(work.execution.failures, error)
        await self._tools.save(
            work,
            intended_at=0.0,
            failures=work.execution.failures + 1,
            status="waiting",
            message=error.message,
            next_at=work.now + pause,
        )

    async def _find(self, work: Work, guard: Guard) -> None:
        """A start whose end is not known: look for the run; start again only when it is proved that there is none."""
        execution = work.execution
        try:
            spec = self._tools.resolved(work)
            api = await self._tools.reach.api(execution, work.stage, spec)
            run = await work.executor.find(api, self._tools.intent(work, spec))
        except Ambiguous as error:
            await self._tools.end(work, Ended(Result.FAILED, EndReason.LOST, error.message))
            return
        except ReconcilerError as error:
            pause = self._tools.pause(execution.failures)
            await self._tools.save(work, failures=execution.failures + 1, message=error.message, next_at=work.now + pause)
            return
        if run is not None:
            await self._tools.log("execution_found", execution, external_id=run.external_id)
            await self._started(work, run)
            return
        await self._not_found(work, api, guard)

    async def _not_found(self, work: Work, api: ApiClient, guard: Guard) -> None:
        """A complete look shows no run: wait, give up, or start again where that proves that there is none."""
        execution = work.execution
        age = work.now - execution.intended_at
        if execution.ahead_s is not None and api.clock.ahead_s is not None:
            age = api.clock.now() - execution.intended_at - execution.ahead_s  # whatever was done to our clock meanwhile
        if execution.status == "accepted":
            if age > FIND_S:
                message = "the provider took it, but no run carries the execution's id; see docs/stages.md on `run-name`"
                await self._tools.end(work, Ended(Result.FAILED, EndReason.LOST, message))
                return
        elif age > self._tools.settle(work) and not _proves(work, api):
            await self._cannot_tell(work)
            return
        elif execution.cancel_at and age > self._tools.settle(work):
            await self._tools.end(
                work, Ended(Result.CANCELLED, EndReason.USER, f"cancelled by {execution.cancel_by}; no run was started")
            )
            return
        elif age > self._tools.settle(work):
            await self._again(work, guard)
            return
        await self._tools.save(work, next_at=work.now + min(10.0, FIRST_POLL_S + max(0.0, age) / 4))

    async def _cannot_tell(self, work: Work) -> None:
        """Whether a run was started cannot be proved by times: it is looked for, and never started a second time."""
        execution = work.execution
        if execution.cancel_at and work.now - execution.cancel_at > FIND_S:
            message = f"cancelled by {execution.cancel_by}; no run was found, and whether one was started cannot be proved"
            await self._tools.end(work, Ended(Result.CANCELLED, EndReason.USER, message, terminated=False))
            return
        message = (
            "RC5052: unknown outcome of the start: no run is found, and the provider's clock is unknown or far from this host's, "
            "so that it is looked for and not started again; see `reconciler doctor`"
        )
        pause = self._tools.pause(execution.failures)
        await self._tools.save(work, failures=execution.failures + 1, message=message, next_at=work.now + pause)

    async def _again(self, work: Work, guard: Guard) -> None:
        cleared = await self._tools.save(work, intended_at=0.0, resent=True, message="no run was found: it is started again")
        await self._dispatch(cleared, guard)


def _proves(work: Work, api: ApiClient) -> bool:
    """Whether a list by time that lacks the run proves that there is none: the offset of the clocks was small, and is."""
    ahead_s = work.execution.ahead_s
    return not work.executor.by_clock or (ahead_s is not None and abs(ahead_s) <= TOO_FAR_S and api.clock.trusted)
