"""What providers do wrong, and what people do there: nothing is lost, doubled or guessed."""

import json
import time

import pytest

from tests.engine.world import OWNER, World

pytestmark = pytest.mark.fault


def apply(world: World, code: int = 0) -> None:
    done = world.cli("apply", "--yes")
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)


def hook(url: str = "https://elsewhere.example/hook", **more: object) -> dict[str, object]:
    return {
        "id": 77,
        "name": "web",
        "active": True,
        "events": ["push"],
        "config": {"url": url, "content_type": "json", "insecure_ssl": "0"},
        **more,
    }


def test_d1_a_refused_credential_stops_its_integration_only_after_two_calls(wide: World) -> None:
    wide.source("one")
    wide.write(
        "pipelines.yaml",
        "kind: EventSource\nmetadata: {name: pipelines}\nspec: {integration: {name: semaphore}, resource: {type: project, name: payments}}",
    )
    wide.extra_env = {"RECONCILER_SECRET_GITHUB": "wrong-token-canary-1"}
    done = wide.cli("run", "--once")
    assert done.returncode == 6
    assert len(wide.requests("github")) <= 2
    assert wide.condition("EventSource", "pipelines")["status"] == "True"
    refused = wide.condition("EventSource", "one")
    assert (refused["status"], refused["reason"]) == ("False", "AuthFailed")
    assert wide.condition("Integration", "github", "CredentialsValid")["status"] == "False"
    assert "wrong-token-canary-1" not in done.stdout + done.stderr + json.dumps(wide.status())


def test_d3_a_rate_limit_stops_every_call_until_its_time_and_a_new_process_keeps_to_it(world: World) -> None:
    world.source("one")
    world.servers["github"].admin.fault(
        method="POST", path="/repos/.*", times=1, status=429, headers={"retry-after": "6"}, body={"message": "slow down"}
    )
    assert world.cli("apply", "--yes", "--no-wait").returncode == 6
    world.forget_requests()
    again = world.cli("apply", "--yes", "--no-wait")
    assert again.returncode != 0
    assert world.requests() == []
    world.wait(lambda: world.cli("apply", "--yes").returncode == 0, "after the limit", 20)
    assert len(world.hooks("one")) == 1


def test_d7_a_hook_that_somebody_deleted_is_made_again_once(world: World) -> None:
    world.source("one")
    apply(world)
    before = world.hooks("one")[0]["id"]
    world.set_hooks("one", [])
    world.forget_requests()
    drift = world.cli("drift", "--detailed-exitcode")
    assert drift.returncode == 3
    apply(world)
    assert len(world.hooks("one")) == 1
    assert world.hooks("one")[0]["id"] != before
    assert len(world.requests("github", "POST")) == 1


def test_d7_d8_a_repository_that_answers_404_is_never_taken_for_deleted(world: World) -> None:
    world.source("one")
    world.source("two")
    apply(world)
    world.servers["github"].admin.fault(path="/repos/acme/one.*", times=100, status=404, body={"message": "Not Found"})
    world.forget_requests()
    done = world.cli("run", "--once")
    assert done.returncode == 6
    assert world.writes() == []
    assert world.condition("EventSource", "one")["reason"] == "ScopeGone"
    assert world.condition("EventSource", "two")["status"] == "True"
    world.servers["github"].admin.clear_faults()
    assert world.cli("run", "--once").returncode == 0
    assert world.writes() == []


def test_d10_d23_a_foreign_hook_with_our_url_is_a_conflict_and_is_never_edited(world: World) -> None:
    world.source("one")
    apply(world)
    url = world.hooks("one")[0]["config"]["url"].replace(f"/{OWNER}/", "/other-team/")
    foreign = hook(url)
    world.set_hooks("one", [*world.hooks("one"), foreign])
    world.source("one", events="[{type: push}, {type: release}]")
    apply(world)
    assert next(h for h in world.hooks("one") if h["id"] == 77)["config"]["url"] == url
    assert len(world.hooks("one")) == 2


def test_d11_values_that_the_provider_refuses_are_sent_once_until_the_manifest_changes(world: World) -> None:
    world.source("one")
    world.servers["github"].admin.fault(
        method="POST",
        path="/repos/acme/one/hooks",
        times=1,
        status=422,
        body={
            "message": "Validation Failed",
            "errors": [{"resource": "Hook", "code": "custom", "message": "The URL is not supported"}],
        },
    )
    assert world.cli("run", "--once").returncode == 6
    process = world.daemon()
    world.wait(lambda: "pass_finished" in world.log(), "a pass")
    time.sleep(5)
    assert len(world.requests("github", "POST")) == 1
    assert world.condition("EventSource", "one")["status"] == "False"
    world.source("one", events="[{type: push}, {type: release}]")
    world.wait(lambda: len(world.hooks("one")) == 1, "the changed manifest is tried")
    process.terminate()
    process.wait()


@pytest.mark.parametrize("effect", ["reset", "truncate", "malformed"])
def test_d12_an_answer_that_is_cut_after_the_write_took_effect_is_looked_up_and_never_doubled(world: World, effect: str) -> None:
    world.servers["github"].admin.settings(accept_duplicates=True)
    world.source("one")
    world.servers["github"].admin.fault(method="POST", path="/repos/acme/one/hooks", times=1, effect=effect, commit=True)
    done = world.cli("run", "--once")
    assert done.returncode == 0, done.stderr
    assert len(world.hooks("one")) == 1
    assert len(world.requests("github", "POST")) == 1


def test_d12_a_5xx_after_the_write_took_effect_is_looked_up_and_never_doubled(world: World) -> None:
    world.servers["github"].admin.settings(accept_duplicates=True)
    world.source("one")
    world.servers["github"].admin.fault(
        method="POST", path="/repos/acme/one/hooks", times=1, status=502, body="<html>bad gateway</html>", commit=True
    )
    assert world.cli("run", "--once").returncode == 0
    assert len(world.hooks("one")) == 1


def test_d18_a_list_that_lags_behind_a_write_makes_no_duplicate(world: World) -> None:
    world.servers["github"].admin.settings(accept_duplicates=True, list_lag_s=1.5)
    world.source("one")
    process = world.daemon()
    world.wait(world.all_ready, "ready in spite of the lag")
    time.sleep(3)
    process.terminate()
    process.wait()
    assert len(world.hooks("one")) == 1


def test_d24_every_edit_of_a_human_is_shown_as_a_field_and_repaired_once(world: World) -> None:
    world.source("one")
    apply(world)
    ours = world.hooks("one")[0]
    ours["events"], ours["active"] = ["fork"], False
    world.set_hooks("one", [ours])
    shown = world.cli("drift", "-o", "json")
    fields = {f["path"]: f["class"] for plan in json.loads(shown.stdout)["plans"] for c in plan["changes"] for f in c["fields"]}
    assert fields["/events"] == "drift"
    assert fields["/active"] == "drift"
    world.forget_requests()
    apply(world)
    assert (world.hooks("one")[0]["events"], world.hooks("one")[0]["active"]) == (["push"], True)
    assert world.hooks("one")[0]["config"].get("secret")
    assert len(world.writes()) == 1


def test_d25_a_hook_that_somebody_keeps_changing_is_left_alone_after_three_repairs(world: World) -> None:
    world.source("one")
    apply(world)
    process = world.daemon()
    world.forget_requests()
    deadline = time.monotonic() + 25
    while time.monotonic() < deadline:
        ours = world.hooks("one")
        if ours and ours[0]["events"] == ["push"]:
            ours[0]["events"] = ["fork"]
            world.set_hooks("one", ours)
        contended = world.condition("EventSource", "one")
        if contended and contended["reason"] == "Contended":
            break
        time.sleep(0.1)
    assert world.condition("EventSource", "one")["reason"] == "Contended"
    assert len(world.writes()) <= 3
    process.terminate()
    process.wait()


def test_an_existing_hook_is_adopted_only_when_asked_and_the_plan_says_what_is_taken_over(world: World) -> None:
    world.set_hooks("one", [hook("https://hooks.example/old-receiver")])
    world.source("one", more="  lifecycle: {adopt: ifIdentical}\n")
    planned = world.cli("plan")
    assert "adopt" in planned.stdout
    apply(world)
    assert [h["id"] for h in world.hooks("one")] == [77]
    assert f"/hooks/{OWNER}/" in world.hooks("one")[0]["config"]["url"]


def test_a_masked_secret_is_never_written_back(world: World) -> None:
    world.source("one")
    apply(world)
    world.source("one", events="[{type: push}, {type: release}]")
    apply(world)
    assert all("********" not in json.dumps(row.get("body", "")) for row in world.writes())
    assert world.hooks("one")[0]["config"]["secret"] != "********"


def test_g3_an_unchanged_repository_costs_one_conditional_request_also_after_a_restart(world: World) -> None:
    for name in ("one", "two", "three"):
        world.source(name)
    apply(world)
    assert world.cli("run", "--once").returncode == 0
    world.forget_requests()
    assert world.cli("run", "--once").returncode == 0
    rows = [r for r in world.requests() if "/hooks" in r["path"]]
    assert sorted(r["path"] for r in rows) == [f"/repos/acme/{name}/hooks" for name in ("one", "three", "two")]
    assert {r["status"] for r in rows} == {304}


def test_d2_a_credential_that_may_not_ask_about_itself_still_works(world: World) -> None:
    world.source("one")
    world.servers["github"].admin.fault(path="^/user$", times=0, status=404, body={"message": "Not Found"})
    apply(world)
    assert len(world.hooks("one")) == 1
    assert "not checked" in world.condition("Integration", "github", "CredentialsValid")["message"]


def test_d2_a_missing_permission_is_named_and_not_asked_for_again_at_every_pass(world: World) -> None:
    world.source("one")
    world.servers["github"].admin.fault(
        method="POST",
        path="/hooks$",
        times=0,
        status=403,
        body={"message": "Resource not accessible by personal access token"},
        headers={"x-accepted-github-permissions": "webhooks=write"},
    )
    process = world.daemon()
    world.wait(lambda: (world.condition("EventSource", "one") or {}).get("reason") == "PermissionDenied", "the condition")
    time.sleep(6)
    assert len(world.requests("github", "POST")) == 1
    assert "webhooks" in world.condition("EventSource", "one")["message"]
    process.terminate()
    process.wait()
