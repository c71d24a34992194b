"""Which user, group or pipeline a manifest means, where others have names that look like it."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.drivers.buddy import lookup as names
from reconciler.model.errors import ValidationFailed
from reconciler.sandbox.server import SandboxServer
from tests.buddy.test_integration import buddy
from tests.support.driving import World

ADA = {"id": 7, "name": "Ada", "email": "Ada@acme.io"}
STRANGER = {"id": 8, "name": "ada@acme.io", "email": "eve@else.io"}


def acme(server: SandboxServer) -> dict[str, Any]:
    return server.app.state["workspaces"]["acme"]  # type: ignore[no-any-return]


async def users_of(world: World, *users: dict[str, Any]) -> list[int]:
    rows = [{**user, "access_level": "MANAGE"} for user in users]
    (made,) = await world.compile(buddy(permissions={"users": rows}))
    return [row["id"] for row in made.attributes["permissions"]["users"]]


async def pipelines_of(world: World, *pipelines: Any, **spec: Any) -> list[int]:
    (made,) = await world.compile(buddy(all_pipelines_allowed=False, allowed_pipelines=list(pipelines), **spec))
    return list(made.attributes["allowed_pipelines"])


@pytest.mark.parametrize("key", ["email", "name"])
async def test_n53_an_address_means_who_has_it_and_not_who_calls_himself_so(
    world: World, server: SandboxServer, key: str
) -> None:
    acme(server)["members"] = [STRANGER, ADA]
    assert await users_of(world, {key: "ada@acme.io"}) == [7]
    acme(server)["members"] = [STRANGER]
    with pytest.raises(ValidationFailed, match="no member with the e-mail address"):
        await users_of(world, {key: "ada@acme.io"})


async def test_n53_a_display_name_identifies_no_one(world: World, server: SandboxServer) -> None:
    acme(server)["members"] = [ADA]
    with pytest.raises(ValidationFailed, match="display name, which anyone can choose"):
        await users_of(world, {"name": "Ada"})


async def test_n53_two_members_with_one_address_are_named_by_their_ids_alone(world: World, server: SandboxServer) -> None:
    acme(server)["members"] = [ADA, {**STRANGER, "email": "ada@ACME.io", "name": "Eve's secret name"}]
    with pytest.raises(ValidationFailed) as caught:
        await users_of(world, {"email": "ada@acme.io"})
    assert "ids 7, 8" in caught.value.message
    assert "Eve" not in caught.value.message + caught.value.hint


async def test_n53_a_token_that_sees_no_addresses_gets_an_error_that_names_the_scope(world: World, server: SandboxServer) -> None:
    server.admin.settings(leave_out=["email"])
    with pytest.raises(ValidationFailed) as caught:
        await users_of(world, {"email": "ada@acme.test"})
    assert "MEMBER_EMAIL" in caught.value.hint


async def test_n54_a_name_of_digits_is_a_name_and_no_id(world: World, server: SandboxServer) -> None:
    acme(server)["groups"] = [{"id": 2024, "name": "admins"}, {"id": 5, "name": "2024"}]
    acme(server)["projects"] = [{"name": "web", "pipelines": [{"id": 21, "name": "deploy"}, {"id": 22, "name": "21"}]}]

    async def group(**given: Any) -> int:
        (made,) = await world.compile(buddy(permissions={"groups": [{**given, "access_level": "MANAGE"}]}))
        return int(made.attributes["permissions"]["groups"][0]["id"])

    assert await group(name="2024") == 5
    assert await group(id=2024) == 2024
    assert await pipelines_of(world, {"name": "21"}) == [22]
    assert await pipelines_of(world, "21") == [22]
    assert await pipelines_of(world, 21) == [21]
    assert await pipelines_of(world, {"id": 21}) == [21]
    assert await names.pipeline_id(world.api, "acme", "web", "21") == 22
    acme(server)["groups"] = [{"id": 2024, "name": "admins"}]
    with pytest.raises(ValidationFailed, match="no group '2024'"):
        await group(name="2024")
    with pytest.raises(ValidationFailed, match="no pipeline '22'") as caught:
        await names.pipeline_id(world.api, "acme", "web", "22")
    assert "`id: 22`" in caught.value.hint


@pytest.mark.parametrize(
    ("entry", "number"),
    [
        (7, 7),
        ({"id": 7}, 7),
        ({"id": "7"}, 7),
        ("7", None),
        ({"name": "7"}, None),
        (True, None),
        ({"id": True}, None),
        ({}, None),
    ],
)
def test_n54_only_a_bare_number_and_an_id_are_ids(entry: Any, number: int | None) -> None:
    assert names.id_of(entry) == number


async def test_n54_users_by_id_are_never_looked_up_as_names(world: World, server: SandboxServer) -> None:
    acme(server)["members"] = [{"id": 1, "name": "7", "email": "x@y.io"}]
    assert await users_of(world, {"id": 7}) == [7]
    with pytest.raises(ValidationFailed):
        await users_of(world, {"name": "7"})


async def test_n57_within_a_project_a_text_with_a_slash_is_a_name_first(world: World, server: SandboxServer) -> None:
    acme(server)["projects"] = [
        {"name": "web", "pipelines": [{"id": 21, "name": "build/test"}, {"id": 22, "name": "other"}]},
        {"name": "build", "pipelines": [{"id": 31, "name": "test"}, {"id": 32, "name": "only"}]},
    ]
    within = {"scope": "PROJECT", "project_name": "web"}
    assert await pipelines_of(world, "build/test", **within) == [21]
    assert await pipelines_of(world, "build/only", **within) == [32]
    assert await pipelines_of(world, "build/test") == [31]
    assert await pipelines_of(world, {"name": "build/test"}) == [21]
    assert await pipelines_of(world, {"name": "test", "project": "build"}, **within) == [31]
    for wrong in ("build/nothing", "nowhere/test"):
        with pytest.raises(ValidationFailed):
            await pipelines_of(world, wrong, **within)


async def test_n57_a_name_with_a_slash_is_found_where_no_project_is_called_so(world: World, server: SandboxServer) -> None:
    acme(server)["projects"] = [{"name": "web", "pipelines": [{"id": 21, "name": "lint/all"}]}]
    assert await pipelines_of(world, "lint/all") == [21]


async def test_n57_a_project_that_is_listed_and_gone_is_passed_over_unless_it_is_declared(
    world: World, server: SandboxServer
) -> None:
    server.admin.fault(path="/projects/payments/pipelines", status=404, body={"errors": [{"message": "gone"}]}, times=0)
    assert await pipelines_of(world, "release") == [22]
    with pytest.raises(ValidationFailed, match="no project 'payments' in workspace acme"):
        await pipelines_of(world, {"name": "deploy", "project": "payments"})


async def test_n57_more_projects_than_are_read_are_reported(world: World, server: SandboxServer) -> None:
    acme(server)["projects"] = [{"name": f"p{n:03}", "pipelines": []} for n in range(names.MAX_PROJECTS)]
    acme(server)["projects"].append({"name": "zz", "pipelines": [{"id": 9, "name": "deploy"}]})
    with pytest.raises(ValidationFailed, match=r"501 projects.*500 at most") as caught:
        await pipelines_of(world, "deploy")
    assert "project: PROJECT" in caught.value.hint
    assert await pipelines_of(world, "zz/deploy") == [9]


async def test_n23_of_equal_names_the_pipeline_that_is_not_disabled_is_meant(world: World, server: SandboxServer) -> None:
    pipelines = [{"id": 21, "name": "deploy", "disabled": True}, {"id": 22, "name": "deploy"}]
    acme(server)["projects"] = [{"name": "web", "pipelines": pipelines}]
    assert await names.pipeline_id(world.api, "acme", "web", "deploy") == 22
