"""Brownfield and repair: recover, export, accept-drift, orphans, ping, and adopting what exists."""

from __future__ import annotations

import argparse
import asyncio
import difflib
from pathlib import Path
from typing import Any

from reconciler.cli.output import confirm, emit_json, say
from reconciler.cli.plan import planset_of, show
from reconciler.cli.session import configuration
from reconciler.cli.sink import block, document, out
from reconciler.model.errors import Problem, ReconcilerError, UsageError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL
from reconciler.model.plan import Action, ChangeClass
from reconciler.model.resources import ResourceId


def recover(options: argparse.Namespace) -> int:
    """Find everything again after a lost state; creates and deletes nothing."""
    return asyncio.run(_recover(options))


async def _recover(options: argparse.Namespace) -> int:
    from reconciler.daemon.session import Options, open_session
    from reconciler.engine.operations import find_again

    async with open_session(configuration(options), Options()) as session:
        engine = session.engine
        await engine.sync()
        if engine.current.source.error is not None:
            raise engine.current.source.error
        results = [await find_again(engine, one) for one in await engine.integrations()]
        found = planset_of(engine.current, results)
        if options.output == "text":
            show(found, "text")
        known = {change.address for change in found.changes} | {r.address for result in results for r in result.recorded}
        left = [one.address for result in results for one in result.compiled.objects if one.address not in known]
        for address in left:
            say(f"not found: {address} (the daemon makes it at its next pass)")
        todo = len(found.changes)
        if todo and not options.yes and not confirm(f"Record these {todo} objects as ours?"):
            say("nothing was recorded; use --yes where there is no terminal")
            return EXIT_ERROR
        done = [await engine.execute(one) for one in results]  # what was shown, and nothing else
        failed = sum(len(result.report.failed) + (result.error is not None) for result in done)
        await engine.finish_pass()
        if options.output == "json":
            emit_json(
                {
                    "found": [{"address": c.address, "externalId": c.external_id} for c in found.changes],
                    "notFound": left,
                    "failed": failed,
                    "unread": [_unread_row(one) for one in found.unread],
                }
            )
        else:
            unread = f", {len(found.unread)} could not be read" if found.unread else ""
            out(f"{todo} objects found again, {len(left)} not found, {failed} failed{unread}")
        return EXIT_OK if not failed and not found.unread else EXIT_PARTIAL


def _unread_row(problem: Problem) -> dict[str, Any]:
    return {"code": problem.code, "message": problem.message, "hint": problem.hint}


def orphans(options: argparse.Namespace) -> int:
    """List, and with --delete remove, what carries our mark and is not declared."""
    return asyncio.run(_orphans(options))


async def _orphans(options: argparse.Namespace) -> int:
    from reconciler.daemon.session import Options, open_session
    from reconciler.engine.operations import delete_orphan

    config = configuration(options)
    async with open_session(config, Options(lock=options.delete, create=False, read_only=not options.delete)) as session:
        engine = session.engine
        await engine.sync()
        if engine.current.source.error is not None:
            raise engine.current.source.error
        found = planset_of(engine.current, [await engine.prepare(one) for one in await engine.integrations()])
        rows = [(plan.integration, orphan) for plan in found.plans for orphan in plan.orphans]
        for problem in found.unread:
            say(f"not read: {problem.code}: {problem.message}")
        if options.output == "json":
            emit_json(
                {
                    "orphans": [
                        {"integration": i.path, "scope": str(o.scope), "externalId": o.external_id, "url": o.url} for i, o in rows
                    ],
                    "unread": [_unread_row(one) for one in found.unread],
                }
            )
        else:
            for integration, orphan in rows:
                out(f"{integration}  {orphan.scope}  {orphan.external_id}  {orphan.url}")
            unread = f"; {len(found.unread)} could not be read" if found.unread else ""
            out(f"{len(rows)} object{'' if len(rows) == 1 else 's'} with our mark and without a manifest{unread}")
        if not options.delete or not rows:
            return EXIT_OK if not found.unread else EXIT_ERROR
        if not options.yes and not confirm(f"Delete these {len(rows)} objects at their providers?"):
            say("nothing was deleted; use --yes where there is no terminal")
            return EXIT_ERROR
        failed = 0
        for integration, orphan in rows:
            try:
                await delete_orphan(engine.current, integration, orphan)
            except ReconcilerError as error:
                failed += 1
                say(f"{orphan.scope} {orphan.external_id}: {error.code}: {error.message}")
        out(f"{len(rows) - failed} deleted, {failed} failed")
        return EXIT_OK if not failed and not found.unread else EXIT_PARTIAL


def ping(options: argparse.Namespace) -> int:
    """Ask the provider for a test delivery of each hook of a source."""
    return asyncio.run(_ping(options))


async def _ping(options: argparse.Namespace) -> int:
    from reconciler.daemon.session import Options, open_session
    from reconciler.engine.control import parse_resource
    from reconciler.engine.operations import ping as test_delivery

    async with open_session(configuration(options), Options(lock=False, create=False)) as session:
        engine, deps = session.engine, session.deps
        records = [r for r in await deps.store.recorded() if not r.tombstone]
        identity = parse_resource(options.resource, {r.resource for r in records})
        mine = [r for r in records if r.resource == identity]
        if not mine:
            raise UsageError(f"nothing is recorded for {identity}", hint="See `reconciler status`.")
        asked = 0
        for record in mine:
            sent = await test_delivery(engine.current, record)
            asked += sent
            out(
                f"{record.scope} {record.external_id}: "
                + ("asked for a test delivery" if sent else "this provider has no test delivery")
            )
        return EXIT_OK if asked else EXIT_ERROR


def export(options: argparse.Namespace) -> int:
    """Write manifests for what exists."""
    return asyncio.run(_export(options))


async def _export(options: argparse.Namespace) -> int:
    from reconciler.cli.export import manifests_of
    from reconciler.cli.plan import reading_session
    from reconciler.engine.control import parse_resource

    async with reading_session(configuration(options), None) as session:
        engine = session.engine
        await engine.sync()
        if engine.current.source.error is not None:
            raise engine.current.source.error
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


def accept_drift(options: argparse.Namespace) -> int:
    """Write what the provider has into the manifest."""
    return asyncio.run(_accept(options))


async def _accept(options: argparse.Namespace) -> int:
    from reconciler.cli.edit import accept, save
    from reconciler.cli.keys import find_in_folder
    from reconciler.cli.plan import reading_session

    resource, document, path = find_in_folder(Path(options.dir), options.resource)
    before = document.before
    async with reading_session(configuration(options), options.dir) as session:
        engine = session.engine
        await engine.sync()
        found = planset_of(engine.current, [await engine.prepare(one) for one in await engine.integrations()])
        changes = [
            c
            for c in found.changes
            if c.resource == resource.id and c.action is Action.UPDATE and c.cls is not ChangeClass.COMMIT
        ]
        asked = {resource.id, *resource.references}
        unread = [one for one in found.unread if one.resource in asked]
    for problem in unread:
        say(f"not read: {problem.code}: {problem.message}")
    if not changes and unread:
        return EXIT_ERROR
    if not changes:
        out(f"{resource.id}: no drift")
        return EXIT_OK
    left = accept(document, resource, changes)
    after = _still_valid(document.render(), path, resource.id)
    block("".join(difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), str(path), str(path))))
    for one in left:
        say(f"{one}: has no place in the manifest; the daemon keeps repairing it (see lifecycle.ignore)")
    if before == after:
        return EXIT_ERROR
    if not options.dry_run:
        save(path, after)
        out(f"wrote {path}; commit it")
    return EXIT_OK


def _still_valid(text: str, path: Path, identity: ResourceId) -> str:
    """Return ``text`` if it still declares ``identity``; what a provider says may be nothing that a manifest can hold."""
    from reconciler.manifests.parse import parse_file

    documents = parse_file(text.encode(), sandbox=True).documents
    found = [one for one in documents if ResourceId(one.kind, one.canvas, one.name) == identity]
    if len(found) != 1 or not found[0].valid:
        raise UsageError(
            f"{path}: with the accepted values {identity} would not be valid",
            hint="Edit the manifest by hand; nothing was written.",
        )
    return text


__all__ = ["accept_drift", "export", "orphans", "ping", "recover"]
