"""Workflows and runs of the simulator: what starts them, how they move on, what they leave."""

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.github.conftest import TOKEN
from tests.github.simulator import Hands, put_workflows
from tests.support.receiving import eventually

WEB = "/repos/acme/web"
DISPATCHES = f"{WEB}/actions/workflows/deploy.yml/dispatches"
DEPLOY = {
    "id": 7,
    "name": "Deploy",
    "path": ".github/workflows/deploy.yml",
    "on": {
        "workflow_dispatch": {
            "inputs": {
                "version": {"required": True},
                "target": {"default": "staging", "type": "choice", "options": ["staging", "live"]},
                "execution": {},
            }
        },
        "repository_dispatch": {"types": ["deploy"]},
        "push": {"branches": ["main", "release/*"]},
    },
    "run_name": "Deploy ${{ inputs.execution }}${{ github.event.client_payload.execution }}",
    "duration_s": 600,
    "logs": ["building ${{ inputs.version }}", "pushing", "done"],
    "outputs": {"image": "web:${{ inputs.version }}", "replicas": 3},
}


@pytest.fixture
def hands(github):
    put_workflows(
        github, DEPLOY, {"id": 8, "name": "Lint", "path": ".github/workflows/lint.yml", "on": {"push": {}}, "duration_s": 600}
    )
    with Hands(github) as opened:
        yield opened


def dispatch(hands, **inputs):
    body = {"ref": "main", "inputs": {"version": "1.2", **inputs}, "return_run_details": True}
    return hands.post(DISPATCHES, body, 200)["workflow_run_id"]


def run_of(hands, number):
    return hands.get(f"{WEB}/actions/runs/{number}")


def finish(hands, number, conclusion="success"):
    return hands.github.admin.do("finish_run", repo="acme/web", run_id=number, conclusion=conclusion)


def test_workflows_are_listed_and_found_by_id_and_by_file_name(hands):
    body = hands.get(f"{WEB}/actions/workflows?per_page=1")
    assert (body["total_count"], [entry["name"] for entry in body["workflows"]]) == (2, ["Deploy"])
    assert hands.get(f"{WEB}/actions/workflows/7") == hands.get(f"{WEB}/actions/workflows/deploy.yml") == body["workflows"][0]
    assert hands("GET", f"{WEB}/actions/workflows/other.yml")[0] == 404


def test_a_dispatch_answers_nothing_unless_it_asks_for_the_run(hands):
    assert hands("POST", DISPATCHES, {"ref": "main", "inputs": {"version": "1"}}) == (204, b"")
    number = dispatch(hands)
    run = run_of(hands, number)
    assert (run["id"], run["event"], run["run_number"], run["run_attempt"]) == (number, "workflow_dispatch", 2, 1)
    assert (run["head_branch"], run["path"], run["actor"]["login"]) == ("main", DEPLOY["path"], "sandbox-bot")


def test_the_newer_api_version_always_answers_the_run(hands):
    body = {"ref": "main", "inputs": {"version": "1"}, "return_run_details": False}
    status, answer = hands("POST", DISPATCHES, body, x_github_api_version="2026-03-10")
    assert status == 200
    assert answer["run_url"] == f"{hands.github.url}{WEB}/actions/runs/{answer['workflow_run_id']}"


def test_an_older_server_does_not_know_the_field_and_starts_nothing(hands):
    hands.github.admin.settings(return_run_details=False)
    body = {"ref": "main", "inputs": {"version": "1"}}
    status, answer = hands("POST", DISPATCHES, {**body, "return_run_details": True})
    assert (status, "return_run_details" in answer["message"]) == (422, True)
    assert hands("POST", DISPATCHES, body)[0] == 204
    assert hands.get(f"{WEB}/actions/runs")["total_count"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("nothing.yml", {"ref": "main"}, 404, "Not Found"),
        ("lint.yml", {"ref": "main"}, 422, "Workflow does not have 'workflow_dispatch' trigger"),
        ("7", {"ref": "main", "inputs": {"version": "1", "x": "1"}}, 422, 'Unexpected inputs provided: ["x"]'),
        ("7", {"ref": "main"}, 422, "Required input 'version' not provided"),
        ("7", {"ref": "main", "inputs": {"version": "1", "target": "moon"}}, 422, "not in the list of allowed values"),
        ("7", {"ref": "gone", "inputs": {"version": "1"}}, 422, "No ref found for: gone"),
        ("7", {"ref": "main", "inputs": {f"i{n}": "x" for n in range(26)}}, 422, "No more than 25 properties"),
        ("7", {"inputs": {}}, 422, '"ref" wasn\'t supplied'),
        ("7", {"ref": "main", "inputs": ["version"]}, 422, "is not an object"),
        ("7", [], 400, "object"),
    ],
)
def test_a_dispatch_that_github_refuses_starts_nothing(hands, path, body, status, message):
    answer = hands("POST", f"{WEB}/actions/workflows/{path}/dispatches", body)
    assert answer[0] == status
    assert message in answer[1]["message"]
    assert hands.get(f"{WEB}/actions/runs")["total_count"] == 0


def test_a_disabled_workflow_is_not_dispatched(hands):
    put_workflows(hands.github, {**DEPLOY, "state": "disabled_manually"})
    status, answer = hands("POST", DISPATCHES, {"ref": "main", "inputs": {"version": "1"}})
    assert (status, "disabled workflow" in answer["message"]) == (422, True)


def test_the_run_name_is_filled_in_from_inputs_or_from_the_payload(hands):
    assert run_of(hands, dispatch(hands, execution="e-42"))["display_title"] == "Deploy e-42"
    body = {"event_type": "deploy", "client_payload": {"execution": "e-43"}}
    assert hands("POST", f"{WEB}/dispatches", body) == (204, b"")
    assert hands.get(f"{WEB}/actions/runs")["workflow_runs"][0]["display_title"] == "Deploy e-43"


def test_a_repository_dispatch_starts_who_listens_and_is_accepted_if_nobody_does(hands):
    assert hands("POST", f"{WEB}/dispatches", {"event_type": "other"})[0] == 204
    assert hands.get(f"{WEB}/actions/runs")["total_count"] == 0
    assert hands("POST", f"{WEB}/dispatches", {"event_type": "deploy"})[0] == 204
    assert [run["event"] for run in hands.get(f"{WEB}/actions/runs")["workflow_runs"]] == ["repository_dispatch"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"event_type": ""},
        {"event_type": "x" * 101},
        {"event_type": "x", "client_payload": {str(n): n for n in range(11)}},
        {"event_type": "x", "client_payload": {"big": "x" * 70_000}},
        {"event_type": "x", "client_payload": "text"},
    ],
)
def test_a_repository_dispatch_has_limits(hands, body):
    assert hands("POST", f"{WEB}/dispatches", body)[0] == 422


def test_rights_are_actions_for_runs_and_contents_for_a_repository_dispatch(github, hands):
    tokens = {
        "reader": {"kind": "fine", "permissions": {"actions": "read"}},
        "runner": {"kind": "fine", "permissions": {"actions": "write"}},
        "writer": {"kind": "installation", "permissions": {"contents": "write"}},
        "hooks": {"scopes": ["admin:repo_hook"]},
    }
    github.admin.put_state({"tokens": tokens})
    body, event = {"ref": "main", "inputs": {"version": "1"}}, {"event_type": "deploy"}
    statuses = {
        name: (
            hands.as_(name, "GET", f"{WEB}/actions/runs"),
            hands.as_(name, "POST", DISPATCHES, body),
            hands.as_(name, "POST", f"{WEB}/dispatches", event),
        )
        for name in tokens
    }
    assert statuses == {
        "reader": (200, 403, 403),
        "runner": (200, 204, 403),
        "writer": (403, 403, 204),
        "hooks": (404, 404, 404),
    }


def test_a_push_moves_the_branch_and_starts_workflows_that_listen_to_it(hands):
    pushed = hands.github.admin.do("push", repo="acme/web", ref="main", commits=[{"message": "Fix it\n\nAll of it"}])
    runs = hands.get(f"{WEB}/actions/runs")["workflow_runs"]
    assert [(run["name"], run["head_sha"], run["event"]) for run in runs] == [
        ("Lint", pushed["sha"], "push"),
        ("Deploy", pushed["sha"], "push"),
    ]
    assert runs[0]["display_title"] == "Fix it"
    assert hands.get(f"{WEB}/commits/main")["sha"] == pushed["sha"]
    hands.github.admin.do("push", repo="acme/web", ref="feature/x")
    assert [run["name"] for run in hands.get(f"{WEB}/actions/runs?branch=feature/x")["workflow_runs"]] == ["Lint"]
    assert hands.get(f"{WEB}/commits/feature/x")["sha"] != pushed["sha"]


def test_time_alone_takes_a_run_from_queued_to_completed(hands):
    put_workflows(hands.github, {**DEPLOY, "queued_s": 0.15, "duration_s": 0.2, "result": "failure"})
    number = dispatch(hands)
    assert run_of(hands, number)["status"] == "queued"
    eventually(lambda: run_of(hands, number)["status"] == "in_progress")
    assert run_of(hands, number)["conclusion"] is None
    eventually(lambda: run_of(hands, number)["status"] == "completed")
    assert run_of(hands, number)["conclusion"] == "failure"


def test_a_setting_overrides_how_long_runs_take(hands):
    hands.github.admin.settings(run_duration_s=0)
    assert run_of(hands, dispatch(hands))["status"] == "completed"


def test_runs_are_filtered_and_paged_with_the_whole_count(hands):
    numbers = [dispatch(hands) for _ in range(3)]
    finish(hands, numbers[0])
    hands.github.admin.do("push", repo="acme/web", ref="main")
    body = hands.get(f"{WEB}/actions/runs?event=workflow_dispatch&per_page=2")
    assert (body["total_count"], [run["id"] for run in body["workflow_runs"]]) == (3, numbers[:0:-1])
    assert 'rel="next"' in hands.last.headers["link"]

    def ids(query, below="actions"):
        return [run["id"] for run in hands.get(f"{WEB}/{below}/runs?{query}")["workflow_runs"]]

    first = run_of(hands, numbers[0])
    assert ids("status=success") == ids("status=completed") == [numbers[0]]
    assert ids(f"head_sha={first['head_sha']}") == numbers[::-1]
    assert ids("branch=main&actor=sandbox-bot&event=push", "actions/workflows/lint.yml") == ids(
        "event=push", "actions/workflows/8"
    )
    assert ids("actor=nobody") == []


def test_runs_are_filtered_by_when_they_were_made(hands):
    number = dispatch(hands)
    now = datetime.fromisoformat(run_of(hands, number)["created_at"])
    before, after = ((now + timedelta(minutes=m)).strftime("%Y-%m-%dT%H:%M:%SZ") for m in (-1, 1))

    def count(created):
        return hands.get(f"{WEB}/actions/runs?" + str(httpx.QueryParams({"created": created})))["total_count"]

    assert [count(f">={before}"), count(f"<={after}"), count(f"{before}..{after}"), count(now.strftime("%Y-%m-%d"))] == [1] * 4
    assert [count(f">={after}"), count(f"<{before}"), count(f"*..{before}"), count(f">{now.astimezone(UTC):%Y-%m-%d}")] == [0] * 4
    assert hands("GET", f"{WEB}/actions/runs?created=soon")[0] == 422


def test_lists_show_a_run_late_and_its_own_path_at_once(hands):
    hands.github.admin.do("hide_runs", seconds=60)
    number = dispatch(hands)
    assert hands.get(f"{WEB}/actions/runs")["total_count"] == 0
    assert run_of(hands, number)["id"] == number
    hands.github.admin.settings(run_list_lag_s=0)
    assert hands.get(f"{WEB}/actions/runs")["total_count"] == 1


def test_a_cancelled_run_is_completed_and_cannot_be_cancelled_again(hands):
    for path in ("cancel", "force-cancel"):
        number = dispatch(hands)
        assert hands("POST", f"{WEB}/actions/runs/{number}/{path}") == (202, {})
        run = run_of(hands, number)
        assert (run["status"], run["conclusion"]) == ("completed", "cancelled")
        assert hands("POST", f"{WEB}/actions/runs/{number}/{path}")[0] == 409


def test_a_rerun_keeps_the_id_and_is_another_attempt(hands):
    number = dispatch(hands)
    assert hands("POST", f"{WEB}/actions/runs/{number}/rerun")[0] == 403
    finish(hands, number, "failure")
    assert hands("POST", f"{WEB}/actions/runs/{number}/rerun", {"enable_debug_logging": True}) == (201, {})
    run = run_of(hands, number)
    assert (run["id"], run["run_attempt"], run["status"]) == (number, 2, "in_progress")
    assert hands.get(f"{WEB}/actions/runs/{number}/attempts/1")["conclusion"] == "failure"
    assert run["previous_attempt_url"].endswith(f"/runs/{number}/attempts/1")
    assert hands("GET", f"{WEB}/actions/runs/{number}/attempts/3")[0] == 404
    finish(hands, number)
    assert hands.github.admin.do("rerun", repo="acme/web", run_id=number)["run_attempt"] == 3


def test_a_rerun_of_failed_jobs_keeps_the_good_ones(hands):
    jobs = [{"name": "build", "result": "success"}, {"name": "test", "result": "failure", "steps": ["Unit", "End to end"]}]
    put_workflows(hands.github, {**DEPLOY, "jobs": jobs, "result": "failure", "duration_s": 0})
    number = dispatch(hands)

    def shown(query=""):
        body = hands.get(f"{WEB}/actions/runs/{number}/jobs{query}")
        return [(job["name"], job["run_attempt"], job["conclusion"]) for job in body["jobs"]]

    assert shown() == [("build", 1, "success"), ("test", 1, "failure")]
    put_workflows(hands.github, {**DEPLOY, "jobs": [{"name": "build"}, {"name": "test"}], "duration_s": 0})
    assert hands("POST", f"{WEB}/actions/runs/{number}/rerun-failed-jobs")[0] == 201
    assert shown() == [("build", 1, "success"), ("test", 2, "success")]
    assert shown("?filter=all") == [("build", 1, "success"), ("test", 1, "failure"), ("test", 2, "success")]
    assert hands("POST", f"{WEB}/actions/runs/{number}/rerun-failed-jobs")[0] == 403


def test_by_hand_a_run_is_held_in_a_status_ended_and_lost(hands):
    number = dispatch(hands)
    do = hands.github.admin.do
    assert do("set_run", repo="acme/web", run_id=number, status="waiting", display_title="T")["status"] == "waiting"
    assert run_of(hands, number)["display_title"] == "T"
    assert do("set_run", repo="acme/web", run_id=number, status="completed", conclusion="timed_out")["conclusion"] == "timed_out"
    do("lose_run", repo="acme/web", run_id=number)
    assert hands("GET", f"{WEB}/actions/runs/{number}")[0] == 404
    with pytest.raises(RuntimeError, match="no run"):
        finish(hands, number)
    with pytest.raises(RuntimeError, match="conclusion must be one of"):
        finish(hands, dispatch(hands), "great")


def test_a_log_is_a_redirect_to_a_short_lived_link_that_wants_no_token(hands):
    number = dispatch(hands)
    finish(hands, number)
    [job] = hands.get(f"{WEB}/actions/runs/{number}/jobs")["jobs"]
    status, body = hands("GET", f"{WEB}/actions/jobs/{job['id']}/logs")
    link = hands.last.headers["location"]
    assert (status, body, link.startswith(hands.github.url)) == (302, b"", True)
    text = httpx.get(link, trust_env=False).text
    assert [line.partition("Z ")[2] for line in text.splitlines()] == ["building 1.2", "pushing", "done"]
    httpx.get(link, trust_env=False, headers={"authorization": f"Bearer {TOKEN}"})
    seen = ["authorization" in row["headers"] for row in hands.github.admin.requests(path="^/_actions/links/")]
    assert seen == [False, True]
    hands.github.admin.settings(link_valid_s=-1)
    hands("GET", f"{WEB}/actions/jobs/{job['id']}/logs")
    assert httpx.get(hands.last.headers["location"], trust_env=False).status_code == 403
    assert httpx.get(f"{hands.github.url}/_actions/links/none", trust_env=False).status_code == 404


def unzipped(hands, path):
    assert hands("GET", path)[0] == 302
    answer = httpx.get(hands.last.headers["location"], trust_env=False)
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_the_log_of_a_run_is_an_archive_with_a_file_for_each_job(hands):
    put_workflows(
        hands.github, {**DEPLOY, "duration_s": 0, "jobs": [{"name": "a"}, {"name": "b", "logs": ["own"]}], "logs": {"a": ["one"]}}
    )
    files = unzipped(hands, f"{WEB}/actions/runs/{dispatch(hands)}/logs")
    assert [(name, text.partition("Z ")[2]) for name, text in files.items()] == [("0_a.txt", "one\n"), ("1_b.txt", "own\n")]


def test_the_lines_of_a_log_appear_while_the_run_works(hands):
    put_workflows(hands.github, {**DEPLOY, "queued_s": 0.1, "duration_s": 1.0})
    number = dispatch(hands)
    [job] = hands.get(f"{WEB}/actions/runs/{number}/jobs")["jobs"]
    assert hands("GET", f"{WEB}/actions/jobs/{job['id']}/logs")[0] == 404
    assert hands("GET", f"{WEB}/actions/runs/{number}/logs")[0] == 404

    def lines():
        if hands("GET", f"{WEB}/actions/jobs/{job['id']}/logs")[0] == 404:
            return 0
        return len(httpx.get(hands.last.headers["location"], trust_env=False).text.splitlines())

    counts = [0]
    eventually(lambda: counts.append(lines()) or counts[-1] == 3)
    assert counts == sorted(counts)
    assert {1, 2} & set(counts)


def test_outputs_become_an_artifact_when_the_run_has_ended(hands):
    put_workflows(hands.github, {**DEPLOY, "artifacts": {"report": {"a.txt": "A"}}})
    number = dispatch(hands)
    assert hands.get(f"{WEB}/actions/runs/{number}/artifacts")["total_count"] == 0
    finish(hands, number)
    assert hands.get(f"{WEB}/actions/runs/{number}/artifacts")["total_count"] == 2
    [artifact] = hands.get(f"{WEB}/actions/runs/{number}/artifacts?name=reconciler-outputs")["artifacts"]
    files = unzipped(hands, f"{WEB}/actions/artifacts/{artifact['id']}/zip")
    assert json.loads(files["outputs.json"]) == {"image": "web:1.2", "replicas": 3}
    assert artifact["digest"].startswith("sha256:")
    assert hands("GET", f"{WEB}/actions/artifacts/{artifact['id']}/tar")[0] == 404


def test_a_run_says_that_it_was_requested_works_and_has_ended(hands):
    hook, org = hands.hook(), hands.hook(root="/orgs/acme")
    put_workflows(hands.github, {**DEPLOY, "queued_s": 0.05, "duration_s": 0.05})
    number = dispatch(hands)
    eventually(lambda: len(hands.delivered(hook)) == 7)
    events = hands.delivered(hook)
    assert [(event, payload.get("action")) for event, payload in events] == [
        ("workflow_dispatch", None),
        ("workflow_run", "requested"),
        ("workflow_job", "queued"),
        ("workflow_run", "in_progress"),
        ("workflow_job", "in_progress"),
        ("workflow_job", "completed"),
        ("workflow_run", "completed"),
    ]
    runs = [payload["workflow_run"] for event, payload in events if event == "workflow_run"]
    assert [(run["id"], run["status"], run["conclusion"]) for run in runs] == [
        (number, "queued", None),
        (number, "in_progress", None),
        (number, "completed", "success"),
    ]
    last = events[-1][1]
    assert (last["workflow"]["id"], last["repository"]["full_name"], last["organization"]["login"]) == (7, "acme/web", "acme")
    assert last["sender"]["login"] == "sandbox-bot"
    assert hands.delivered(org, "/orgs/acme") == events


def test_a_rerun_is_not_requested_again(hands):
    hook = hands.hook(events=("workflow_run",))
    number = dispatch(hands)
    finish(hands, number)
    hands("POST", f"{WEB}/actions/runs/{number}/rerun")
    finish(hands, number)
    assert [(payload["action"], payload["workflow_run"]["run_attempt"]) for _, payload in hands.delivered(hook)] == [
        ("requested", 1),
        ("in_progress", 1),
        ("completed", 1),
        ("in_progress", 2),
        ("completed", 2),
    ]


def test_a_renamed_repository_keeps_its_workflows_and_runs(hands):
    number = dispatch(hands)
    hands.github.admin.do("rename", **{"from": "acme/web", "to": "acme/site"})
    assert hands.get(f"/repos/acme/site/actions/runs/{number}")["repository"]["full_name"] == "acme/site"
    assert hands.get("/repos/acme/site/actions/workflows")["total_count"] == 2
    finished = hands.github.admin.do("finish_run", repo="acme/site", run_id=number)
    assert finished["status"] == "completed"
