"""Commands about items and executions: list, show, cancel, rerun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.engine.current import Current
from reconciler.events.lookup import Lookup, NoSuch, TooLate, limit_of
from reconciler.manifests.kinds import StageSpec
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import UsageError
from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, ItemState, Result
from reconciler.model.resources import Kind
from reconciler.stages import statuses
from reconciler.stages.items import again
from reconciler.stages.views import execution_view, item_view, previous_view, report_view, runs_view, unreported_view


class ExecutionCommands:
    """``wake``: makes the stages' loop of this process look at once."""

    def __init__(self, current: Current, lookup: Lookup, wake: Callable[[], None]) -> None:
        self._context = current.context
        self._lookup = lookup
        self._wake = wake

    async def executions(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """List what waits and what ran, newest first: ``stage``, ``state``, ``before`` (an execution's id), ``limit``.

        What waits is on the first page.
        """
        store = self._context.store
        stage = self._lookup.resource(str(request["stage"]), Kind.STAGE).path if request.get("stage") else ""
        limit, state, before = limit_of(request), str(request.get("state") or ""), str(request.get("before") or "")
        waiting = state in ("", "queued") and not before
        items = await store.items(stage=stage, states=("queued",), limit=limit) if waiting else []
        runs: list[Execution] = []
        if state != "queued":
            states = {"": (), "running": ("starting", "running"), "finished": ("finished",)}.get(state)
            if states is None:
                raise UsageError(f"no state {state!r}", hint="There are: queued, running, finished.")
            runs = await store.executions(stage=stage, states=states, before=await self._place(before), limit=limit + 1)
        more, runs = len(runs) > limit, runs[:limit]
        votes = await store.votes_of([one.id for one in items])
        return {
            "queued": [item_view(one, votes.get(one.id, ())) for one in items],
            "executions": [execution_view(one) for one in runs],
            "next": runs[-1].id if more else "",
        }

    async def execution(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Show an item or an execution with everything that belongs to it."""
        store = self._context.store
        item, execution = await self._lookup.item_or_execution(str(request["id"]))
        if item is None:
            raise await self._lookup.no_such(str(request["id"]))
        runs = await store.executions_of_item(item.id)
        shown = [execution_view(one, await store.outputs(one.id)) for one in runs]
        reports = [report_view(one, at) for one, at in await store.reports_of(item.id)]
        reports += [unreported_view(kind, why) for kind, why in (await self._lookup.without_target(item)).items()]
        view: dict[str, Any] = {
            "item": item_view(item, await store.votes(item.id)),
            "runs": await self._runs(item),
            "previous": await self._previous(item, runs),
            "executions": shown,
            "reports": reports,
        }
        if execution is not None:
            view["execution"] = next(one for one in shown if one["id"] == execution.id)
        return view

    async def _runs(self, item: Item) -> dict[str, Any]:
        """Return what runs, or ran, for an item: all but secrets, which are read at the start only."""
        payload = await self._context.store.pinned(item.spec_digest)
        shown = runs_view(item, resource_from_json(payload)) if payload is not None else {}
        found: dict[str, Any] = self._context.redactor.redact_json(shown)
        return found

    async def _previous(self, item: Item, runs: list[Execution]) -> dict[str, Any] | None:
        """Return what the stage ran before ``item``."""
        store = self._context.store
        began = runs[0].created_at if runs else await store.now()
        found = await store.finished_before(item.stage, began, item.id)
        return previous_view(found, await store.item(found.item_id)) if found is not None else None

    async def _place(self, before: str) -> tuple[float, str] | None:
        """Return where the page that ended with ``before`` ended."""
        if not before:
            return None
        one = await self._context.store.execution(before)
        if one is None:
            raise NoSuch(f"no execution {before} to continue from", hint="Begin again without `before`.")
        return one.created_at, one.id

    async def cancel(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Take an item out of its queue, or end an execution, outside too: ``id``."""
        store = self._context.store
        item, execution = await self._lookup.item_or_execution(str(request["id"]))
        if item is None:
            raise await self._lookup.no_such(str(request["id"]))
        now = await store.now()
        if item.state is ItemState.QUEUED:
            stage = await self._lookup.stage(item)
            reports = statuses.at_end(
                item, stage.typed(StageSpec), Result.CANCELLED, EndReason.USER, now, message=f"discarded by {who}"
            )
            audit = self._lookup.audit("discard", who, item.stage, item=item.id)
            if await store.discard_item(item.id, "user", f"discarded by {who}", reports=reports, audit=audit):
                self._wake()
                return {"item": item.id, "state": "discarded"}
        execution = execution or next(
            iter([one for one in await store.executions_of_item(item.id) if one.state is not ExecutionState.FINISHED]), None
        )
        if execution is None or execution.state is ExecutionState.FINISHED:
            raise TooLate(f"{request['id']} has ended already")
        audit = self._lookup.audit("cancel", who, item.stage, execution=execution.id)
        asked = await store.ask_cancel(execution.id, who, now, audit=audit)
        if not asked and not execution.cancel_at:
            raise TooLate(f"{execution.id} has ended already")
        self._wake()
        return {"execution": execution.id, "state": "cancelling"}

    async def rerun(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Repeat what has ended, as it was: same inputs, same commit; its conditions are asked again. ``id``, ``key``.

        One repetition at a time: while one waits or runs there is no other. Equal keys are one repetition for good.
        """
        store = self._context.store
        item, execution = await self._lookup.item_or_execution(str(request["id"]))
        if item is None:
            raise await self._lookup.no_such(str(request["id"]))
        key = str(request.get("key") or "")
        if not (key or "x").isprintable():
            raise UsageError("a key is one line of text without control characters")
        stage = await self._lookup.stage(item)
        now = await store.now()
        number = sum(1 for one in await store.items_of_event(item.event_id) if one.stage == item.stage)
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
