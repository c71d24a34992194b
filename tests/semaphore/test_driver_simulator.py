"""The driver's executor and receiver against the simulated Semaphore: what it answers is what they were made for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet

from reconciler.drivers.semaphore.driver import driver
from reconciler.model.executions import Result, RunIntent, RunStatus
from tests.semaphore.simulator import Hands, behave
from tests.support.driving import World, ended

executor = driver.executors["semaphore"]
CORRELATION = "0123456789abcdef0123456789abcdef"


def intent(**spec: Any) -> RunIntent:
    return RunIntent("e-1", CORRELATION, "semaphore", "web", {"ref": "refs/heads/main", **spec}, time.time())


async def until(probe: Callable[[], Awaitable[Any]]) -> Any:
    for _ in range(150):
        result = await probe()
        if result:
            return result
        await asyncio.sleep(0.05)
    raise AssertionError("it never happened")


async def test_a_run_is_started_found_again_followed_read_and_proved(world: World, hands: Hands) -> None:
    behave(hands.server, queued_s=0.1, duration_s=0.2, logs=["$ make", "done"])
    what = intent(parameters={"ENV": "prod"})
    run = await executor.start(world.api, what)
    assert run is not None
    assert (await executor.poll(world.api, what, run)).status is RunStatus.QUEUED
    match = await executor.find(world.api, what)
    assert match is not None
    assert match.external_id == run.external_id
    report = await ended(executor, world, what, run)
    assert report.result is Result.PASSED
    lines = await executor.logs(world.api, what, report.run, "")
    assert (lines.lines, lines.complete) == (("$ make", "done"), True)
    token = hands.admin.do("job_token", workflow_id=run.external_id)["token"]
    keys = KeySet.import_key_set(hands("GET", hands.server.url + "/.well-known/jwks.json"))
    assert executor.matches_job_token(jwt.decode(token, keys, algorithms=["RS256"]).claims, report.run)


async def test_a_run_that_was_rebuilt_passes_as_its_second_attempt(world: World, hands: Hands) -> None:
    behave(hands.server, duration_s=0, result="failed", promotions=[{"name": "live"}])
    what = intent()
    run = await executor.start(world.api, what)
    assert run is not None
    report = await ended(executor, world, what, run)
    assert report.result is Result.FAILED
    behave(hands.server, result="passed")
    hands("POST", f"/pipelines/{report.run.detail['pipeline']}/partial_rebuild", {"request_token": "a"})
    again = await ended(executor, world, what, report.run)
    assert (again.result, again.run.attempt) == (Result.PASSED, report.run.attempt + 1)


async def test_a_task_carries_our_parameter_if_it_declares_it_and_is_canceled(world: World, hands: Hands) -> None:
    behave(hands.server, duration_s=-1)
    hands.admin.put_state({"tasks": {"web": [{"name": "nightly", "parameters": [{"name": "RECONCILER_EXECUTION_ID"}]}]}})
    what = intent(task="nightly")
    run = await executor.start(world.api, what)
    assert run is not None
    match = await executor.find(world.api, what)
    assert match is not None
    assert match.external_id == run.external_id
    await executor.cancel(world.api, what, run)
    assert (await ended(executor, world, what, run)).result is Result.CANCELLED
