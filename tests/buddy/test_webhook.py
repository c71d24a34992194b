"""An event source on Buddy: a workspace's webhook, driven over HTTP against the simulated Buddy."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.drivers.buddy.driver import driver
from reconciler.drivers.buddy.webhooks import BuddyWebhook
from reconciler.drivers.common import hook_marker
from reconciler.drivers.wire import decode
from reconciler.model.errors import ValidationFailed
from reconciler.model.objects import Marker, Scope
from reconciler.model.plan import Action, ChangeClass
from reconciler.model.resources import Adopt, Resource
from reconciler.sandbox.server import SandboxServer
from tests.support.driving import OWNER, World, resource

SCOPE = Scope("buddy/webhook", "acme")


def source(
    name: str = "runs", *, target: dict[str, Any] | None = None, lifecycle: dict[str, Any] | None = None, **spec: Any
) -> Resource:
    body = {"integration": {"name": "buddy"}, "resource": target or {"type": "project", "name": "web"}, **spec}
    return resource("EventSource", name, body, **(lifecycle or {}))


def hooks(server: SandboxServer) -> list[dict[str, Any]]:
    return list(server.app.state["workspaces"]["acme"]["webhooks"])


def writes(server: SandboxServer) -> list[str]:
    return [r["method"] for r in server.admin.requests() if r["method"] != "GET"]


async def test_a_source_is_one_webhook_with_our_marker_and_a_derived_key(world: World, server: SandboxServer) -> None:
    await world.settle(source())
    (hook,) = hooks(server)
    uid = source().id.uid(OWNER)
    assert hook["target_url"] == f"{world.public_url}/hooks/{OWNER}/{uid}?key={world.keyring.key_id}"
    assert hook["events"] == ["EXECUTION_FINISHED", "PUSH"]
    assert hook["projects"] == ["web"]
    assert hook["secret_key"] == world.keyring.signing_key(OWNER, uid, 0).reveal()
    server.admin.clear_requests()
    assert (await world.apply(source())).changes == ()
    assert writes(server) == []


async def test_the_key_that_the_provider_shows_in_clear_is_never_taken_up(world: World, server: SandboxServer) -> None:
    await world.settle(source())
    key = hooks(server)[0]["secret_key"]
    assert key not in repr(await world.observe(SCOPE))
    assert key not in repr(await world.plan(source(keyRotation=1)))
    assert key not in repr(world.records)


async def test_a_rotation_is_one_update_in_place(world: World, server: SandboxServer) -> None:
    await world.settle(source())
    server.admin.clear_requests()
    await world.settle(source(keyRotation=1))
    assert writes(server) == ["PATCH"]
    assert hooks(server)[0]["secret_key"] == world.keyring.signing_key(OWNER, source().id.uid(OWNER), 1).reveal()


async def test_a_key_that_was_removed_is_seen_and_written_again(world: World, server: SandboxServer) -> None:
    await world.settle(source())
    hooks(server)[0]["secret_key"] = ""
    plan = await world.apply(source())
    assert [field.path for change in plan.executable for field in change.fields] == ["/secret_key"]
    assert hooks(server)[0]["secret_key"]


async def test_only_a_workspace_source_hears_all_projects(world: World, server: SandboxServer) -> None:
    await world.settle(source(target={"type": "workspace", "name": "acme"}))
    assert hooks(server)[0]["projects"] == []


async def test_d24_a_list_of_projects_that_was_emptied_and_so_widened_is_narrowed_again(
    world: World, server: SandboxServer
) -> None:
    await world.settle(source())
    hooks(server)[0].update(projects=[], events=["PUSH"])
    plan = await world.apply(source())
    (change,) = plan.executable
    assert [(f.path, f.cls) for f in change.fields] == [("/events", ChangeClass.DRIFT), ("/projects", ChangeClass.DRIFT)]
    assert hooks(server)[0]["projects"] == ["web"]
    assert (await world.apply(source())).changes == ()


async def test_a_pattern_becomes_names_and_one_that_matches_nothing_never_becomes_an_empty_list(world: World) -> None:
    (desired,) = await world.compile(source(target={"type": "project", "match": "*"}))
    assert desired.attributes["projects"] == ["payments", "web"]
    with pytest.raises(ValidationFailed, match="matches 'no-"):
        await world.compile(source(target={"type": "project", "match": "no-*"}))
    with pytest.raises(ValidationFailed):
        driver.compile(source(target={"type": "project"}), world.context({}))


async def test_several_workspaces_are_an_object_each(world: World, server: SandboxServer) -> None:
    server.admin.put_state({"workspaces": {"beta": {}}})
    await world.settle(source(target={"type": "workspace", "names": ["acme", "beta"]}))
    state = server.admin.state()["workspaces"]
    assert [len(state[name]["webhooks"]) for name in ("acme", "beta")] == [1, 1]


async def test_an_event_that_buddy_does_not_have_is_refused_with_those_it_has(world: World) -> None:
    with pytest.raises(ValidationFailed, match="no event 'RELEASE'") as caught:
        driver.compile(source(events=[{"type": "release"}]), world.context({}))
    assert "EXECUTION_FAILED" in caught.value.hint


async def test_events_may_be_written_in_lower_case(world: World) -> None:
    (desired,) = driver.compile(source(events=[{"type": "push"}, {"type": "execution_failed"}]), world.context({}))
    assert desired.attributes["events"] == ["EXECUTION_FAILED", "PUSH"]


async def test_two_of_ours_become_one_again_and_the_older_stays(world: World, server: SandboxServer) -> None:
    await world.settle(source())
    (hook,) = hooks(server)
    server.app.state["workspaces"]["acme"]["webhooks"].append({**hook, "id": hook["id"] + 1})
    await world.settle(source())
    assert [row["id"] for row in hooks(server)] == [hook["id"]]


async def test_a_new_public_url_is_an_update_and_no_stranger(world: World, server: SandboxServer) -> None:
    await world.settle(source())
    kept = hooks(server)[0]["id"]
    world.public_url = "https://new.example.test/base"
    await world.settle(source())
    assert [row["id"] for row in hooks(server)] == [kept]
    assert hooks(server)[0]["target_url"].startswith("https://new.example.test/base/hooks/")


async def test_a_rename_keeps_the_webhook(world: World, server: SandboxServer) -> None:
    await world.settle(source())
    kept = hooks(server)[0]["id"]
    await world.settle(source("executions", lifecycle={"moved_from": "runs"}))
    assert [row["id"] for row in hooks(server)] == [kept]
    assert hook_marker(hooks(server)[0]["target_url"]) == Marker(OWNER, source("executions").id.uid(OWNER))


async def test_d23_a_foreign_webhook_is_taken_over_only_on_request_and_only_if_it_is_like_ours(
    world: World, server: SandboxServer
) -> None:
    foreign = {
        "id": 7,
        "target_url": f"{world.public_url}/old",
        "events": ["EXECUTION_FINISHED", "PUSH"],
        "projects": ["web"],
        "secret_key": "x",
        "requests": [],
    }
    server.app.state["workspaces"]["acme"]["webhooks"].append({**foreign, "id": 8, "target_url": "https://other.test/"})
    server.app.state["workspaces"]["acme"]["webhooks"].append(foreign)
    assert {c.action for c in (await world.plan(source())).executable} == {Action.CREATE}
    await world.settle(source(lifecycle={"adopt": Adopt.IF_IDENTICAL}))
    assert sorted(row["id"] for row in hooks(server)) == [7, 8]
    assert hook_marker(hooks(server)[1]["target_url"]) == Marker(OWNER, source().id.uid(OWNER))


async def test_the_latest_delivery_is_the_health_and_its_body_is_not_kept(world: World, server: SandboxServer) -> None:
    await world.settle(source())
    (hook,) = hooks(server)
    for status in (200, 502):
        server.app.record_delivery("acme", hook["id"], status)
    shown = (await world.api.request("GET", f"/workspaces/acme/webhooks/{hook['id']}")).json()
    seen = driver.types[SCOPE.type].show(decode(shown, BuddyWebhook, "the webhook"), "acme")
    assert seen.health["last_response"] == "502"
    assert "body" not in repr(seen.health)


@pytest.mark.parametrize("path", ["/hooks/a", "/hooks/a/xyz", "/hooks/a/b/" + "0" * 20, "/x" + "0" * 20, "http://[broken"])
def test_a_path_that_is_not_quite_ours_bears_no_marker(path: str) -> None:
    assert hook_marker(path if path.startswith("http") else f"https://x.test{path}") is None


def test_a_marker_is_read_from_the_path_whatever_host_and_query_are() -> None:
    uid = source().id.uid(OWNER)
    assert hook_marker(f"http://127.0.0.1:9/base/hooks/{OWNER}/{uid}/?key=1") == Marker(OWNER, uid)
