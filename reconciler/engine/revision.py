"""The active revision: the newest valid specs and, for invalid files, the last valid ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from reconciler.drivers.http.network import refusal_of_literals
from reconciler.engine.context import Context
from reconciler.manifests import SourceFile, load
from reconciler.model.codec import resource_from_json, resource_to_json, resources_from_json
from reconciler.model.errors import Problem, Severity
from reconciler.model.resources import Desired, EncryptedFile, Location, Resource, ResourceId, Unread
from reconciler.source.base import Revision, Snapshot, Source, refuse_empty
from reconciler.source.ignore import IGNORE_FILE


@dataclass(frozen=True, slots=True)
class ActiveRevision:
    """The specs in force. ``kept`` resources have their last valid spec; an incomplete revision prunes nothing."""

    revision: str = ""
    resources: Mapping[ResourceId, Resource] = field(default_factory=dict)
    kept: frozenset[ResourceId] = frozenset()
    problems: tuple[Problem, ...] = ()
    complete: bool = False
    encrypted: Mapping[str, EncryptedFile] = field(default_factory=dict)
    """The files of the revision that SOPS encrypted, by path; none before the source was read."""

    @property
    def empty(self) -> bool:
        """Whether no revision was loaded yet."""
        return not self.revision


async def load_revision(
    source: Source, revision: Revision, deps: Context, *, allow_empty: bool = False
) -> tuple[Desired, Snapshot]:
    """Read and validate one revision; only new blobs are parsed. Raises `SourceError` for a revision that is refused as a whole."""
    snapshot = await source.snapshot(revision)
    refuse_empty(snapshot, allow_empty=allow_empty)
    files = [SourceFile(path, blob, data) for path, blob, data in await source.read(snapshot)]
    desired = await deps.store.run(
        load,
        files,
        revision=revision.id,
        cache=deps.store.sync.blob_cache(),
        sandbox=deps.sandbox,
        refused=refusal_of_literals(deps.config.network.allow),
    )
    named = tuple(unread_problem(n.path, n.reason, Severity.WARNING) for n in snapshot.notices if n.hides_manifest)
    desired = dataclasses.replace(
        desired,
        withheld=not snapshot.complete,  # a path with the name of a manifest was skipped: its resources are not deleted
        problems=(*desired.problems, *named),
        unread=unread_in(snapshot),
    )
    return desired, snapshot


def unread_in(snapshot: Snapshot) -> Unread:
    """Return the content of ``snapshot`` that is not read."""
    files = {entry.path for entry in snapshot.files}
    folders = {str(folder) for name in (*files, *snapshot.others) for folder in PurePosixPath(name).parents}
    skipped = tuple((notice.path, notice.reason) for notice in snapshot.notices)
    return Unread(skipped, snapshot.others, frozenset(folders))


def hidden(desired: Desired, before: Iterable[Resource]) -> tuple[frozenset[ResourceId], tuple[Problem, ...]]:
    """Return the resources of ``before`` that are missing in ``desired`` only because a path was not read, with the problems."""
    by_id = desired.by_id()
    hiders: dict[str, str] = {}
    names: set[ResourceId] = set()
    for resource in before:
        hider = desired.unread.hides(resource.location.file) if resource.id not in by_id else None
        if hider is not None:
            names.add(resource.id)
            hiders.setdefault(*hider)
    return frozenset(names), tuple(unread_problem(path, reason, Severity.ERROR) for path, reason in sorted(hiders.items()))


def unread_problem(path: str, reason: str, severity: Severity) -> Problem:
    """Return the problem for a path that was not read."""
    return Problem(
        Location(path),
        "RC2045",
        f"{path} may hold manifests and was not read ({reason}): nothing is deleted meanwhile",
        hint=f"Put the manifests there as files, name it in {IGNORE_FILE}, or remove it.",
        severity=severity,
    )


def kept_of(desired: Desired, before: Iterable[Resource]) -> tuple[dict[ResourceId, Resource], tuple[Problem, ...]]:
    """Return the resources of ``before`` that stay although ``desired`` has no valid manifest of them, and what hides them.

    They are invalid in it, or may be in a file that has errors or was not read. All others are no longer declared.
    """
    by_id = desired.by_id()
    gone = [resource for resource in before if resource.id not in by_id]
    behind, hiders = hidden(desired, gone)
    bad_files = {problem.location.file for problem in desired.problems if problem.is_error}
    kept = {r.id: r for r in gone if r.id in behind or r.id in desired.invalid or r.location.file in bad_files}
    return kept, hiders


async def merge(desired: Desired, deps: Context) -> ActiveRevision:
    """Return ``desired`` with the last valid specs of resources that are invalid in it, or hidden by a path that was not read."""
    stored = await deps.store.resources()
    by_id = desired.by_id()
    gone = [resource_from_json(payload) for path, payload in stored.items() if ResourceId.from_path(path) not in by_id]
    kept, hiders = kept_of(desired, gone)
    places = {problem.location.file for problem in hiders}
    others = [problem for problem in desired.problems if problem.code != "RC2045" or problem.location.file not in places]
    return ActiveRevision(
        desired.revision,
        {**by_id, **kept},
        frozenset(kept),
        (*others, *hiders),
        complete=desired.complete and not hiders,
        encrypted=desired.encrypted,
    )


async def activate_revision(desired: Desired, deps: Context) -> ActiveRevision:
    """Merge, and store the valid specs as the last valid ones; delete those that a complete revision no longer declares."""
    live = await merge(desired, deps)
    await deps.store.save_resources([(r.id.path, r.spec_digest, resource_to_json(r)) for r in desired.resources])
    if live.complete:
        stored = await deps.store.resources()
        gone = [path for path in stored if ResourceId.from_path(path) not in live.resources]
        if gone:
            await deps.store.drop_resources(gone)
    return live


async def restore(deps: Context) -> ActiveRevision:
    """Return the last valid specs of the state, which are in force when the source cannot be read at start-up."""
    stored = await deps.store.resources()
    revision = await deps.store.get_meta("revision.valid") or ""
    resources = {resource.id: resource for resource in await deps.store.run(resources_from_json, stored.values())}
    # Not complete: nothing is pruned before the source has been read once.
    return ActiveRevision(revision, resources, frozenset(), (), complete=False)
