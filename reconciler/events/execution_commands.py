"""Commands about items and executions: list, show, cancel, rerun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reconciler.engine.current import Current
from reconciler.events.lookup import Lookup, NoSuch, TooLate
from reconciler.events.requests import CancelRequest, ExecutionListRequest, ExecutionRequest, RerunRequest
from reconciler.manifests.kinds import StageSpec
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import UsageError
from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, ItemState, Result
from reconciler.model.resources import Kind
from reconciler.stages import statuses
from reconciler.stages.items import again
from reconciler.stages.traces import ended_wait
from reconciler.stages.views import execution_view, item_view, previous_view, report_view, runs_view, unreported_view


class ExecutionCommands:
    """Commands about executions. ``wake`` wakes the stage loop of this process."""

    def __init__(self, current: Current, lookup: Lookup, wake: Callable[[], None]) -> None:
        self._context = current.context
        self._lookup = lookup
        self._wake = wake

    async def executions(self, request: ExecutionListRequest) -> dict[str, Any]:
        """List queued items, on the first page only, and executions, newest first."""
        store = self._context.store
        stage = self._lookup.resource(request.stage, Kind.STAGE).path if request.stage else ""
        limit, state = request.rows, request.state
        first_page = state in ("", "queued") and not request.before
        items = await store.items(stage=stage, states=("queued",), limit=limit) if first_page else []
        runs: list[Execution] = []
        if state != "queued":
            states = {"": (), "running": ("starting", "running"), "finished": ("finished",)}.get(state)
            if states is None:
                raise UsageError(f"no state {state!r}", hint="There are: queued, running, finished.")
            runs = await store.executions(stage=stage, states=states, before=await self._place(request.before), limit=limit + 1)
        more, runs = len(runs) > limit, runs[:limit]
        votes = await store.votes_of([item.id for item in items])
        origins = await store.origins_of([run.item_id for run in runs])
        return {
            "queued": [item_view(item, votes.get(item.id, ())) for item in items],
            "executions": [execution_view(run, origin=origins.get(run.item_id)) for run in runs],
            "next": runs[-1].id if more else "",
        }

    async def execution(self, request: ExecutionRequest) -> dict[str, Any]:
        """Show an item or an execution with everything that belongs to it."""
        store = self._context.store
        item, execution = await self._lookup.item_and_execution(request.id)
        runs = await store.executions_of_item(item.id)
        shown = [execution_view(run, await store.outputs(run.id)) for run in runs]
        reports = [report_view(report, done_at) for report, done_at in await store.reports_of(item.id)]
        reports += [unreported_view(kind, why) for kind, why in (await self._lookup.without_target(item)).items()]
        view: dict[str, Any] = {
            "item": item_view(item, await store.votes(item.id)),
            "runs": await self._runs(item),
            "previous": await self._previous(item, runs),
            "executions": shown,
            "reports": reports,
        }
        if execution is not None:
            view["execution"] = next(row for row in shown if row["id"] == execution.id)
        return view

    async def _runs(self, item: Item) -> dict[str, Any]:
        """Return the executor of an item, redacted; empty if the stage's snapshot is gone."""
        payload = await self._context.store.pinned(item.spec_digest)
        shown = runs_view(item, resource_from_json(payload)) if payload is not None else {}
        return self._context.redactor.redact_fields(shown)

    async def _previous(self, item: Item, runs: list[Execution]) -> dict[str, Any] | None:
        """Return the stage's last execution before ``item``."""
        store = self._context.store
        began = runs[0].created_at if runs else await store.now()
        previous = await store.finished_before(item.stage, began, item.id)
        return previous_view(previous, await store.item(previous.item_id)) if previous is not None else None

    async def _place(self, before: str) -> tuple[float, str] | None:
        """Return (time, id) of the execution with the id ``before``, the last row of the previous page."""
        if not before:
            return None
        last = await self._context.store.execution(before)
        if last is None:
            raise NoSuch(f"no execution {before} to continue from", hint="Begin again without `before`.")
        return last.created_at, last.id

    async def cancel(self, request: CancelRequest, who: str) -> dict[str, Any]:
        """Discard a queued item, or cancel an execution, at its provider too."""
        store = self._context.store
        item, execution = await self._lookup.item_and_execution(request.id)
        now = await store.now()
        if item.state is ItemState.QUEUED:
            stage = await self._lookup.stage(item)
            reports = statuses.at_end(
                item, stage.typed(StageSpec), Result.CANCELLED, EndReason.USER, now, message=f"discarded by {who}"
            )
            audit = self._lookup.audit("discard", who, item.stage, item=item.id)
            tracer = self._context.tracer
            spans = ended_wait(tracer, item, await store.votes(item.id), stage, now=now, discarded="user")
            if await store.discard_item(item.id, "user", f"discarded by {who}", reports=reports, audit=audit, spans=spans):
                self._wake()
                return {"item": item.id, "state": "discarded"}
        if execution is None:
            open_runs = [run for run in await store.executions_of_item(item.id) if run.state is not ExecutionState.FINISHED]
            execution = open_runs[0] if open_runs else None
        if execution is None or execution.state is ExecutionState.FINISHED:
            raise TooLate(f"{request.id} has ended already")
        audit = self._lookup.audit("cancel", who, item.stage, execution=execution.id)
        requested = await store.ask_cancel(execution.id, who, now, audit=audit)
        if not requested and not execution.cancel_at:
            raise TooLate(f"{execution.id} has ended already")
        self._wake()
        return {"execution": execution.id, "state": "cancelling"}

    async def rerun(self, request: RerunRequest, who: str) -> dict[str, Any]:
        """Repeat an item that has ended: same inputs, same commit; its conditions are checked again.

        An item has at most one open repetition. Equal keys make one repetition, however often they are sent.
        """
        store = self._context.store
        item, execution = await self._lookup.item_and_execution(request.id)
        key = request.key
        if not key.isprintable():
            raise UsageError("a key is one line of text without control characters")
        stage = await self._lookup.stage(item)
        now = await store.now()
        number = sum(other.stage == item.stage for other in await store.items_of_event(item.event_id))
        while True:
            queued = again(item, execution.id if execution is not None else "", f"key/{key}" if key else number, stage, now)
            audit = self._lookup.audit("rerun", who, item.stage, item=queued.item.id, of=item.id)
            snapshots = {queued.snapshot.digest: queued.snapshot.payload}
            other = await store.queue_repetition(queued.item, snapshots, queued.reports, audit=audit)
            if other is None:
                self._wake()
                return {"item": queued.item.id, "new": True}
            if other.id == queued.item.id and key:
                return {"item": other.id, "new": False}
            if other.id != queued.item.id:
                raise TooLate(f"{other.id} has not ended yet: it is {other.state.value}", hint="Cancel it first, or wait.")
            number += 1
