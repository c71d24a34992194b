"""The driver's executor and receiver against the simulated Buddy: what it answers is what they were made for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.drivers.buddy.driver import driver
from reconciler.drivers.buddy.receiver import BuddyReceiver
from reconciler.model.executions import Result, RunIntent, RunStatus
from reconciler.sandbox.server import SandboxServer
from tests.buddy.simulator import Hands
from tests.support.driving import OWNER, World, ended, resource
from tests.support.receiving import Receiver, eventually

executor = driver.executors["buddy"]
CORRELATION = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def hands(server: SandboxServer) -> Iterator[Hands]:
    made = Hands(server)
    with made.http:
        yield made


def intent(**spec: Any) -> RunIntent:
    return RunIntent("e-1", CORRELATION, "buddy", "deploy", {"workspace": "acme", "project": "web", **spec}, time.time())


async def test_a_run_is_started_found_again_followed_and_read(world: World, hands: Hands) -> None:
    hands.behave(queued_s=0.1, duration_s=0.2, logs=["working", "done"], outputs={"VERSION": "7"})
    what = intent(branch="main")
    run = await executor.start(world.api, what)
    assert run is not None
    assert (await executor.poll(world.api, what, run)).status is RunStatus.QUEUED
    found = await executor.find(world.api, what)
    assert found is not None
    assert found.external_id == run.external_id
    report = await ended(executor, world, what, run)
    assert (report.result, dict(report.outputs)) == (Result.PASSED, {"VERSION": "7"})
    lines = await executor.logs(world.api, what, run, "")
    assert (lines.lines, lines.complete) == (("[deploy] working", "[deploy] done"), True)


async def test_a_run_waits_and_is_canceled(world: World, hands: Hands) -> None:
    hands.behave(waits_for="APPLY")
    what = intent()
    run = await executor.start(world.api, what)
    assert run is not None
    assert (await executor.poll(world.api, what, run)).status is RunStatus.WAITING
    await executor.cancel(world.api, what, run)
    assert (await ended(executor, world, what, run)).result is Result.CANCELLED
    await executor.cancel(world.api, what, run)


async def test_a_failed_run_tells_what_failed(world: World, hands: Hands) -> None:
    hands.behave(duration_s=0, actions=[{"name": "a"}, {"name": "b", "result": "FAILED", "error": "exit 1"}])
    what = intent()
    run = await executor.start(world.api, what)
    assert run is not None
    report = await ended(executor, world, what, run)
    assert (report.result, report.message) == (Result.FAILED, "b: exit 1")


async def test_what_is_sent_is_verified_and_what_is_dropped_is_found_again(
    world: World, hands: Hands, receiver: Receiver
) -> None:
    source = resource("EventSource", "runs", {"integration": {"name": "buddy"}, "resource": {"type": "project", "name": "web"}})
    world.public_url = receiver.url.partition("/in")[0]
    await world.settle(source)
    hands.admin.settings(deliver=True, run_duration_s=0)
    started = time.time() - 1
    hands.run()
    eventually(lambda: receiver.got)
    hands.admin.settings(drop_deliveries=True)
    hands.run()
    _, headers, body = receiver.got[0]
    key = world.keyring.signing_key(OWNER, source.id.uid(OWNER), 0)
    delivery = BuddyReceiver().verify(headers, body, [key], now=time.time())
    past = await BuddyReceiver().missed(world.api, source, (), started)
    assert len(past) == 2
    assert delivery.identity in {one.id for one in past}  # type: ignore[union-attr]
