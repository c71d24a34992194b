"""Plans without credentials: desired against desired (``--base``), and against a snapshot that the daemon wrote (``--snapshot``).

Write-only values show as references and the digests of such plans approve nothing: this is what runs on pull requests,
where nothing secret may be near the code of a stranger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from reconciler.config import Config
from reconciler.model.errors import NotImplementedYet, Problem, ReconcilerError, UsageError
from reconciler.model.objects import ManagedObject
from reconciler.model.plan import PlanSet
from reconciler.model.resources import Desired, Resource

PLACEHOLDER_URL = "https://public-url.invalid"


async def base_plan(config: Config, ref: str, path: str | None) -> tuple[PlanSet, tuple[Any, ...]]:
    """Return what the newest revision (or the folder ``path``) changes against ``ref``."""
    from reconciler.source import open_folder, open_source
    from reconciler.source.configured import options_of

    source = (
        open_folder(Path(path), config_name=config.file_name)
        if path is not None
        else open_source(options_of(config), config.state_dir)
    )
    try:
        before_revision = await source.resolve(ref)
        after_revision = await source.fetch()
        before = await _load(source, before_revision, config)
        after = await _load(source, after_revision, config)
    finally:
        await source.close()
    return _compared(before.resources, after.resources, config, after.revision), after.problems


def _compared(before: Iterable[Resource], after: Iterable[Resource], config: Config, revision: str) -> PlanSet:
    from reconciler.planning.base import base_plan as compare

    (old, old_unread), (new, new_unread) = compile_desired(before, config), compile_desired(after, config)
    unread = tuple(dict.fromkeys((*new_unread, *old_unread)))
    return dataclasses.replace(compare(old, new, revision=revision), unread=unread)


async def _load(source: Any, revision: Any, config: Config) -> Desired:
    from reconciler.manifests import SourceFile, load

    snapshot = await source.snapshot(revision)
    files = [SourceFile(path, blob, data) for path, blob, data in await source.read(snapshot)]
    return load(files, revision=revision.id, sandbox=config.sandbox)


def compile_desired(resources: Iterable[Resource], config: Config) -> tuple[tuple[ManagedObject, ...], tuple[Problem, ...]]:
    """Return the managed objects of ``resources``, with names instead of ids and references instead of fingerprints.

    Second, what could not be compiled: the plan says nothing about it.
    """
    from reconciler.drivers.catalog import driver_for
    from reconciler.engine.compiling import compile_offline, integration_of, users_of
    from reconciler.engine.unread import problem_of

    resources = tuple(resources)
    by_id = {resource.id: resource for resource in resources}
    objects: list[ManagedObject] = []
    unread: list[Problem] = []
    for integration in sorted({found for r in resources if (found := integration_of(r)) is not None}):
        manifest = by_id.get(integration)
        driver = driver_for(str(manifest.spec["type"])) if manifest is not None else None
        if manifest is None or driver is None:
            unread.append(problem_of(integration, NotImplementedYet("no driver for it in this version"), by_id))
            continue
        try:
            connection = driver.connect(manifest, manifest.secret_refs("/auth"))
        except ReconcilerError as error:
            unread.append(problem_of(integration, error, by_id))
            continue
        compiled = compile_offline(
            driver,
            connection,
            users_of(integration, resources),
            owner=config.owner,
            public_url=config.server.public_url or PLACEHOLDER_URL,
        )
        objects.extend(compiled.objects)
        unread += [problem_of(resource, reason, by_id) for resource, reason in compiled.stalled.items()]
    return tuple(objects), tuple(unread)


async def snapshot_plan(config: Config, file: Path, path: str | None) -> tuple[PlanSet, tuple[Any, ...]]:
    """Return what the newest revision (or the folder ``path``) changes against the daemon's snapshot."""
    from reconciler.manifests.codec import resource_from_json
    from reconciler.source import open_folder, open_source
    from reconciler.source.configured import options_of

    try:
        document = orjson.loads(file.read_bytes())
        before = [resource_from_json(orjson.dumps(row)) for row in document["resources"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is no snapshot of this program ({type(error).__name__})",
            hint="The daemon writes it beside its status file as snapshot.json.",
        ) from None
    source = (
        open_folder(Path(path), config_name=config.file_name)
        if path is not None
        else open_source(options_of(config), config.state_dir)
    )
    try:
        after = await _load(source, await source.fetch(), config)
    finally:
        await source.close()
    return _compared(before, after.resources, config, after.revision), after.problems
