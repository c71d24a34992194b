"""``apply``: plan, show, ask, execute exactly that, and say what became of it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from reconciler.cli.main import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL
from reconciler.cli.output import confirm, emit_json, say
from reconciler.cli.plan import show
from reconciler.cli.session import configuration
from reconciler.cli.sink import out
from reconciler.cli.tables import painter
from reconciler.config import Config
from reconciler.model.errors import ManifestError, PlanMoved, ReconcilerError
from reconciler.model.plan import PlanSet


def apply(options: argparse.Namespace) -> int:
    """Apply the configured source, or a folder."""
    return asyncio.run(_apply(configuration(options), options))


async def _apply(config: Config, options: argparse.Namespace) -> int:
    from reconciler.daemon import Options, open_session
    from reconciler.engine.oneshot import Verdict, full_pass, verdict_of
    from reconciler.source import open_folder

    source = open_folder(Path(options.path), config_name=config.file_name) if options.path else None
    async with open_session(
        config, Options(log_level=options.log_level if "log_level" in options else "warning"), source=source
    ) as session:
        engine = session.engine
        await engine.sync()
        if engine.state.error is not None:
            raise engine.state.error
        planned = await _plan_all(engine)
        if options.output == "text":
            show(planned, "text")
        _check_digest(planned, options.plan)
        todo = [c for p in planned.plans for c in p.executable]
        if todo and not options.yes and not options.plan and not confirm(f"Apply these {len(todo)} changes?"):
            say(
                "not applied"
                + ("" if sys.stdin.isatty() else "; there is no terminal to ask on: use --yes, or --plan with the digest")
            )
            return EXIT_ERROR
        verdict = await full_pass(engine, wait_settle=not options.no_wait, sync=False)
        await _write_status(session)
        _tell(engine, options.output)
        errors = [p for p in engine.live.problems if p.is_error]
        if errors:
            raise ManifestError(engine.live.problems)
        return (
            EXIT_OK
            if verdict_of(engine) is Verdict.DONE
            else EXIT_PARTIAL
            if verdict is not Verdict.SOURCE_FAILED
            else EXIT_ERROR
        )


async def _plan_all(engine: Any) -> PlanSet:
    results = await asyncio.gather(*(engine.plan(one) for one in await engine.integrations()))
    return PlanSet(engine.live.revision, tuple(result.plan for result in results if result.plan is not None))


async def _write_status(session: Any) -> None:
    import os
    import time

    from reconciler import __version__
    from reconciler.engine.publishing import Publisher
    from reconciler.engine.statusfile import DaemonInfo

    info = DaemonInfo(__version__, os.getpid(), time.time(), "once")
    await Publisher(session.engine, session.redactor, Path(session.config.status.file)).publish(info)


def _check_digest(planned: PlanSet, wanted: str | None) -> None:
    """Refuse when what would be done is not what was reviewed, naming what would be done now."""
    if wanted is None or wanted == planned.sha256:
        return
    say(f"the reviewed plan was {wanted}")
    say(f"the plan is now       {planned.sha256}, at {planned.revision}:")
    for change in planned.changes:
        say(f"  {change.action.value:8} {change.address} ({change.cls.value})")
    if not planned.changes:
        say("  nothing to do")
    raise PlanMoved(
        "the world moved since the plan was reviewed; nothing was applied",
        hint=f"Review the changes above, then: reconciler apply --plan {planned.sha256}",
    )


def _tell(engine: Any, output: str) -> None:
    rows = [(step, result) for result in engine.view.results.values() for step in result.report.steps]
    failed = [(step, result) for step, result in rows if step.error is not None]
    if output == "json":
        emit_json({"revision": engine.live.revision, "applied": [_row(step) for step, _ in rows], "failed": len(failed)})
        return
    for result in engine.view.results.values():
        if result.error is not None:
            say(f"{result.integration}: {result.error.code}: {result.error.message}")
        for resource, error in result.compiled.stalled.items():
            say(f"{resource}: {error.code}: {error.message}")
    for step, _ in failed:
        if step.error is not None:
            say(f"{step.change.address}: {step.error.code}: {step.error.message}")
            if step.error.hint:
                say(f"  {step.error.hint}")
    mark = painter()("32", "✓")
    blocked = sum(len(r.plan.blocked) for r in engine.view.results.values() if r.plan is not None)
    done = f" {len(rows) - len(failed)} applied, {len(failed)} failed, {blocked} blocked"
    out(mark, done if rows or blocked else " nothing to do")


def _row(step: Any) -> dict[str, Any]:
    error: ReconcilerError | None = step.error
    return {
        "address": step.change.address,
        "action": step.change.action.value,
        "class": step.change.cls.value,
        "externalId": step.external_id,
        "error": {"code": error.code, "message": error.message} if error is not None else None,
    }
