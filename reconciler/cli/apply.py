"""``apply``: plan, show the plan, ask, execute exactly this plan, and show the results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.options import ApplyOptions
from reconciler.cli.output import agreed, emit_json, problem_row, say
from reconciler.cli.plan import planset_of, prepare_all, read_source, show
from reconciler.cli.progress import LiveChanges, progress
from reconciler.cli.session import configuration
from reconciler.cli.sink import Ink, out
from reconciler.cli.tables import counted, object_name, painter, short_revision
from reconciler.config.settings import Config
from reconciler.model.errors import ManifestError, PlanMoved, ReconcilerError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL
from reconciler.model.plan import Change, PlanSet

if TYPE_CHECKING:
    from reconciler.daemon.session import Session
    from reconciler.engine.apply import Step
    from reconciler.engine.approved import Applied
    from reconciler.engine.controller import Controller
    from reconciler.engine.current import Current
    from reconciler.engine.reconcile import Prepared


QUIET = "critical"
"""Log level of a verb that prints its results itself: no log line stands between them."""


def apply(options: ApplyOptions) -> int:
    """Apply the configured source, or a folder."""
    return asyncio.run(_apply(configuration(options), options))


async def _apply(config: Config, options: ApplyOptions) -> int:
    from reconciler.daemon.session import Options, open_session
    from reconciler.source import open_folder

    source = open_folder(Path(options.path), config_name=config.file_name) if options.path else None
    async with open_session(config, Options(log_level=options.log_level or QUIET), source=source) as session:
        engine = session.engine
        in_force = engine.current.active.resources
        await read_source(engine, activate=False)
        prepared = await prepare_all(engine)
        planned = planset_of(engine.current, prepared, in_force)
        if options.output == "text":
            show(planned, "text")
        _check_digest(planned, options.plan)
        if not _agreed(planned, options):
            return EXIT_ERROR
        await engine.activate()
        done = await _execute(engine, prepared, planned, options)
        await _write_status(session)
        _show_results(engine.current, done, options.output, manifests=len(planned.resources))
        if any(problem.is_error for problem in engine.current.active.problems):
            raise ManifestError(engine.current.active.problems)
        return _exit_code(engine.current, done)


async def _execute(engine: Controller, prepared: Sequence[Prepared], planned: PlanSet, options: ApplyOptions) -> Applied:
    """Execute the plan, and show each change as it goes."""
    from reconciler.engine.approved import apply_approved

    total = sum(len(plan.executable) for plan in planned.plans)
    async with progress("applying", total, after="reading the providers again") as bar:
        if options.output == "text":
            changes = LiveChanges(bar)
            engine.on_start, engine.on_step = changes.begin, changes.end
        return await apply_approved(engine, prepared, wait_settle=not options.no_wait)


def _agreed(planned: PlanSet, options: ApplyOptions) -> bool:
    count = sum(len(plan.executable) for plan in planned.plans) + len(planned.resources)
    question = f"Apply {'this change' if count == 1 else f'these {count} changes'}?"
    yes = not count or options.yes or options.plan is not None
    return agreed(question, yes=yes, refusal="not applied", instead="--yes, or --plan with the digest")


def _exit_code(current: Current, done: Applied) -> int:
    from reconciler.engine.converge import PassOutcome

    verdict = done.verdict(current)
    if verdict is PassOutcome.DONE:
        return EXIT_OK
    return EXIT_PARTIAL if verdict is not PassOutcome.SOURCE_FAILED else EXIT_ERROR


async def _write_status(session: Session) -> None:
    import os
    import time

    from reconciler import __version__
    from reconciler.engine.publisher import Publisher
    from reconciler.engine.statusfile import DaemonInfo

    info = DaemonInfo(__version__, os.getpid(), time.time(), "once")
    await Publisher(session.engine.current, session.redactor, Path(session.config.status.file)).publish(info)


def _check_digest(planned: PlanSet, reviewed: str | None) -> None:
    """Raise `PlanMoved` if the plan is not the reviewed one, and print the plan as it is now."""
    if reviewed is None or reviewed == planned.sha256:
        return
    say(f"the reviewed plan was {reviewed}")
    say(f"the plan is now       {planned.sha256}, at {short_revision(planned.revision)}:")
    for change in planned.changes:
        say(f"  {_line(change)}")
    for manifest in planned.resources:
        say(f"  {manifest.action.value:8} {manifest.resource} (manifest)")
    if planned.empty:
        say("  nothing to do")
    raise PlanMoved(
        "the plan has changed since it was reviewed; nothing was applied",
        hint=f"Review the changes above, then: reconciler apply --plan {planned.sha256}",
    )


def _line(change: Change) -> str:
    from reconciler.model.printable import plain

    return plain(f"{change.action.value:8} {object_name(change.address)} ({change.cls.value})")


def _show_results(current: Current, done: Applied, output: str, *, manifests: int) -> None:
    """Print the results of all rounds: errors on stderr, the counts last."""
    from reconciler.engine.read_errors import unread_of
    from reconciler.planning.render.json_document import change_summary

    unread = unread_of(done.last.values(), current.active.resources)
    if output == "json":
        emit_json(
            {
                "revision": current.active.revision,
                "applied": [_row(step) for step in done.steps],
                "manifests": manifests,
                "failed": len(done.failed),
                "blocked": len(done.blocked),
                "moved": [change_summary(change) for change in done.moved],
                "notTried": [change_summary(change) for change in done.left],
                "unread": [problem_row(problem) for problem in unread],
            }
        )
        return
    for problem in unread:
        _say_error(f"{problem.code}: {problem.message}", problem.hint)
    for address, error in done.failed.items():
        _say_error(f"{object_name(address)}: {error.code}: {error.message}", error.hint)
    for change in done.left:
        say(f"not tried: {_line(change)}" + (f": {change.reason} {change.message}".rstrip() if change.reason else ""))
    _show_moved(done)
    out(*_summary(done, len(unread), manifests, good=_exit_code(current, done) == EXIT_OK))


def _say_error(text: str, hint: str) -> None:
    say(text)
    if hint:
        say(f"  {hint}")


def _show_moved(done: Applied) -> None:
    if not done.moved:
        return
    say("reconciler: RC6040: the plan changed while it was applied; these changes were not part of it and were not made:")
    for change in done.moved:
        say(f"  {_line(change)}")
    say("  Review them with `reconciler plan`, then `reconciler apply --plan` with the new digest.")


def _summary(done: Applied, unread: int, manifests: int, *, good: bool) -> tuple[Ink | str, ...]:
    """Return the last line. ``good``: whether the exit code is 0."""
    counts = {
        "applied": len(done.done),
        "failed": len(done.failed),
        "blocked": len(done.blocked),
        "moved": len(done.moved),
    }
    extra = {
        "not tried": len(done.left),
        "waiting": len(done.waiting),
        "in conflict or refused": len(done.stuck),
        "could not be read": unread,
    }
    if good and not counts["applied"]:
        text = _in_force(manifests) if manifests else "nothing to do"
    else:
        text = ", ".join(f"{number} {word}" for word, number in [*counts.items(), *((w, n) for w, n in extra.items() if n)])
    if manifests and counts["applied"]:
        text += f"; {_in_force(manifests)}"
    mark = painter()("32", "✓") if good else painter()("31", "✗")
    return mark, f" {text}"


def _in_force(manifests: int) -> str:
    return f"{counted(manifests, 'manifest')} now in force"


def _row(step: Step) -> dict[str, object]:
    error: ReconcilerError | None = step.error
    return {
        "address": step.change.address,
        "action": step.change.action.value,
        "class": step.change.cls.value,
        "externalId": step.external_id,
        "error": {"code": error.code, "message": error.message} if error is not None else None,
    }
