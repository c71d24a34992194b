"""Measurements inside the engine, in one process: ``python -m benchmarks.worker CONFIG WHAT OPTIONS`` prints JSON.

The session, engine, store, source and drivers are the product's; only the clock around them is ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from reconciler.config import load_config
from reconciler.daemon import Options, Session, open_session
from reconciler.engine.oneshot import Verdict, verdict_of


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


def _must_be_done(session: Session) -> None:
    verdict = verdict_of(session.engine)
    if verdict is not Verdict.DONE:
        failed = [
            f"{address}: {error}"
            for result in session.engine.view.results.values()
            for address, error in result.report.failed.items()
        ]
        errors = [str(result.error) for result in session.engine.view.results.values() if result.error is not None]
        raise RuntimeError(f"the pass ended {verdict}: {errors} {failed[:3]} {session.engine.live.problems[:3]}")


WORK: dict[str, Callable[[Session, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "pass": one_pass,
    "noop": noop,
    "profile": profile,
}


async def main(config: Path, what: str, options: dict[str, Any]) -> None:
    """Open the product's session and do one measurement in it."""
    async with open_session(load_config(config, os.environ), Options(actor="bench")) as session:
        found = await WORK[what](session, options)
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
