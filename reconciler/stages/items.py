"""Items of a stage's queue, made of events: inputs, commit and stage are fixed here, at the active revision. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler.manifests.kinds import IntegrationSpec, StageSpec
from reconciler.model.codec import resource_to_json
from reconciler.model.events import Event
from reconciler.model.executions import Item, ItemState
from reconciler.model.json import Json
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.values import JsonObject
from reconciler.stages import statuses
from reconciler.stages.inputs import LastInputs, build_inputs, check_not_deleted, frozen_event, label_of
from reconciler.stages.resource_names import resource_name
from reconciler.state.reports import PendingReport


class SpecSnapshot(NamedTuple):
    """A stage as it is stored with its items."""

    digest: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Trigger:
    """The cause of items: an event with its payload and origin, the active revision, and the time (epoch seconds)."""

    event: Event
    payload: Json
    origin: JsonObject
    revision: str
    now: float
    resources: Mapping[ResourceId, Resource] = field(default_factory=dict)
    """All resources of the revision."""


@dataclass(frozen=True, slots=True)
class Queued:
    """An item, with the snapshot and the reports that are stored with it."""

    item: Item
    snapshot: SpecSnapshot
    reports: tuple[PendingReport, ...]
    unreported: Mapping[str, str] = field(default_factory=dict)
    """Kinds of declared reports without a target, with the reason."""


def item_id(stage: ResourceId, event_id: str, number: int | str = 0) -> str:
    """Return the id of an item: an event makes one item for a stage, however often it is routed.

    ``number``: the number of the repetition, or ``key/…`` for a repetition with a key.
    """
    joined = "\0".join(("reconciler/item/v1", stage.path, event_id, str(number)))
    return "itm-" + hashlib.sha256(joined.encode()).hexdigest()[:24]


def snapshot_of(stage: Resource) -> SpecSnapshot:
    """Return the snapshot of ``stage``: its JSON, and the digest of that."""
    payload = resource_to_json(stage)
    return SpecSnapshot("sha256:" + hashlib.sha256(payload).hexdigest(), payload)


def queue(stage: Resource, snapshot: SpecSnapshot, connection: str, trigger: Trigger, last: LastInputs) -> Queued:
    """Return the item that an event becomes. ``snapshot``: of ``stage`` (`snapshot_of`). Raises `InputError` if it cannot be queued."""
    spec = stage.typed(StageSpec)
    inputs = build_inputs(spec, connection, trigger.payload, last)
    kept = frozen_event(spec, trigger.payload)
    check_not_deleted(spec, trigger.origin, inputs, kept)
    item = Item(
        id=item_id(stage.id, trigger.event.id),
        stage=stage.id,
        event_id=trigger.event.id,
        connection=connection,
        state=ItemState.QUEUED,
        created_at=trigger.now,
        revision=trigger.revision,
        spec_digest=snapshot.digest,
        label=label_of(spec, inputs, kept, stage.id.name),
        inputs=inputs,
        event=kept,
        origin=dict(trigger.origin),
        resource=resource_name(spec, {"inputs": inputs, "event": kept}, _integration(stage, trigger.resources)),
    )
    missing = {kind.value: why for kind, why in statuses.without_target(item, spec).items()}
    return Queued(item, snapshot, statuses.at_phase(item, spec, statuses.QUEUED, trigger.now), missing)


def _integration(stage: Resource, resources: Mapping[ResourceId, Resource]) -> IntegrationSpec | None:
    named = next((reference for reference in stage.references if reference.kind == Kind.INTEGRATION.value), None)
    integration = resources.get(named) if named is not None else None
    return integration.typed(IntegrationSpec) if integration is not None else None


def again(item: Item, execution_id: str, number: int | str, stage: Resource, now: float) -> Queued:
    """Return an item that repeats ``item``: same inputs, same commit. Its conditions are checked again. ``stage``: its snapshot."""
    fresh = dataclasses.replace(
        item,
        id=item_id(item.stage, item.event_id, number),
        state=ItemState.QUEUED,
        created_at=now,
        reason="",
        message="",
        rerun_of=execution_id,
        attempt=1,
        not_before=0.0,
        queued_at=0.0,
    )
    return Queued(fresh, snapshot_of(stage), statuses.at_phase(fresh, stage.typed(StageSpec), statuses.QUEUED, now))
