"""``plan`` and ``drift``: what would be done, and what differs. Nothing remote is ever written from here."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from reconciler.cli.main import EXIT_OK
from reconciler.cli.output import colour, say
from reconciler.cli.session import configuration
from reconciler.cli.sink import coloured, document, json_document
from reconciler.config import Config
from reconciler.model.errors import ManifestError, UsageError
from reconciler.model.plan import ChangeClass, Plan, PlanSet
from reconciler.planning.resources import resource_changes
from reconciler.source import LocalRepository


def plan(options: argparse.Namespace) -> int:
    """Show what apply would do."""
    config = configuration(options)
    if options.base:
        from reconciler.cli.offline import base_plan

        planned, problems = asyncio.run(base_plan(config, options.base, options.path))
    elif options.snapshot:
        from reconciler.cli.offline import snapshot_plan

        planned, problems = asyncio.run(snapshot_plan(config, Path(options.snapshot), options.path))
    else:
        planned, problems = asyncio.run(make(config, options.path))
    show(planned, options.output, problems, approvable=config.state_exists and not (options.base or options.snapshot))
    _refuse_invalid(problems)
    return code_of(planned, detailed=options.detailed_exitcode)


def drift(options: argparse.Namespace) -> int:
    """Show only what nobody committed."""
    config = configuration(options)
    planned, problems = asyncio.run(make(config, options.path))
    only = PlanSet(planned.revision, tuple(_drift_of(one) for one in planned.plans))
    show(only, options.output, problems)
    _refuse_invalid(problems)
    return code_of(only, detailed=options.detailed_exitcode)


def _drift_of(one: Plan) -> Plan:
    import dataclasses

    return dataclasses.replace(one, changes=tuple(c for c in one.changes if c.cls is not ChangeClass.COMMIT))


def code_of(planned: PlanSet, *, detailed: bool) -> int:
    """Return the exit code of interface.md for a plan that was made."""
    if not detailed:
        return EXIT_OK
    from reconciler.planning.render import exit_code

    return exit_code(planned, detailed=True)


def _refuse_invalid(problems: tuple[Any, ...]) -> None:
    if any(problem.is_error for problem in problems):
        raise ManifestError(problems)


def show(planned: PlanSet, output: str, problems: tuple[Any, ...] = (), *, approvable: bool = True) -> None:
    """Print the plan to stdout in the asked form."""
    from reconciler.planning import render

    if output == "json":
        json_document(render.render_json(planned, problems, approvable=approvable) + "\n")
    elif output == "markdown":
        document(render.render_markdown(planned, problems, approvable=approvable) + "\n")
    elif output == "github":
        document(render.render_github(planned, problems) + "\n")
    else:
        coloured(
            render.render_text(
                planned, colour=colour(sys.stdout), width=shutil.get_terminal_size((100, 40)).columns, approvable=approvable
            )
        )


async def make(config: Config, path: str | None) -> tuple[PlanSet, tuple[Any, ...]]:
    """Return the plan against the world as it is, and the manifests' problems; raises what stops a whole integration last."""
    async with reading_session(config, path) as session:
        engine = session.engine
        in_force = engine.live.resources
        await engine.sync()
        if engine.state.error is not None:
            raise engine.state.error
        results = await asyncio.gather(*(engine.plan(one) for one in await engine.integrations()))
        for result in results:
            _tell(result)
        plans = tuple(result.plan for result in results if result.plan is not None)
        failed = next(
            (result.error for result in results if result.error is not None and result.error.code not in {"RC6010"}), None
        )
        await _say_work_tree(engine)
        planned = PlanSet(engine.live.revision, plans, resource_changes(in_force, engine.live.resources))
        if failed is not None and not plans:
            raise failed
        return planned, engine.live.problems


async def _say_work_tree(engine: Any) -> None:
    """Say where the files on the disk are not what is planned: a feature branch, or edits that are not committed."""
    if not isinstance(engine.source, LocalRepository) or engine.state.fetched is None:
        return
    tree = await engine.source.uncommitted(engine.state.fetched)
    if tree is None:
        return
    place = f"branch {tree.branch} is checked out" if tree.branch else "HEAD is detached"
    if tree.error:
        say(f"note: the working tree could not be compared with this revision: {tree.error}")
        return
    names = ", ".join(tree.differing[:3]) + (" …" if len(tree.differing) > 3 else "")
    count = f"{len(tree.differing)} manifest{'' if len(tree.differing) == 1 else 's'}"
    say(f"note: the working tree ({place}) differs from this revision in {count}: {names}")
    say(f"  This plan is of the commit. To plan what is on the disk: reconciler plan {engine.deps.config.source.url}")


def _tell(result: Any) -> None:
    """Say on stderr what could not be planned, and why."""
    if result.error is not None:
        say(f"{result.integration}: {result.error.code}: {result.error.message}")
    for resource, error in sorted(result.compiled.stalled.items()):
        say(f"{resource}: {error.code}: {error.message}")
    for scope, error in sorted(result.scope_errors.items()):
        say(f"{scope}: {error.code}: {error.message}")


@contextlib.asynccontextmanager
async def reading_session(config: Config, path: str | None) -> AsyncIterator[Any]:
    """Open a session that can only read: beside a running daemon, and where there is no state yet (an empty one is used)."""
    from reconciler.daemon import Options, open_session
    from reconciler.source import open_folder

    source = open_folder(Path(path), config_name=config.file_name) if path is not None else None
    if path is not None and not Path(path).is_dir():
        raise UsageError(f"{path} is not a folder", hint="PATH is a folder of manifests as it lies on the disk.")
    if config.state_exists:
        async with open_session(
            config, Options(lock=False, create=False, read_only=True, log_level="error"), source=source
        ) as session:
            yield session
        return
    with tempfile.TemporaryDirectory(prefix="reconciler-plan-") as folder:
        say("no state yet: planning as if nothing had ever been applied; the digest of this plan approves nothing")
        async with open_session(
            config.with_state(Path(folder)), Options(lock=False, read_only=True, log_level="error"), source=source
        ) as session:
            yield session


__all__ = ["code_of", "drift", "make", "plan", "reading_session", "show"]
