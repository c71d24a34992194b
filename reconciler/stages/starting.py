"""Starting a run: the intent first, then the call, then the run's id; in doubt the provider is asked, and nothing is guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from reconciler.drivers.http import ApiClient
from reconciler.failpoints import failpoint
from reconciler.model.errors import (
    Ambiguous,
    AuthFailed,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    ReconcilerError,
    RetryKind,
    StateError,
)
from reconciler.model.executions import ExecutionState, Result, Run, RunStatus, Why
from reconciler.stages import statuses
from reconciler.stages.ending import Ended
from reconciler.stages.stepping import FIRST_POLL_S, Stepping, Work

FIND_S = 600.0
"""How long a run that was taken, but has no id yet, is looked for."""
Guard = Callable[[ApiClient], ApiClient]
"""Makes a client that writes only while this process has the lease of the execution."""


class Starting:
    """Starts runs, and finds those that may have been started."""

    def __init__(self, tools: Stepping, follow: Callable[[Work], Awaitable[None]]) -> None:
        self._tools = tools
        self._follow = follow

    async def start(self, work: Work, guard: Guard) -> None:
        """Start the run, or find the one that may have been started."""
        execution = work.execution
        if execution.cancel_at and not execution.intended_at:
            await self._tools.end(work, Ended(Result.CANCELLED, Why.USER, f"cancelled by {execution.cancel_by} before it began"))
        elif work.now > work.deadline:
            message = execution.message or "it could not be started in time"
            await self._tools.end(work, Ended(Result.FAILED, Why.TIMED_OUT, message, surely=not execution.intended_at))
        elif work.spec.get("dryRun"):
            await self._tools.end(work, Ended(Result.PASSED, Why.OK, "dry run: nothing was started", made_up=True))
        elif execution.intended_at:
            await self._find(work, guard)
        else:
            await self._dispatch(work, guard)

    async def _dispatch(self, work: Work, guard: Guard) -> None:
        """Store the intent, make the call, store the run."""
        try:
            spec = self._tools.resolved(work)
            api = guard(await self._tools.reach.api(work.execution, work.stage, spec))
        except StateError:
            raise
        except ProviderError as error:  # who gives the credential out is away, perhaps for a moment
            await self._not_started(work, error)
            return
        except ReconcilerError as error:
            await self._tools.end(work, Ended(Result.FAILED, Why.ERROR, error.message))
            return
        changed = await self._tools.save(
            work, intended_at=work.now, next_at=work.now + FIRST_POLL_S, status="starting", message=""
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
            run=dataclasses.replace(run, url=self._tools.deps.redactor.redact(run.url)),
            status=RunStatus.QUEUED.value,
            message="",
            failures=0,
            next_at=work.now if run.detail.get("done") else work.now + FIRST_POLL_S,
        )
        saved = await self._tools.deps.db(self._tools.deps.store.save_execution, changed, reports=reports)
        await self._tools.log("execution_started", saved, external_id=run.external_id, url=run.url)
        failpoint("execution-after-record")
        if run.detail.get("done"):
            await self._follow(dataclasses.replace(work, execution=saved))

    async def _not_started(self, work: Work, error: ReconcilerError) -> None:
        """The provider said no, or was not reached: surely nothing runs."""
        retry = error.retry if isinstance(error, ProviderError) else RetryKind.SPEC
        if retry is RetryKind.SPEC or isinstance(error, NotFound) or _denied(error):
            await self._tools.end(work, Ended(Result.FAILED, Why.REFUSED, error.message))
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
            await self._tools.end(work, Ended(Result.FAILED, Why.LOST, error.message))
            return
        except ReconcilerError as error:
            pause = self._tools.pause(execution.failures)
            await self._tools.save(work, failures=execution.failures + 1, message=error.message, next_at=work.now + pause)
            return
        if run is not None:
            await self._tools.log("execution_found", execution, external_id=run.external_id)
            await self._started(work, run)
            return
        age = work.now - execution.intended_at
        if execution.status == "accepted":
            if age > FIND_S:
                message = "the provider took it, but no run carries the execution's id; see docs/stages.md on `run-name`"
                await self._tools.end(work, Ended(Result.FAILED, Why.LOST, message))
                return
        elif execution.cancel_at and age > self._tools.settle(work):
            await self._tools.end(
                work, Ended(Result.CANCELLED, Why.USER, f"cancelled by {execution.cancel_by}; no run was started")
            )
            return
        elif age > self._tools.settle(work):
            await self._again(work, guard)
            return
        await self._tools.save(work, next_at=work.now + min(10.0, FIRST_POLL_S + age / 4))

    async def _again(self, work: Work, guard: Guard) -> None:
        cleared = await self._tools.save(work, intended_at=0.0, resent=True, message="no run was found: it is started again")
        await self._dispatch(cleared, guard)


def _denied(error: ReconcilerError) -> bool:
    return isinstance(error, ProviderError) and error.status == 403 and not isinstance(error, AuthFailed | RateLimited)
