"""What every step of an execution has and does: what it knows, how its parameters are made, how its outcome is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.drivers.base import Executor
from reconciler.engine.context import Context
from reconciler.engine.current import Current
from reconciler.manifests.templates import TemplateError
from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import Execution, Item, RunIntent
from reconciler.model.records import JournalEntry
from reconciler.model.resources import Resource
from reconciler.stages.executors import ExecutorResolver, intent_of
from reconciler.stages.finish import Ended, Ending
from reconciler.stages.inputs import resolved_spec
from reconciler.stages.pausing import pause_after

TIMEOUT_S = 6 * 3600.0
"""Without `spec.timeout`: as long as a job may run at GitHub."""
FIRST_POLL_S = 1.0
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


class Stepping:
    """What the parts of a step share."""

    def __init__(self, current: Current, reach: ExecutorResolver) -> None:
        self.current = current
        self.context: Context = current.context
        self.reach = reach
        self.ending = Ending(self.context)
        self.on_end: Callable[[Execution], None] | None = None

    def resolved(self, work: Work) -> Mapping[str, Any]:
        """Return ``executor.spec`` with every template replaced, in one pass: what a value holds is never read as a template."""
        refs = work.stage.secret_refs("/secrets")
        aliases = {
            one["name"]: refs[f"/{index}"] for index, one in enumerate(work.spec.get("secrets", ())) if f"/{index}" in refs
        }
        wanted = _Secrets(aliases, lambda ref: self.current.secrets.read(ref).reveal())
        scope = {"inputs": work.item.inputs, "event": work.item.event, "secrets": wanted}
        wanted_spec = work.spec["executor"].get("spec", {})
        try:
            spec = resolved_spec(wanted_spec, scope)
        except TemplateError as error:
            raise ReconcilerError(f"executor.spec: {error}", code="RC1302") from None
        poll = wanted_spec.get("poll")
        if isinstance(poll, Mapping):  # conditions are code: no value of an event or a secret becomes part of them
            spec["poll"] = {**spec["poll"], **{key: poll[key] for key in _CONDITIONS if key in poll}}
        return spec

    def intent(self, work: Work, spec: Mapping[str, Any]) -> RunIntent:
        """Return what an executor is asked to run."""
        return intent_of(work.execution, work.stage, spec)

    async def save(self, work: Work, **changes: Any) -> Work:
        """Store ``changes`` of the execution; raises `FenceLost` when somebody else changed it meanwhile."""
        changed = dataclasses.replace(work.execution, **changes)
        return dataclasses.replace(work, execution=await self.context.store.save_execution(changed))

    async def end(self, work: Work, ended: Ended) -> None:
        """Store the end with all that it leads to, and say so."""
        finished = await self.ending.end(work.execution, work.item, work.stage, ended, work.now)
        if self.on_end is not None:
            self.on_end(finished)
        await self.log(
            "execution_finished",
            finished,
            outcome=finished.result.value if finished.result else "",
            reason=finished.why.value if finished.why else "",
            duration_ms=round((finished.finished_at - finished.created_at) * 1000),
        )

    def settle(self, work: Work) -> float:
        """Return how long after the intent (seconds) a complete look that shows no run proves that there is none."""
        return min(work.executor.settle_s, 2 * self.context.config.reconcile.settle)

    def pause(self, failures: int, error: ReconcilerError | None = None) -> float:
        """Return the seconds until the next try after ``failures`` failed ones (`pause_after`)."""
        return pause_after(self.context, failures, error)

    async def log(self, event: str, execution: Execution, **fields: Any) -> None:
        """Say what happened, in the log and in the causal chain that `explain` tells."""
        stage = execution.stage
        self.context.log.info(event, kind="Stage", name=stage.name, canvas=stage.canvas, execution=execution.id, **fields)
        entry = JournalEntry(
            self.context.clock(), stage, event, revision=execution.revision, detail={"id": execution.id, **fields}
        )
        await self.context.store.journal([entry])


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
