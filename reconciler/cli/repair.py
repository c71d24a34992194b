"""Existing objects and repair: recover, orphans, ping, export and accept-drift."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.options import AcceptDriftOptions, ExportOptions, OrphansOptions, RecoverOptions, ResourceOptions
from reconciler.cli.output import agreed, emit_json, problem_row, say
from reconciler.cli.plan import planset_of, prepare_all, read_source, show
from reconciler.cli.session import configuration
from reconciler.cli.sink import block, document, out
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL
from reconciler.model.plan import Action, Change, ChangeClass, Orphan, PlanSet
from reconciler.model.resources import Resource, ResourceId

if TYPE_CHECKING:
    from reconciler.engine.controller import Controller


def recover(options: RecoverOptions) -> int:
    """Record our objects again after a lost state; create and delete nothing."""
    return asyncio.run(_recover(options))


async def _recover(options: RecoverOptions) -> int:
    from reconciler.daemon.session import Options, open_session
    from reconciler.engine.operations import find_again

    async with open_session(configuration(options), Options()) as session:
        engine = session.engine
        await read_source(engine)
        results = [await find_again(engine, integration) for integration in await engine.integrations()]
        matches = planset_of(engine.current, results)
        if options.output == "text":
            show(matches, "text")
        known = {change.address for change in matches.changes} | {row.address for result in results for row in result.recorded}
        missing = [managed.address for result in results for managed in result.compiled.objects if managed.address not in known]
        for address in missing:
            say(f"not found: {address} (the daemon creates it in its next pass)")
        count = len(matches.changes)
        question = f"Record {_count(count, 'object')} as ours?"
        if count and not agreed(question, yes=options.yes, refusal="nothing was recorded"):
            return EXIT_ERROR
        done = [await engine.execute(result) for result in results]  # exactly the changes that were shown
        failed = sum(len(result.report.failed) + (result.error is not None) for result in done)
        await engine.finish_pass()
        if options.output == "json":
            objects = [{"address": change.address, "externalId": change.external_id} for change in matches.changes]
            unread = [problem_row(problem) for problem in matches.unread]
            emit_json({"found": objects, "notFound": missing, "failed": failed, "unread": unread})
        else:
            out(f"{_count(count, 'object')} found again, {len(missing)} not found, {failed} failed{_unread_count(matches)}")
        return EXIT_OK if not failed and not matches.unread else EXIT_PARTIAL


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _unread_count(plan: PlanSet) -> str:
    return f", {len(plan.unread)} could not be read" if plan.unread else ""


# -- orphans ------------------------------------------------------------------------------------------------------------

_Row = tuple[ResourceId, Orphan]


def orphans(options: OrphansOptions) -> int:
    """List orphaned objects; with ``--delete``, delete them."""
    return asyncio.run(_orphans(options))


async def _orphans(options: OrphansOptions) -> int:
    from reconciler.daemon.session import Options, open_session

    config = configuration(options)
    async with open_session(config, Options(lock=options.delete, create=False, read_only=not options.delete)) as session:
        engine = session.engine
        await read_source(engine)
        plan = planset_of(engine.current, await prepare_all(engine))
        rows = [(part.integration, orphan) for part in plan.plans for orphan in part.orphans]
        _list_orphans(plan, rows, options.output)
        if not options.delete or not rows:
            return EXIT_OK if not plan.unread else EXIT_ERROR
        question = f"Delete {_count(len(rows), 'object')} at the providers?"
        if not agreed(question, yes=options.yes, refusal="nothing was deleted"):
            return EXIT_ERROR
        failed = await _delete(engine, rows)
        out(f"{len(rows) - failed} deleted, {failed} failed")
        return EXIT_OK if not failed and not plan.unread else EXIT_PARTIAL


def _list_orphans(plan: PlanSet, rows: Sequence[_Row], output: str) -> None:
    for problem in plan.unread:
        say(f"not read: {problem.code}: {problem.message}")
    if output == "json":
        objects = [
            {"integration": integration.path, "scope": str(orphan.scope), "externalId": orphan.external_id, "url": orphan.url}
            for integration, orphan in rows
        ]
        emit_json({"orphans": objects, "unread": [problem_row(problem) for problem in plan.unread]})
        return
    for integration, orphan in rows:
        out(f"{integration}  {orphan.scope}  {orphan.external_id}  {orphan.url}")
    out(f"{_count(len(rows), 'object')} with our marker and without a manifest{_unread_count(plan)}")


async def _delete(engine: Controller, rows: Sequence[_Row]) -> int:
    """Delete orphans and return the number of errors."""
    from reconciler.engine.operations import delete_orphan

    failed = 0
    for integration, orphan in rows:
        try:
            await delete_orphan(engine.current, integration, orphan)
        except ReconcilerError as error:
            failed += 1
            say(f"{orphan.scope} {orphan.external_id}: {error.code}: {error.message}")
    return failed


# -- ping and export ----------------------------------------------------------------------------------------------------


def ping(options: ResourceOptions) -> int:
    """Request a test delivery of each hook of a source."""
    return asyncio.run(_ping(options))


async def _ping(options: ResourceOptions) -> int:
    from reconciler.daemon.session import Options, open_session
    from reconciler.engine.control import parse_resource
    from reconciler.engine.operations import ping as test_delivery

    async with open_session(configuration(options), Options(lock=False, create=False)) as session:
        engine, deps = session.engine, session.deps
        records = [record for record in await deps.store.recorded() if not record.tombstone]
        identity = parse_resource(options.resource, {record.resource for record in records})
        hooks = [record for record in records if record.resource == identity]
        if not hooks:
            raise UsageError(f"nothing is recorded for {identity}", hint="See `reconciler status`.")
        requested = 0
        for record in hooks:
            sent = await test_delivery(engine.current, record)
            requested += sent
            result = "requested a test delivery" if sent else "this provider has no test delivery"
            out(f"{record.scope} {record.external_id}: {result}")
        return EXIT_OK if requested else EXIT_ERROR


def export(options: ExportOptions) -> int:
    """Write manifests for existing objects."""
    return asyncio.run(_export(options))


async def _export(options: ExportOptions) -> int:
    from reconciler.cli.export import manifests_of
    from reconciler.cli.plan import reading_session
    from reconciler.engine.control import parse_resource

    async with reading_session(configuration(options), None) as session:
        engine = session.engine
        await read_source(engine)
        identity = parse_resource(f"Integration/{options.integration}", set(engine.current.active.resources))
        if identity not in engine.current.active.resources:
            raise UsageError(
                f"no {identity} is declared", hint="Commit the Integration first; export reads through its credential."
            )
        text = await manifests_of(engine.current, identity, options.scope)
    if options.out:
        Path(options.out).write_text(text, encoding="utf-8")
        out(f"wrote {options.out}")
    else:
        document(text)
    return EXIT_OK


# -- accept-drift -------------------------------------------------------------------------------------------------------


def accept_drift(options: AcceptDriftOptions) -> int:
    """Write the provider's values into the manifest."""
    return asyncio.run(_accept(options))


async def _accept(options: AcceptDriftOptions) -> int:
    from reconciler.cli.edit import accept, save
    from reconciler.cli.keys import find_in_folder

    resource, manifest, path = find_in_folder(Path(options.dir), options.resource)
    changes, unread = await _drift_of(resource, options)
    if not changes:
        if not unread:
            out(f"{resource.id}: no drift")
        return EXIT_ERROR if unread else EXIT_OK
    left = accept(manifest, resource, changes)
    before, after = manifest.before, _still_valid(manifest.render(), path, resource.id)
    lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
    block("".join(difflib.unified_diff(*lines, str(path), str(path))))
    for pointer in left:
        say(f"{pointer}: the manifest has no place for it; the daemon keeps repairing it (see lifecycle.ignore)")
    if before == after:
        return EXIT_ERROR
    if not options.dry_run:
        save(path, after)
        out(f"wrote {path}; commit it")
    return EXIT_OK


async def _drift_of(resource: Resource, options: AcceptDriftOptions) -> tuple[list[Change], bool]:
    """Return the drift of a resource, and whether a part of it could not be read."""
    from reconciler.cli.plan import reading_session

    async with reading_session(configuration(options), options.dir) as session:
        engine = session.engine
        await engine.sync()
        plan = planset_of(engine.current, await prepare_all(engine))
    related = {resource.id, *resource.references}
    unread = [problem for problem in plan.unread if problem.resource in related]
    for problem in unread:
        say(f"not read: {problem.code}: {problem.message}")
    drift = [change for change in plan.changes if change.cls is not ChangeClass.COMMIT]
    return [change for change in drift if change.resource == resource.id and change.action is Action.UPDATE], bool(unread)


def _still_valid(text: str, path: Path, identity: ResourceId) -> str:
    """Return ``text`` if it still declares ``identity``: a provider may have values that a manifest cannot hold."""
    from reconciler.manifests.parse import parse_file

    documents = parse_file(text.encode(), sandbox=True).documents
    matches = [parsed for parsed in documents if ResourceId(parsed.kind, parsed.canvas, parsed.name) == identity]
    if len(matches) != 1 or not matches[0].valid:
        raise UsageError(
            f"{path}: with the accepted values {identity} would not be valid",
            hint="Edit the manifest by hand; nothing was written.",
        )
    return text
