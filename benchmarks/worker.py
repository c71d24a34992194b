"""Measurements inside the engine, in one process: ``python -m benchmarks.worker CONFIG WHAT OPTIONS`` prints JSON.

The session, engine, store, source and drivers are the product's; only the clock around them is ours.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.world import GIT
from reconciler.cli.offline import compile_desired
from reconciler.config.load import load_config
from reconciler.daemon.session import Options, Session, open_session
from reconciler.drivers.http import budget
from reconciler.engine.converge import PassOutcome, verdict_of
from reconciler.planning.compare import base_plan


class Watch:
    """Wall and CPU seconds of a block."""

    def __enter__(self) -> Watch:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu


async def one_pass(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """One whole pass: look at Git, reconcile everything, publish."""
    with Watch() as watch:
        await session.engine.sync()
        await session.engine.run_all(ignore_backoff=True)
    _must_be_done(session)
    return {"seconds": watch.wall, "cpu": watch.cpu}


async def noop(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Passes with nothing to do, after a first one that warms up: what the daemon does every interval."""
    await one_pass(session, options)
    return {"passes": [await one_pass(session, options) for _ in range(int(options["passes"]))]}


async def paced(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """A pass under enforced limits in a time that runs ``scale`` times as fast: windows, margins and latency alike."""
    scale, plain = float(options["scale"]), budget.Budget.__init__

    def scaled(self: Any, *arguments: Any, **more: Any) -> None:
        plain(self, *arguments, **more)
        for window in (self._minute, self._hour, self._points):
            window.seconds /= scale

    budget.Budget.__init__ = scaled  # type: ignore[method-assign]
    return await one_pass(session, options)


async def profile(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Where the time of a pass goes; the profile is written to ``options["out"]``."""
    import cProfile

    if options.get("warm"):
        await one_pass(session, options)
    profiler = cProfile.Profile()
    profiler.enable()
    found = await one_pass(session, options)
    profiler.disable()
    profiler.dump_stats(options["out"])
    return found


async def sync(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """From an open session to a live revision: what a new process does before it looks at any provider."""
    with Watch() as watch:
        await session.engine.sync()
    if len(session.engine.current.active.resources) < int(options["count"]):
        raise RuntimeError(
            f"only {len(session.engine.current.active.resources)} resources: {session.engine.current.active.problems[:3]}"
        )
    return {"seconds": watch.wall, "cpu": watch.cpu, "rss_now_mb": resident_mb()}


async def commit(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """A commit of a few files in a daemon that knows the revision before: from the fetched revision to the live one."""
    await session.engine.sync()
    times = []
    for number in range(int(options["passes"])):
        folder = Path(options["manifests"])
        for file in sorted((folder / "sources").iterdir())[: int(options["files"])]:
            file.write_text(file.read_text() + f"# {number}\n")
        await asyncio.to_thread(subprocess.run, ["git", "commit", "-qam", "x"], cwd=folder, check=True, env={**os.environ, **GIT})
        before = session.engine.current.active.revision
        with Watch() as fetch:
            await session.engine.source.fetch()
        with Watch() as watch:
            await session.engine.sync()
        assert session.engine.current.active.revision != before
        times.append(watch.wall - fetch.wall)
    return {"seconds": statistics.median(times)}


async def plans(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Compile and plan all that is live against an empty world: the pure part, without a request."""
    await session.engine.sync()
    with Watch() as watch:
        desired = compile_desired(session.engine.current.active.resources.values(), session.config)
        changes = base_plan((), desired, revision="x").plans[0].changes
    assert len(changes) >= int(options["count"])
    return {"seconds": watch.wall, "cpu": watch.cpu, "rss_now_mb": resident_mb()}


async def state(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Store and read again a status a resource: one transaction."""
    await session.engine.sync()
    await session.engine.finish_pass()
    rows = list(session.engine.current.view.statuses.values())
    fresh = [dataclasses.replace(row, next_reconcile_at="2026-11-21T00:00:00Z") for row in rows]
    with Watch() as watch:
        await session.deps.store.save_statuses(fresh, gone=[])
        found = await session.deps.store.statuses()
    assert len(found) == len(rows)
    return {"seconds": watch.wall, "cpu": watch.cpu}


def resident_mb() -> float:
    """Return this process's resident set now."""
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:"))) / 1024


def _must_be_done(session: Session) -> None:
    verdict = verdict_of(session.engine.current)
    if verdict is not PassOutcome.DONE:
        failed = [
            f"{address}: {error}"
            for result in session.engine.current.view.results.values()
            for address, error in result.report.failed.items()
        ]
        errors = [str(result.error) for result in session.engine.current.view.results.values() if result.error is not None]
        raise RuntimeError(f"the pass ended {verdict}: {errors} {failed[:3]} {session.engine.current.active.problems[:3]}")


WORK: dict[str, Callable[[Session, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "pass": one_pass,
    "noop": noop,
    "paced": paced,
    "profile": profile,
    "sync": sync,
    "commit": commit,
    "plans": plans,
    "state": state,
}


async def main(config: Path, what: str, options: dict[str, Any]) -> None:
    """Open the product's session and do one measurement in it."""
    async with open_session(load_config(config, os.environ), Options(actor="bench")) as session:
        found = await WORK[what](session, options)
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
