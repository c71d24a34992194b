"""What happens at GitHub to repositories that are declared: renames, transfers, names used again, archiving, the end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.engine.world import World

TYPE = "github/repository-webhook"


def ids(world: World, repo: str) -> list[int]:
    return [hook["id"] for hook in world.hooks(repo)]


def do(world: World, action: str, **options: Any) -> None:
    world.servers["github"].admin.do(action, **options)


def rename(world: World, old: str, new: str) -> None:
    do(world, "rename", **{"from": old if "/" in old else f"acme/{old}", "to": new if "/" in new else f"acme/{new}"})


def declare(world: World, *repos: str, name: str = "all", match: str = "", more: str = "") -> None:
    """Declare one EventSource of several repositories."""
    where = f"match: '{match}'" if match else f"names: [{', '.join(repos)}]"
    world.write(
        f"source-{name}.yaml",
        f"kind: EventSource\nmetadata: {{name: {name}}}\nspec:\n  integration: {{name: github}}\n"
        f"  resource: {{type: repository, {where}}}\n  events: [{{type: push}}]\n{more}",
    )


def apply(world: World, code: int = 0) -> str:
    done = world.cli("apply", "--yes")
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def actions(world: World) -> list[tuple[str, str, str]]:
    plan = json.loads(world.cli("plan", "-o", "json").stdout)
    return [(c["action"], c["address"].partition("[")[2].rstrip("]"), str(c.get("externalId") or "")) for c in changes_of(plan)]


def changes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [change for one in plan["plans"] for change in one["changes"]]


def ready(world: World, name: str) -> dict[str, Any]:
    found = world.condition("EventSource", name)
    assert found is not None
    return found


def deletes(world: World) -> list[dict[str, Any]]:
    return world.requests("github", "DELETE")


def test_n1_a_rename_that_the_manifest_follows_moves_the_record_and_deletes_nothing(world: World) -> None:
    world.repos("web")
    world.source("web", name="app")
    apply(world)
    [hook] = ids(world, "web")
    rename(world, "web", "web-new")
    world.source("web-new", name="app")
    assert actions(world) == [("record", "acme/web-new", str(hook))]
    world.forget_requests()
    apply(world)
    assert ids(world, "web-new") == [hook]
    assert world.writes() == []
    assert ready(world, "app")["status"] == "True"
    world.forget_requests()
    assert "nothing to do" in apply(world)
    assert world.writes() == []


def test_n1_a_rename_under_match_moves_the_record_with_no_commit(world: World) -> None:
    world.repos("svc-a", "svc-b")
    declare(world, match="svc-*")
    apply(world)
    [hook] = ids(world, "svc-a")
    rename(world, "svc-a", "svc-z")
    assert actions(world) == [("record", "acme/svc-z", str(hook))]
    apply(world)
    assert ids(world, "svc-z") == [hook]
    assert deletes(world) == []


def test_n1_a_rename_out_of_the_pattern_takes_the_hook_away_where_it_is_now(world: World) -> None:
    world.repos("svc-a", "svc-b")
    declare(world, match="svc-*")
    apply(world)
    rename(world, "svc-a", "old-a")
    apply(world)
    assert ids(world, "old-a") == []
    assert len(ids(world, "svc-b")) == 1


def test_n1_a_rename_without_a_commit_keeps_the_hook_and_says_the_new_name(world: World) -> None:
    world.repos("web")
    world.source("web", name="app")
    apply(world)
    [hook] = ids(world, "web")
    rename(world, "web", "web-new")
    world.forget_requests()
    apply(world)
    assert (ids(world, "web-new"), world.writes()) == ([hook], [])
    told = ready(world, "app")
    assert (told["status"], told["reason"]) == ("True", "Renamed")
    assert "acme/web-new" in told["message"]


def test_n1_both_names_of_one_repository_are_one_hook(world: World) -> None:
    world.repos("web")
    declare(world, "web")
    apply(world)
    [hook] = ids(world, "web")
    rename(world, "web", "web-new")
    declare(world, "web", "web-new")
    [note] = [note for one in json.loads(world.cli("plan", "-o", "json").stdout)["plans"] for note in one["notes"]]
    assert "under its former name" in note
    apply(world)
    assert ids(world, "web-new") == [hook]
    declare(world, "web-new")
    apply(world)
    assert ids(world, "web-new") == [hook]
    assert deletes(world) == []


def test_n1_a_transfer_to_another_owner_is_followed(world: World) -> None:
    world.repos("web")
    world.servers["github"].admin.put_state({"orgs": {"umbrella": {}}})
    world.source("web", name="app")
    apply(world)
    [hook] = ids(world, "web")
    rename(world, "acme/web", "umbrella/web")
    world.source("umbrella/web", name="app")
    apply(world)
    state = world.servers["github"].admin.state()
    assert [h["id"] for h in state["hooks"][f"repos/{state['repos']['umbrella/web']['id']}"]] == [hook]
    assert deletes(world) == []


@pytest.mark.parametrize("kind", ["repository", "organization"])
def test_n1_a_renamed_organization_keeps_its_hooks(world: World, kind: str) -> None:
    world.repos("web")
    where = {"repository": ("acme/web", "umbrella/web"), "organization": ("acme", "umbrella")}[kind]

    def source(name: str) -> None:
        world.write(
            "source-app.yaml",
            "kind: EventSource\nmetadata: {name: app}\nspec:\n  integration: {name: github}\n"
            f"  resource: {{type: {kind}, name: {name}}}\n  events: [{{type: push}}]",
        )

    def hooks() -> list[int]:
        return [hook["id"] for rows in world.servers["github"].admin.state()["hooks"].values() for hook in rows]

    source(where[0])
    apply(world)
    before = hooks()
    do(world, "rename_organization", **{"from": "acme", "to": "umbrella"})
    world.cli("run", "--once")
    assert hooks() == before
    source(where[1])
    apply(world)
    assert hooks() == before
    assert len(world.requests("github", "POST")) == 1
    assert deletes(world) == []
    assert ready(world, "app")["status"] == "True"


def test_n38_a_new_repository_under_the_old_name_gets_its_own_hook_and_the_old_one_goes(world: World) -> None:
    world.repos("web")
    world.source("web", name="app")
    apply(world)
    [old] = ids(world, "web")
    rename(world, "web", "web-new")
    world.repos("web")
    assert actions(world) == [("create", "acme/web", ""), ("delete", "acme/web-new", str(old))]
    apply(world)
    assert len(ids(world, "web")) == 1
    assert ids(world, "web-new") == []
    assert ready(world, "app")["status"] == "True"
    assert "nothing to do" in apply(world)


def test_n38_where_both_are_declared_each_keeps_or_gets_its_own(world: World) -> None:
    world.repos("web")
    declare(world, "web")
    apply(world)
    [old] = ids(world, "web")
    rename(world, "web", "web-new")
    world.repos("web")
    declare(world, "web", "web-new")
    apply(world)
    assert ids(world, "web-new") == [old]
    assert len(ids(world, "web")) == 1
    assert deletes(world) == []


def test_n1_two_names_that_were_swapped_keep_their_hooks(world: World) -> None:
    world.repos("web", "api")
    declare(world, "web", "api")
    apply(world)
    before = ids(world, "web"), ids(world, "api")
    rename(world, "web", "tmp")
    rename(world, "api", "web")
    rename(world, "tmp", "api")
    apply(world)
    assert (ids(world, "api"), ids(world, "web")) == before
    assert deletes(world) == []
    world.forget_requests()
    assert "nothing to do" in apply(world)


def test_n1_names_swapped_between_two_resources_get_the_hook_of_each_before_the_other_goes(world: World) -> None:
    world.repos("web", "api")
    world.source("web", name="w")
    world.source("api", name="a")
    apply(world)
    rename(world, "web", "tmp")
    rename(world, "api", "web")
    rename(world, "tmp", "api")
    world.forget_requests()
    apply(world)
    assert [row["method"] for row in world.writes()] == ["POST", "POST", "DELETE", "DELETE"]
    assert (len(ids(world, "web")), len(ids(world, "api"))) == (1, 1)
    assert "nothing to do" in apply(world)


def test_n9_what_was_deleted_at_github_and_taken_out_stalls_nothing_and_forget_ends_it(world: World) -> None:
    world.repos("web", "api")
    declare(world, "web", "api")
    apply(world)
    do(world, "delete_repository", repository="acme/web")
    stuck = world.cli("run", "--once")
    assert stuck.returncode == 6
    declare(world, "api")
    assert world.cli("run", "--once").returncode == 0
    told = ready(world, "all")
    address = f"EventSource/default/all#{TYPE}[acme/web]"
    assert (told["status"], told["reason"]) == ("True", "LeftBehind")
    assert f"reconciler forget '{address}'" in told["message"]
    refused = world.cli("forget", "--yes", f"EventSource/default/all#{TYPE}[acme/api]")
    assert refused.returncode == 1
    assert "RC6024" in refused.stderr
    done = world.cli("forget", "--yes", address)
    assert done.returncode == 0, done.stderr
    assert world.cli("run", "--once").returncode == 0
    assert ready(world, "all")["reason"] == "Reconciled"
    assert len(ids(world, "api")) == 1


def test_n9_a_source_that_is_gone_with_its_repository_has_a_way_out(world: World) -> None:
    world.repos("web", "api")
    world.source("web", name="w")
    world.source("api", name="a")
    apply(world)
    do(world, "delete_repository", repository="acme/web")
    world.remove("w")
    world.cli("run", "--once")
    told = ready(world, "w")
    address = f"EventSource/default/w#{TYPE}[acme/web]"
    assert f"reconciler forget '{address}'" in told["message"]
    assert world.cli("forget", "--yes", address).returncode == 0
    assert world.cli("run", "--once").returncode == 0
    assert world.condition("EventSource", "w", "Stalled") is None


def test_n9_an_archived_repository_that_a_pattern_leaves_out_lets_its_hook_go(world: World) -> None:
    world.repos("svc-a", "svc-b")
    declare(world, match="svc-*")
    apply(world)
    [hook] = ids(world, "svc-a")
    do(world, "archive", repository="acme/svc-a")
    world.forget_requests()
    assert world.cli("run", "--once").returncode == 0
    assert world.writes() == []
    assert ready(world, "all")["status"] == "True"
    assert [one["externalId"] for one in world.resource("EventSource", "all")["objects"]] == [str(ids(world, "svc-b")[0])]
    do(world, "archive", repository="acme/svc-a", archived=False)
    apply(world)
    assert ids(world, "svc-a") == [hook]


def test_n9_an_archived_repository_that_is_named_is_said_with_what_to_do(world: World) -> None:
    world.repos("web")
    do(world, "archive", repository="acme/web")
    world.source("web", name="app")
    assert world.cli("run", "--once").returncode == 6
    told = ready(world, "app")
    assert (told["status"], told["reason"]) == ("False", "ReadOnly")
    assert "unarchive it, or remove it" in told["message"]


def test_n39_an_external_id_that_is_not_there_is_a_conflict_and_never_a_second_hook(world: World) -> None:
    world.repos("web")
    world.source("web", name="app", more="  lifecycle: {adopt: always, externalId: '999'}")
    done = world.cli("apply", "--yes")
    assert done.returncode == 6
    assert ids(world, "web") == []
    told = ready(world, "app")
    assert (told["status"], told["reason"]) == ("False", "Conflict")
    assert "999" in told["message"]


def test_n39_an_external_id_without_adopt_is_a_conflict_and_never_a_second_hook(world: World) -> None:
    world.repos("web")
    world.source("web", name="app", more="  lifecycle: {externalId: '999'}")
    done = world.cli("apply", "--yes")
    assert (done.returncode, ids(world, "web")) == (6, [])
    told = ready(world, "app")
    assert (told["status"], told["reason"]) == ("False", "Conflict")
    assert "lifecycle.adopt is 'never'" in told["message"]
    world.source("web", name="app")
    apply(world)
    assert len(ids(world, "web")) == 1


@pytest.mark.parametrize("status", [410, 451])
def test_n9_a_repository_that_was_withdrawn_for_good_stalls_nothing_once_taken_out(world: World, status: int) -> None:
    world.repos("web", "api")
    declare(world, "web", "api")
    apply(world)
    world.servers["github"].admin.fault(
        path="/repos/acme/web", times=0, status=status, body={"message": "Repository access blocked"}
    )
    declare(world, "api")
    apply(world)
    told = ready(world, "all")
    assert (told["status"], told["reason"]) == ("True", "LeftBehind")
    assert "reconciler forget" in told["message"]


# ---- from one Integration to another


def integration(world: World, name: str) -> None:
    world.write(f"{name}.yaml", world.integration("github").replace("{name: github}\nspec", f"{{name: {name}}}\nspec"))


def names(world: World, integration: str) -> None:
    path = world.manifests / "source-all.yaml"
    path.write_text(path.read_text().replace("{name: github}", f"{{name: {integration}}}"))


@pytest.mark.parametrize("former", ["stays", "is renamed"])
def test_n1_a_source_that_names_another_integration_of_the_account_keeps_its_hooks(world: World, former: str) -> None:
    world.repos("web", "api")
    declare(world, "web", "api")
    apply(world)
    before = ids(world, "web"), ids(world, "api")
    integration(world, "hub")
    names(world, "hub")
    if former == "is renamed":
        (world.manifests / "github.yaml").unlink()
    assert {action for action, _, _ in actions(world)} == {"record"}
    world.forget_requests()
    apply(world)
    assert (ids(world, "web"), ids(world, "api")) == before
    assert world.writes() == []
    assert ready(world, "all")["status"] == "True"
    assert "nothing to do" in apply(world)


def test_n1_what_is_taken_out_in_the_same_commit_is_deleted_by_the_new_integration(world: World) -> None:
    world.repos("web", "api")
    declare(world, "web", "api")
    apply(world)
    [kept] = ids(world, "web")
    integration(world, "hub")
    (world.manifests / "github.yaml").unlink()
    declare(world, "web")
    names(world, "hub")
    apply(world)
    assert (ids(world, "web"), ids(world, "api")) == ([kept], [])
    world.cli("run", "--once")
    assert "nothing to do" in apply(world)


def test_n1_an_integration_that_cannot_be_reached_yet_costs_no_hook(world: World) -> None:
    world.repos("web")
    declare(world, "web")
    apply(world)
    before = ids(world, "web")
    integration(world, "hub")
    text = (world.manifests / "hub.yaml").read_text()
    (world.manifests / "hub.yaml").write_text(text.replace("name: github, key: token", "name: absent, key: token"))
    world.write(
        "absent.yaml",
        "kind: Secret\nmetadata: {name: absent}\nspec: {provider: env, data: {token: {env: RECONCILER_SECRET_ABSENT}}}",
    )
    (world.manifests / "github.yaml").unlink()
    names(world, "hub")
    for _ in range(2):
        assert world.cli("apply", "--yes").returncode == 6
    assert ids(world, "web") == before
    (world.manifests / "hub.yaml").write_text(text)
    apply(world)
    assert (ids(world, "web"), deletes(world)) == (before, [])


# ---- the other providers


def provider(world: World, name: str, url: str) -> None:
    text = world.integration(name).splitlines()
    world.write(f"{name}.yaml", "\n".join(f"  url: {url}" if line.startswith("  url:") else line for line in text))


def source_of(world: World, name: str, kind: str, target: str) -> None:
    world.write(
        f"source-{name}.yaml",
        f"kind: EventSource\nmetadata: {{name: {name}}}\nspec:\n  integration: {{name: {name}}}\n"
        f"  resource: {{type: {kind}, name: {target}}}",
    )


def test_n1_a_renamed_semaphore_organization_keeps_its_secret_and_notification(wide: World) -> None:
    source_of(wide, "semaphore", "project", "payments")
    apply(wide)
    wide.forget_requests("semaphore")
    provider(wide, "semaphore", "https://acme-inc.semaphoreci.com")
    apply(wide)
    assert wide.writes("semaphore") == []
    assert ready(wide, "semaphore")["status"] == "True"
    assert "nothing to do" in apply(wide)


def test_n1_a_renamed_buddy_workspace_keeps_its_webhook_and_its_integration(wide: World) -> None:
    def hub(workspace: str) -> None:
        wide.write(
            "hub.yaml",
            "kind: BuddyIntegration\nmetadata: {name: hub}\nspec:\n  integration: {name: buddy}\n"
            f"  workspace: {workspace}\n  name: hub\n  type: DOCKER_HUB\n  auth_type: DEFAULT\n  username: ada\n"
            "  password: {valueFrom: {secret: {name: buddy, key: token}}}",
        )

    source_of(wide, "buddy", "project", "payments")
    hub("acme")
    apply(wide)
    before = wide.servers["buddy"].admin.state()["workspaces"]["acme"]
    wide.servers["buddy"].admin.do("rename_workspace", **{"from": "acme", "to": "acme-inc"})
    provider(wide, "buddy", "https://app.buddy.works/acme-inc")
    hub("acme-inc")
    wide.forget_requests("buddy")
    apply(wide)
    after = wide.servers["buddy"].admin.state()["workspaces"]["acme-inc"]
    assert [h["id"] for h in after["webhooks"]] == [h["id"] for h in before["webhooks"]]
    assert [i["hash_id"] for i in after["integrations"]] == [i["hash_id"] for i in before["integrations"]]
    assert [row for row in wide.writes("buddy") if row["method"] in {"POST", "DELETE"}] == []
    assert ready(wide, "buddy")["status"] == "True"
    assert "nothing to do" in apply(wide)


@pytest.mark.parametrize("name", ["semaphore", "buddy"])
def test_n1_a_project_that_was_renamed_is_followed_in_place(wide: World, name: str) -> None:
    source_of(wide, name, "project", "payments")
    apply(wide)
    wide.forget_requests(name)
    source_of(wide, name, "project", "web")
    apply(wide)
    assert {row["method"] for row in wide.writes(name)} == {"PATCH"}
