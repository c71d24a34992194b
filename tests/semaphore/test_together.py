"""Executor and receiver against the simulated organization, where pipelines end by the clock and webhooks are told of it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from reconciler.drivers.semaphore.driver import driver
from reconciler.model.errors import OutcomeUnknown
from reconciler.model.events import Delivery
from reconciler.model.executions import Result, RunIntent
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.sandbox.server import SandboxServer
from tests.support.driving import OWNER, World, ended

executor, receiver = driver.executors["semaphore"], driver.receiver
assert receiver is not None
CORRELATION = "0123456789abcdef0123456789abcdef"


def intent(**spec: Any) -> RunIntent:
    return RunIntent("e-1", CORRELATION, "semaphore", "payments", {"ref": "refs/tags/v1", **spec}, time.time())


async def test_A5_a_start_that_was_not_answered_is_found_and_followed(world: World, server: SandboxServer) -> None:
    server.admin.settings(run_duration_s=0.1)
    server.admin.fault(method="POST", path="plumber-workflows", effect="reset", commit=True)
    what = intent()
    with pytest.raises(OutcomeUnknown):
        await executor.start(world.api, what)
    run = await executor.find(world.api, what)
    assert run is not None
    assert (await ended(executor, world, what, run)).result is Result.PASSED
    assert len(server.app.state["workflows"]) == 1
    await executor.cancel(world.api, what, run)


async def test_E11_a_webhook_that_was_lost_is_made_again_with_all_that_the_api_tells(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    server.admin.settings(run_duration_s=0.1, run_result="failed")
    what = intent(ref="main")
    run = await executor.start(world.api, what)
    assert run is not None
    await ended(executor, world, what, run)
    (sent,) = server.app.state["deliveries"]
    key: SecretValue = world.keyring.signing_key(OWNER, source.id.uid(OWNER), 0)
    headers = {name.lower(): value for name, value in sent["headers"].items()}
    webhook = receiver.verify(headers, sent["body"].encode(), [key], now=time.time())
    assert isinstance(webhook, Delivery)

    (past,) = await receiver.missed(world.api, source, (), what.intended_at - 1)
    polled = await receiver.fetch(world.api, None, past)
    assert polled.identity == webhook.identity
    assert_tells(json.loads(sent["body"]), json.loads(polled.body))
    assert executor.run_id_of("pipeline_done", json.loads(sent["body"])) == run.external_id


def assert_tells(sent: Any, made: Any, at: str = "") -> None:
    """``made`` has every key of ``sent``, and the same value or null."""
    if isinstance(sent, dict) and isinstance(made, dict):
        assert set(sent) <= set(made), at
        for key, value in sent.items():
            assert_tells(value, made[key], f"{at}/{key}")
    elif isinstance(sent, list) and isinstance(made, list):
        for number, (one, other) in enumerate(zip(sent, made, strict=True)):
            assert_tells(one, other, f"{at}/{number}")
    else:
        assert made is None or made == sent, at
