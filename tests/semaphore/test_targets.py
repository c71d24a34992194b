"""Declared projects that are not there: a notification on one can never fire."""

from __future__ import annotations

import pytest

from reconciler.drivers.common import PassApi
from reconciler.drivers.semaphore import api
from reconciler.model.errors import ProviderProtocolError, ScopeGone
from reconciler.model.resources import Resource
from reconciler.sandbox.semaphore.app import TOKEN
from reconciler.sandbox.server import SandboxServer
from tests.semaphore.test_source import writes
from tests.support.driving import World, resource


def on(*names: str) -> Resource:
    spec = {"integration": {"name": "semaphore"}, "resource": {"type": "project", "names": list(names)}}
    return resource("EventSource", "pipelines", spec)


@pytest.mark.parametrize("names", [("paymets",), ("payments", "paymets"), ("Payments",)])
async def test_n56_an_unknown_project_is_reported_before_anything_is_created(
    world: World, server: SandboxServer, names: tuple[str, ...]
) -> None:
    with pytest.raises(ScopeGone) as caught:
        await world.apply(on(*names))
    assert f"no project '{names[-1]}'" in caught.value.message
    assert "Did you mean 'payments'?" in caught.value.hint
    assert writes(server) == []


async def test_n56_a_project_that_is_renamed_later_is_reported_too(world: World, server: SandboxServer, source: Resource) -> None:
    await world.settle(source)
    server.app.state["projects"][0]["name"] = "billing"
    with pytest.raises(ScopeGone, match="no project 'payments'"):
        await world.plan(source)


async def test_n56_a_token_that_may_see_no_projects_would_never_get_an_event(world: World, server: SandboxServer) -> None:
    server.app.state["tokens"][TOKEN]["permissions"] = ["organization.notifications.manage", "organization.secrets.manage"]
    with pytest.raises(ScopeGone, match="no project 'payments'"):
        await world.compile(on("payments"))
    server.app.state["tokens"][TOKEN]["permissions"] += ["project.view"]  # single projects, and not their list
    assert await world.compile(on("payments"))
    with pytest.raises(ScopeGone, match="no project 'paymets'"):
        await world.compile(on("paymets"))


async def test_n56_the_projects_are_read_once_a_pass(world: World, server: SandboxServer) -> None:
    api = PassApi(world.api)
    for name in ("payments", "web"):
        await world.driver.resolve(api, on(name))
    assert len(server.admin.requests(path="/projects$")) == 1


async def test_n57_more_projects_than_are_shown_are_no_short_list(
    world: World, server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MAX_PROJECT_PAGES", 2)
    server.admin.settings(projects_per_page=1)
    server.app.state["projects"].append({"name": "zz"})
    with pytest.raises(ProviderProtocolError, match="more than 2 pages"):
        await world.compile(on("payments"))
