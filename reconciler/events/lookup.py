"""Finds what a command names: resources, items and executions, with a helpful error for what is not there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from reconciler.engine.control import parse_resource
from reconciler.engine.current import Current
from reconciler.manifests.kinds import StageSpec
from reconciler.manifests.nearest import Guesses
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.executions import Execution, Item
from reconciler.model.records import AuditEntry
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.stages import statuses

MAX_LIST = 1_000
_NEAR = 200
"""The newest items and executions, with which a mistyped id is compared."""


class NoSuch(ReconcilerError):
    """There is no item, execution or event with this id."""

    code = "RC6030"


class Waits(ReconcilerError):
    """The event waits to be handed on already."""

    code = "RC6061"


class TooLate(ReconcilerError):
    """It has begun, or ended, already."""

    code = "RC6031"


class NotCounted(ReconcilerError):
    """An approval that does not count."""

    code = "RC6032"


class Lookup:
    """Finds what a request names, at the active revision and in the state."""

    def __init__(self, current: Current) -> None:
        self._current = current
        self._context = current.context

    async def item_or_execution(self, identity: str) -> tuple[Item | None, Execution | None]:
        """Return the item with this id, or the execution with this id and its item. Raises `NoSuch`."""
        store = self._context.store
        item = await store.item(identity)
        if item is not None:
            return item, None
        execution = await store.execution(identity)
        if execution is None:
            raise await self.no_such(identity)
        return await store.item(execution.item_id), execution

    async def no_such(self, identity: str) -> NoSuch:
        """Return the error for an unknown id. Its hint offers similar ids, or else what waits."""
        store = self._context.store
        items = await store.items(limit=_NEAR)
        known = [one.id for one in items] + [one.id for one in await store.executions(limit=_NEAR)]
        near = difflib.get_close_matches(identity, known, n=3, cutoff=0.8)
        hint = f"Did you mean {' or '.join(near)}?" if near else await self.waiting()
        return NoSuch(f"there is no item or execution {identity[:80]!r}", hint=hint)

    async def waiting(self) -> str:
        """Return a hint that names the items that wait for an approval, or else all that wait."""
        queued = await self._context.store.items(states=("queued",), limit=_NEAR)
        asked = [one for one in queued if one.reason == "approval"] or queued
        shown = ", ".join(f"{one.id} ({one.stage.name}: {one.reason or 'new'})" for one in asked[:5])
        more = f" and {len(asked) - 5} more" if len(asked) > 5 else ""
        return f"Waiting: {shown}{more}. See `reconciler executions`." if shown else "Nothing waits. See `reconciler executions`."

    async def stage(self, item: Item) -> Resource:
        """Return the stage as it was when ``item`` was queued. Raises `NoSuch` if its snapshot is gone."""
        payload = await self._context.store.pinned(item.spec_digest)
        if payload is None:
            raise NoSuch(f"the configuration of {item.id} is gone")
        return resource_from_json(payload)

    def resource(self, text: str, kind: Kind | None = None) -> ResourceId:
        """Return the declared resource that ``text`` names. Raises `ReconcilerError` with the nearest name, `UsageError`."""
        known = set(self._current.active.resources)
        identity = parse_resource(text if "/" in text or kind is None else f"{kind.value}/{text}", known)
        if identity not in known:
            near = Guesses().nearest(str(identity), [str(one) for one in known])
            raise ReconcilerError(
                f"no resource {identity}",
                code="RC6025",
                hint=f"Did you mean {near}?" if near else "See `reconciler status`.",
            )
        if kind is not None and identity.kind != kind.value:
            raise UsageError(f"{text} is no {kind.value}")
        return identity

    def audit(self, verb: str, who: str, identity: ResourceId, **detail: object) -> AuditEntry:
        """Return the audit entry of a command."""
        return AuditEntry(
            at=self._context.clock(),
            actor=who,
            verb=verb,
            resource=identity.path,
            revision=self._current.active.revision,
            detail=detail,
        )

    async def without_target(self, item: Item) -> Mapping[str, str]:
        """Return, by kind, why a declared report of ``item`` is not written."""
        payload = await self._context.store.pinned(item.spec_digest)
        if payload is None:
            return {}
        return {
            kind.value: why for kind, why in statuses.without_target(item, resource_from_json(payload).typed(StageSpec)).items()
        }


def limit_of(request: Mapping[str, Any]) -> int:
    """Return how many rows a request asks for: 50 by default, at most `MAX_LIST`."""
    return max(1, min(MAX_LIST, int(request.get("limit") or 50)))
