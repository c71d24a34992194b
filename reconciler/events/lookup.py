"""Finds the resources, items and executions that commands name; errors for unknown ones suggest similar names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from reconciler.engine.current import Current
from reconciler.manifests.kinds import StageSpec
from reconciler.manifests.nearest import Guesses
from reconciler.manifests.resource_argument import parse_resource
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.executions import Execution, Item
from reconciler.model.records import AuditEntry
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.stages import statuses

_NEAR = 200
"""Number of the newest items and executions that an unknown id is compared with."""


class NoSuch(ReconcilerError):
    """No item, execution or event has this id."""

    code = "RC6030"


class Waits(ReconcilerError):
    """The event is queued for dispatch already."""

    code = "RC6061"


class TooLate(ReconcilerError):
    """The item or execution has begun, or ended, already."""

    code = "RC6031"


class NotCounted(ReconcilerError):
    """An approval that does not count."""

    code = "RC6032"


class Lookup:
    """Finds resources of the active revision, and items and executions in the state."""

    def __init__(self, current: Current) -> None:
        self._current = current
        self._context = current.context

    async def item_and_execution(self, identity: str) -> tuple[Item, Execution | None]:
        """Return the item with this id, or the item of the execution with this id, and the execution. Raises `NoSuch`."""
        store = self._context.store
        item = await store.item(identity)
        if item is not None:
            return item, None
        execution = await store.execution(identity)
        item = await store.item(execution.item_id) if execution is not None else None
        if item is None:
            raise await self._no_such(identity)
        return item, execution

    async def _no_such(self, identity: str) -> NoSuch:
        """Return the error for an unknown id. Its hint offers similar ids, or else the items that wait."""
        store = self._context.store
        items = await store.items(limit=_NEAR)
        known = [item.id for item in items] + [execution.id for execution in await store.executions(limit=_NEAR)]
        near = difflib.get_close_matches(identity, known, n=3, cutoff=0.8)
        hint = f"Did you mean {' or '.join(near)}?" if near else await self.waiting()
        return NoSuch(f"there is no item or execution {identity[:80]!r}", hint=hint)

    async def waiting(self) -> str:
        """Return a hint that names the items that wait for an approval, or else all that wait."""
        queued = await self._context.store.items(states=("queued",), limit=_NEAR)
        items = [item for item in queued if item.reason == "approval"] or queued
        shown = ", ".join(f"{item.id} ({item.stage.name}: {item.reason or 'new'})" for item in items[:5])
        more = f" and {len(items) - 5} more" if len(items) > 5 else ""
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
            near = Guesses().nearest_resource(str(identity), [str(resource) for resource in known])
            raise ReconcilerError(
                f"no resource {identity}",
                code="RC6025",
                hint=f"Did you mean {near}?" if near else "See `reconciler status`.",
            )
        if kind is not None and identity.kind != kind.value:
            raise UsageError(f"{text} is no {kind.value}")
        return identity

    def audit(self, verb: str, who: str, identity: ResourceId | None, **detail: object) -> AuditEntry:
        """Return the audit entry of a command; None: it is about all resources."""
        return AuditEntry(
            at=self._context.clock(),
            actor=who,
            verb=verb,
            resource=identity.path if identity is not None else "",
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
