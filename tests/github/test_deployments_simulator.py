"""Deployments and commit statuses of the simulator: GitHub's defaults, which surprise, and its refusals."""

import pytest

from tests.github.conftest import TOKEN
from tests.github.simulator import Hands, put_workflows

WEB = "/repos/acme/web"
OURS = {"ref": "main", "auto_merge": False, "required_contexts": []}


@pytest.fixture
def hands(github):
    with Hands(github, TOKEN) as opened:
        yield opened


def head(hands):
    return hands.get(f"{WEB}/commits/main")["sha"]


def deploy(hands, **options):
    return hands.post(f"{WEB}/deployments", {**OURS, **options})


def status(hands, deployment, state, **options):
    return hands.post(f"{WEB}/deployments/{deployment['id']}/statuses", {"state": state, **options})


def states(hands, deployment):
    return [entry["state"] for entry in hands.get(f"{WEB}/deployments/{deployment['id']}/statuses")]


def commit_status(hands, state, context="ci", **options):
    return hands.post(f"{WEB}/statuses/{head(hands)}", {"state": state, "context": context, **options})


def test_a_deployment_has_the_defaults_of_github(hands):
    fresh = hands.post(f"{WEB}/deployments", {"ref": "main"})
    assert (fresh["task"], fresh["environment"], fresh["original_environment"]) == ("deploy", "production", "production")
    assert (fresh["sha"], fresh["ref"], fresh["payload"], fresh["description"]) == (head(hands), "main", "", None)
    assert (fresh["transient_environment"], fresh["production_environment"]) == (False, True)
    assert deploy(hands, environment="staging")["production_environment"] is False
    assert hands.get(f"{WEB}/deployments/{fresh['id']}") == fresh
    hands.github.admin.do("push", repo="acme/web", ref="refs/heads/c", commits=[{"id": "c" * 40}])
    assert deploy(hands, ref="c" * 40)["sha"] == "c" * 40


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ref": "gone"},
        {"ref": "main", "auto_merge": "no"},
        {"ref": "main", "required_contexts": "ci"},
        {"ref": "main", "payload": 1},
        {"ref": "main", "description": 1},
    ],
)
def test_a_deployment_that_github_refuses_is_not_made(hands, body):
    assert hands("POST", f"{WEB}/deployments", body)[0] == 422
    assert hands.get(f"{WEB}/deployments") == []


def test_with_auto_merge_a_ref_that_is_behind_is_merged_first_and_nothing_is_deployed(hands):
    hands.github.admin.do("push", repo="acme/web", ref="topic")
    hands.github.admin.put_state({"repos": {"acme/web": {"behind": ["topic"], "conflicts": ["main"]}}})
    answer, body = hands("POST", f"{WEB}/deployments", {"ref": "topic"})
    assert (answer, body) == (202, {"message": "Auto-merged main into topic on deployment."})
    assert hands.get(f"{WEB}/deployments") == []
    assert hands("POST", f"{WEB}/deployments", {"ref": "topic"})[0] == 201
    assert hands("POST", f"{WEB}/deployments", {"ref": "main"})[0] == 409
    assert hands("POST", f"{WEB}/deployments", OURS)[0] == 201


def test_statuses_that_are_not_green_refuse_a_deployment_unless_none_is_required(hands):
    commit_status(hands, "success", "build")
    commit_status(hands, "pending", "test")
    answer, body = hands("POST", f"{WEB}/deployments", {"ref": "main"})
    assert answer == 409
    assert body["errors"][0]["field"] == "required_contexts"
    assert hands("POST", f"{WEB}/deployments", {"ref": "main", "required_contexts": ["build"]})[0] == 201
    assert hands("POST", f"{WEB}/deployments", {"ref": "main", "required_contexts": ["build", "lint"]})[0] == 409
    assert hands("POST", f"{WEB}/deployments", OURS)[0] == 201
    commit_status(hands, "success", "TEST")
    assert hands("POST", f"{WEB}/deployments", {"ref": "main"})[0] == 201


def test_deployments_are_listed_newest_first_and_filtered(hands):
    fresh = [deploy(hands, environment=name, task=task) for name, task in (("a", "deploy"), ("b", "deploy"), ("a", "migrate"))]

    def ids(query):
        return [entry["id"] for entry in hands.get(f"{WEB}/deployments?{query}")]

    assert ids("") == [entry["id"] for entry in reversed(fresh)]
    assert ids("environment=a") == [fresh[2]["id"], fresh[0]["id"]]
    assert ids("environment=a&task=migrate&ref=main") == [fresh[2]["id"]]
    assert ids(f"sha={head(hands)}&per_page=1") == [fresh[2]["id"]]
    assert 'rel="next"' in hands.last.headers["link"]
    assert ids("sha=none&ref=other") == []


def test_statuses_of_a_deployment_are_kept_newest_first(hands):
    fresh = deploy(hands)
    first = status(hands, fresh, "in_progress", log_url="https://ci.example/1", description="working")
    status(hands, fresh, "success", target_url="https://ci.example/2", environment_url="https://web.example")
    assert states(hands, fresh) == ["success", "in_progress"]
    path = f"{WEB}/deployments/{fresh['id']}/statuses"
    assert hands.get(f"{path}/{first['id']}") == first
    assert (first["target_url"], first["log_url"]) == ("https://ci.example/1", "https://ci.example/1")
    [newest] = hands.get(f"{path}?per_page=1")
    assert (newest["log_url"], newest["environment_url"]) == ("https://ci.example/2", "https://web.example")
    assert hands("GET", f"{path}/1")[0] == hands("GET", f"{WEB}/deployments/1")[0] == 404


@pytest.mark.parametrize("body", [{}, {"state": "great"}, {"state": "success", "description": "x" * 141}, {"state": 1}])
def test_a_status_of_a_deployment_is_checked(hands, body):
    fresh = deploy(hands)
    assert hands("POST", f"{WEB}/deployments/{fresh['id']}/statuses", body)[0] == 422
    assert states(hands, fresh) == []


def test_a_success_makes_older_ones_of_the_environment_inactive(hands):
    old, other, transient = (
        deploy(hands, environment="staging"),
        deploy(hands, environment="review"),
        deploy(hands, environment="staging", transient_environment=True),
    )
    for entry in (old, other, transient):
        status(hands, entry, "success", auto_inactive=False)
    status(hands, deploy(hands, environment="staging"), "success")
    assert [states(hands, entry)[0] for entry in (old, other, transient)] == ["inactive", "success", "success"]


def test_production_and_a_status_that_asks_for_it_leave_older_ones_active(hands):
    old = deploy(hands)
    status(hands, old, "success")
    status(hands, deploy(hands), "success")
    staged = deploy(hands, environment="staging")
    status(hands, staged, "success")
    status(hands, deploy(hands, environment="staging"), "success", auto_inactive=False)
    assert [states(hands, entry) for entry in (old, staged)] == [["success"], ["success"]]


def test_only_an_inactive_deployment_is_deleted_unless_it_is_the_only_one(hands):
    first = deploy(hands)
    status(hands, first, "success")
    second = deploy(hands)
    assert hands("DELETE", f"{WEB}/deployments/{first['id']}")[0] == 422
    assert hands("DELETE", f"{WEB}/deployments/{second['id']}")[0] == 422
    status(hands, first, "inactive")
    assert hands("DELETE", f"{WEB}/deployments/{first['id']}")[0] == 204
    assert hands("DELETE", f"{WEB}/deployments/{second['id']}")[0] == 204
    assert hands("DELETE", f"{WEB}/deployments/{second['id']}")[0] == 404


def test_commit_statuses_are_listed_newest_first_and_the_latest_of_each_context_counts(hands):
    path = f"{WEB}/commits/main"
    assert hands.get(f"{path}/status")["state"] == "pending"
    commit_status(hands, "pending", "build", target_url="https://ci.example/1", description="waiting")
    commit_status(hands, "success", "lint")
    assert hands.get(f"{path}/status")["state"] == "pending"
    commit_status(hands, "success", "Build")
    body = hands.get(f"{path}/status")
    assert (body["state"], body["total_count"], body["sha"]) == ("success", 2, head(hands))
    commit_status(hands, "error", "lint")
    assert hands.get(f"{WEB}/commits/{head(hands)}/status")["state"] == "failure"
    assert [entry["context"] for entry in hands.get(f"{path}/statuses")] == ["lint", "Build", "lint", "build"]
    assert [entry["state"] for entry in hands.get(f"{path}/statuses?per_page=1&page=4")] == ["pending"]
    assert hands("GET", f"{WEB}/commits/gone/statuses")[0] == 404


def test_a_ref_with_slashes_has_statuses_too(hands):
    sha = hands.github.admin.do("push", repo="acme/web", ref="feature/x/y")["sha"]
    hands.post(f"{WEB}/statuses/{sha}", {"state": "success"})
    assert [entry["context"] for entry in hands.get(f"{WEB}/commits/feature/x/y/statuses")] == ["default"]
    assert hands.get(f"{WEB}/commits/heads/feature/x/y/status")["sha"] == sha


@pytest.mark.parametrize(
    ("sha", "body"),
    [
        ("c" * 40, {}),
        ("c" * 40, {"state": "inactive"}),
        ("c" * 40, {"state": "success", "description": "x" * 141}),
        ("main", {"state": "success"}),
        ("c0ffee", {"state": "success"}),
    ],
)
def test_a_commit_status_is_checked(hands, sha, body):
    assert hands("POST", f"{WEB}/statuses/{sha}", body)[0] == 422


def test_a_commit_and_context_take_a_thousand_statuses(hands):
    number = str(hands.get(WEB)["id"])
    row = {
        "id": 1,
        "sha": "c" * 40,
        "context": "ci",
        "state": "pending",
        "target_url": None,
        "description": None,
        "creator": "sandbox-bot",
        "created_at": "2026-01-01T00:00:00Z",
    }
    hands.github.admin.do("push", repo="acme/web", ref="refs/heads/c", commits=[{"id": "c" * 40}])
    hands.github.admin.put_state({"commit_statuses": {number: [row] * 999}})
    assert hands("POST", f"{WEB}/statuses/{'c' * 40}", {"state": "success", "context": "CI"})[0] == 201
    answer, body = hands("POST", f"{WEB}/statuses/{'c' * 40}", {"state": "success", "context": "ci"})
    assert (answer, "maximum number of statuses" in body["errors"][0]["message"]) == (422, True)
    assert hands("POST", f"{WEB}/statuses/{'c' * 40}", {"state": "success", "context": "other"})[0] == 201


def test_rights_are_deployments_and_statuses(hands):
    tokens = {
        "deployer": {"kind": "fine", "permissions": {"deployments": "write"}},
        "looker": {"kind": "fine", "permissions": {"deployments": "read", "statuses": "read"}},
        "marker": {"scopes": ["repo:status"]},
    }
    hands.github.admin.put_state({"tokens": tokens})
    sha = head(hands)
    seen = {
        name: (
            hands.as_(name, "POST", f"{WEB}/deployments", OURS),
            hands.as_(name, "GET", f"{WEB}/deployments"),
            hands.as_(name, "POST", f"{WEB}/statuses/{sha}", {"state": "success"}),
            hands.as_(name, "GET", f"{WEB}/commits/{sha}/status"),
        )
        for name in tokens
    }
    assert seen == {"deployer": (201, 200, 403, 403), "looker": (403, 200, 403, 200), "marker": (404, 404, 201, 200)}


def test_deployments_and_statuses_are_told_to_hooks(hands):
    hook = hands.hook(events=("deployment", "deployment_status", "status"))
    fresh = deploy(hands, payload={"key": "value"})
    status(hands, fresh, "success")
    commit_status(hands, "failure")
    (_, created), (_, reported), (_, marked) = hands.delivered(hook)
    assert (created["action"], created["deployment"], created["workflow_run"]) == ("created", fresh, None)
    assert (reported["deployment_status"]["state"], reported["deployment"]["id"]) == ("success", fresh["id"])
    assert (marked["state"], marked["context"], marked["name"]) == ("failure", "ci", "acme/web")
    assert [branch["name"] for branch in marked["branches"]] == ["main"]


def test_a_deployment_that_a_job_made_names_its_run(hands):
    put_workflows(hands.github, {"id": 7, "name": "Deploy", "path": ".github/workflows/deploy.yml", "duration_s": 600})
    hook = hands.hook(events=("deployment",))
    body = {"ref": "main", "return_run_details": True}
    number = hands.post(f"{WEB}/actions/workflows/7/dispatches", body, 200)["workflow_run_id"]
    hands.github.admin.do("auto_deployment", repo="acme/web", run_id=number, environment="staging")
    [(_, payload)] = hands.delivered(hook)
    assert (payload["workflow_run"]["id"], payload["workflow"]["id"]) == (number, 7)
    assert (payload["deployment"]["environment"], payload["deployment"]["task"]) == ("staging", "deploy")
    assert (payload["sender"]["login"], payload["sender"]["type"]) == ("github-actions[bot]", "Bot")
