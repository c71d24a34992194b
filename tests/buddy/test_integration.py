"""A BuddyIntegration, driven over HTTP against the simulated Buddy."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.drivers.buddy.driver import driver
from reconciler.model.errors import (
    OutcomeUnknown,
    PermissionDenied,
    ProviderProtocolError,
    ValidationFailed,
)
from reconciler.model.objects import Scope
from reconciler.model.plan import Action, ChangeClass, Disposition
from reconciler.model.resources import Adopt, Resource
from reconciler.sandbox.buddy.app import SCOPES, TOKEN
from reconciler.sandbox.server import SandboxServer
from tests.support.driving import World, integration, resource

SCOPE = Scope("buddy/integration", "acme")


def secret(key: str) -> dict[str, Any]:
    return {"valueFrom": {"secret": {"name": "keys", "key": key}}}


def buddy(handle: str = "aws", /, *, lifecycle: dict[str, Any] | None = None, **spec: Any) -> Resource:
    body = {"integration": {"name": "buddy"}, "workspace": "acme", "type": "GIT_HUB", "name": "Code", **spec}
    return resource("BuddyIntegration", handle, body, secrets=["keys"], **(lifecycle or {}))


def amazon(**spec: Any) -> Resource:
    roles = [{"arn": "arn:aws:iam::123457465779:role/TESTS", "external_id": "ext_id", "duration": 9000}]
    keys = {"access_key": secret("a"), "secret_key": secret("b")}
    return buddy(**{"type": "AMAZON", "name": "AWS", "role_assumptions": roles, **keys, **spec})


EXAMPLES: dict[str, tuple[Resource, dict[str, Any]]] = {
    "github": (
        buddy("my-github-integration", scope="PROJECT", project_name="web", token=secret("token")),
        {"type": "GIT_HUB", "scope": "PROJECT", "project_name": "web", "token": "canary-token"},
    ),
    "github with a user name": (
        buddy("my_identifier", username="Buddy", token=secret("token")),
        {"username": "Buddy", "token": "canary-token", "scope": "WORKSPACE"},
    ),
    "gitlab": (buddy("my-gitlab", type="GIT_LAB", token=secret("token")), {"type": "GIT_LAB", "token": "canary-token"}),
    "aws by keys": (
        buddy("aws-token", type="AMAZON", access_key=secret("a"), secret_key=secret("b")),
        {"access_key": "canary-a", "secret_key": "canary-b"},
    ),
    "aws with roles": (
        amazon(),
        {"role_assumptions": [{"arn": "arn:aws:iam::123457465779:role/TESTS", "external_id": "ext_id", "duration": 9000}]},
    ),
    "aws oidc": (
        buddy(
            "oidc",
            type="AMAZON",
            auth_type="OIDC",
            audience="tests",
            role_assumptions=[{"arn": "arn:aws:iam::344897465719:role/my-oidc-role", "duration": 1234}],
        ),
        {"auth_type": "OIDC", "audience": "tests"},
    ),
    "azure": (
        buddy("azure", type="AZURE_CLOUD", tenant_id="t-1", subscription_id="s-1", app_id="a-1", password=secret("a")),
        {"tenant_id": "t-1", "subscription_id": "s-1", "app_id": "a-1", "password": "canary-a"},
    ),
    "docker hub": (
        buddy(
            "docker",
            type="DOCKER_HUB",
            username="me",
            password=secret("a"),
            all_pipelines_allowed=False,
            allowed_pipelines=[{"id": 22}, {"id": 11}],
        ),
        {"username": "me", "password": "canary-a", "all_pipelines_allowed": False, "allowed_pipelines": [{"id": 11}, {"id": 22}]},
    ),
    "digital ocean": (buddy("do", type="DIGITAL_OCEAN", token=secret("token")), {"token": "canary-token"}),
    "google": (
        buddy("google", type="GOOGLE_SERVICE_ACCOUNT", auth_type="DEFAULT", api_key=secret("a")),
        {"api_key": "canary-a", "auth_type": "DEFAULT"},
    ),
    "new relic": (
        buddy("relic", type="NEW_RELIC", token=secret("token"), region="US"),
        {"token": "canary-token", "region": "US"},
    ),
}


def stored(server: SandboxServer) -> list[dict[str, Any]]:
    return list(server.admin.state()["workspaces"]["acme"]["integrations"])


def live(server: SandboxServer) -> dict[str, Any]:
    (item,) = server.app.state["workspaces"]["acme"]["integrations"]
    return item  # type: ignore[no-any-return]


def writes(server: SandboxServer) -> list[str]:
    return [r["method"] for r in server.admin.requests() if r["method"] != "GET"]


@pytest.mark.parametrize("summaries", [True, False])
@pytest.mark.parametrize("name", list(EXAMPLES))
async def test_every_documented_example_is_made_whole_and_then_needs_nothing_more(
    world: World, server: SandboxServer, name: str, summaries: bool
) -> None:
    server.admin.settings(list_summaries=summaries)
    declared, expected = EXAMPLES[name]
    await world.apply(declared)
    assert world.errors == {}
    (item,) = stored(server)
    assert {key: item[key] for key in expected} == expected
    assert item["identifier"] == declared.id.name
    server.admin.clear_requests()
    assert (await world.apply(declared)).changes == ()
    assert writes(server) == []


async def test_no_credential_is_in_anything_that_could_be_stored_or_shown(world: World) -> None:
    for declared, _ in EXAMPLES.values():
        plan = await world.apply(declared)
        assert "canary" not in repr(plan)
    assert "canary" not in repr(world.records)
    assert "canary" not in repr(await world.observe(SCOPE))


async def test_an_address_that_authenticates_by_itself_is_not_taken_up_though_the_provider_shows_it(
    world: World, server: SandboxServer
) -> None:
    await world.apply(buddy(token=secret("token")))
    live(server)["webhook_address"] = "https://hooks.test/canary"
    assert "canary" not in repr(await world.observe(SCOPE))


async def test_a_change_sends_the_name_and_the_whole_authentication_and_never_what_cannot_change(
    world: World, server: SandboxServer
) -> None:
    await world.settle(amazon())
    server.admin.clear_requests()
    await world.settle(amazon(name="AWS production"))
    (request,) = [r for r in server.admin.requests() if r["method"] != "GET"]
    assert request["method"] == "PATCH"
    assert {"name", "access_key", "secret_key", "role_assumptions", "all_pipelines_allowed"} <= set(request["body"])
    assert not {"type", "scope", "identifier", "project_name", "workspace", "integration"} & set(request["body"])


@pytest.mark.parametrize(
    "roles",
    [[{"arn": "arn:aws:iam::123457465779:role/OTHER"}], [{"arn": "arn:aws:iam::1:role/a"}, {"arn": "arn:aws:iam::1:role/b"}]],
)
async def test_role_assumptions_that_the_provider_never_shows_are_compared_with_what_was_written(
    world: World, server: SandboxServer, roles: list[dict[str, Any]]
) -> None:
    await world.settle(amazon())
    plan = await world.apply(amazon(role_assumptions=roles))
    (change,) = plan.executable
    assert [(field.path, field.cls) for field in change.fields] == [("/role_assumptions", ChangeClass.COMMIT)]
    assert stored(server)[0]["role_assumptions"] == roles
    assert (await world.apply(amazon(role_assumptions=roles))).changes == ()


async def test_role_assumptions_that_are_declared_no_more_are_emptied_at_the_provider(
    world: World, server: SandboxServer
) -> None:
    await world.settle(amazon())
    without = buddy(type="AMAZON", name="AWS", access_key=secret("a"), secret_key=secret("b"))
    await world.settle(without)
    assert stored(server)[0]["role_assumptions"] == []
    assert (await world.apply(without)).changes == ()


async def test_d24_a_new_credential_is_written_and_shown_only_as_a_secret_that_changed(
    world: World, server: SandboxServer
) -> None:
    await world.settle(amazon())
    world.values["keys/b"] = "canary-new"
    plan = await world.apply(amazon())
    (change,) = plan.executable
    assert [(f.path, f.sensitive, f.before, f.after) for f in change.fields] == [("/secret_key", True, None, None)]
    assert stored(server)[0]["secret_key"] == "canary-new"


async def test_d24_what_a_human_changed_is_shown_by_field_and_put_back(world: World, server: SandboxServer) -> None:
    declared = amazon(
        permissions={"admins": "MANAGE", "others": "DENIED", "users": [{"name": "ben@acme.test", "access_level": "USE_ONLY"}]}
    )
    await world.settle(declared)
    live(server)["permissions"] = {"admins": "MANAGE", "others": "MANAGE", "users": [], "groups": []}
    live(server)["all_pipelines_allowed"] = False
    plan = await world.apply(declared)
    (change,) = plan.executable
    assert change.cls is ChangeClass.DRIFT
    assert [field.path for field in change.fields] == ["/all_pipelines_allowed", "/permissions/others", "/permissions/users"]
    assert stored(server)[0]["permissions"]["users"] == [{"id": 2, "access_level": "USE_ONLY"}]
    assert (await world.apply(declared)).changes == ()


async def test_permissions_in_another_order_are_the_same(world: World, server: SandboxServer) -> None:
    users = [{"id": 1, "access_level": "MANAGE"}, {"id": 2, "access_level": "USE_ONLY"}]
    await world.settle(amazon(permissions={"users": users[::-1]}))
    live(server)["permissions"]["users"] = users[::-1]
    assert (await world.apply(amazon(permissions={"users": users}))).changes == ()


async def test_a_part_of_the_permissions_that_is_not_declared_is_sent_back_as_it_is(world: World, server: SandboxServer) -> None:
    await world.settle(amazon(permissions={"others": "USE_ONLY"}))
    live(server)["permissions"]["groups"] = [{"id": 5, "access_level": "MANAGE"}]
    await world.settle(amazon(permissions={"others": "DENIED"}))
    assert stored(server)[0]["permissions"]["groups"] == [{"id": 5, "access_level": "MANAGE"}]


# ---- names


async def test_names_of_people_groups_and_pipelines_become_ids(world: World, server: SandboxServer) -> None:
    declared = amazon(
        permissions={
            "users": [{"email": "Ada@Acme.test", "access_level": "MANAGE"}, {"name": "ben@acme.test", "access_level": "DENIED"}],
            "groups": [{"name": "platform", "access_level": "USE_ONLY"}],
        },
        all_pipelines_allowed=False,
        allowed_pipelines=[{"name": "release"}, {"name": "deploy", "project": "payments"}, {"id": 12}],
    )
    await world.settle(declared)
    (item,) = stored(server)
    assert item["permissions"]["users"] == [{"id": 1, "access_level": "MANAGE"}, {"id": 2, "access_level": "DENIED"}]
    assert item["permissions"]["groups"] == [{"id": 5, "access_level": "USE_ONLY"}]
    assert item["allowed_pipelines"] == [{"id": 11}, {"id": 12}, {"id": 22}]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"allowed_pipelines": [{"name": "deploy"}]}, "2 pipelines in workspace acme are called 'deploy'"),
        ({"allowed_pipelines": [{"name": "nothing", "project": "web"}]}, "no pipeline 'nothing' in project web"),
        (
            {"permissions": {"users": [{"name": "Eve", "access_level": "MANAGE"}]}},
            "'Eve' in workspace acme is given by a display name",
        ),
        (
            {"permissions": {"users": [{"email": "e@x.io", "access_level": "MANAGE"}]}},
            "no member with the e-mail address 'e@x.io'",
        ),
        ({"permissions": {"groups": [{"name": "x", "access_level": "MANAGE"}]}}, "no group 'x' in workspace acme"),
    ],
)
async def test_a_name_that_is_unknown_or_ambiguous_is_refused_by_name(world: World, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await world.compile(amazon(**spec))
    assert said in caught.value.message


@pytest.mark.parametrize("page_size", [0, 7])
async def test_names_are_looked_up_on_all_pages_however_short_the_provider_cuts_them(
    world: World, server: SandboxServer, page_size: int
) -> None:
    server.admin.settings(page_size=page_size)
    members = [{"id": n, "name": f"user {n}", "email": f"user{n}@acme.test"} for n in range(1, 251)]
    server.admin.put_state({"workspaces": {"acme": {"members": members}}})
    (made,) = await world.compile(amazon(permissions={"users": [{"email": "user250@acme.test", "access_level": "MANAGE"}]}))
    assert made.attributes["permissions"]["users"] == [{"id": 250, "access_level": "MANAGE"}]


async def test_ids_need_no_lookup(world: World, server: SandboxServer) -> None:
    await world.compile(amazon(allowed_pipelines=[{"id": 11}], permissions={"users": [{"id": 1, "access_level": "MANAGE"}]}))
    assert server.admin.requests() == []


def test_offline_names_stand_for_ids(world: World) -> None:
    declared = amazon(
        allowed_pipelines=[{"name": "deploy", "project": "web"}, {"id": 7}],
        permissions={"groups": [{"name": "platform", "access_level": "MANAGE"}]},
    )
    (made,) = driver.compile(declared, world.context(driver.offline_facts(declared)))
    assert made.attributes["allowed_pipelines"] == [7, "web/deploy"]
    assert made.attributes["permissions"]["groups"] == [{"id": "platform", "access_level": "MANAGE"}]


# ---- identity


@pytest.mark.parametrize(
    "change",
    [{"type": "GIT_LAB"}, {"scope": "PROJECT", "project_name": "web"}, {"identifier": "other"}],
    ids=lambda c: next(iter(c)),
)
async def test_what_cannot_change_in_place_is_a_replace_and_blocked(
    world: World, server: SandboxServer, change: dict[str, str]
) -> None:
    await world.settle(buddy(token=secret("token")))
    plan = await world.apply(buddy(token=secret("token"), **change))
    (row,) = plan.changes
    assert (row.action, row.disposition) == (Action.REPLACE, Disposition.BLOCKED)
    assert len(stored(server)) == 1


async def test_an_allowed_replace_gives_a_new_hash_id(world: World, server: SandboxServer) -> None:
    await world.settle(buddy(token=secret("token")))
    before = stored(server)[0]["hash_id"]
    await world.settle(buddy(token=secret("token"), type="GIT_LAB", lifecycle={"replace_allowed": True}))
    (item,) = stored(server)
    assert item["type"] == "GIT_LAB"
    assert item["hash_id"] != before
    assert [record.external_id for record in world.records.values()] == [item["hash_id"]]


async def test_d23_a_foreign_integration_with_our_identifier_is_a_conflict(world: World, server: SandboxServer) -> None:
    await world.settle(buddy(token=secret("token")))
    world.records.clear()
    plan = await world.apply(buddy(token=secret("a")))
    (change,) = plan.changes
    assert (change.disposition, change.reason) == (Disposition.HELD, "Conflict")
    assert stored(server)[0]["token"] == "canary-token"


@pytest.mark.parametrize(
    ("adopt", "kind", "taken"),
    [(Adopt.IF_IDENTICAL, "GIT_HUB", True), (Adopt.IF_IDENTICAL, "GIT_LAB", False), (Adopt.ALWAYS, "GIT_LAB", True)],
)
async def test_adoption_asks_for_the_identifier_and_if_identical_for_type_and_scope(
    world: World, server: SandboxServer, adopt: Adopt, kind: str, taken: bool
) -> None:
    await world.settle(buddy(token=secret("token")))
    world.records.clear()
    plan = await world.plan(buddy(type=kind, token=secret("a"), lifecycle={"adopt": adopt}))
    assert (Action.ADOPT in {change.action for change in plan.executable}) is taken


async def test_an_adopted_integration_gets_our_credentials(world: World, server: SandboxServer) -> None:
    await world.settle(buddy(token=secret("token")))
    world.records.clear()
    await world.settle(buddy(token=secret("a"), lifecycle={"adopt": Adopt.IF_IDENTICAL}))
    assert stored(server)[0]["token"] == "canary-a"


async def test_the_id_is_the_hash_id_and_never_part_of_the_url(world: World, server: SandboxServer) -> None:
    await world.settle(buddy(token=secret("token")))
    (seen,) = await world.observe(SCOPE)
    assert seen.external_id == stored(server)[0]["hash_id"]
    assert "/user/" not in seen.url


# ---- errors


async def test_d7_a_deleted_integration_is_made_again(world: World, server: SandboxServer) -> None:
    await world.settle(buddy(token=secret("token")))
    server.app.state["workspaces"]["acme"]["integrations"].clear()
    plan = await world.apply(buddy(token=secret("token")))
    assert [(c.action, c.cls) for c in plan.executable] == [(Action.CREATE, ChangeClass.DRIFT)]
    assert len(stored(server)) == 1


async def test_d11_a_missing_field_is_terminal_and_every_message_of_the_provider_is_shown(world: World) -> None:
    await world.apply(buddy(type="AMAZON"))
    (error,) = world.errors.values()
    assert isinstance(error, ValidationFailed)
    assert "access_key" in error.message
    assert "secret_key" in error.message


@pytest.mark.parametrize(("left", "wanted"), [("INTEGRATION_INFO", "INTEGRATION_ADD"), ("INTEGRATION_ADD", "INTEGRATION_INFO")])
async def test_a_missing_scope_of_the_token_is_named(world: World, server: SandboxServer, left: str, wanted: str) -> None:
    server.app.state["tokens"][TOKEN]["scopes"] = [left]
    with pytest.raises(PermissionDenied) as caught:
        await world.apply(buddy(token=secret("token")))
        raise next(iter(world.errors.values()))
    assert wanted in caught.value.hint


async def test_an_api_that_is_switched_off_says_so(world: World, server: SandboxServer) -> None:
    server.app.state["workspaces"]["acme"]["api_enabled"] = False
    with pytest.raises(PermissionDenied, match="API is disabled"):
        await world.observe(SCOPE)


@pytest.mark.parametrize("body", ["<html>", [], {}, {"hash_id": ""}])
async def test_d15_an_answer_to_a_write_that_is_not_understood_leaves_the_outcome_open(
    world: World, server: SandboxServer, body: object
) -> None:
    server.admin.fault(method="POST", path="integrations", status=201, body=body)
    await world.apply(buddy(token=secret("token")))
    assert [type(error) for error in world.errors.values()] == [OutcomeUnknown]


async def test_d18_an_item_that_vanishes_between_list_and_read_stays_as_it_was_listed(
    world: World, server: SandboxServer
) -> None:
    await world.settle(buddy(token=secret("token")))
    server.admin.fault(path=r"integrations/.+", status=404, body={"errors": [{"message": "Resource not found"}]})
    (seen,) = await world.observe(SCOPE)
    assert seen.natural_key == "acme/aws"


async def test_d15_an_item_that_is_read_as_another_one_is_an_error(world: World, server: SandboxServer) -> None:
    await world.settle(buddy(token=secret("token")))
    server.admin.fault(path=r"integrations/.+", status=200, body={"hash_id": "another", "identifier": "aws"})
    with pytest.raises(ProviderProtocolError, match="about another object"):
        await world.observe(SCOPE)


# ---- credential


async def test_the_check_tells_scopes_expiry_and_what_is_missing(world: World, server: SandboxServer) -> None:
    needs = driver.needs(amazon(permissions={"users": [{"name": "Ada", "access_level": "MANAGE"}]}))
    report = await driver.check(world.api, needs)
    assert (report.valid, report.missing) == (True, ())
    assert report.granted == tuple(sorted(SCOPES))
    server.app.state["tokens"][TOKEN].update(scopes=["INTEGRATION_READ", "TOKEN_INFO"], expires_at="2030-01-01T00:00:00Z")
    report = await driver.check(world.api, needs)
    assert report.expires_at == "2030-01-01T00:00:00Z"
    assert report.missing == ("INTEGRATION_ADD", "INTEGRATION_MANAGE", "WORKSPACE")


async def test_a_token_that_may_not_read_itself_is_still_a_valid_one(world: World, server: SandboxServer) -> None:
    server.app.state["tokens"][TOKEN]["scopes"] = ["WORKSPACE"]
    assert (await driver.check(world.api, {})).valid


@pytest.mark.parametrize(
    ("url", "root", "workspace"),
    [
        ("https://app.buddy.works/acme", "https://api.buddy.works", "acme"),
        ("https://eu.buddy.works/acme/", "https://api.eu.buddy.works", "acme"),
        ("https://api.buddy.works", "https://api.buddy.works", ""),
        ("https://ci.corp.example/acme", "https://ci.corp.example/api", "acme"),
    ],
)
def test_region_and_workspace_follow_from_the_url(url: str, root: str, workspace: str) -> None:
    connection = driver.connect(integration("buddy", url, ""), {})
    assert (connection.api_url, connection.account) == (root, workspace)
