"""Answers of Buddy that leave fields out, as the example answer of its own documentation does."""

from __future__ import annotations

import pytest

from reconciler.model.plan import Action, Disposition
from reconciler.model.resources import Resource
from reconciler.sandbox.server import SandboxServer
from tests.buddy.test_integration import amazon, buddy, live, writes
from tests.support.driving import World, resource

PEOPLE = {
    "admins": "MANAGE",
    "others": "DENIED",
    "users": [{"id": 1, "access_level": "MANAGE"}, {"id": 2, "access_level": "USE_ONLY"}],
    "groups": [{"id": 5, "access_level": "USE_ONLY"}],
}
AZURE = buddy(
    type="AZURE_CLOUD", scope="PROJECT", project_name="web", auth_type="OIDC", audience="aud", app_id="a-1", tenant_id="t-1",
    permissions=PEOPLE, all_pipelines_allowed=False, allowed_pipelines=[21, 22],
)  # fmt: skip
GOOGLE = buddy(type="GOOGLE_SERVICE_ACCOUNT", auth_type="OIDC", config="{}", google_project="g", audience="aud")
FIELDS = [
    "type", "name", "identifier", "scope", "project_name", "auth_type", "audience", "app_id", "google_project", "permissions",
    "all_pipelines_allowed", "allowed_pipelines", "admins", "others", "users", "groups", "access_level",
]  # fmt: skip


NAMELESS = [field for field in FIELDS if field != "name"]
"""What the answers about a project may leave out as well: a project without a name is no answer."""


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        *(pytest.param(AZURE, field, id=f"azure-{field}") for field in NAMELESS),
        *(pytest.param(GOOGLE, field, id=f"google-{field}") for field in FIELDS),
        *(pytest.param(amazon(), field, id=f"amazon-{field}") for field in FIELDS),
    ],
)
async def test_n52_a_field_that_no_answer_has_is_written_once_and_never_again(
    world: World, server: SandboxServer, declared: Resource, field: str
) -> None:
    server.admin.settings(leave_out=[field])
    await world.settle(declared)
    assert writes(server) == ["POST"]


async def test_n52_a_field_that_answers_stop_to_have_changes_nothing_and_replaces_nothing(
    world: World, server: SandboxServer
) -> None:
    await world.settle(AZURE)
    server.admin.settings(leave_out=NAMELESS)
    assert (await world.plan(AZURE)).changes == ()


async def test_n52_a_commit_that_changes_a_field_that_is_not_shown_is_written_once(world: World, server: SandboxServer) -> None:
    server.admin.settings(leave_out=["audience", "access_level"])
    await world.settle(AZURE)
    changed = buddy(**{**AZURE.spec, "audience": "other"})
    await world.settle(changed)
    assert writes(server) == ["POST", "PATCH"]
    assert live(server)["audience"] == "other"


async def test_n52_another_project_is_a_replace_of_the_commit_though_the_project_is_not_shown(
    world: World, server: SandboxServer
) -> None:
    server.admin.settings(leave_out=["project_name"])
    await world.settle(AZURE)
    (change,) = (await world.plan(buddy(**{**AZURE.spec, "project_name": "payments"}))).changes
    assert (change.action, change.disposition) == (Action.REPLACE, Disposition.BLOCKED)


async def test_n52_what_is_shown_is_still_repaired_beside_what_is_not(world: World, server: SandboxServer) -> None:
    server.admin.settings(leave_out=["audience"])
    await world.settle(AZURE)
    live(server)["permissions"]["others"] = "MANAGE"
    live(server)["allowed_pipelines"] = None
    await world.settle(AZURE)
    assert live(server)["permissions"]["others"] == "DENIED"
    assert live(server)["allowed_pipelines"] == [{"id": 21}, {"id": 22}]
    assert writes(server) == ["POST", "PATCH"]


async def test_n52_a_field_that_is_shown_as_null_is_drift(world: World, server: SandboxServer) -> None:
    await world.settle(AZURE)
    live(server)["audience"] = None
    (change,) = (await world.plan(AZURE)).changes
    assert [(row.path, row.before, row.after) for row in change.fields] == [("/audience", None, "aud")]


async def test_n52_a_lost_state_is_rebuilt_from_answers_that_leave_fields_out(world: World, server: SandboxServer) -> None:
    server.admin.settings(leave_out=["audience", "app_id", "project_name"])
    await world.settle(AZURE)
    world.records.clear()
    await world.apply(AZURE, claim_natural_keys=True)
    await world.settle(AZURE)
    assert writes(server) == ["POST"]


@pytest.mark.parametrize("field", ["target_url", "events", "secret_key"])
async def test_n52_a_webhook_whose_answers_leave_a_field_out_is_written_once(
    world: World, server: SandboxServer, field: str
) -> None:
    spec = {"integration": {"name": "buddy"}, "resource": {"type": "project", "name": "web"}}
    source = resource("EventSource", "runs", spec)
    await world.settle(source)
    server.admin.settings(leave_out=[field])
    assert (await world.plan(source)).changes == ()
