"""Executor and receiver against the simulated Buddy, where executions end by the clock and webhooks are told of it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from reconciler.drivers.buddy.driver import driver
from reconciler.model.errors import OutcomeUnknown
from reconciler.model.events import Delivery
from reconciler.model.executions import Result, RunIntent
from reconciler.sandbox.server import SandboxServer
from tests.support.driving import OWNER, World, ended, resource

executor, receiver = driver.executors["buddy"], driver.receiver
assert receiver is not None
CORRELATION = "0123456789abcdef0123456789abcdef"
SOURCE = resource("EventSource", "runs", {"integration": {"name": "buddy"}, "resource": {"type": "project", "name": "web"}})


def intent() -> RunIntent:
    return RunIntent("e-1", CORRELATION, "buddy", "deploy", {"workspace": "acme", "project": "web"}, time.time())


async def test_A5_a_start_that_was_not_answered_is_found_and_followed(world: World, server: SandboxServer) -> None:
    server.admin.settings(run_duration_s=0.1)
    server.admin.fault(method="POST", path="executions", effect="reset", commit=True)
    what = intent()
    with pytest.raises(OutcomeUnknown):
        await executor.start(world.api, what)
    run = await executor.find(world.api, what)
    assert run is not None
    assert (await ended(executor, world, what, run)).result is Result.PASSED
    assert len(server.app.state["workspaces"]["acme"]["executions"]) == 1
    log = await executor.logs(world.api, what, run, "")
    assert log.complete
    assert log.lines
    await executor.cancel(world.api, what, run)


async def test_E11_a_webhook_that_was_lost_is_made_again_with_all_that_the_api_tells(world: World, server: SandboxServer) -> None:
    await world.settle(SOURCE)
    server.admin.settings(run_duration_s=0.1, run_result="FAILED")
    what = intent()
    run = await executor.start(world.api, what)
    assert run is not None
    await ended(executor, world, what, run)
    (sent,) = server.app.state["deliveries"]
    key = world.keyring.signing_key(OWNER, SOURCE.id.uid(OWNER), 0)
    webhook = receiver.verify({}, sent["body"].encode(), [key], now=time.time())
    assert isinstance(webhook, Delivery)

    (past,) = await receiver.missed(world.api, SOURCE, (), what.intended_at - 1)
    polled = await receiver.fetch(world.api, None, past)
    assert (polled.id, polled.identity, polled.type) == (webhook.id, webhook.identity, sent["event"])
    assert_tells(json.loads(webhook.body), json.loads(polled.body))
    assert executor.run_id_of(webhook.type, json.loads(webhook.body)) == run.external_id


def assert_tells(sent: Any, made: Any, at: str = "") -> None:
    """``made`` has every key of ``sent``, and the same value or null; when it was sent is nobody's to know."""
    if isinstance(sent, dict) and isinstance(made, dict):
        assert set(sent) <= set(made), at
        for key, value in sent.items():
            if key != "current_date":
                assert_tells(value, made[key], f"{at}/{key}")
    else:
        assert made is None or made == sent, at
