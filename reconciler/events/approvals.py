"""Approvals of items: who may give one, for what, and once each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.engine.current import Current
from reconciler.events.lookup import Lookup, NotCounted, TooLate
from reconciler.manifests.kinds import StageSpec
from reconciler.model.executions import ItemState, Vote
from reconciler.stages.admission import counts
from reconciler.stages.views import item_digest


class Approvals:
    """``wake``: makes the stages' loop of this process look at once."""

    def __init__(self, current: Current, lookup: Lookup, wake: Callable[[], None]) -> None:
        self._context = current.context
        self._lookup = lookup
        self._wake = wake

    async def approve(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Approve an item: ``id``, and ``digest`` of what was reviewed (optional). Never twice by one person."""
        store = self._context.store
        item, _ = await self._lookup.item_or_execution(str(request["id"]))
        if item is None:
            raise await self._lookup.no_such(str(request["id"]))
        if item.state is not ItemState.QUEUED:
            raise TooLate(f"{request['id']} is not queued any more: it is {item.state.value}", hint=await self._lookup.waiting())
        stage = await self._lookup.stage(item)
        declared = stage.typed(StageSpec).conditions
        conditions = [condition.approval for condition in declared if condition.approval is not None]
        if not conditions:
            raise NotCounted(f"{item.stage} requires no approval")
        if not all(counts(condition, who) for condition in conditions):
            names = ", ".join(sorted({name for condition in conditions for name in condition.approvers or ()}))
            raise NotCounted(f"{who} is not an approver of {item.stage}", hint=f"They are: {names}.")
        if request.get("digest") and request["digest"] != item_digest(item):
            raise NotCounted(f"{item.id} is not what was reviewed: its digest is {item_digest(item)}")
        now = await store.now()
        audit = self._lookup.audit("approve", who, item.stage, item=item.id, digest=item_digest(item))
        if not await store.add_vote(Vote(item.id, who, now), audit=audit):
            raise NotCounted(f"{who} approved {item.id} before, or it does not wait any more")
        self._wake()
        return {"item": item.id, "approvals": [vote.by for vote in await store.votes(item.id)]}
