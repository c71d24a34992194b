"""The driver's executor and receiver against the simulated Buddy: what it answers is what they were made for."""

from __future__ import annotations

import time
from typing import Any

from reconciler.drivers.buddy.driver import driver
from reconciler.model.executions import Result, RunIntent, RunStatus
from tests.buddy.simulator import Hands
from tests.support.driving import World, ended

executor = driver.executors["buddy"]
CORRELATION = "0123456789abcdef0123456789abcdef"


def intent(**spec: Any) -> RunIntent:
    return RunIntent("e-1", CORRELATION, "buddy", "deploy", {"workspace": "acme", "project": "web", **spec}, time.time())


async def test_a_run_is_started_found_again_followed_and_read(world: World, hands: Hands) -> None:
    hands.behave(queued_s=0.1, duration_s=0.2, logs=["working", "done"], outputs={"VERSION": "7"})
    what = intent(branch="main")
    run = await executor.start(world.api, what)
    assert run is not None
    assert (await executor.poll(world.api, what, run)).status is RunStatus.QUEUED
    match = await executor.find(world.api, what)
    assert match is not None
    assert match.external_id == run.external_id
    report = await ended(executor, world, what, run)
    assert (report.result, dict(report.outputs)) == (Result.PASSED, {"VERSION": "7"})
    lines = await executor.logs(world.api, what, run, "")
    assert (lines.lines, lines.complete) == (("[deploy] working", "[deploy] done"), True)


async def test_a_failed_run_tells_what_failed(world: World, hands: Hands) -> None:
    hands.behave(duration_s=0, actions=[{"name": "a"}, {"name": "b", "result": "FAILED", "error": "exit 1"}])
    what = intent()
    run = await executor.start(world.api, what)
    assert run is not None
    report = await ended(executor, world, what, run)
    assert (report.result, report.message) == (Result.FAILED, "b: exit 1")
