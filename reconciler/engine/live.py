"""The live revision: what is in force now, made of the newest valid specs and, where a file is bad, of the last valid ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.drivers.net import refusal_of_literals
from reconciler.engine.deps import Deps
from reconciler.manifests import SourceFile, load
from reconciler.manifests.codec import resource_from_json, resource_to_json, resources_from_json
from reconciler.model.errors import Problem
from reconciler.model.resources import Desired, Resource, ResourceId
from reconciler.source.base import Revision, Snapshot, Source, refuse_empty


@dataclass(frozen=True, slots=True)
class Live:
    """What is in force. ``kept`` resources stand at their last valid spec; a revision that is not complete prunes nothing."""

    revision: str = ""
    resources: Mapping[ResourceId, Resource] = field(default_factory=dict)
    kept: frozenset[ResourceId] = frozenset()
    problems: tuple[Problem, ...] = ()
    complete: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing was ever loaded."""
        return not self.revision


async def load_revision(source: Source, revision: Revision, deps: Deps, *, allow_empty: bool = False) -> tuple[Desired, Snapshot]:
    """Read and validate one revision; only blobs that were never seen are parsed. Raises `SourceError` for one refused whole."""
    snapshot = await source.snapshot(revision)
    refuse_empty(snapshot, allow_empty)
    files = [SourceFile(path, blob, data) for path, blob, data in await source.read(snapshot)]
    desired = await deps.db(load, files, revision=revision.id, cache=deps.store.blob_cache(), sandbox=deps.sandbox,
        refused=refusal_of_literals(deps.config.network.allow))
    if not snapshot.complete:  # something with a manifest's name was left out: what it declared is not gone
        desired = dataclasses.replace(desired, withheld=True)
    return desired, snapshot


async def merge(desired: Desired, deps: Deps) -> Live:
    """Return ``desired``, with the last valid specs of what is invalid in it."""
    stored = await deps.db(deps.store.resources)
    found = desired.by_id()
    bad_files = {problem.location.file for problem in desired.problems if problem.is_error}
    kept: dict[ResourceId, Resource] = {}
    for path, payload in stored.items():
        identity = ResourceId.from_path(path)
        if identity in found:
            continue
        old = resource_from_json(payload)
        if identity in desired.invalid or old.location.file in bad_files:
            kept[identity] = old
    return Live(desired.revision, {**found, **kept}, frozenset(kept), desired.problems, desired.complete)


async def go_live(desired: Desired, deps: Deps) -> Live:
    """Merge, and store what is valid as the new last valid; what a complete revision no longer declares is dropped."""
    live = await merge(desired, deps)
    await deps.db(deps.store.save_resources, [(r.id.path, r.spec_digest, resource_to_json(r)) for r in desired.resources])
    if desired.complete:
        stored = await deps.db(deps.store.resources)
        gone = [path for path in stored if ResourceId.from_path(path) not in live.resources]
        if gone:
            await deps.db(deps.store.drop_resources, gone)
    return live


async def restore(deps: Deps) -> Live:
    """Return the last valid specs from the state: what is in force when the source cannot be read at start-up."""
    stored = await deps.db(deps.store.resources)
    revision = await deps.db(deps.store.get_meta, "revision.valid") or ""
    resources = {resource.id: resource for resource in await deps.db(resources_from_json, stored.values())}
    # Not complete: nothing is pruned before the source was read once.
    return Live(revision, resources, frozenset(), (), complete=False)
