"""Declared workspaces and projects that are not there."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.errors import ScopeGone
from reconciler.model.resources import Resource
from reconciler.sandbox.buddy.app import TOKEN
from reconciler.sandbox.server import SandboxServer
from tests.buddy.test_integration import buddy, secret, writes
from tests.support.driving import World, resource


def source(**target: Any) -> Resource:
    return resource("EventSource", "runs", {"integration": {"name": "buddy"}, "resource": target})


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (source(type="project", name="wep"), "no project 'wep' in workspace acme"),
        (source(type="project", names=["web", "gone"]), "no project 'gone' in workspace acme"),
        (source(type="project", name="nowhere/web"), "404"),
        (source(type="workspace", name="nowhere"), "404"),
        (buddy(scope="PROJECT", project_name="wep", token=secret("token")), "no project 'wep' in workspace acme"),
        (buddy(workspace="nowhere", token=secret("token")), "404"),
    ],
    ids=["project", "one of several", "workspace of a project", "workspace", "project of an integration", "of an integration"],
)
async def test_n56_a_missing_object_is_reported_before_anything_is_created(
    world: World, server: SandboxServer, declared: Resource, said: str
) -> None:
    with pytest.raises(ScopeGone) as caught:
        await world.apply(declared)
    assert said in caught.value.message + str(caught.value.status)
    assert writes(server) == []


async def test_n56_a_project_that_is_renamed_later_is_reported_too(world: World, server: SandboxServer) -> None:
    declared = source(type="project", name="web")
    await world.settle(declared)
    server.app.state["workspaces"]["acme"]["projects"][1]["name"] = "site"
    with pytest.raises(ScopeGone, match="no project 'web'"):
        await world.plan(declared)


async def test_n56_a_token_that_may_not_list_projects_still_writes_integrations(world: World, server: SandboxServer) -> None:
    server.app.state["tokens"][TOKEN]["scopes"].remove("WORKSPACE")
    await world.settle(buddy(scope="PROJECT", project_name="web", token=secret("token")))
    assert writes(server) == ["POST"]
