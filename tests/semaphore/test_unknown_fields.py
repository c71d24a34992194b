"""Answers of Semaphore that leave fields out, as an older installation does."""

from __future__ import annotations

import pytest

from reconciler.model.resources import Resource
from reconciler.sandbox.server import SandboxServer
from tests.semaphore.test_source import writes
from tests.support.driving import World

FIELDS = [
    "rules", "filter", "projects", "branches", "tags", "pipelines", "blocks", "states", "results", "notify", "slack", "email",
    "webhook", "endpoint", "timeout", "action", "retries", "status", "secret", "data", "env_vars", "update_time", "creator_id",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
async def test_n52_a_field_that_no_answer_has_is_written_once_and_never_again(
    world: World, server: SandboxServer, source: Resource, field: str
) -> None:
    await world.settle(source)
    server.admin.settings(leave_out=[field])
    assert (await world.plan(source)).changes == ()
    world.records.clear()
    await world.settle(source)
    assert writes(server) == ["POST secrets", "POST notifications"]


async def test_n52_what_is_shown_is_still_repaired(world: World, server: SandboxServer, source: Resource) -> None:
    server.admin.settings(leave_out=["retries", "blocks"])
    await world.settle(source)
    rule = server.app.state["notifications"][0]["spec"]["rules"][0]
    rule["notify"]["webhook"]["timeout"] = 1
    rule["filter"]["branches"] = ["main"]
    await world.settle(source)
    rule = server.app.state["notifications"][0]["spec"]["rules"][0]
    assert (rule["notify"]["webhook"]["timeout"], rule["filter"]["branches"]) == (10_000, [])
