"""Existing objects and repair: recover, orphans, ping, export and accept-drift."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli import listing
from reconciler.cli.listing import Listing, Style
from reconciler.cli.options import AcceptDriftOptions, ExportOptions, OrphansOptions, RecoverOptions, ResourceOptions
from reconciler.cli.output import agreed, emit_json, problem_row, say
from reconciler.cli.parser import did_you_mean
from reconciler.cli.plan import planset_of, prepare_all, read_source, show
from reconciler.cli.progress import progress
from reconciler.cli.session import configuration
from reconciler.cli.sink import block, document, out
from reconciler.cli.tables import counted, table
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
        integrations = await engine.integrations()
        async with progress("looking for our objects"):
            results = [await find_again(engine, integration) for integration in integrations]
        matches = planset_of(engine.current, results)
        if options.output == "text":
            show(matches, "text")
        known = {change.address for change in matches.changes} | {row.address for result in results for row in result.recorded}
        missing = [managed.address for result in results for managed in result.compiled.objects if managed.address not in known]
        for address in missing:
            say(f"not found: {address} (the daemon creates it in its next pass)")
        count = len(matches.changes)
        question = f"Record {counted(count, 'object')} as ours?"
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
            out(f"{counted(count, 'object')} found again, {len(missing)} not found, {failed} failed{_unread_count(matches)}")
        return EXIT_OK if not failed and not matches.unread else EXIT_PARTIAL


def _unread_count(plan: PlanSet) -> str:
    return f", {len(plan.unread)} could not be read" if plan.unread else ""


# -- orphans ------------------------------------------------------------------------------------------------------------

_Row = tuple[ResourceId, Orphan]
ORPHANS_WATCH_S = 30.0
"""Pause between two looks of ``orphans --watch``: each reads every list at the providers."""


def orphans(options: OrphansOptions) -> int:
    """List orphaned objects; with ``--delete``, delete them."""
    if not options.delete:
        return listing.show(options, lambda: asyncio.run(_orphans(options)), every_s=ORPHANS_WATCH_S)
    if options.watch:
        raise UsageError("--watch only lists; use --delete without it")
    return asyncio.run(_delete_orphans(options))


@contextlib.asynccontextmanager
async def _found(options: OrphansOptions) -> AsyncIterator[tuple[Controller, PlanSet, list[_Row]]]:
    """Yield the engine, the plan, and the orphaned objects of each integration."""
    from reconciler.daemon.session import Options, open_session

    settings = Options(lock=options.delete, create=False, read_only=not options.delete, log_level="error")
    async with open_session(configuration(options), settings) as session:
        engine = session.engine
        await read_source(engine)
        plan = planset_of(engine.current, await prepare_all(engine))
        yield engine, plan, [(part.integration, orphan) for part in plan.plans for orphan in part.orphans]


async def _orphans(options: OrphansOptions) -> Listing:
    async with _found(options) as (_, plan, rows):
        return _listing(plan, rows)


async def _delete_orphans(options: OrphansOptions) -> int:
    async with _found(options) as (engine, plan, rows):
        listing.show(options, lambda: _listing(plan, rows))
        if not rows:
            return EXIT_OK if not plan.unread else EXIT_ERROR
        question = f"Delete {counted(len(rows), 'object')} at the providers?"
        if not agreed(question, yes=options.yes, refusal="nothing was deleted"):
            return EXIT_ERROR
        failed = await _delete(engine, rows)
        out(f"{len(rows) - failed} deleted, {failed} failed")
        return EXIT_OK if not failed and not plan.unread else EXIT_PARTIAL


def _listing(plan: PlanSet, rows: Sequence[_Row]) -> Listing:
    objects = [
        {"integration": integration.path, "scope": str(orphan.scope), "externalId": orphan.external_id, "url": orphan.url}
        for integration, orphan in rows
    ]

    def text(style: Style) -> None:
        for problem in plan.unread:
            style.note(f"not read: {problem.code}: {problem.message}")
        cells = [(str(integration), str(orphan.scope), orphan.external_id, orphan.url) for integration, orphan in rows]
        if rows:
            table(("INTEGRATION", "SCOPE", "ID", "URL"), cells, none="")
        out(f"{counted(len(rows), 'object')} with our marker and without a manifest{_unread_count(plan)}")

    document = {"orphans": objects, "unread": [problem_row(problem) for problem in plan.unread]}
    names = [orphan.external_id for _, orphan in rows]
    return Listing(document, names, text, code=EXIT_OK if not plan.unread else EXIT_ERROR)


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
    from reconciler.engine.operations import ping as test_delivery
    from reconciler.manifests.resource_argument import parse_resource

    async with open_session(configuration(options), Options(lock=False, create=False)) as session:
        engine, deps = session.engine, session.deps
        records = [record for record in await deps.store.recorded() if not record.tombstone]
        identity = parse_resource(options.resource, {record.resource for record in records})
        hooks = [record for record in records if record.resource == identity]
        if not hooks:
            known = sorted({str(record.resource) for record in records})
            hint = did_you_mean(str(identity), known, "See `reconciler status`.")
            raise UsageError(f"nothing is recorded for {identity}", hint=hint)
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
    from reconciler.manifests.resource_argument import parse_resource

    async with reading_session(configuration(options), None) as session:
        engine = session.engine
        await read_source(engine)
        identity = parse_resource(f"Integration/{options.integration}", set(engine.current.active.resources))
        if identity not in engine.current.active.resources:
            known = [str(each) for each in engine.current.active.resources if each.kind == identity.kind]
            hint = did_you_mean(str(identity), known, "Commit the Integration first; export reads through its credential.")
            raise UsageError(f"no {identity} is declared", hint=hint)
        async with progress(f"reading {identity}"):
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
