"""Each resource's share of the result of its integration. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.engine.apply import Step
from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.errors import ReconcilerError
from reconciler.model.objects import RecordedObject, Scope
from reconciler.model.plan import Change, Disposition
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.values import Address
from reconciler.planning.removal import out_of_reach, way_out


@dataclass(slots=True)
class Share:
    """One resource's share of its integration's result."""

    resource: Resource
    changes: list[Change] = field(default_factory=list)
    errors: dict[Address, ReconcilerError] = field(default_factory=dict)
    scope_errors: dict[Scope, ReconcilerError] = field(default_factory=dict)
    records: list[RecordedObject] = field(default_factory=list)
    done: int = 0
    renamed: list[str] = field(default_factory=list)
    """Declared names that are former names at the provider, with the present one."""
    left: list[str] = field(default_factory=list)
    """What is no longer declared and out of reach, with the way out."""


class Shares:
    """One result, indexed by resource once, so that a thousand resources do not search it a thousand times."""

    def __init__(self, result: ReconcileResult) -> None:
        self.integration = result.integration
        self.changes: defaultdict[ResourceId, list[Change]] = defaultdict(list)
        self.steps: defaultdict[ResourceId, list[Step]] = defaultdict(list)
        self.records: defaultdict[ResourceId, list[RecordedObject]] = defaultdict(list)
        self.scopes: defaultdict[ResourceId, set[Scope]] = defaultdict(set)
        self.scope_errors = result.scope_errors
        for change in result.plan.changes if result.plan is not None else ():
            self.changes[change.resource].append(change)
        for step in result.report.steps:
            self.steps[step.change.resource].append(step)
        for record in result.recorded:
            self.records[record.resource].append(record)
            self.scopes[record.resource].add(record.scope)
        for desired in result.compiled.objects:
            self.scopes[desired.resource].add(desired.scope)
        self.renamed = _renamed(result)
        self.left = _left(result)


def share_of(resource: Resource, shares: Shares | None) -> Share:
    """Return the share of ``resource``; that of an Integration is what it declares itself, such as the webhook of its App."""
    share = Share(resource)
    if shares is None:
        return share
    tried = {step.change.address: step for step in shares.steps.get(resource.id, ())}
    share.errors = {address: step.error for address, step in tried.items() if step.error is not None}
    share.done = sum(1 for step in tried.values() if step.error is None)
    # What was executed is no longer pending; the next observation shows whether it holds.
    share.changes = [
        c
        for c in shares.changes.get(resource.id, ())
        if not (c.address in tried and tried[c.address].error is None and c.disposition is Disposition.EXECUTE)
    ]
    share.records = shares.records.get(resource.id, [])
    share.renamed, share.left = shares.renamed.get(resource.id, []), shares.left.get(resource.id, [])
    scopes = shares.scopes.get(resource.id, set())
    share.scope_errors = {scope: shares.scope_errors[scope] for scope in scopes if scope in shares.scope_errors}
    return share


def _renamed(result: ReconcileResult) -> Mapping[ResourceId, list[str]]:
    notes: defaultdict[ResourceId, list[str]] = defaultdict(list)
    for desired in result.compiled.objects:
        view = result.world.views.get(desired.scope)
        if view is not None and view.place is not None:
            notes[desired.resource].append(
                f"{desired.scope.key} is called {view.place.key} now: write the new name in the manifest"
            )
    return notes


def _left(result: ReconcileResult) -> Mapping[ResourceId, list[str]]:
    declared = {desired.scope for desired in result.compiled.objects}
    notes: defaultdict[ResourceId, list[str]] = defaultdict(list)
    for record in result.recorded:
        view = result.world.views.get(record.scope)
        if record.scope in declared or record.tombstone or view is None or view.error is None:
            continue
        if out_of_reach(view.error):
            notes[record.resource].append(way_out(record, view.error))
    return notes
