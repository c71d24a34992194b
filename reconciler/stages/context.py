"""Shared by the steps of an execution: their input (`Work`), their services (`StepContext`) and their result (`StepOutcome`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.credentials.redact import Redactor
from reconciler.drivers.base import Executor
from reconciler.drivers.http.client import ApiClient
from reconciler.engine.backoff import pause_after
from reconciler.engine.context import Context
from reconciler.engine.current import Current
from reconciler.engine.grants import AGAIN_S, granted_just_now
from reconciler.manifests.kinds import StageSpec
from reconciler.manifests.templates import TemplateError
from reconciler.model.errors import AuthFailed, PermissionDenied, ReconcilerError
from reconciler.model.executions import EndReason, Execution, Item, Result, Run, RunIntent, RunReport
from reconciler.model.records import JournalEntry
from reconciler.model.resources import Resource, ResourceId, SecretRef
from reconciler.stages.executors import ExecutorResolver, intent_of
from reconciler.stages.inputs import resolved_spec

TIMEOUT_S = 6 * 3600.0
"""Default of `spec.timeout`: the longest that a hosted job may run."""
FIRST_POLL_S = 1.0
_CONDITIONS = ("successWhen", "failureWhen")


@dataclass(frozen=True, slots=True)
class Work:
    """The input of a step."""

    execution: Execution
    item: Item
    stage: Resource
    """The stage as it was when the item was queued."""
    now: float
    """The database's time (epoch seconds) when the step began."""

    @property
    def spec(self) -> StageSpec:
        """The spec of the stage's snapshot."""
        return self.stage.typed(StageSpec)

    @property
    def deadline(self) -> float:
        """When the execution times out (epoch seconds)."""
        return self.execution.started_at + (self.spec.timeout or TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Ended:
    """How an execution ended, before its outputs are checked."""

    result: Result
    why: EndReason
    message: str = ""
    report: RunReport | None = None
    simulated: bool = False
    """Whether outputs get simulated values, because nothing ran."""
    terminated: bool = True
    """Whether no part of the run can still be active. Only then is the item retried."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The result of a step. Without ``ended`` and ``poll_now`` the execution waits for its next step."""

    work: Work
    ended: Ended | None = None
    poll_now: bool = False
    """Whether the run has ended already, so that it is polled now."""


class StepContext:
    """Services for every step. It has no state of its own."""

    def __init__(self, current: Current, executors: ExecutorResolver) -> None:
        self.context: Context = current.context
        self._current = current
        self._executors = executors

    def executor(self, work: Work) -> Executor:
        """Return the executor of the stage. Raises `NotImplementedYet` for a provider without one."""
        return self._executors.executor(work.stage)

    async def api(self, work: Work, spec: Mapping[str, Any]) -> ApiClient:
        """Return the client of the execution; ``spec`` is resolved. Raises `ReconcilerError`."""
        return await self._executors.api(work.execution, work.stage, spec)

    async def resolved(self, work: Work) -> Mapping[str, Any]:
        """Return ``executor.spec`` with every template replaced, in one pass: a value is never read as a template.

        Raises `ReconcilerError` for a template that cannot be resolved, and `SpecTooLarge`.
        """
        refs = work.stage.secret_refs("/secrets")
        await self._current.secrets.prepare(refs.values())
        aliases = {secret.name: refs[f"/{index}"] for index, secret in enumerate(work.spec.secrets) if f"/{index}" in refs}
        secrets = _Secrets(aliases, lambda ref: self._current.secrets.read(ref).reveal())
        declared = work.spec.executor.spec
        try:
            spec = resolved_spec(declared, {"inputs": work.item.inputs, "event": work.item.event, "secrets": secrets})
        except TemplateError as error:
            raise ReconcilerError(f"executor.spec: {error}", code="RC1302") from None
        poll = declared.get("poll")
        if isinstance(poll, Mapping):  # conditions are code: no value of an event or a secret becomes part of them
            spec["poll"] = {**spec["poll"], **{key: poll[key] for key in _CONDITIONS if key in poll}}
        return spec

    def intent(self, work: Work, spec: Mapping[str, Any]) -> RunIntent:
        """Return the intent for the executor; ``spec`` is resolved."""
        return intent_of(work.execution, work.stage, spec)

    async def save(self, work: Work, **changes: Any) -> Work:
        """Store ``changes`` of the execution; raises `FenceLost` if another process changed it meanwhile."""
        changed = dataclasses.replace(work.execution, **changes)
        return dataclasses.replace(work, execution=await self.context.store.save_execution(changed))

    def settle_s(self, work: Work) -> float:
        """Return the seconds after the intent from which a complete list without the run proves its absence."""
        return min(self.executor(work).settle_s, 2 * self.context.config.reconcile.settle)

    def pause_s(self, failures: int, error: ReconcilerError | None = None) -> float:
        """Return the seconds until the next try after ``failures`` failed ones (`pause_after`)."""
        return pause_after(self.context, failures, error)

    async def pause_after_refusal_s(self, work: Work, error: ReconcilerError) -> float:
        """Return the seconds until a start is tried again; short where its Integration has just been granted more."""
        if isinstance(error, PermissionDenied | AuthFailed) and work.execution.integration:
            integration = ResourceId.from_path(work.execution.integration)
            if await granted_just_now(self._current, integration, await self.context.store.now()):
                return AGAIN_S
        return self.pause_s(work.execution.failures, error)

    async def log(self, event: str, execution: Execution, **fields: Any) -> None:
        """Write ``event`` to the log and to the journal that `explain` reads."""
        stage, context = execution.stage, self.context
        context.log.info(event, kind="Stage", name=stage.name, canvas=stage.canvas, execution=execution.id, **fields)
        entry = JournalEntry(context.clock(), stage, event, revision=execution.revision, detail={"id": execution.id, **fields})
        await context.store.journal([entry])


def stored_run(run: Run, redactor: Redactor) -> Run:
    """Return ``run`` as it is stored: a service may repeat a secret in its URL or its answer."""
    return dataclasses.replace(run, url=redactor.redact(run.url), detail=redactor.redact_fields(run.detail))


class _Secrets(Mapping[str, str]):
    """Secret values by alias, each read only when a template names it."""

    def __init__(self, refs: Mapping[str, SecretRef], read: Callable[[SecretRef], str]) -> None:
        self._refs, self._read = refs, read

    def __getitem__(self, name: str) -> str:
        return self._read(self._refs[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __contains__(self, name: object) -> bool:
        return name in self._refs
