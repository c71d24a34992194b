"""One step of an execution: start it, find it again, look at it, end it. Safe to run twice, and at any time after a crash.

The intent is stored before the call and the run's id after it; in doubt the provider is asked for the run that carries the
execution's id, and nothing is started again before its absence is proved. What a run is like is always read from the provider:
an event only says "look now".
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.drivers.http import ApiClient
from reconciler.drivers.running import Executor
from reconciler.engine.deps import Deps
from reconciler.engine.holding import holding
from reconciler.engine.passes import Engine
from reconciler.failpoints import failpoint
from reconciler.manifests.codec import resource_from_json
from reconciler.manifests.templates import TemplateError, resolve
from reconciler.model.errors import (
    Ambiguous,
    AuthFailed,
    NotFound,
    NotImplementedYet,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    ReconcilerError,
    RetryKind,
    ScopeGone,
    StateError,
)
from reconciler.model.executions import Execution, ExecutionState, Item, Later, Result, Run, RunIntent, RunReport, RunStatus, Why
from reconciler.model.records import JournalEntry
from reconciler.model.resources import Resource
from reconciler.stages import statuses
from reconciler.stages.ending import Ended, Ending
from reconciler.stages.reach import Reach
from reconciler.state.rows import FenceLost

TIMEOUT_S = 6 * 3600.0
"""Without `spec.timeout`: as long as a job may run at GitHub."""
SETTLE_S = 120.0
FIND_S = 600.0
"""How long a run that was taken, but has no id yet, is looked for."""
CANCEL_AGAIN_S = 60.0
REFUSED_AGAIN_S = 10.0
CANCEL_GRACE_S = 600.0
"""A run that has not ended this long after it was asked to is given up: `cancelled`, with that said."""
STEP_S = 240.0
"""No step takes longer; one that hangs is put off."""
QUARANTINE = 5
LOOKS_AGAIN = 8
LEASE_S = 300.0
FIRST_POLL_S = 1.0
Guard = Callable[[ApiClient], ApiClient]
"""Makes a client that writes only while this process has the lease of the execution."""
_CONDITIONS = ("successWhen", "failureWhen")


@dataclass(frozen=True, slots=True)
class Work:
    """All that a step knows."""

    execution: Execution
    item: Item
    stage: Resource
    """As it was when the item was queued."""
    executor: Executor
    now: float

    @property
    def spec(self) -> Mapping[str, Any]:
        """The pinned spec of the stage."""
        return self.stage.spec

    @property
    def deadline(self) -> float:
        """When its time is over (epoch seconds)."""
        return self.execution.started_at + (float(self.spec.get("timeout", 0)) or TIMEOUT_S)


class Steps:
    """Runs steps of executions; one at a time for each execution, over all processes."""

    def __init__(self, engine: Engine, reach: Reach, *, holder: str, on_change: Callable[[], None]) -> None:
        self._engine = engine
        self._deps: Deps = engine.deps
        self._reach = reach
        self._holder = holder
        self._on_change = on_change
        self._ending = Ending(self._deps)
        self._locks: dict[str, asyncio.Lock] = {}
        self.on_end: Callable[[Execution], None] | None = None

    async def step(self, execution_id: str) -> None:
        """Do what is due for one execution; returns when it is stored. Never raises for what a provider does."""
        lock = self._locks.setdefault(execution_id, asyncio.Lock())
        if lock.locked():
            return  # a step is under way: it leaves the time of the next one
        async with lock, self._lease(execution_id) as guard:
            if guard is None:
                return
            with contextlib.suppress(FenceLost):
                await self._guarded(execution_id, guard)
        self._locks.pop(execution_id, None)
        self._on_change()

    async def _guarded(self, execution_id: str, guard: Guard) -> None:
        """A step that hangs, or raises what nobody expected, is put off; after `QUARANTINE` times its execution is given up."""
        try:
            async with asyncio.timeout(STEP_S):
                await self._step(execution_id, guard)
        except (FenceLost, StateError):
            raise
        except Exception as error:
            self._deps.log.exception("step_failed", execution=execution_id, code="RC9001", error=type(error).__name__)
            await self._put_off(execution_id, error)

    async def _put_off(self, execution_id: str, error: Exception) -> None:
        store, db = self._deps.store, self._deps.db
        execution = await db(store.execution, execution_id)
        if execution is None or execution.state is ExecutionState.FINISHED:
            return
        message = error.message if isinstance(error, ReconcilerError) else f"a defect of this program: {type(error).__name__}"
        now = await db(store.now)
        if execution.failures + 1 >= QUARANTINE:
            await self._ending.abandon(execution, now, message)
            return
        put_off = dataclasses.replace(
            execution, failures=execution.failures + 1, message=message, next_at=now + self._pause(execution.failures)
        )
        await db(store.save_execution, put_off)

    @contextlib.asynccontextmanager
    async def _lease(self, execution_id: str) -> AsyncIterator[Guard | None]:
        """Keep other processes away; yields what keeps a client's writes back once it is lost, or None when another has it."""
        if not self._engine.holder:
            yield lambda client: client
            return
        async with holding(self._deps, f"execution/{execution_id}", self._holder, LEASE_S) as hold:
            yield (lambda client: client.guarded(hold.sure)) if hold is not None else None

    async def _step(self, execution_id: str, guard: Guard) -> None:
        work = await self._load(execution_id)
        if work is None:
            return
        if work.execution.state is ExecutionState.FINISHED:
            await self._look_again(work)
        elif work.execution.state is ExecutionState.STARTING:
            await self._start(work, guard)
        else:
            await self._follow(work)

    async def _load(self, execution_id: str) -> Work | None:
        store, db = self._deps.store, self._deps.db
        execution = await db(store.execution, execution_id)
        if execution is None:
            return None
        item = await db(store.item, execution.item_id)
        pinned = await db(store.pinned, execution.spec_digest)
        now = await db(store.now)
        if execution.state is ExecutionState.FINISHED and (item is None or pinned is None or not execution.next_at):
            return None
        if item is None or pinned is None:
            await self._ending.abandon(execution, now, "its item or pinned configuration is gone from the state")
            return None
        stage = resource_from_json(pinned)
        try:
            return Work(execution, item, stage, self._reach.executor(stage), now)
        except NotImplementedYet as error:
            await self._ending.end(execution, item, stage, Ended(Result.FAILED, Why.ERROR, error.message), now)
            return None

    # -- starting ---------------------------------------------------------------------------------------------------

    async def _start(self, work: Work, guard: Guard) -> None:
        execution = work.execution
        if execution.cancel_at and not execution.intended_at:
            await self._end(work, Ended(Result.CANCELLED, Why.USER, f"cancelled by {execution.cancel_by} before it began"))
        elif work.now > work.deadline:
            message = execution.message or "it could not be started in time"
            await self._end(work, Ended(Result.FAILED, Why.TIMED_OUT, message, surely=not execution.intended_at))
        elif work.spec.get("dryRun"):
            await self._end(work, Ended(Result.PASSED, Why.OK, "dry run: nothing was started", made_up=True))
        elif execution.intended_at:
            await self._find(work, guard)
        else:
            await self._dispatch(work, guard)

    async def _dispatch(self, work: Work, guard: Guard) -> None:
        """Store the intent, make the call, store the run."""
        try:
            spec = self._resolved(work)
            api = guard(await self._reach.api(work.execution, work.stage, spec))
        except StateError:
            raise
        except ProviderError as error:  # who gives the credential out is away, perhaps for a moment
            await self._not_started(work, error)
            return
        except ReconcilerError as error:
            await self._end(work, Ended(Result.FAILED, Why.ERROR, error.message))
            return
        changed = await self._save(work, intended_at=work.now, next_at=work.now + FIRST_POLL_S, status="starting", message="")
        failpoint("execution-after-intent")
        intent = self._intent(changed, spec)
        try:
            run = await work.executor.start(api, intent)
        except StateError:  # of the guard: nothing was sent, and whoever has the lease by now sees to it
            raise
        except OutcomeUnknown as error:
            await self._save(changed, message=error.message, next_at=work.now + FIRST_POLL_S)
        except ReconcilerError as error:
            await self._not_started(changed, error)
        else:
            failpoint("execution-after-start")
            await self._started(changed, run)

    def _resolved(self, work: Work) -> Mapping[str, Any]:
        """Return ``executor.spec`` with every template replaced, in one pass: what a value holds is never read as a template."""
        refs = work.stage.secret_refs("/secrets")
        aliases = {
            one["name"]: refs[f"/{index}"] for index, one in enumerate(work.spec.get("secrets", ())) if f"/{index}" in refs
        }
        wanted = _Secrets(aliases, lambda ref: self._engine.secrets.read(ref).reveal())
        scope = {"inputs": work.item.inputs, "event": work.item.event, "secrets": wanted}
        wanted_spec = work.spec["executor"].get("spec", {})
        try:
            spec: dict[str, Any] = resolve(wanted_spec, scope)
        except TemplateError as error:
            raise ReconcilerError(f"executor.spec: {error}", code="RC1302") from None
        if isinstance(
            wanted_spec.get("poll"), Mapping
        ):  # conditions are code: no value of an event or a secret becomes part of them
            spec["poll"] = {
                **spec["poll"],
                **{key: wanted_spec["poll"][key] for key in _CONDITIONS if key in wanted_spec["poll"]},
            }
        return spec

    def _intent(self, work: Work, spec: Mapping[str, Any]) -> RunIntent:
        executor = work.spec["executor"]
        return RunIntent(
            execution_id=work.execution.id,
            correlation=work.execution.correlation,
            type=executor["type"],
            resource=str(executor.get("resource", {}).get("name", "")),
            spec=spec,
            intended_at=work.execution.intended_at,
        )

    async def _started(self, work: Work, run: Run | None) -> None:
        if run is None:
            await self._save(work, status="accepted", message="taken; its run is looked for", next_at=work.now + FIRST_POLL_S)
            return
        reports = statuses.at_phase(work.item, work.spec, statuses.RUNNING, work.now, url=run.url)
        changed = dataclasses.replace(
            work.execution,
            state=ExecutionState.RUNNING,
            run=dataclasses.replace(
                run, url=self._deps.redactor.redact(run.url)
            ),  # a secret may stand in an http executor's path
            status=RunStatus.QUEUED.value,
            message="",
            failures=0,
            next_at=work.now if run.detail.get("done") else work.now + FIRST_POLL_S,
        )
        saved = await self._deps.db(self._deps.store.save_execution, changed, reports=reports)
        await self._log("execution_started", saved, external_id=run.external_id, url=run.url)
        failpoint("execution-after-record")
        if run.detail.get("done"):
            await self._follow(dataclasses.replace(work, execution=saved))

    async def _not_started(self, work: Work, error: ReconcilerError) -> None:
        """The provider said no, or was not reached: surely nothing runs."""
        retry = error.retry if isinstance(error, ProviderError) else RetryKind.SPEC
        if retry is RetryKind.SPEC or isinstance(error, NotFound) or _denied(error):
            await self._end(work, Ended(Result.FAILED, Why.REFUSED, error.message))
            return
        pause = self._pause(work.execution.failures)
        if isinstance(error, RateLimited) and error.retry_at is not None:
            pause = max(pause, error.retry_at - self._deps.clock())
        await self._save(
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
            spec = self._resolved(work)
            api = await self._reach.api(execution, work.stage, spec)
            run = await work.executor.find(api, self._intent(work, spec))
        except Ambiguous as error:
            await self._end(work, Ended(Result.FAILED, Why.LOST, error.message))
            return
        except ReconcilerError as error:
            pause = self._pause(execution.failures)
            await self._save(work, failures=execution.failures + 1, message=error.message, next_at=work.now + pause)
            return
        if run is not None:
            await self._log("execution_found", execution, external_id=run.external_id)
            await self._started(work, run)
            return
        age = work.now - execution.intended_at
        if execution.status == "accepted":
            if age > FIND_S:
                message = "the provider took it, but no run carries the execution's id; see docs/stages.md on `run-name`"
                await self._end(work, Ended(Result.FAILED, Why.LOST, message))
                return
        elif execution.cancel_at and age > self._settle(work):
            await self._end(work, Ended(Result.CANCELLED, Why.USER, f"cancelled by {execution.cancel_by}; no run was started"))
            return
        elif age > self._settle(work):
            await self._again(work, guard)
            return
        await self._save(work, next_at=work.now + min(10.0, FIRST_POLL_S + age / 4))

    def _settle(self, work: Work) -> float:
        """How long after the intent absence counts; never less than what the configuration says twice over."""
        return min(work.executor.settle_s, 2 * self._deps.config.reconcile.settle)

    async def _again(self, work: Work, guard: Guard) -> None:
        cleared = await self._save(work, intended_at=0.0, resent=True, message="no run was found: it is started again")
        await self._dispatch(cleared, guard)

    # -- following --------------------------------------------------------------------------------------------------

    async def _follow(self, work: Work) -> None:
        execution, run = work.execution, work.execution.run
        if run is None:
            await self._save(work, state=ExecutionState.STARTING, next_at=work.now)
            return
        try:
            spec = self._resolved(work)
            api = await self._reach.api(execution, work.stage, spec)
            work = await self._ask_to_end(work, api, spec)
            report = await work.executor.poll(api, self._intent(work, spec), work.execution.run or run)
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
            await self._end(work, self._ended(work, report))
        elif work.execution.cancel_at and work.now - work.execution.cancel_at > CANCEL_GRACE_S:
            why = Why.TIMED_OUT if work.execution.timed_out else Why.USER
            result = Result.FAILED if work.execution.timed_out else Result.CANCELLED
            message = "it was asked to end, but the provider has not confirmed it"
            await self._end(work, Ended(result, why, message, report, surely=False))
        else:
            await self._goes_on(work, report)

    async def _ask_to_end(self, work: Work, api: Any, spec: Mapping[str, Any]) -> Work:
        """When its time is over, or somebody asked for it, end the run outside; asked again each minute until it has ended."""
        execution = work.execution
        if not execution.cancel_at and work.now > work.deadline:
            work = await self._save(work, cancel_at=work.now, timed_out=True, cancel_by="timeout", message="its time is over")
            execution = work.execution
        if not execution.cancel_at or execution.run is None:
            return work
        asked = float(execution.run.detail.get("asked_at", 0.0))
        if asked and work.now - asked < CANCEL_AGAIN_S:
            return work
        detail = {**execution.run.detail, "asked_at": work.now}
        try:
            await work.executor.cancel(api, self._intent(work, spec), execution.run)
        except ReconcilerError as error:  # it is looked at all the same: perhaps it ends by itself, or has ended
            refused = {**detail, "asked_at": work.now - CANCEL_AGAIN_S + REFUSED_AGAIN_S, "refused": error.message}
            return await self._save(work, run=dataclasses.replace(execution.run, detail=refused))
        told = dataclasses.replace(execution.run, detail={**detail, "cancelled": True, "refused": ""})
        await self._log("execution_cancelled", execution, by=execution.cancel_by)
        return await self._save(work, run=told, cancelled=True)

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
        await self._save(work, run=run, status=report.status.value, message=refused or report.message, failures=0, next_at=wake)

    async def _vanished(self, work: Work) -> None:
        """A run that answers 404: at first it may only be late to appear; after that it is lost, if it stays away."""
        execution = work.execution
        young = work.now - execution.intended_at < self._settle(work)
        if not young and execution.failures >= 2:
            await self._end(work, Ended(Result.FAILED, Why.LOST, "the run is not there any more (404, asked three times)"))
            return
        pause = 2.0 if young else self._pause(execution.failures)
        counted = execution.failures if young else execution.failures + 1
        await self._save(work, failures=counted, message="the run is not there (404)", next_at=work.now + pause)

    async def _unreachable(self, work: Work, error: ReconcilerError) -> None:
        execution = work.execution
        if work.now > work.deadline + CANCEL_GRACE_S:
            message = f"its time is over, and it cannot be looked at: {error.message}"
            await self._end(work, Ended(Result.FAILED, Why.TIMED_OUT, message, surely=False))
            return
        pause = self._pause(execution.failures)
        if isinstance(error, RateLimited) and error.retry_at is not None:
            pause = max(pause, error.retry_at - self._deps.clock())
        await self._save(
            work, failures=execution.failures + 1, message=f"cannot be looked at: {error.message}", next_at=work.now + pause
        )

    def _ended(self, work: Work, report: RunReport) -> Ended:
        execution = work.execution
        result = report.result or Result.FAILED
        why = {Result.PASSED: Why.OK, Result.FAILED: Why.FAILED, Result.CANCELLED: Why.USER}[result]
        message = report.conclusion if result is Result.PASSED else report.message or report.conclusion
        if execution.timed_out and result is not Result.PASSED:
            result, why, message = Result.FAILED, Why.TIMED_OUT, f"ended after its timeout ({report.conclusion})"
        elif result is Result.CANCELLED:
            message = f"cancelled by {execution.cancel_by}" if execution.cancel_by else f"cancelled outside ({report.conclusion})"
        return Ended(result, why, message, report, made_up=work.executor.type == "noop")

    # -- after the end ----------------------------------------------------------------------------------------------

    async def _look_again(self, work: Work) -> None:
        """An event told that a later attempt of an ended execution's run has ended: note it, as the provider shows it."""
        execution, run, report = work.execution, work.execution.run, None
        with contextlib.suppress(ReconcilerError):
            if run is not None:
                spec = self._resolved(work)
                api = await self._reach.api(execution, work.stage, spec)
                report = await work.executor.poll(api, self._intent(work, spec), run)
        known = execution.later.attempt if execution.later is not None else run.attempt if run is not None else 0
        if (
            report is not None
            and report.status is RunStatus.FINISHED
            and report.result is not None
            and report.run.attempt > known
        ):
            later = Later(report.run.attempt, report.result, report.conclusion, report.run.url, work.now)
            saved = await self._save(work, later=later, next_at=0.0, failures=0)
            await self._log(
                "execution_run_again", saved.execution, attempt=later.attempt, outcome=later.result.value, url=later.url
            )
        elif run is None or execution.failures + 1 >= LOOKS_AGAIN or (report is not None and report.run.attempt <= known):
            await self._save(work, next_at=0.0, failures=0)
        else:  # out of reach, or not over yet
            await self._save(work, next_at=work.now + self._pause(execution.failures), failures=execution.failures + 1)

    # -- shared -----------------------------------------------------------------------------------------------------

    async def _save(self, work: Work, **changes: Any) -> Work:
        changed = dataclasses.replace(work.execution, **changes)
        return dataclasses.replace(work, execution=await self._deps.db(self._deps.store.save_execution, changed))

    async def _end(self, work: Work, ended: Ended) -> None:
        finished = await self._ending.end(work.execution, work.item, work.stage, ended, work.now)
        if self.on_end is not None:
            self.on_end(finished)
        await self._log(
            "execution_finished",
            finished,
            outcome=finished.result.value if finished.result else "",
            reason=finished.why.value if finished.why else "",
            duration_ms=round((finished.finished_at - finished.created_at) * 1000),
        )

    def _pause(self, failures: int) -> float:
        config = self._deps.config.reconcile
        pause: float = min(config.retry_max, max(1.0, config.retry_min) * 2 ** min(failures, 20))
        return pause * random.uniform(0.8, 1.0)  # noqa: S311 - jitter

    async def _log(self, event: str, execution: Execution, **fields: Any) -> None:
        """Say what happened, in the log and in the causal chain that `explain` tells."""
        stage = execution.stage
        self._deps.log.info(event, kind="Stage", name=stage.name, canvas=stage.canvas, execution=execution.id, **fields)
        entry = JournalEntry(self._deps.clock(), stage, event, revision=execution.revision, detail={"id": execution.id, **fields})
        await self._deps.db(self._deps.store.journal, [entry])


class _Secrets(Mapping[str, str]):
    """Secret values by alias, each read when a template names it."""

    def __init__(self, refs: Mapping[str, Any], read: Callable[[Any], str]) -> None:
        self._refs, self._read = refs, read

    def __getitem__(self, name: str) -> str:
        return self._read(self._refs[name])

    def __iter__(self) -> Any:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __contains__(self, name: object) -> bool:
        return name in self._refs


def _denied(error: ReconcilerError) -> bool:
    return isinstance(error, ProviderError) and error.status == 403 and not isinstance(error, AuthFailed | RateLimited)
