"""From an event to an item of a stage's queue: everything that counts is fixed here, at the commit that is live. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.model.codec import resource_to_json
from reconciler.model.events import Event
from reconciler.model.executions import Item, ItemState
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.stages import statuses
from reconciler.stages.inputs import LastInputs, build_inputs, check_not_deleted, frozen_event, label_of
from reconciler.stages.targets import target_of
from reconciler.state.reports import PendingReport

SpecSnapshot = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Trigger:
    """What makes items: an event, what it says and where it began, the revision that is live, and the time (epoch seconds)."""

    event: Event
    payload: Any
    origin: Mapping[str, Any]
    revision: str
    now: float
    resources: Mapping[ResourceId, Resource] = field(default_factory=dict)
    """All that the revision declares."""


@dataclass(frozen=True, slots=True)
class Queued:
    """An item with what is stored beside it."""

    item: Item
    pin: bytes
    reports: tuple[PendingReport, ...]
    unreported: Mapping[str, str] = field(default_factory=dict)
    """Kinds of reports that the stage declares and that have nothing to be written to, with the reason."""


def item_id(stage: ResourceId, event_id: str, number: int | str = 0) -> str:
    """Return the id of an item: the same event makes one item a stage, however often it is looked at.

    ``number``: which repetition it is; ``key/…`` for one that somebody gave a key.
    """
    joined = "\0".join(("reconciler/item/v1", stage.path, event_id, str(number)))
    return "itm-" + hashlib.sha256(joined.encode()).hexdigest()[:24]


def pin_of(stage: Resource) -> SpecSnapshot:
    """Return a stage as it is stored with what was queued for it, behind the digest it is found by."""
    payload = resource_to_json(stage)
    return "sha256:" + hashlib.sha256(payload).hexdigest(), payload


def queue(stage: Resource, pin: SpecSnapshot, connection: str, occasion: Trigger, last: LastInputs) -> Queued:
    """Return the item that an event becomes; ``pin`` is the stage's (`pin_of`). Raises `InputError` when it cannot be queued."""
    spec = stage.spec
    inputs = build_inputs(spec, connection, occasion.payload, last)
    kept = frozen_event(spec, occasion.payload)
    check_not_deleted(spec, occasion.origin, inputs, kept)
    digest, pinned = pin
    item = Item(
        id=item_id(stage.id, occasion.event.id),
        stage=stage.id,
        event_id=occasion.event.id,
        connection=connection,
        state=ItemState.QUEUED,
        created_at=occasion.now,
        revision=occasion.revision,
        spec_digest=digest,
        label=label_of(spec, inputs, kept, stage.id.name),
        inputs=inputs,
        event=kept,
        origin=dict(occasion.origin),
        resource=target_of(spec, {"inputs": inputs, "event": kept}, _integration(stage, occasion.resources)),
    )
    missing = {kind.value: why for kind, why in statuses.without_target(item, spec).items()}
    return Queued(item, pinned, statuses.at_phase(item, spec, statuses.QUEUED, occasion.now), missing)


def _integration(stage: Resource, resources: Mapping[ResourceId, Resource]) -> Resource | None:
    named = next((one for one in stage.references if one.kind == Kind.INTEGRATION.value), None)
    return resources.get(named) if named is not None else None


def again(item: Item, execution_id: str, number: int | str, pinned: Resource, now: float) -> Queued:
    """Return an item that repeats ``item`` as it was: same inputs, same commit, its conditions asked anew."""
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
    )
    _, pin = pin_of(pinned)
    return Queued(fresh, pin, statuses.at_phase(fresh, pinned.spec, statuses.QUEUED, now))
