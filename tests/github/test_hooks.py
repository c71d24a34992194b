"""The driver's hooks against the simulator, over real HTTP."""

import json

import pytest

from reconciler.drivers.github.api import renamed_to
from reconciler.drivers.github.driver import driver
from reconciler.model.errors import (
    NotFound,
    PermissionDenied,
    ProviderProtocolError,
    RateLimited,
    ReconcilerError,
    ScopeGone,
    ValidationFailed,
)
from reconciler.model.objects import NotModified, Observed, Scope
from reconciler.model.values import ExternalId
from tests.github.conftest import ORG, SCOPE, SECRET, TOKEN, foreign, put_hooks, source, stored
from tests.support.sandbox import client

HOOKS = driver.types["github/repository-webhook"]
ORG_HOOKS = driver.types["github/organization-webhook"]


async def test_a_created_hook_is_json_with_verified_tls_and_our_secret_and_marker(api, github, write):
    created = await HOOKS.create(api, write())
    [hook] = stored(github)
    uid = source().id.uid("team")
    assert hook["config"] == {
        "url": f"https://hooks.example.org/hooks/team/{uid}?key=k1",
        "content_type": "json",
        "insecure_ssl": "0",
        "secret": SECRET,
    }
    assert hook["events"] == ["create", "deployment", "pull_request", "push", "release", "workflow_run"]
    assert hook["active"] is True
    assert created.external_id == str(hook["id"])
    assert (created.marker.owner, created.marker.uid) == ("team", uid)
    assert (created.present_write_only, created.unshown) == ({"/config/secret"}, ())
    assert created.url == f"https://github.com/acme/payments/settings/hooks/{hook['id']}"
    assert [request["body"]["name"] for request in github.admin.requests(method="POST")] == ["web"]


async def test_an_unchanged_repository_costs_exactly_one_conditional_request_that_is_not_counted(api, github, write):
    await HOOKS.create(api, write())
    github.admin.settings(rate_limits=True)
    first = await HOOKS.observe(api, SCOPE, None)
    used = int((await api.request("GET", "/rate_limit")).json()["rate"]["used"])
    github.admin.clear_requests()
    validators = json.loads(json.dumps(first.validators))
    assert isinstance(await HOOKS.observe(api, SCOPE, validators), NotModified)
    assert [(row["method"], row["status"]) for row in github.admin.requests()] == [("GET", 304)]
    assert int((await api.request("GET", "/rate_limit")).json()["rate"]["used"]) == used


async def test_a_hook_that_was_changed_by_hand_is_seen_with_one_request(api, github, write):
    await HOOKS.create(api, write())
    first = await HOOKS.observe(api, SCOPE, None)
    [hook] = stored(github)
    put_hooks(github, [{**hook, "active": False, "events": ["push"]}])
    github.admin.clear_requests()
    again = await HOOKS.observe(api, SCOPE, first.validators)
    assert isinstance(again, Observed)
    assert again.objects[0].attributes["active"] is False
    assert again.objects[0].attributes["events"] == ["push"]
    assert len(github.admin.requests()) == 1


async def test_after_a_token_change_one_ordinary_read_a_repository_makes_conditional_reads_hold_again(connection, github):
    github.admin.put_state({"tokens": {"ghp_new": {"scopes": ["repo"]}}})
    async with client(driver, connection, TOKEN) as old:
        first = await HOOKS.observe(old, SCOPE, None)
    async with client(driver, connection, "ghp_new") as new:
        github.admin.clear_requests()
        second = await HOOKS.observe(new, SCOPE, first.validators)
        assert isinstance(second, Observed)
        assert isinstance(await HOOKS.observe(new, SCOPE, second.validators), NotModified)
    assert [row["status"] for row in github.admin.requests()] == [200, 304]


async def test_every_page_is_read_and_our_hook_behind_95_foreign_ones_is_found(api, github, write):
    put_hooks(github, [foreign(n, events=(f"e{n % 7}",)) for n in range(1, 251)])
    created = await HOOKS.create(api, write())
    observed = await HOOKS.observe(api, SCOPE, None)
    assert len(observed.objects) == 251
    assert [hook.external_id for hook in observed.objects if hook.marker is not None] == [created.external_id]
    github.admin.clear_requests()
    assert isinstance(await HOOKS.observe(api, SCOPE, observed.validators), NotModified)
    assert [row["status"] for row in github.admin.requests()] == [304, 304, 304]


async def test_a_change_on_a_later_page_makes_the_whole_list_new(api, github):
    hooks = [foreign(n, events=(f"e{n % 7}",)) for n in range(1, 151)]
    put_hooks(github, hooks)
    first = await HOOKS.observe(api, SCOPE, None)
    hooks[120] = {**hooks[120], "active": False}
    put_hooks(github, hooks)
    again = await HOOKS.observe(api, SCOPE, first.validators)
    assert isinstance(again, Observed)
    assert len(again.objects) == 150
    assert not again.objects[120].attributes["active"]


async def test_a_hook_behind_a_full_page_is_never_hidden_by_an_unchanged_tag(api, github):
    hooks = [foreign(n, events=(f"e{n % 9}",)) for n in range(1, 101)]
    put_hooks(github, hooks)
    first = await HOOKS.observe(api, SCOPE, None)
    put_hooks(github, [*hooks, foreign(101, events=("x",))])
    again = await HOOKS.observe(api, SCOPE, first.validators)
    assert isinstance(again, Observed)
    assert len(again.objects) == 101


@pytest.mark.parametrize("root", ["https://ghe.inside:8443", "http://127.0.0.2:9/prefix/api/v3", "http://10.0.0.5"])
async def test_d16_n55_links_that_name_another_place_are_followed_on_our_own(api, github, root):
    put_hooks(github, [foreign(number) for number in range(1, 251)])
    github.admin.settings(links_root=root)
    observed = await HOOKS.observe(api, SCOPE, None)
    assert len(observed.objects) == 250
    assert isinstance(await HOOKS.observe(api, SCOPE, observed.validators), NotModified)
    assert len(github.admin.requests(path="/hooks$")) == 6


@pytest.mark.parametrize("root", ["https://ghe.inside:8443", "http://127.0.0.2:9/prefix/api/v3", "http://10.0.0.5"])
async def test_n55_a_rename_that_is_told_with_another_place_is_followed_on_our_own(api, github, write, root):
    created = await HOOKS.create(api, write())
    github.admin.do("rename", **{"from": "acme/payments", "to": "acme/billing"})
    github.admin.settings(links_root=root)
    observed = await HOOKS.observe(api, SCOPE, None)
    assert (observed.redirected_to, [entry.external_id for entry in observed.objects]) == ("acme/billing", [created.external_id])
    await HOOKS.delete(api, SCOPE, created.external_id)
    assert (await HOOKS.observe(api, SCOPE, None)).objects == ()


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("https://api.github.com/repositories/7/hooks?page=2", "/repositories/7"),
        ("https://inner:8443/api/v3/organizations/7", "/organizations/7"),
        ("/repositories/7", "/repositories/7"),
        ("https://login.example/login?to=/repositories/7", ""),
        ("https://login.example/#/repositories/7", ""),
        ("https://github.com/repos/acme/repositories/7/hooks", ""),
        ("https://github.com/orgs/repositories/7", ""),
        ("https://github.com/repositories/7x", ""),
        ("https://github.com/repositories/../user", ""),
        ("https://github.com/repositories/0", ""),
        ("https://[", ""),
        ("", ""),
    ],
)
def test_n55_only_the_id_of_what_was_renamed_is_taken_from_a_redirect(target, place):
    assert renamed_to(target) == place


async def test_d16_pages_that_run_in_a_circle_end(api, github):
    link = f'<{github.url}/repos/acme/payments/hooks?page=2>; rel="next"'
    github.admin.fault(path="/hooks", status=200, body=[], headers={"link": link}, times=0)
    with pytest.raises(ProviderProtocolError, match="circle"):
        await HOOKS.observe(api, SCOPE, None)
    assert len(github.admin.requests()) <= 3


async def test_writes_to_a_renamed_repository_follow_the_redirect_once(api, github, write):
    created = await HOOKS.create(api, write())
    github.admin.do("rename", **{"from": "acme/payments", "to": "acme/billing"})
    await HOOKS.update(api, created.external_id, write(active=False))
    assert stored(github, "billing")[0]["active"] is False
    await HOOKS.delete(api, SCOPE, created.external_id)
    assert stored(github, "billing") == []


async def test_d20_a_redirect_to_another_host_is_refused_and_no_credential_goes_there(api, github):
    github.admin.fault(
        path="/hooks", status=301, headers={"location": "http://127.0.0.2:9/login?to=/repositories/1/hooks"}, body={}
    )
    with pytest.raises(ProviderProtocolError, match="another host"):
        await HOOKS.observe(api, SCOPE, None)


async def test_d20_a_redirect_to_a_place_that_is_no_repository_is_refused(api, github, write):
    github.admin.fault(method="POST", status=307, headers={"location": f"{github.url}/user/keys"}, body={})
    with pytest.raises(ProviderProtocolError, match="no renamed repository"):
        await HOOKS.create(api, write())


async def test_d24_an_update_always_sends_the_whole_config_with_its_secret(api, github, write):
    created = await HOOKS.create(api, write())
    await HOOKS.update(api, created.external_id, write(active=False, secret="rotated-key"))
    [hook] = stored(github)
    assert hook["config"]["secret"] == "rotated-key"
    assert hook["config"]["content_type"] == "json"
    assert hook["active"] is False
    assert [row["body"]["config"]["secret"] for row in github.admin.requests(method="PATCH")] == ["rotated-key"]


async def test_a_mask_is_never_written_as_the_secret(api, github, write):
    with pytest.raises(ReconcilerError, match="mask"):
        await HOOKS.create(api, write(secret="********"))
    assert github.admin.requests(method="POST") == []


async def test_a_secret_that_was_removed_by_hand_is_told(api, github, write):
    await HOOKS.create(api, write())
    [hook] = stored(github)
    hook["config"].pop("secret")
    put_hooks(github, [hook])
    observed = await HOOKS.observe(api, SCOPE, None)
    assert observed.objects[0].present_write_only == frozenset()


async def test_d11_refused_values_are_terminal_after_one_call(api, github, write):
    put_hooks(github, [foreign(n) for n in range(1, 21)])
    with pytest.raises(ValidationFailed, match="more than 20 hooks"):
        await HOOKS.create(api, write(source(events=[{"type": "push"}])))
    assert len(github.admin.requests(method="POST")) == 1


async def test_d8_a_repository_out_of_reach_is_scope_gone_and_never_an_empty_list(api):
    gone = Scope(SCOPE.type, "acme/nowhere")
    with pytest.raises(ScopeGone, match="acme/nowhere"):
        await HOOKS.observe(api, gone, None)
    with pytest.raises(ScopeGone):
        await HOOKS.delete(api, gone, ExternalId("12"))


async def test_d8_hooks_that_a_token_may_not_see_are_a_missing_permission_and_no_absence(connection, github):
    github.admin.put_state({"tokens": {"ghp_weak": {"scopes": ["read:user"]}}, "repos": {"acme/payments": {"private": False}}})
    async with client(driver, connection, "ghp_weak") as weak:
        with pytest.raises(PermissionDenied) as caught:
            await HOOKS.observe(weak, SCOPE, None)
    assert "admin:repo_hook" in caught.value.hint


async def test_a_delete_behind_a_lagging_list_is_success(api, github, write):
    created = await HOOKS.create(api, write())
    github.admin.settings(list_lag_s=30)
    await HOOKS.delete(api, SCOPE, created.external_id)
    await HOOKS.delete(api, SCOPE, created.external_id)


async def test_an_id_that_is_no_number_never_reaches_a_path(api, github, write):
    with pytest.raises(NotFound):
        await HOOKS.update(api, ExternalId("../../user"), write())
    with pytest.raises(NotFound):
        await HOOKS.delete(api, SCOPE, ExternalId("1?x=2"))
    assert github.admin.requests() == []


async def test_a_secondary_limit_stops_for_as_long_as_it_says(api, github, write):
    github.admin.settings(rate_limits=True, creates_per_minute=1)
    await HOOKS.create(api, write())
    with pytest.raises(RateLimited, match="secondary"):
        await HOOKS.create(api, write(source("other")))
    assert len(stored(github)) == 1


@pytest.mark.parametrize(
    "body",
    [
        '{"a": 1}',
        "[1]",
        '[{"id": "x"}]',
        '[{"id": 1, "active": true}]',
        '[{"id": 1, "config": [], "events": [], "active": true}]',
        "<html>login</html>",
        "null",
        '[{"id": true}]',
    ],
)
async def test_d15_an_answer_of_another_shape_is_a_protocol_error(api, github, body):
    github.admin.fault(path="/hooks", status=200, body=body, headers={"content-type": "application/json"})
    with pytest.raises(ProviderProtocolError):
        await HOOKS.observe(api, SCOPE, None)


async def test_d15_fields_that_are_not_known_and_old_services_are_passed_over(api, github):
    hook = {
        "id": 7,
        "name": "web",
        "active": True,
        "events": ["push"],
        "config": {"url": "https://x.example/h", "new": {"a": 1}},
        "extra": [1],
    }
    github.admin.fault(path="/hooks", status=200, body=[{**hook, "id": 6, "name": "email"}, hook])
    observed = await HOOKS.observe(api, SCOPE, None)
    assert [entry.external_id for entry in observed.objects] == ["7"]
    assert observed.objects[0].attributes["config"] == {"url": "https://x.example/h"}


async def test_d18_a_stale_list_may_miss_what_was_just_made(api, github, write):
    github.admin.settings(list_lag_s=30)
    await HOOKS.create(api, write())
    assert (await HOOKS.observe(api, SCOPE, None)).objects == ()


async def test_e12_a_hook_that_was_switched_off_is_observed_as_such(api, github, write):
    created = await HOOKS.create(api, write())
    [hook] = stored(github)
    put_hooks(github, [{**hook, "active": False, "last_response": {"code": 502, "status": "misconfigured", "message": "no"}}])
    [seen] = (await HOOKS.observe(api, SCOPE, None)).objects
    assert seen.external_id == created.external_id
    assert seen.attributes["active"] is False
    assert seen.health == {"last_response": "502", "status": "misconfigured"}


async def test_an_organization_hook_is_made_seen_changed_and_deleted(api, github, write):
    resource = source(resource={"type": "organization", "name": "acme"})
    created = await ORG_HOOKS.create(api, write(resource))
    observed = await ORG_HOOKS.observe(api, ORG, None)
    assert [hook.external_id for hook in observed.objects] == [created.external_id]
    assert created.url == f"https://github.com/organizations/acme/settings/hooks/{created.external_id}"
    assert isinstance(await ORG_HOOKS.observe(api, ORG, observed.validators), NotModified)
    await ORG_HOOKS.update(api, created.external_id, write(resource, active=False))
    assert github.admin.state()["hooks"]["orgs/acme"][0]["active"] is False
    await ORG_HOOKS.delete(api, ORG, created.external_id)
    assert github.admin.state()["hooks"]["orgs/acme"] == []


async def test_an_organization_that_is_out_of_reach_is_scope_gone_and_one_without_rights_a_missing_permission(
    api, connection, github
):
    with pytest.raises(ScopeGone):
        await ORG_HOOKS.observe(api, Scope(ORG.type, "nobody"), None)
    github.admin.put_state({"tokens": {"ghp_repo": {"scopes": ["repo"]}}})
    async with client(driver, connection, "ghp_repo") as weak:
        with pytest.raises(PermissionDenied) as caught:
            await ORG_HOOKS.observe(weak, ORG, None)
    assert "admin:org_hook" in caught.value.hint
