"""How an execution ends: outputs, retry or done, the event for what comes after, the final statuses. One commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from reconciler.engine.context import Context
from reconciler.engine.statuses import iso
from reconciler.failpoints import failpoint
from reconciler.manifests.codec import resource_from_json
from reconciler.model.errors import ReconcilerError
from reconciler.model.events import Event, EventState, Origin
from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, Result, RunReport, outputs_of
from reconciler.model.resources import Resource
from reconciler.stages import statuses
from reconciler.state.inbox import new_event_id

BACKOFF_S = 10.0
_RETRIED = frozenset({EndReason.FAILED, EndReason.TIMED_OUT, EndReason.MISSING_OUTPUTS})
"""Ends after which a further try can help; it is made where the run before it has surely ended (`Ended.surely`)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an execution ended, before its outputs are looked at."""

    result: Result
    why: EndReason
    message: str = ""
    report: RunReport | None = None
    simulated: bool = False
    """Whether outputs get made-up values: nothing ran."""
    terminated: bool = True
    """Whether nothing of it can be running any more: only then may there be a further try."""


class Ending:
    """Ends executions."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def end(self, execution: Execution, item: Item, stage: Resource, ended: Ended, now: float) -> Execution:
        """Store the end of ``execution`` with all that follows from it; raises `FenceLost` when another process did."""
        outputs = await self._outputs(execution, stage, ended)
        declared = {one["name"]: bool(one.get("required", False)) for one in stage.spec.get("outputs", ())}
        kept, missing = outputs_of(declared, outputs)
        result, why, message = ended.result, ended.why, ended.message
        if result is Result.PASSED and missing:
            result, why, message = Result.FAILED, EndReason.MISSING_OUTPUTS, f"required outputs are missing: {', '.join(missing)}"
        finished = dataclasses.replace(
            execution,
            state=ExecutionState.FINISHED,
            result=result,
            why=why,
            message=message,
            finished_at=now,
            next_at=0.0,
            run=ended.report.run if ended.report is not None else execution.run,
            status=ended.report.conclusion if ended.report is not None else execution.status,
        )
        retry = self._retry(item, stage, finished, now) if ended.terminated else None
        event, body = (None, b"") if retry is not None else self._event(finished, item, kept, now)
        url = finished.run.url if finished.run is not None else ""
        reports = () if retry is not None else statuses.at_end(item, stage.spec, result, why, now, url=url, message=message)
        failpoint("execution-before-finish")
        saved = await self._context.store.finish_execution(
            finished, outputs=kept, retry=retry, event=event, body=body, reports=reports
        )
        failpoint("execution-after-finish")
        return saved

    async def abandon(self, execution: Execution, now: float, message: str) -> None:
        """End an execution that cannot be worked on: what it is made of is gone, or every step of it fails."""
        item = await self._context.store.item(execution.item_id)
        pinned = await self._context.store.pinned(execution.spec_digest)
        if item is not None and pinned is not None:
            try:
                await self.end(execution, item, resource_from_json(pinned), Ended(Result.FAILED, EndReason.LOST, message), now)
                return
            except ReconcilerError:
                raise
            except Exception as error:  # what it is made of cannot be handed on: it ends all the same
                self._context.log.exception("step_failed", execution=execution.id, code="RC9001", error=type(error).__name__)
        lost = dataclasses.replace(
            execution,
            state=ExecutionState.FINISHED,
            result=Result.FAILED,
            why=EndReason.LOST,
            message=message,
            finished_at=now,
            next_at=0.0,
        )
        await self._context.store.finish_execution(lost, outputs={})

    async def _outputs(self, execution: Execution, stage: Resource, ended: Ended) -> Mapping[str, Any]:
        if ended.simulated:
            return {one["name"]: f"dry-run-{one['name']}" for one in stage.spec.get("outputs", ())}
        pushed = await self._context.store.outputs(execution.id)
        told = ended.report.outputs if ended.report is not None else {}
        return {**told, **pushed}

    def _retry(self, item: Item, stage: Resource, finished: Execution, now: float) -> Item | None:
        policy = stage.spec.get("retry")
        if policy is None or finished.why not in _RETRIED or finished.cancel_by not in ("", "timeout"):
            return None
        if item.attempt > int(policy["limit"]):
            return None
        pause = float(policy.get("backoff", BACKOFF_S)) * 2 ** (item.attempt - 1)
        attempt, failure = item.attempt + 1, finished.message[:300]
        return dataclasses.replace(
            item,
            attempt=attempt,
            not_before=now + pause,
            failure=failure,
            reason="retry",
            message=f"attempt {attempt} begins {iso(now + pause)}, after: {failure}"[:400],
        )

    def _event(self, finished: Execution, item: Item, outputs: Mapping[str, Any], now: float) -> tuple[Event, bytes]:
        """The completion is an event itself, on failure too: stages after it filter on `$.execution.result`."""
        body = {
            "type": "execution_finished",
            "stage": {
                "name": finished.stage.name,
                "canvas": finished.stage.canvas,
                "id": finished.stage.uid(self._context.owner),
            },
            "execution": {
                "id": finished.id,
                "label": finished.label,
                "result": finished.result.value if finished.result else None,
                "result_reason": finished.why.value if finished.why else None,
                "result_message": finished.message,
                "created_at": iso(finished.created_at),
                "started_at": iso(finished.intended_at),
                "finished_at": iso(finished.finished_at),
                "url": finished.run.url if finished.run is not None else "",
                "attempt": item.attempt,
            },
            "inputs": item.inputs,
            "outputs": outputs,
            "origin": item.origin,
        }
        event = Event(
            id=new_event_id(now),
            source=finished.stage,
            delivery_id=finished.id,
            type="execution_finished",
            origin=Origin.INTERNAL,
            state=EventState.PENDING,
            received_at=now,
            occurred_at=now,
        )
        return event, orjson.dumps(body)
