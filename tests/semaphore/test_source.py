"""An event source on Semaphore, driven over HTTP against the simulated organization."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from reconciler.drivers.semaphore.driver import driver
from reconciler.drivers.semaphore.notifications import marker_of
from reconciler.model.errors import (
    OutcomeUnknown,
    PermissionDenied,
    ProviderProtocolError,
    ScopeGone,
    ValidationFailed,
)
from reconciler.model.objects import Marker, Scope
from reconciler.model.plan import Action, ChangeClass, Disposition
from reconciler.model.resources import Adopt, Resource
from reconciler.sandbox.semaphore.app import TOKEN
from reconciler.sandbox.server import SandboxServer
from tests.support.driving import OWNER, World, integration, resource

NOTIFICATIONS = Scope("semaphore/notification", "acme")
SECRETS = Scope("semaphore/secret", "acme")


def with_spec(source: Resource, **spec: object) -> Resource:
    return dataclasses.replace(source, spec={**source.spec, **spec})


def writes(server: SandboxServer) -> list[str]:
    return [f"{r['method']} {r['path'].split('/')[3]}" for r in server.admin.requests() if r["method"] != "GET"]


async def test_a_source_becomes_a_secret_and_then_a_notification_that_names_it(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)

    state = server.admin.state()
    secret, notification = state["secrets"][0], state["notifications"][0]
    uid = source.id.uid(OWNER)
    assert writes(server) == ["POST secrets", "POST notifications"]
    assert secret["name"] == notification["name"] == f"reconciler-{OWNER}-{uid}"
    assert secret["data"]["env_vars"] == [{"name": "WEBHOOK_SECRET", "value": world.keyring.signing_key(OWNER, uid, 0).reveal()}]
    webhook = notification["spec"]["rules"][0]["notify"]["webhook"]
    assert webhook["endpoint"] == f"{world.public_url}/hooks/{OWNER}/{uid}?key={world.keyring.key_id}"
    assert (webhook["secret"], webhook["timeout"], webhook["retries"]) == (secret["name"], 10_000, 5)
    assert notification["spec"]["rules"][0]["filter"]["projects"] == ["payments"]


async def test_a_second_pass_reads_and_writes_nothing(world: World, server: SandboxServer, source: Resource) -> None:
    await world.settle(source)
    server.admin.clear_requests()
    plan = await world.apply(source)
    assert plan.changes == ()
    assert writes(server) == []


async def test_no_header_of_ours_makes_the_edge_hide_the_organization(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    for request in server.admin.requests():
        assert not any(name.startswith("x-semaphore-") for name in request["headers"])
        assert request["headers"]["authorization"].startswith("Token ")
        assert not request["headers"]["user-agent"].startswith("SemaphoreCLI")


async def test_a_removed_source_deletes_the_notification_before_its_secret(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    server.admin.clear_requests()
    await world.settle()
    assert writes(server) == ["DELETE notifications", "DELETE secrets"]
    assert server.admin.state()["secrets"] == [] == server.admin.state()["notifications"]


async def test_a_rotated_key_is_there_before_the_notification_names_it_and_the_old_one_goes_last(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    server.admin.clear_requests()
    await world.settle(with_spec(source, keyRotation=1))

    assert writes(server) == ["POST secrets", "PATCH notifications", "DELETE secrets"]
    state = server.admin.state()
    (secret,) = state["secrets"]
    uid = source.id.uid(OWNER)
    assert secret["name"] == f"reconciler-{OWNER}-{uid}-r1"
    assert secret["data"]["env_vars"][0]["value"] == world.keyring.signing_key(OWNER, uid, 1).reveal()
    assert state["notifications"][0]["spec"]["rules"][0]["notify"]["webhook"]["secret"] == secret["name"]


async def test_at_no_moment_of_a_rotation_does_the_notification_name_a_secret_that_is_not_there(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    broken: list[str] = []
    answer = server.app.answer

    def watch(call):
        reply = answer(call)
        names = {row["name"] for row in server.app.state["secrets"]}
        for row in server.app.state["notifications"]:
            if row["spec"]["rules"][0]["notify"]["webhook"]["secret"] not in names:
                broken.append(f"{call.method} {call.path}")
        return reply

    server.app.answer = watch
    for rotation in (1, 2):
        await world.settle(with_spec(source, keyRotation=rotation))
    assert broken == []


async def test_a_rotation_that_fails_half_way_goes_on_where_it_stopped(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    server.admin.fault(method="PATCH", path="notifications", effect="answer", status=503, body={})
    await world.apply(with_spec(source, keyRotation=1))
    assert [type(error) for error in world.errors.values()] == [OutcomeUnknown]
    assert len(server.admin.state()["secrets"]) == 2  # the old key still signs
    await world.settle(with_spec(source, keyRotation=1))
    assert [row["name"].endswith("-r1") for row in server.admin.state()["secrets"]] == [True]


async def test_a_new_master_key_replaces_the_secret_since_most_organizations_refuse_to_change_one(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    world.key = b"n" * 32
    server.admin.clear_requests()
    await world.settle(source)
    assert writes(server) == ["DELETE secrets", "POST secrets", "PATCH notifications"]
    value = server.admin.state()["secrets"][0]["data"]["env_vars"][0]["value"]
    assert value == world.keyring.signing_key(OWNER, source.id.uid(OWNER), 0).reveal()


@pytest.mark.parametrize("exposed", [False, True])
async def test_d24_an_edited_secret_is_rewritten_when_its_stamp_moved(
    world: World, server: SandboxServer, source: Resource, exposed: bool
) -> None:
    server.admin.settings(secrets_exposed_content=exposed)
    await world.settle(source)
    (secret,) = server.app.state["secrets"]
    secret.update(update_time=str(int(secret["update_time"]) + 90))
    secret["data"]["env_vars"][0]["value"] = "edited-by-hand"
    plan = await world.apply(source)
    (change,) = plan.executable
    assert (change.action, change.cls) == (Action.REPLACE, ChangeClass.UNVERIFIABLE)
    assert change.fields[0].sensitive
    assert server.admin.state()["secrets"][0]["data"]["env_vars"][0]["value"] != "edited-by-hand"
    await world.settle(source)


async def test_d24_a_renamed_secret_is_made_again_under_the_name_that_the_notification_uses(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    name = server.app.state["secrets"][0]["name"]
    server.app.state["secrets"][0]["name"] = "renamed"
    await world.settle(source)
    assert [row["name"] for row in server.admin.state()["secrets"]] == [name]


async def test_d24_every_edit_of_the_notification_is_a_field_that_is_shown_and_put_back(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    before = server.admin.state()["notifications"][0]["spec"]
    rule = server.app.state["notifications"][0]["spec"]["rules"][0]
    rule["notify"]["webhook"].update(status="INACTIVE", timeout=0, retries=0, secret="other")
    rule["filter"]["branches"] = ["main"]
    server.app.state["notifications"][0]["spec"]["rules"].append(
        {"name": "extra", "filter": {"projects": ["web"]}, "notify": {"webhook": {"endpoint": "https://other.test"}}}
    )
    plan = await world.apply(source)
    (change,) = plan.executable
    assert change.cls is ChangeClass.DRIFT
    assert [field.path for field in change.fields] == [
        "/further_rules",
        "/rule/filter/branches",
        "/rule/notify/webhook/retries",
        "/rule/notify/webhook/secret",
        "/rule/notify/webhook/status",
        "/rule/notify/webhook/timeout",
    ]
    assert server.admin.state()["notifications"][0]["spec"] == before
    assert (await world.apply(source)).changes == ()


async def test_an_ignored_field_is_kept_as_it_was_observed_in_what_replaces_the_whole_object(
    world: World, server: SandboxServer, source: Resource
) -> None:
    from reconciler.model.resources import IgnoreRule, Lifecycle

    source = dataclasses.replace(source, lifecycle=Lifecycle(ignore=(IgnoreRule("/rule/notify/webhook/timeout"),)))
    await world.settle(source)
    webhook = server.app.state["notifications"][0]["spec"]["rules"][0]["notify"]["webhook"]
    webhook.update(timeout=2_000, retries=1)
    await world.settle(source)
    webhook = server.admin.state()["notifications"][0]["spec"]["rules"][0]["notify"]["webhook"]
    assert (webhook["timeout"], webhook["retries"]) == (2_000, 5)


async def test_a_rename_moves_the_notification_and_leaves_nothing_behind(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    kept = server.admin.state()["notifications"][0]["id"]
    renamed = resource("EventSource", "deploys", source.spec, moved_from="pipelines")
    await world.settle(renamed)
    state = server.admin.state()
    assert [row["id"] for row in state["notifications"]] == [kept]
    assert marker_of(state["notifications"][0]["name"]) == Marker(OWNER, renamed.id.uid(OWNER))
    assert [row["name"] for row in state["secrets"]] == [state["notifications"][0]["name"]]
    assert len(world.records) == 2


async def test_with_a_lost_state_both_objects_are_found_again_by_their_names(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    ids = {record.external_id for record in world.records.values()}
    world.records.clear()
    server.admin.clear_requests()
    plan = await world.apply(source)
    assert {change.action for change in plan.changes} == {Action.RECORD}
    assert {record.external_id for record in world.records.values()} == ids
    assert writes(server) == []


async def test_many_projects_are_matched_over_all_pages_though_some_show_nothing(world: World, server: SandboxServer) -> None:
    projects = [{"name": f"svc-{n}", "hidden": 2 <= n < 4} for n in range(7)] + [{"name": "web"}]
    server.admin.put_state({"projects": projects})
    server.admin.settings(projects_per_page=2)
    many = resource("EventSource", "services", {"resource": {"type": "project", "match": "svc-*"}})
    await world.settle(many)
    assert len(server.admin.requests(path="projects")) >= 4
    rule = server.admin.state()["notifications"][0]["spec"]["rules"][0]
    assert rule["filter"]["projects"] == ["svc-0", "svc-1", "svc-4", "svc-5", "svc-6"]


async def test_a_pattern_that_matches_nothing_is_refused_since_such_a_rule_would_never_fire(world: World) -> None:
    nothing = resource("EventSource", "nothing", {"resource": {"type": "project", "match": "no-*"}})
    with pytest.raises(ValidationFailed, match=r"no project .* matches 'no-\*'"):
        await world.compile(nothing)


async def test_a_list_that_runs_in_a_circle_is_an_error_and_not_a_short_list(world: World, server: SandboxServer) -> None:
    body = {"secrets": [], "next_page_token": "again"}
    server.admin.fault(path="secrets", times=0, status=200, body=body)
    with pytest.raises(ProviderProtocolError, match="circle"):
        await world.observe(SECRETS)


async def test_values_that_an_organization_exposes_are_never_taken_up(
    world: World, server: SandboxServer, source: Resource
) -> None:
    server.admin.settings(secrets_exposed_content=True)
    await world.settle(source)
    value = world.keyring.signing_key(OWNER, source.id.uid(OWNER), 0).reveal()
    plan = await world.plan(with_spec(source, keyRotation=1))
    assert value not in repr(await world.observe(SECRETS))
    assert value not in repr(plan)
    assert value not in repr(world.records)


# ---- ownership


async def test_d23_a_foreign_notification_is_never_touched_and_one_with_our_host_is_adopted_only_on_request(
    world: World, server: SandboxServer, source: Resource
) -> None:
    rule = {
        "name": "old",
        "filter": {
            key: ["payments"] if key == "projects" else []
            for key in ("projects", "branches", "tags", "pipelines", "blocks", "states", "results")
        },
        "notify": {"slack": {}, "webhook": {"endpoint": f"{world.public_url}/legacy"}},
    }
    body = {"apiVersion": "v1alpha", "kind": "Notification", "metadata": {"name": "legacy"}, "spec": {"rules": [rule]}}
    await world.api.request("POST", "/api/v1alpha/notifications", json=body)

    await world.settle(source)
    assert server.admin.state()["notifications"][0]["name"] == "legacy"
    await world.settle()
    adopting = dataclasses.replace(source, lifecycle=msgspec.structs.replace(source.lifecycle, adopt=Adopt.IF_IDENTICAL))
    plan = await world.apply(adopting)
    assert {change.action for change in plan.executable} == {Action.CREATE, Action.ADOPT}
    (taken,) = server.admin.state()["notifications"]
    assert marker_of(taken["name"]) == Marker(OWNER, source.id.uid(OWNER))


async def test_objects_of_another_owner_are_neither_ours_nor_orphans(world: World, source: Resource) -> None:
    await world.settle(source)
    for row in (*await world.observe(NOTIFICATIONS), *await world.observe(SECRETS)):
        assert row.marker is not None
        assert row.marker.owner == OWNER
    assert marker_of(f"reconciler-team-b-{source.id.uid('team-b')}") == Marker("team-b", source.id.uid("team-b"))


@pytest.mark.parametrize("name", ["reconciler-x", "reconciler--0123", "Reconciler-a-" + "0" * 20, "reconciler-a-" + "g" * 20])
def test_a_name_that_is_not_quite_ours_bears_no_marker(name: str) -> None:
    assert marker_of(name) is None


# ---- errors


async def test_d7_a_notification_that_was_deleted_is_made_again_once(
    world: World, server: SandboxServer, source: Resource
) -> None:
    await world.settle(source)
    server.app.state["notifications"].clear()
    plan = await world.apply(source)
    assert [(c.action, c.cls) for c in plan.executable] == [(Action.CREATE, ChangeClass.DRIFT)]
    assert (await world.apply(source)).changes == ()


@pytest.mark.parametrize("setting", ["organization_found", "address_allowed"])
async def test_d8_a_404_of_the_edge_is_a_lost_scope_and_never_an_empty_list(
    world: World, server: SandboxServer, setting: str
) -> None:
    server.admin.settings(**{setting: False})
    for scope in (NOTIFICATIONS, SECRETS):
        with pytest.raises(ScopeGone):
            await world.observe(scope)


async def test_d11_a_refused_value_is_terminal_and_quotes_the_provider(
    world: World, server: SandboxServer, source: Resource
) -> None:
    said = {"code": 3, "message": "A notification rule must have a notify field.", "details": []}
    server.admin.fault(method="POST", path="notifications", status=400, body=said)
    await world.apply(source)
    (error,) = world.errors.values()
    assert isinstance(error, ValidationFailed)
    assert "must have a notify field" in error.message


async def test_a_401_of_projects_is_a_missing_right_and_not_a_bad_token(world: World, server: SandboxServer) -> None:
    server.app.state["tokens"][TOKEN]["permissions"] = ["organization.notifications.view"]
    matching = resource("EventSource", "x", {"resource": {"type": "project", "match": "*"}})
    with pytest.raises(PermissionDenied, match=r"project\.view"):
        await driver.resolve(world.api, matching)


async def test_d15_an_answer_to_a_write_that_is_not_understood_leaves_the_outcome_open(
    world: World, server: SandboxServer, source: Resource
) -> None:
    for body in ("<html>", {"metadata": {}}, [], {"metadata": {"id": 7, "name": "x"}}):
        server.admin.fault(method="POST", path="secrets", status=200, body=body)
        await world.apply(source)
        assert [type(error) for error in world.errors.values()] == [OutcomeUnknown], body


async def test_d15_fields_that_we_do_not_know_change_nothing(world: World, server: SandboxServer, source: Resource) -> None:
    await world.settle(source)
    (seen,) = await world.observe(NOTIFICATIONS)
    answer = (await world.api.request("GET", "/api/v1alpha/notifications")).json()
    answer["notifications"][0] |= {"new": 1}
    answer["notifications"][0]["spec"]["rules"][0]["notify"]["teams"] = {"url": "x"}
    server.admin.fault(path="notifications", status=200, body=answer)
    assert await world.observe(NOTIFICATIONS) == (seen,)


# ---- credential


async def test_the_check_names_the_organization_and_what_the_token_may_not_see(
    world: World, server: SandboxServer, source: Resource
) -> None:
    report = await driver.check(world.api, driver.needs(source))
    assert (report.valid, report.missing) == (True, ())
    assert "acme" in report.identity
    server.app.state["tokens"][TOKEN]["permissions"] = ["organization.notifications.view"]
    report = await driver.check(world.api, driver.needs(source))
    assert report.missing == ("organization.secrets.view",)


@pytest.mark.parametrize("url", ["https://semaphoreci.com", "https://a.b.semaphoreci.com", "https://localhost", "semaphore"])
def test_a_url_that_names_no_organization_is_refused(url: str) -> None:
    declared = integration("semaphore", url, "")
    with pytest.raises(ValidationFailed, match="organization"):
        driver.connect(declared, {})


def test_the_organization_is_the_subdomain_and_the_api_lies_at_its_root() -> None:
    declared = integration("semaphore", "https://acme.semaphoreci.com/", "")
    connection = driver.connect(declared, {})
    assert (connection.account, connection.api_url) == ("acme", "https://acme.semaphoreci.com")


async def test_an_owner_with_a_uuid_is_refused_before_anything_is_sent(world: World, source: Resource) -> None:
    context = dataclasses.replace(world.context({}), owner="0f8fad5b-d9cb-469f-a165-70867728950e")
    with pytest.raises(ValidationFailed, match="UUID"):
        driver.compile(source, context)


def test_offline_a_pattern_stands_for_the_projects_that_it_would_find(world: World) -> None:
    many = resource("EventSource", "services", {"resource": {"type": "project", "match": "svc-*"}})
    objects = driver.compile(many, world.context(driver.offline_facts(many)))
    assert objects[1].attributes["rule"]["filter"]["projects"] == ["svc-*"]


async def test_suspended_sources_write_nothing(world: World, server: SandboxServer, source: Resource) -> None:
    plan = await world.apply(source, suspended=frozenset({source.id}))
    assert {change.disposition for change in plan.changes} == {Disposition.HELD}
    assert writes(server) == []
