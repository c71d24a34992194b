"""Operations besides the reconcile: recovery of records, adoption, deletion of orphans, test deliveries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import msgspec

from reconciler.drivers.base import Pingable
from reconciler.engine.controller import Controller
from reconciler.engine.current import Current
from reconciler.engine.lease import Lease
from reconciler.engine.reconcile import Prepared, ReconcileRequest, ReconcileResult, prepare, run_slice
from reconciler.model.errors import ReconcilerError
from reconciler.model.objects import RecordedObject, Scope
from reconciler.model.plan import Action, Change, Orphan
from reconciler.model.records import AuditEntry
from reconciler.model.resources import Adopt, ResourceId

TAKES = frozenset({Action.RECORD, Action.REMARK, Action.ADOPT, Action.UPDATE})
"""Actions that record or adopt existing objects: never a create, never a delete."""


async def find_again(controller: Controller, integration: ResourceId) -> Prepared:
    """Plan the recovery of a lost state: our objects are found by marker, or by natural key if a type has no marker. It creates and deletes
    nothing.
    """

    def takes(change: Change) -> bool:
        return change.action in TAKES and change.external_id is not None

    request = ReconcileRequest(integration, prune=False, ignore_backoff=True, claim=True, keep=takes)
    return await prepare(request, controller.reconcile_context(), controller.current.clients, controller.deps)


async def adopt(
    controller: Controller, resource: ResourceId, integration: ResourceId, external_id: str | None, peer: str
) -> list[Mapping[str, str]]:
    """Adopt the existing object of ``resource``. Raises `ReconcilerError` if none, or more than one, matches."""
    active = controller.current.active
    manifest = active.resources[resource]
    willing = dataclasses.replace(
        manifest,
        lifecycle=msgspec.structs.replace(
            manifest.lifecycle, adopt=Adopt.ALWAYS, external_id=external_id or manifest.lifecycle.external_id
        ),
    )
    revision = dataclasses.replace(active, resources={**active.resources, resource: willing})

    def mine(change: Change) -> bool:
        return change.resource == resource and change.action is Action.ADOPT

    deps = controller.deps
    await deps.store.append_audit(
        [AuditEntry(at=deps.clock(), actor=peer, verb="adopt", resource=resource.path, revision=revision.revision)],
    )

    async def work(hold: Lease | None) -> ReconcileResult:
        request = ReconcileRequest(integration, prune=False, ignore_backoff=True, keep=mine)
        context = dataclasses.replace(controller.reconcile_context(None, hold), live=revision)
        return await run_slice(request, context, controller.current.clients, deps)

    result = await controller.exclusively(integration, work)
    if result.error is not None:
        raise result.error
    done: list[Mapping[str, str]] = [
        {"address": str(s.change.address), "externalId": s.external_id} for s in result.report.steps if s.error is None
    ]
    failed = next((s.error for s in result.report.steps if s.error is not None), None)
    unread = [result.compiled.stalled.get(resource)]
    unread += [error for scope, error in result.scope_errors.items() if scope in _scopes_of(resource, result)]
    failed = failed or next((error for error in unread if error is not None), None)
    if failed is not None:
        raise failed
    if not done:
        raise ReconcilerError(
            f"nothing at the provider matches {resource}",
            code="RC6026",
            hint="Objects match by URL or name. Name the object with --external-id instead (see `reconciler export`).",
        )
    return done


def _scopes_of(resource: ResourceId, result: ReconcileResult) -> set[Scope]:
    return {managed.scope for managed in result.compiled.objects if managed.resource == resource}


async def delete_orphan(current: Current, integration: ResourceId, orphan: Orphan) -> None:
    """Delete an object that has our marker and is not declared. The audit row is committed first."""
    deps, client = current.context, await current.client(integration, explicit=True)
    entry = AuditEntry(
        at=deps.clock(),
        actor=deps.actor,
        verb="orphans",
        integration=integration.path,
        external_id=orphan.external_id,
        outcome="intent",
        detail={"scope": str(orphan.scope)},
    )
    await deps.store.append_audit([entry])
    await client.driver.types[orphan.scope.type].delete(client.api, orphan.scope, orphan.external_id)
    await deps.store.append_audit([dataclasses.replace(entry, at=deps.clock(), outcome="done")])


async def ping(current: Current, record: RecordedObject) -> bool:
    """Request a test delivery of a hook from the provider. Returns False if the type has none."""
    client = await current.client(record.integration, explicit=True)
    managed = client.driver.types[record.scope.type]
    if not isinstance(managed, Pingable):
        return False
    await managed.ping(client.api, record.scope, record.external_id)
    return True
