"""Approvals of items: who may approve, and what exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reconciler.engine.current import Current
from reconciler.events.lookup import Lookup, NotCounted, TooLate
from reconciler.events.requests import ApproveRequest
from reconciler.manifests.kinds import StageSpec
from reconciler.model.executions import ItemState, Vote
from reconciler.stages.admission import counts
from reconciler.stages.views import item_digest


class Approvals:
    """Takes approvals. ``wake`` wakes the stage loop of this process."""

    def __init__(self, current: Current, lookup: Lookup, wake: Callable[[], None]) -> None:
        self._context = current.context
        self._lookup = lookup
        self._wake = wake

    async def approve(self, request: ApproveRequest, who: str) -> dict[str, Any]:
        """Approve an item, once for each person."""
        store = self._context.store
        item, _ = await self._lookup.item_and_execution(request.id)
        if item.state is not ItemState.QUEUED:
            raise TooLate(f"{request.id} is not queued any more: it is {item.state.value}", hint=await self._lookup.waiting())
        stage = await self._lookup.stage(item)
        declared = stage.typed(StageSpec).conditions
        conditions = [condition.approval for condition in declared if condition.approval is not None]
        if not conditions:
            raise NotCounted(f"{item.stage} requires no approval")
        if not all(counts(condition, who) for condition in conditions):
            names = ", ".join(sorted({name for condition in conditions for name in condition.approvers or ()}))
            raise NotCounted(f"{who} is not an approver of {item.stage}", hint=f"They are: {names}.")
        if request.digest and request.digest != item_digest(item):
            raise NotCounted(f"{item.id} is not what was reviewed: its digest is {item_digest(item)}")
        now = await store.now()
        audit = self._lookup.audit("approve", who, item.stage, item=item.id, digest=item_digest(item))
        if not await store.add_vote(Vote(item.id, who, now), audit=audit):
            raise NotCounted(f"{who} approved {item.id} before, or it does not wait any more")
        self._wake()
        return {"item": item.id, "approvals": [vote.by for vote in await store.votes(item.id)]}
