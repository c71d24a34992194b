"""``plan`` and ``drift``: pending changes, and differences at the providers. Nothing here writes to a provider."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler import __version__
from reconciler.cli.options import DriftOptions, PlanOptions
from reconciler.cli.output import colour, say
from reconciler.cli.progress import gathered, progress, waiting
from reconciler.cli.session import configuration
from reconciler.cli.sink import coloured, document, json_document
from reconciler.config.settings import Config
from reconciler.model.errors import ConfigError, ManifestError, Problem, StateError, UsageError
from reconciler.model.exit_codes import EXIT_ERROR
from reconciler.model.plan import ChangeClass, Manifests, Plan, PlanSet
from reconciler.model.resources import Resource, ResourceId
from reconciler.planning.resources import resource_changes
from reconciler.source import LocalRepository
from reconciler.source.options import check_url

if TYPE_CHECKING:
    from reconciler.daemon.session import Session
    from reconciler.engine.controller import Controller
    from reconciler.engine.current import Current
    from reconciler.engine.reconcile import Prepared


def plan(options: PlanOptions) -> int:
    """Show what apply would change."""
    config = configuration(options)
    approvable = False
    if options.base:
        from reconciler.cli.offline import base_plan

        with waiting("comparing the revisions"):
            planned, problems = asyncio.run(base_plan(config, options.base, options.path))
    elif options.snapshot:
        from reconciler.cli.offline import snapshot_plan

        with waiting("comparing with the snapshot"):
            planned, problems = asyncio.run(snapshot_plan(config, Path(options.snapshot), options.path))
    else:
        planned, problems, approvable = asyncio.run(make(config, options.path, for_approval=True))
    show(planned, options.output, problems, approvable=approvable)
    _refuse_invalid(problems)
    return code_of(planned, detailed=options.detailed_exitcode)


def drift(options: DriftOptions) -> int:
    """Show only drift."""
    config = configuration(options)
    planned, problems, _ = asyncio.run(make(config, options.path))
    # A commit that is not applied yet is no drift: neither its objects nor its manifests.
    only = dataclasses.replace(planned, plans=tuple(_drift_of(plan) for plan in planned.plans), resources=())
    show(only, options.output, problems, approvable=False)
    _refuse_invalid(problems)
    return code_of(only, detailed=options.detailed_exitcode)


def _drift_of(plan: Plan) -> Plan:
    return dataclasses.replace(plan, changes=tuple(c for c in plan.changes if c.cls is not ChangeClass.COMMIT))


def code_of(planned: PlanSet, *, detailed: bool) -> int:
    """Return the exit code of a plan. A plan in which no integration could be read is always an error."""
    from reconciler.planning.render import exit_code

    nothing = not planned.plans and any(problem.is_error for problem in planned.unread)
    return EXIT_ERROR if nothing else exit_code(planned, detailed=detailed)


def _refuse_invalid(problems: tuple[Problem, ...]) -> None:
    if any(problem.is_error for problem in problems):
        raise ManifestError(problems)


def show(planned: PlanSet, output: str, problems: tuple[Problem, ...] = (), *, approvable: bool = True) -> None:
    """Print the plan to stdout in the requested format."""
    from reconciler.engine.plan_document import plan_document
    from reconciler.planning import render

    page = plan_document(planned, problems, now=time.time(), approvable=approvable)
    if output == "json":
        json_document(render.json_text(page))
    elif output == "markdown":
        document(render.markdown(page))
    elif output == "github":
        document(render.workflow_commands(page))
    elif output == "sarif":
        json_document(render.sarif(page, version=__version__))
    else:
        coloured(render.text(page, colour=colour(sys.stdout), width=shutil.get_terminal_size((100, 40)).columns))


async def make(config: Config, path: str | None, *, for_approval: bool = False) -> tuple[PlanSet, tuple[Problem, ...], bool]:
    """Return the plan against the providers, the problems of the manifests, and whether ``apply --plan`` accepts its digest."""
    async with reading_session(config, path, for_approval=for_approval) as session:
        engine, current = session.engine, session.engine.current
        in_force = current.active.resources
        await read_source(engine)
        prepared = await prepare_all(engine)
        approvable = session.config.master_key == config.master_key
        await _say_work_tree(engine)
        return planset_of(current, prepared, in_force), current.active.problems, approvable


async def read_source(engine: Controller, *, activate: bool = True) -> None:
    """Fetch and read the source. Raises its error."""
    async with progress("reading the source"):
        await engine.sync(activate=activate)
    if engine.current.source.error is not None:
        raise engine.current.source.error


async def prepare_all(engine: Controller) -> list[Prepared]:
    """Return a plan for each integration, made concurrently."""
    integrations = await engine.integrations()
    return await gathered("reading the providers", ((str(each), engine.prepare(each)) for each in integrations))


def planset_of(current: Current, prepared: Iterable[Prepared], in_force: Mapping[ResourceId, Resource] | None = None) -> PlanSet:
    """Return the plans of ``prepared`` for the user, the read errors, and the manifests that differ from ``in_force``."""
    from reconciler.engine.read_errors import unread_of

    results = [integration.found() for integration in prepared]
    plans = tuple(result.plan for result in results if result.plan is not None)
    planned = current.active.resources
    changed = resource_changes(in_force, planned) if in_force is not None else ()
    manifests = Manifests(in_force if in_force is not None else planned, planned)
    return PlanSet(current.active.revision, plans, changed, unread_of(results, planned), manifests)


async def _say_work_tree(engine: Controller) -> None:
    """Print a note if the files on disk differ from the planned revision: a feature branch, or uncommitted edits."""
    if not isinstance(engine.source, LocalRepository) or engine.current.source.fetched is None:
        return
    tree = await engine.source.uncommitted(engine.current.source.fetched)
    if tree is None:
        return
    place = f"branch {tree.branch} is checked out" if tree.branch else "HEAD is detached"
    if tree.error:
        say(f"note: the working tree could not be compared with this revision: {tree.error}")
        return
    names = ", ".join(tree.differing[:3]) + (" …" if len(tree.differing) > 3 else "")
    count = f"{len(tree.differing)} manifest{'' if len(tree.differing) == 1 else 's'}"
    say(f"note: the working tree ({place}) differs from this revision in {count}: {names}")
    say(f"  This plan is of the commit. To plan the files on disk: reconciler plan {engine.deps.config.source.url}")


@contextlib.asynccontextmanager
async def reading_session(config: Config, path: str | None, *, for_approval: bool = False) -> AsyncIterator[Session]:
    """Open a read-only session, also while a daemon runs; without a state, with an empty temporary one."""
    from reconciler.daemon.session import Options, open_session
    from reconciler.source import open_folder

    source = open_folder(Path(path), config_name=config.file_name) if path is not None else None
    if path is not None and not Path(path).is_dir():
        raise UsageError(f"{path} is not a folder", hint="PATH is a folder of manifests on disk.")
    async with contextlib.AsyncExitStack() as stack:
        options, session = Options(lock=False, create=False, read_only=True, log_level="error"), None
        if config.state_exists:
            try:
                session = await stack.enter_async_context(open_session(config, options, source=source))
            except StateError as error:
                if error.code != "RC7021":  # the database server has no state yet
                    raise
        if session is None:
            if source is None:
                check_url(config.source.url, config.network.allow)  # before the master key is created
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-plan-")))
            first = _first(config, folder) if for_approval else config.with_state(folder)
            options = dataclasses.replace(options, create=True)
            session = await stack.enter_async_context(open_session(first, options, source=source))
        yield session


def _first(config: Config, folder: Path) -> Config:
    """Return ``config`` on an empty state in ``folder``, with the master key that the first `apply` will use.

    A first plan depends on the key (signing keys, the key's id in every hook's URL). It is created now if it does not exist, so that
    this plan can be approved. If it cannot be created, a temporary key is used, and the digest of the plan approves nothing.
    """
    from reconciler.credentials.keys import make_key

    aside, path = config.with_state(folder), Path(config.master_key.file)
    if not path.exists() and not path.is_symlink() and not config.master_key.previous_file:
        try:
            make_key(path)
        except ConfigError as error:
            say(f"{error.message}: planning with a temporary key; the digest of this plan approves nothing")
            return aside
        say(f"created the master key {path}; nothing else is written before the first apply. Keep a copy of it.")
    return dataclasses.replace(aside, master_key=config.master_key)
