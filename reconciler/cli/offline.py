"""Plans without credentials: desired against desired (``--base``), and against a snapshot that the daemon wrote (``--snapshot``).

Write-only values appear as references, and the digests of such plans approve nothing. They are made for pull requests, where no
secret may be near untrusted code.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from reconciler.config.settings import Config
from reconciler.model.errors import NotImplementedYet, Problem, ReconcilerError, StateError, UsageError
from reconciler.model.objects import ManagedObject
from reconciler.model.plan import Manifests, PlanSet
from reconciler.model.resources import Desired, Resource
from reconciler.source.base import Revision, Source

PLACEHOLDER_URL = "https://public-url.invalid"


async def base_plan(config: Config, ref: str, path: str | None) -> tuple[PlanSet, tuple[Problem, ...]]:
    """Return the changes of the newest revision (or of the folder ``path``) since its merge base with ``ref``."""
    source = _open(config, path)
    try:
        before_revision, after_revision = await source.comparison(ref)
        before = await _load(source, before_revision, config)
        after = await _load(source, after_revision, config)
    finally:
        await source.close()
    return _compared(before.resources, after, config)


def _open(config: Config, path: str | None) -> Source:
    """Return the folder ``path``, or the configured source."""
    from reconciler.source import open_folder, open_source
    from reconciler.source.configured import options_of

    if path is not None:
        return open_folder(Path(path), config_name=config.file_name)
    return open_source(options_of(config), config.state_dir)


async def _load(source: Source, revision: Revision, config: Config) -> Desired:
    from reconciler.drivers.http.network import refusal_of_literals
    from reconciler.engine.revision import unread_in
    from reconciler.manifests import SourceFile, load

    snapshot = await source.snapshot(revision)
    files = [SourceFile(path, blob, data) for path, blob, data in await source.read(snapshot)]
    desired = load(files, revision=revision.id, sandbox=config.sandbox, refused=refusal_of_literals(config.network.allow))
    return dataclasses.replace(desired, unread=unread_in(snapshot))


def _compared(before: Iterable[Resource], after: Desired, config: Config) -> tuple[PlanSet, tuple[Problem, ...]]:
    """Compare. A resource that is invalid now, or that an unread file hides, keeps its manifest and is reported, as in the daemon."""
    from reconciler.engine.revision import kept_of
    from reconciler.planning.compare import base_plan as compare
    from reconciler.planning.inputs import PlanLimits
    from reconciler.planning.policy import is_suspended
    from reconciler.planning.resources import resource_changes

    old = {resource.id: resource for resource in before}
    kept, problems = kept_of(after, old.values())
    new, now = {**after.by_id(), **kept}, time.time()
    (former, former_unread), (desired, unread) = (compile_desired(rows.values(), config) for rows in (old, new))
    suspended = frozenset(identity for identity, resource in new.items() if is_suspended(resource.lifecycle, now))
    allowed = config.reconcile.limits
    limits = PlanLimits(allowed.delete_percent, allowed.delete_minimum, allowed.delete_max)
    plan = dataclasses.replace(
        compare(former, desired, revision=after.revision, suspended=suspended, limits=limits),
        resources=resource_changes(old, new),
        unread=tuple(dict.fromkeys((*unread, *former_unread))),
        manifests=Manifests(old, new),
    )
    return plan, (*after.problems, *problems)


def compile_desired(resources: Iterable[Resource], config: Config) -> tuple[tuple[ManagedObject, ...], tuple[Problem, ...]]:
    """Return the managed objects of ``resources``, with names instead of ids and references instead of fingerprints.

    The second value has a problem for each resource that could not be compiled: the plan does not cover it.
    """
    from reconciler.drivers.registry import driver_for
    from reconciler.engine.app_hooks import declaring, webhook_owners
    from reconciler.engine.compile import compile_offline, integration_of
    from reconciler.engine.read_errors import problem_of
    from reconciler.manifests.kinds import IntegrationSpec

    resources = tuple(resources)
    by_id = {resource.id: resource for resource in resources}
    objects: list[ManagedObject] = []
    unread: list[Problem] = []
    used = {integration for resource in resources if (integration := integration_of(resource)) is not None}
    for integration in sorted({*used, *webhook_owners(resources).values()}):
        manifest = by_id.get(integration)
        driver = driver_for(manifest.typed(IntegrationSpec).type) if manifest is not None else None
        if manifest is None or driver is None:
            unread.append(problem_of(integration, NotImplementedYet("this version has no driver for it"), by_id))
            continue
        try:
            connection = driver.connect(manifest, manifest.secret_refs("/auth"))
        except ReconcilerError as error:
            unread.append(problem_of(integration, error, by_id))
            continue
        compiled = compile_offline(
            driver,
            connection,
            declaring(integration, by_id),
            owner=config.owner,
            public_url=config.server.public_url or PLACEHOLDER_URL,
        )
        objects.extend(compiled.objects)
        unread += [problem_of(resource, reason, by_id) for resource, reason in compiled.stalled.items()]
    return tuple(objects), tuple(unread)


class _Snapshot(msgspec.Struct, frozen=True):
    """The snapshot that `reconciler.engine.statusfile` writes; a row is a stored resource."""

    resources: tuple[msgspec.Raw, ...]


async def snapshot_plan(config: Config, file: Path, path: str | None) -> tuple[PlanSet, tuple[Problem, ...]]:
    """Return the changes of the newest revision (or of the folder ``path``) against the daemon's snapshot."""
    from reconciler.model.codec import resource_from_json

    try:
        rows = msgspec.json.decode(file.read_bytes(), type=_Snapshot).resources
        before = [resource_from_json(bytes(row)) for row in rows]
    except (OSError, ValueError, StateError) as error:
        raise UsageError(
            f"{file} is not a snapshot of this program ({type(error).__name__})",
            hint="The daemon writes it beside its status file as snapshot.json.",
        ) from None
    source = _open(config, path)
    try:
        after = await _load(source, await source.fetch(), config)
    finally:
        await source.close()
    return _compared(before, after, config)
