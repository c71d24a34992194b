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

from reconciler.config.settings import Config
from reconciler.model.errors import NotImplementedYet, Problem, ReconcilerError, UsageError
from reconciler.model.objects import ManagedObject
from reconciler.model.plan import PlanSet
from reconciler.model.resources import Desired, Resource

PLACEHOLDER_URL = "https://public-url.invalid"


async def base_plan(config: Config, ref: str, path: str | None) -> tuple[PlanSet, tuple[Any, ...]]:
    """Return what is checked out (a remote's newest revision, or the folder ``path``) changes since it parted from ``ref``."""
    from reconciler.source import open_folder, open_source
    from reconciler.source.configured import options_of

    source = (
        open_folder(Path(path), config_name=config.file_name)
        if path is not None
        else open_source(options_of(config), config.state_dir)
    )
    try:
        before_revision, after_revision = await source.comparison(ref)
        before = await _load(source, before_revision, config)
        after = await _load(source, after_revision, config)
    finally:
        await source.close()
    return _compared(before.resources, after, config)


async def _load(source: Any, revision: Any, config: Config) -> Desired:
    from reconciler.drivers.http.network import refusal_of_literals
    from reconciler.engine.revision import unread_in
    from reconciler.manifests import SourceFile, load

    snapshot = await source.snapshot(revision)
    files = [SourceFile(path, blob, data) for path, blob, data in await source.read(snapshot)]
    desired = load(files, revision=revision.id, sandbox=config.sandbox, refused=refusal_of_literals(config.network.allow))
    return dataclasses.replace(desired, unread=unread_in(snapshot))


def _compared(before: Iterable[Resource], after: Desired, config: Config) -> tuple[PlanSet, tuple[Any, ...]]:
    """Compare; what something that was not read hides is as little gone as for the daemon, and named."""
    from reconciler.engine.revision import hidden
    from reconciler.planning.compare import base_plan as compare
    from reconciler.planning.resources import resource_changes

    before = tuple(before)
    behind, problems = hidden(after, before)
    old = {one.id: one for one in before if one.id not in behind}
    (former, former_unread), (wanted, unread) = (compile_desired(rows, config) for rows in (old.values(), after.resources))
    made = dataclasses.replace(
        compare(former, wanted, revision=after.revision),
        resources=resource_changes(old, after.by_id()),
        unread=tuple(dict.fromkeys((*unread, *former_unread))),
    )
    return made, (*after.problems, *problems)


def compile_desired(resources: Iterable[Resource], config: Config) -> tuple[tuple[ManagedObject, ...], tuple[Problem, ...]]:
    """Return the managed objects of ``resources``, with names instead of ids and references instead of fingerprints.

    Second, what could not be compiled: the plan says nothing about it.
    """
    from reconciler.drivers.registry import driver_for
    from reconciler.engine.compile import compile_offline, integration_of, users_of
    from reconciler.engine.read_errors import problem_of

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
    from reconciler.model.codec import resource_from_json
    from reconciler.source import open_folder, open_source
    from reconciler.source.configured import options_of

    try:
        document = orjson.loads(file.read_bytes())
        before = [resource_from_json(orjson.dumps(row)) for row in document["resources"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is not a snapshot of this program ({type(error).__name__})",
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
    return _compared(before, after, config)
