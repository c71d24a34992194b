"""What the executor does at GitHub: one dispatch, its run found again, followed to its end, its outputs and its logs."""

import asyncio
import io
import json
import random
import time
import zipfile

import pytest

from reconciler.drivers.github import driver, joblogs, workflows
from reconciler.drivers.github.outputs import MAX_BYTES, read
from reconciler.drivers.github.runs import report_of
from reconciler.model.errors import (
    Ambiguous,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderProtocolError,
    ProviderUnavailable,
    ReconcilerError,
    ValidationFailed,
)
from reconciler.model.executions import Result, Run, RunIntent, RunStatus
from reconciler.model.resources import Kind, Location, Resource, ResourceId
from reconciler.sandbox.github_logs import zipped
from tests.github.conftest import TOKEN
from tests.github.simulator import Hands, put_workflows
from tests.support.sandbox import client, connected

WEB = "/repos/acme/web"
KEY = "reconciler_execution_id"
CORRELATION = "rcl-" + "7" * 28
DEPLOY = {
    "id": 7,
    "name": "Deploy",
    "path": ".github/workflows/deploy.yml",
    "on": {
        "workflow_dispatch": {"inputs": {"version": {}, "dry": {"type": "boolean"}, KEY: {}}},
        "repository_dispatch": {"types": ["deploy"]},
    },
    "run_name": f"Deploy ${{{{ inputs.{KEY} }}}}${{{{ github.event.client_payload.{KEY} }}}}",
    "duration_s": 600,
}
SILENT = {
    **DEPLOY,
    "id": 8,
    "name": "Silent",
    "path": ".github/workflows/silent.yml",
    "on": {"workflow_dispatch": {"inputs": {KEY: {}}}},
    "run_name": "",
}
PLAIN = {"id": 9, "name": "Plain", "path": ".github/workflows/plain.yaml", "on": {"workflow_dispatch": {}}, "duration_s": 600}
executor = driver.executors["github"]


@pytest.fixture
def hands(github):
    put_workflows(github, DEPLOY, SILENT, PLAIN)
    with Hands(github) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(workflows, "PAUSES_S", (0.0, 0.0))


def intent(*, resource="web", correlation=CORRELATION, at=None, **spec):
    spec = spec or {"workflow": "deploy.yml", "ref": "main"}
    at = time.time() if at is None else at
    return RunIntent(execution_id="e", correlation=correlation, type="github", resource=resource, spec=spec, intended_at=at)


def event(**payload):
    return intent(eventType="deploy", clientPayload=payload)


def posts(hands):
    return [(row["path"], row["body"]) for row in hands.github.admin.requests() if row["method"] == "POST"]


def runs(hands):
    return hands.get(f"{WEB}/actions/runs?per_page=100")["workflow_runs"]


def finish(hands, run, conclusion="success"):
    return hands.github.admin.do("finish_run", repo="acme/web", run_id=int(run.external_id), conclusion=conclusion)


# one start


async def test_a_workflow_is_dispatched_once_with_texts_and_our_own_input(api, hands):
    inputs = {"version": 1.5, "dry": True}
    run = await executor.start(api, intent(workflow="deploy.yml", ref="refs/heads/main", inputs=inputs))
    [(path, body)] = posts(hands)
    assert path == f"{WEB}/actions/workflows/deploy.yml/dispatches"
    given = {"version": "1.5", "dry": "true", KEY: CORRELATION}
    assert body == {"ref": "main", "inputs": given, "return_run_details": True}
    [shown] = runs(hands)
    assert (run.external_id, run.url, run.attempt) == (str(shown["id"]), shown["html_url"], 1)
    assert run.detail == {"repository": "acme/web"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (None, ""), (3, "3"), (0.5, "0.5"), ("", ""), ("a", "a"), ({"a": [1]}, '{"a":[1]}')],
)
async def test_every_value_of_an_input_becomes_text(api, hands, value, text):
    await executor.start(api, intent(workflow=7, ref="main", inputs={"version": value}))
    assert posts(hands)[0][1]["inputs"]["version"] == text


@pytest.mark.parametrize(
    ("workflow", "path"),
    [
        (7, "7"),
        ("7", "7"),
        ("deploy.yml", "deploy.yml"),
        (".github/workflows/deploy.yml", "deploy.yml"),
        ("plain.yaml", "plain.yaml"),
        ("Deploy", "7"),
        ("deploy", "7"),
        ("Plain", "9"),
    ],
)
async def test_a_workflow_is_named_by_id_file_or_name(api, hands, workflow, path):
    assert await executor.start(api, intent(workflow=workflow, ref="main")) is not None
    assert posts(hands)[-1][0] == f"{WEB}/actions/workflows/{path}/dispatches"


async def test_a_name_is_looked_for_on_all_pages_and_never_guessed(api, hands):
    many = [{**PLAIN, "id": 100 + n, "name": f"W{n}", "path": f".github/workflows/w{n}.yml"} for n in range(150)]
    put_workflows(hands.github, *many, {**DEPLOY, "name": "Twice"}, {**SILENT, "name": "Twice"})
    assert await executor.start(api, intent(workflow="W149", ref="main")) is not None
    with pytest.raises(ValidationFailed, match=r"more than one workflow 'Twice': Twice \(deploy.yml\), Twice \(silent.yml\)"):
        await executor.start(api, intent(workflow="Twice", ref="main"))
    with pytest.raises(ValidationFailed, match="no workflow 'Nowhere'"):
        await executor.start(api, intent(workflow="Nowhere", ref="main"))
    assert {path for path, _ in posts(hands)} == {f"{WEB}/actions/workflows/249/dispatches"}


@pytest.mark.parametrize("ref", ["v1", "refs/tags/v1"])
async def test_a_tag_is_named_without_its_prefix(api, hands, ref):
    state = hands.github.admin.state()["repos"]
    state["acme/web"]["tags"] = {"v1": "b" * 40}
    hands.github.admin.put_state({"repos": state})
    assert await executor.start(api, intent(workflow="deploy.yml", ref=ref)) is not None
    assert posts(hands)[0][1]["ref"] == "v1"


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        (intent(workflow="deploy.yml", ref=""), ValidationFailed, "`ref` is not set"),
        (intent(workflow="deploy.yml", ref="gone"), ValidationFailed, "No ref found"),
        (intent(workflow="gone.yml", ref="main"), NotFound, "no workflow 'gone.yml' in web"),
        (intent(workflow="deploy.yml", ref="main", inputs={"x": "1"}), ValidationFailed, "Unexpected inputs"),
        (intent(resource="a/b/c", workflow="deploy.yml", ref="main"), ValidationFailed, "no repository"),
        (intent(resource="nowhere", workflow="deploy.yml", ref="main"), NotFound, "no workflow"),
        (event(**{str(n): n for n in range(10)}), ValidationFailed, "10 keys already"),
        (intent(eventType="x" * 101), ValidationFailed, "100 characters"),
    ],
)
async def test_a_start_that_is_refused_starts_nothing(api, hands, what, error, message):
    with pytest.raises(error, match=message):
        await executor.start(api, what)
    assert runs(hands) == []


async def test_a_right_that_is_missing_is_named(github, hands, connection):
    github.admin.put_state({"tokens": {"ro": {"kind": "fine", "permissions": {"actions": "read"}}}})
    async with client(driver, connection, "ro") as api:
        with pytest.raises(PermissionDenied) as caught:
            await executor.start(api, intent())
    assert "actions: write" in caught.value.hint


async def test_a_workflow_that_does_not_declare_our_input_is_dispatched_without_it_once(api, hands):
    run = await executor.start(api, intent(workflow="plain.yaml", ref="main"))
    assert [body["inputs"] for _, body in posts(hands)] == [{KEY: CORRELATION}, {}]
    assert [str(one["id"]) for one in runs(hands)] == [run.external_id]


async def test_a_server_that_does_not_know_run_details_is_asked_without_and_the_run_is_found(api, hands):
    hands.github.admin.settings(return_run_details=False)
    run = await executor.start(api, intent())
    assert [set(body) for _, body in posts(hands)] == [{"ref", "inputs", "return_run_details"}, {"ref", "inputs"}]
    [shown] = runs(hands)
    assert (run.external_id, run.detail["repository_id"]) == (str(shown["id"]), str(shown["repository"]["id"]))


async def test_a_server_that_answers_400_to_the_field_is_asked_without(api, hands):
    hands.github.admin.fault(method="POST", path="/dispatches$", status=400, body={"message": "Invalid request."})
    assert await executor.start(api, intent()) is not None
    assert [set(body) for _, body in posts(hands)] == [{"ref", "inputs", "return_run_details"}, {"ref", "inputs"}]
    assert len(runs(hands)) == 1


async def test_a_workflow_without_our_input_on_an_old_server_is_taken_and_not_looked_for(api, hands):
    hands.github.admin.settings(return_run_details=False)
    assert await executor.start(api, intent(workflow="plain.yaml", ref="main")) is None
    assert len(runs(hands)) == 1
    assert not hands.github.admin.requests(path="/workflows/.*/runs$")


async def test_where_all_inputs_are_taken_ours_is_left_out(api, hands):
    names = {f"i{n}": {} for n in range(25)}
    put_workflows(hands.github, {**PLAIN, "on": {"workflow_dispatch": {"inputs": names}}})
    assert await executor.start(api, intent(workflow=9, ref="main", inputs=dict.fromkeys(names, "x"))) is not None
    assert len(posts(hands)) == 1
    message = "Invalid request.\n\nNo more than 10 properties are allowed; 11 were supplied."
    hands.github.admin.fault(method="POST", path="/dispatches$", status=422, body={"message": message})
    assert await executor.start(api, intent(workflow=9, ref="main", inputs={"i1": "x"})) is not None


async def test_an_event_of_the_repository_carries_our_key_and_its_run_is_found(api, hands):
    run = await executor.start(api, event(version="1.2"))
    [(path, body)] = posts(hands)
    assert path == f"{WEB}/dispatches"
    assert body == {"event_type": "deploy", "client_payload": {"version": "1.2", KEY: CORRELATION}}
    assert [str(one["id"]) for one in runs(hands)] == [run.external_id]
    nine = {str(n): n for n in range(8)}
    assert await executor.start(api, event(**nine, **{KEY: "mine"})) is not None
    assert posts(hands)[-1][1]["client_payload"] == {**nine, KEY: CORRELATION}


async def test_an_event_that_nobody_hears_is_taken_and_no_run_is_found(api, hands):
    what = intent(eventType="other")
    assert await executor.start(api, what) is None
    assert await executor.find(api, what) is None


@pytest.mark.parametrize("fault", [{"status": 502, "commit": True}, {"effect": "reset", "commit": True}])
async def test_a5_a_dispatch_whose_answer_is_lost_leaves_the_outcome_open_and_is_found(api, hands, fault):
    hands.github.admin.fault(method="POST", path="/dispatches$", **fault)
    what = intent()
    with pytest.raises(OutcomeUnknown):
        await executor.start(api, what)
    assert (await executor.find(api, what)).external_id == str(runs(hands)[0]["id"])
    assert len(posts(hands)) == 1


async def test_a5_a_dispatch_that_never_arrived_is_proved_to_be_absent(api, hands):
    hands.github.admin.fault(method="POST", path="/dispatches$", status=502)
    what = intent()
    with pytest.raises(OutcomeUnknown):
        await executor.start(api, what)
    assert await executor.find(api, what) is None


@pytest.mark.parametrize("body", [{}, [], {"workflow_run_id": "7"}, {"workflow_run_id": None}, "<html>"])
async def test_d15_an_answer_that_names_no_run_leaves_the_outcome_open(api, hands, body):
    hands.github.admin.fault(method="POST", path="/dispatches$", status=200, body=body)
    with pytest.raises(OutcomeUnknown):
        await executor.start(api, intent())


async def test_whatever_keeps_a_taken_run_from_being_seen_is_no_failure_of_the_start(api, hands, monkeypatch):
    hands.github.admin.settings(return_run_details=False)
    hands.github.admin.fault(path="/runs$", times=0, status=403, body={"message": "Resource not accessible"})
    assert await executor.start(api, intent()) is None
    hands.github.admin.clear_faults()
    hands.github.admin.fault(path="/runs$", times=0, effect="mute")
    monkeypatch.setattr(workflows, "LOOK_S", 0.2)
    began = asyncio.get_running_loop().time()
    assert await executor.start(api, intent(correlation="rcl-" + "8" * 28)) is None
    assert asyncio.get_running_loop().time() - began < 5


# found again


async def test_a5_a_run_is_found_among_many_on_all_pages_and_by_its_title_only(api, hands):
    hands.github.admin.settings(run_duration_s=0)
    what = intent(at=time.time())
    ours = await executor.start(api, what)
    for n in range(130):
        await executor.start(api, intent(correlation=f"rcl-{n:028}"))
    assert await executor.find(api, what) == Run(
        ours.external_id, ours.url, detail={"repository": "acme/web", "repository_id": str(runs(hands)[0]["repository"]["id"])}
    )
    assert await executor.find(api, intent(correlation="rcl-" + "9" * 28)) is None


async def test_a5_a_search_that_is_cut_off_goes_on_with_the_older_runs(api, hands, monkeypatch):
    monkeypatch.setattr("reconciler.drivers.github.runs.SEARCH_CAP", 4)
    monkeypatch.setattr("reconciler.sandbox.github_runs.FILTERED_MOST", 4)
    what = intent()
    await executor.start(api, what)
    for n in range(9):
        await executor.start(api, intent(correlation=f"rcl-{n:028}"))
    state = hands.github.admin.state()["runs"]
    for rows in state.values():
        for number, row in enumerate(rows):
            row["created_at"] = what.intended_at + 3 * number
    hands.github.admin.put_state({"runs": state})
    assert (await executor.find(api, what)).url.endswith(str(min(one["id"] for one in runs(hands))))
    for rows in state.values():
        for row in rows:
            row["created_at"] = what.intended_at
    hands.github.admin.put_state({"runs": state})
    with pytest.raises(ProviderProtocolError, match="too many runs in one second"):
        await executor.find(api, intent(at=what.intended_at, correlation="rcl-" + "9" * 28))


@pytest.mark.parametrize(("ahead_s", "seen"), [(110, True), (-110, True), (130, False)])
async def test_a5_clocks_may_differ_by_two_minutes(api, hands, ahead_s, seen):
    await executor.start(api, intent())
    assert (await executor.find(api, intent(at=time.time() + ahead_s)) is not None) is seen


async def test_a5_a_run_that_appears_late_is_not_there_until_then(api, hands):
    hands.github.admin.settings(return_run_details=False)
    hands.github.admin.do("hide_runs", seconds=60)
    what = intent()
    assert await executor.start(api, what) is None
    assert await executor.find(api, what) is None
    hands.github.admin.do("hide_runs", seconds=0)
    assert (await executor.find(api, what)).external_id == str(runs(hands)[0]["id"])


async def test_a5_a_run_without_our_id_is_never_guessed_to_be_ours(api, hands):
    hands.github.admin.settings(return_run_details=False)
    what = intent(workflow="silent.yml", ref="main")
    assert await executor.start(api, what) is None
    [shown] = runs(hands)
    with pytest.raises(ProviderUnavailable, match="may yet appear"):
        await executor.find(api, what)  # too early to say
    hands.github.admin.do("set_run", repo="acme/web", run_id=shown["id"], display_title="Silent")
    _older(hands, shown["id"], 60)
    old = intent(workflow="silent.yml", ref="main", at=time.time() - 60)
    with pytest.raises(Ambiguous) as caught:
        await executor.find(api, old)
    assert shown["html_url"] in caught.value.message
    assert "run-name" in caught.value.hint


def _older(hands, run_id, seconds):
    state = hands.github.admin.state()["runs"]
    for rows in state.values():
        for row in rows:
            if row["id"] == run_id:
                row["created_at"] -= seconds
    hands.github.admin.put_state({"runs": state})


async def test_a5_runs_of_others_of_other_executions_workflows_events_and_times_are_not_ours(api, hands):
    hands.github.admin.settings(return_run_details=False)
    hands.github.admin.put_state({"tokens": {"other": {"login": "somebody", "scopes": ["repo"]}}})
    body = {"ref": "main", "inputs": {}}
    silent = f"{WEB}/actions/workflows/silent.yml/dispatches"
    assert hands("POST", silent, body, authorization="Bearer other")[0] == 204  # of another user
    assert hands("POST", silent, body)[0] == 204
    _older(hands, runs(hands)[0]["id"], 200)  # too long ago
    assert hands("POST", f"{WEB}/actions/workflows/plain.yaml/dispatches", body)[0] == 204  # another workflow
    assert hands("POST", f"{WEB}/dispatches", {"event_type": "deploy"})[0] == 204  # another event
    await executor.start(api, intent(correlation="rcl-" + "1" * 28))
    old = intent(workflow="silent.yml", ref="main", at=time.time() - 60)
    assert await executor.find(api, old) is None
    assert await executor.find(api, intent(at=time.time() - 60)) is None  # the run of another execution is known as such


async def test_a5_a_token_of_an_app_does_not_know_who_it_is_and_takes_every_run_for_one_of_its_own(github, hands, connection):
    github.admin.put_state({"tokens": {"ghs": {"kind": "installation", "permissions": {"actions": "write"}}}})
    assert hands("POST", f"{WEB}/actions/workflows/silent.yml/dispatches", {"ref": "main"})[0] == 204
    async with client(driver, connection, "ghs") as api:
        with pytest.raises(Ambiguous):
            await executor.find(api, intent(workflow="silent.yml", ref="main", at=time.time() - 60))


async def test_a5_the_id_in_runs_of_several_workflows_is_not_decided_by_chance(api, hands):
    put_workflows(hands.github, DEPLOY, {**DEPLOY, "id": 8, "name": "Also", "path": ".github/workflows/also.yml"})
    what = event()
    assert await executor.start(api, what) is None
    with pytest.raises(Ambiguous, match="several workflows"):
        await executor.find(api, what)


async def test_a5_of_two_runs_of_one_start_the_first_is_the_one(api, hands):
    what = intent()
    first = await executor.start(api, what)
    await executor.start(api, what)
    assert (await executor.find(api, what)).external_id == first.external_id


async def test_a_renamed_repository_is_followed_in_everything(api, hands):
    put_workflows(hands.github, {**DEPLOY, "logs": ["hello"], "outputs": {"a": 1}})
    hands.github.admin.do("rename", **{"from": "acme/web", "to": "acme/site"})
    what = intent()
    run = await executor.start(api, what)
    assert (await executor.find(api, what)).external_id == run.external_id
    hands.github.admin.do("finish_run", repo="acme/site", run_id=int(run.external_id))
    report = await executor.poll(api, what, run)
    assert (report.outputs, report.run.detail["repository"]) == ({"a": 1}, "acme/site")
    assert "hello" in (await executor.logs(api, what, run, "")).lines[-1]
    await executor.cancel(api, what, run)
    assert len(hands.github.admin.requests(path="dispatches$")) == 2  # the redirected one did nothing


# followed


async def started(api, hands, workflow=None, **options):
    if workflow is not None:
        put_workflows(hands.github, {**DEPLOY, **workflow})
    what = intent(**options)
    return what, await executor.start(api, what)


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("queued", RunStatus.QUEUED),
        ("requested", RunStatus.QUEUED),
        ("pending", RunStatus.QUEUED),
        ("waiting", RunStatus.WAITING),
        ("in_progress", RunStatus.RUNNING),
    ],
)
async def test_d21_a_run_that_goes_on_has_no_result(api, hands, status, shown):
    what, run = await started(api, hands)
    hands.github.admin.do("set_run", repo="acme/web", run_id=int(run.external_id), status=status)
    report = await executor.poll(api, what, run)
    assert (report.status, report.result, report.conclusion, report.outputs) == (shown, None, "", {})
    assert ("approval" in report.message) is (status == "waiting")


@pytest.mark.parametrize(
    ("conclusion", "result"),
    [
        ("success", Result.PASSED),
        ("neutral", Result.PASSED),
        ("skipped", Result.PASSED),
        ("cancelled", Result.CANCELLED),
        ("failure", Result.FAILED),
        ("timed_out", Result.FAILED),
        ("startup_failure", Result.FAILED),
        ("action_required", Result.FAILED),
        ("stale", Result.FAILED),
    ],
)
async def test_d21_the_end_has_githubs_word_and_the_runs_page(api, hands, conclusion, result):
    what, run = await started(api, hands)
    finish(hands, run, conclusion)
    report = await executor.poll(api, what, run)
    assert (report.status, report.result, report.conclusion) == (RunStatus.FINISHED, result, conclusion)
    assert report.message == f"{conclusion}: {run.url}"


async def test_d21_a_run_that_was_started_again_is_followed_as_another_attempt(api, hands):
    what, run = await started(api, hands)
    finish(hands, run, "failure")
    assert (await executor.poll(api, what, run)).result is Result.FAILED
    hands.post(f"{WEB}/actions/runs/{run.external_id}/rerun")
    report = await executor.poll(api, what, run)
    assert (report.status, report.run.attempt, report.run.external_id) == (RunStatus.RUNNING, 2, run.external_id)
    finish(hands, run)
    assert (await executor.poll(api, what, report.run)).result is Result.PASSED


async def test_d21_a_run_that_is_gone_is_not_found(api, hands):
    what, run = await started(api, hands)
    hands.github.admin.do("lose_run", repo="acme/web", run_id=int(run.external_id))
    with pytest.raises(NotFound):
        await executor.poll(api, what, run)


async def test_d8_a_repository_that_is_not_seen_any_more_is_no_lost_run(github, api, hands):
    what, run = await started(api, hands)
    github.admin.put_state({"tokens": {TOKEN: {"scopes": ["repo"], "repos": ["acme/payments"]}}})
    with pytest.raises(PermissionDenied, match="does not see it"):
        await executor.poll(api, what, run)


async def test_d22_a_run_that_ended_before_the_first_look_has_its_result(api, hands):
    hands.github.admin.settings(run_duration_s=0)
    what, run = await started(api, hands)
    assert (await executor.poll(api, what, run)).result is Result.PASSED
    assert (await executor.poll(api, what, await executor.find(api, what))).result is Result.PASSED


@pytest.mark.parametrize(
    "row",
    [
        {"id": 1},
        {"id": 1, "status": "completed"},
        {"id": 1, "status": "completed", "conclusion": None},
        {"id": 1, "status": "in_progress", "conclusion": "success"},
        {"id": 1, "status": 5, "conclusion": None},
    ],
)
def test_d15_a_run_that_contradicts_itself_is_an_error_and_no_end(row):
    with pytest.raises(ProviderProtocolError):
        report_of(row, "acme/web")


def test_what_nobody_knows_yet_is_work_that_goes_on_or_a_failure():
    assert report_of({"id": 1, "status": "polishing", "conclusion": None}, "acme/web").status is RunStatus.RUNNING
    assert report_of({"id": 1, "status": "completed", "conclusion": "meh"}, "acme/web").result is Result.FAILED


@pytest.mark.parametrize("body", [[], {"id": 1}, {"id": None}, "text"])
async def test_d15_another_run_than_the_one_asked_for_is_an_error(api, hands, body):
    what, run = await started(api, hands)
    hands.github.admin.fault(path=r"/runs/\d+$", status=200, body=body)
    with pytest.raises(ProviderProtocolError):
        await executor.poll(api, what, run)


async def test_a_run_is_cancelled_one_that_ended_is_success_and_the_second_time_is_forced(api, hands):
    what, run = await started(api, hands)
    await executor.cancel(api, what, run)
    assert (await executor.poll(api, what, run)).result is Result.CANCELLED
    await executor.cancel(api, what, run)
    again = Run(run.external_id, run.url, detail={**run.detail, "cancelled": True})
    await executor.cancel(api, what, again)
    paths = [path.rpartition("/")[2] for path, _ in posts(hands)]
    assert paths == ["dispatches", "cancel", "cancel", "force-cancel"]
    _, other = await started(api, hands, correlation="rcl-" + "2" * 28)
    hands.github.admin.fault(method="POST", path="/force-cancel$", status=404, body={"message": "Not Found"})
    await executor.cancel(api, what, Run(other.external_id, detail={"cancelled": True}))
    assert (await executor.poll(api, what, other)).result is Result.CANCELLED


# outputs


async def test_the_outputs_of_a_run_are_the_object_in_its_artifact(api, hands):
    what, run = await started(api, hands, {"outputs": {"image": "web:${{ inputs.version }}", "n": 3, "list": [1, {"a": None}]}})
    assert (await executor.poll(api, what, run)).outputs == {}
    finish(hands, run)
    assert (await executor.poll(api, what, run)).outputs == {"image": "web:", "n": 3, "list": [1, {"a": None}]}


async def test_a_run_without_the_artifact_has_no_outputs(api, hands):
    what, run = await started(api, hands, {"artifacts": {"dist": {"outputs.json": "{}"}, "reconciler-outputs-2": {"x": ""}}})
    finish(hands, run)
    report = await executor.poll(api, what, run)
    assert (report.outputs, report.message) == ({}, f"success: {run.url}")


async def test_the_newest_artifact_of_several_attempts_counts(api, hands):
    what, run = await started(api, hands, {"outputs": {"image": "${{ github.run_id }}-1"}})
    finish(hands, run, "failure")
    put_workflows(hands.github, {**DEPLOY, "outputs": {"image": "second"}})
    hands.post(f"{WEB}/actions/runs/{run.external_id}/rerun")
    assert (await executor.poll(api, what, run)).outputs == {}
    finish(hands, run)
    assert (await executor.poll(api, what, run)).outputs == {"image": "second"}


async def _polled_with(api, hands, files):
    what, run = await started(api, hands, {"artifacts": {"reconciler-outputs": files}})
    finish(hands, run)
    return await executor.poll(api, what, run)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"other.json": "{}"}, "no file outputs.json"),
        ({"sub/outputs.json": "{}"}, "no file outputs.json"),
        ({"outputs.json": ""}, "no JSON"),
        ({"outputs.json": "[]"}, "no object"),
        ({"outputs.json": json.dumps({str(n): n for n in range(65)})}, "more than 64 keys"),
        ({"outputs.json": json.dumps({"a": "x" * (1 << 20)})}, "larger than 64 KiB"),
        ({"outputs.json": '{"a":' + "[" * 400 + "]" * 400 + "}"}, "no JSON"),
        ({"outputs.json": "{}", "pad": random.Random(1).randbytes(70_000).hex()}, "larger than 64 KiB"),
    ],
)
async def test_outputs_that_cannot_be_used_are_none_and_the_result_stays(api, hands, files, why):
    report = await _polled_with(api, hands, files)
    assert (report.result, report.outputs) == (Result.PASSED, {})
    assert report.message.startswith("success: ")
    assert why in report.message


@pytest.mark.parametrize("status", [404, 403, 410, 400])
async def test_an_artifact_that_is_not_to_be_had_is_said(api, hands, status):
    hands.github.admin.fault(path="/zip$", status=status, body={"message": "no"})
    report = await _polled_with(api, hands, {"outputs.json": '{"a": 1}'})
    assert (report.outputs, "cannot be read" in report.message) == ({}, True)


async def test_a_failure_that_may_pass_is_no_end_without_outputs(api, hands):
    what, run = await started(api, hands, {"outputs": {"a": 1}})
    finish(hands, run)
    hands.github.admin.fault(path="/zip$", times=1, status=503)
    with pytest.raises(ProviderUnavailable):
        await executor.poll(api, what, run)
    assert (await executor.poll(api, what, run)).outputs == {"a": 1}


async def test_the_storage_is_asked_without_the_credential(api, hands):
    await _polled_with(api, hands, {"outputs.json": "{}"})
    [row] = hands.github.admin.requests(path="^/_actions/links/")
    assert "user-agent" in row["headers"]
    assert "authorization" not in row["headers"]


def _bomb(size):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("outputs.json", b'{"a":"' + b"x" * size + b'"}')
    return archive.getvalue()


def test_an_archive_is_read_no_further_than_the_cap_whatever_it_says_of_itself():
    honest = _bomb(30 << 20)
    assert len(honest) < MAX_BYTES
    lying = honest.replace((30 * (1 << 20) + 8).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    for archive in (honest, lying):
        with pytest.raises(ValueError, match=r"larger than|no archive"):
            read(archive)
    assert read(_bomb(60_000)) == {"a": "x" * 60_000}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_may_ask_for_any_memory_are_not_read(method):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as opened:
        opened.writestr("outputs.json", "{}")
    with pytest.raises(ValueError, match="use deflate"):
        read(archive.getvalue())


def test_a_damaged_archive_is_one_kind_of_error():
    whole, chance = zipped({"outputs.json": '{"image": "web:1", "n": [1, 2, 3]}'}), random.Random(7)
    for _ in range(3_000):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            assert isinstance(read(bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))])), dict)
        except ValueError:
            continue


# logs


async def test_the_log_of_a_job_is_shown_when_it_is_over_and_its_steps_before(api, hands):
    what, run = await started(
        api, hands, {"logs": ["building", "done"], "jobs": [{"name": "deploy", "steps": ["Set up", "Build"]}]}
    )
    first = await executor.logs(api, what, run, "")
    assert first.lines == (
        "deploy: step 'Set up' in progress",
        "deploy: step 'Set up' success",
        "deploy: step 'Build' in progress",
    )
    second = await executor.logs(api, what, run, first.cursor)
    assert (second.lines, second.cursor, first.complete, second.complete) == ((), first.cursor, False, False)
    finish(hands, run)
    third = await executor.logs(api, what, run, second.cursor)
    assert third.lines[0] == "deploy: step 'Build' success"
    assert [line.partition(" ")[2] for line in third.lines[1:]] == ["building", "done"]
    assert third.lines[1][:2] == "20"  # GitHub's times are kept
    assert third.complete
    fourth = await executor.logs(api, what, run, third.cursor)
    assert (fourth.lines, fourth.complete) == ((), True)


async def test_several_jobs_are_told_apart_on_all_pages_and_each_is_read_once(api, hands):
    jobs = [{"name": f"job {n}", "steps": ["x"], "logs": [f"line of {n}"]} for n in range(120)]
    what, run = await started(api, hands, {"jobs": jobs})
    finish(hands, run)
    found = await executor.logs(api, what, run, "")
    said = [line.split(" ", 3)[::3] for line in found.lines if line.startswith("[")]
    assert found.complete
    assert said[119] == ["[job", "line of 119"]
    assert len(said) == 120
    before = len(hands.github.admin.requests(path="/logs$"))
    assert (await executor.logs(api, what, run, found.cursor)).complete
    assert len(hands.github.admin.requests(path="/logs$")) == before == 120


async def test_a_log_that_is_late_is_waited_for_and_one_that_never_was_is_not(api, hands, monkeypatch):
    what, run = await started(api, hands, {"logs": ["late"], "jobs": [{"name": "a", "steps": ["x"]}]})
    finish(hands, run)
    hands.github.admin.fault(path="/logs$", times=2, status=404, body={"message": "Not Found"})
    first = await executor.logs(api, what, run, "")
    assert not first.complete
    monkeypatch.setattr(joblogs, "LATE_S", -1.0)
    assert (await executor.logs(api, what, run, first.cursor)).complete
    monkeypatch.undo()
    second = await executor.logs(api, what, run, first.cursor)
    assert (second.complete, second.lines[-1].endswith(" late")) == (True, True)


async def test_a_log_that_has_expired_is_said_and_is_no_error(api, hands):
    what, run = await started(api, hands, {"logs": ["x"], "jobs": [{"name": "a", "steps": ["x"]}]})
    finish(hands, run)
    hands.github.admin.fault(path="/logs$", times=0, status=410, body={"message": "Server Error"})
    found = await executor.logs(api, what, run, "")
    assert (found.complete, "cannot be shown" in found.lines[-1]) == (True, True)


async def test_the_log_of_a_new_attempt_follows_that_of_the_old_one(api, hands):
    what, run = await started(api, hands, {"logs": ["again"], "jobs": [{"name": "a", "steps": ["x"]}]})
    finish(hands, run, "failure")
    first = await executor.logs(api, what, run, "")
    hands.post(f"{WEB}/actions/runs/{run.external_id}/rerun")
    second = await executor.logs(api, what, run, first.cursor)
    assert (first.complete, second.complete) == (True, False)
    finish(hands, run)
    third = await executor.logs(api, what, run, second.cursor)
    assert (third.complete, third.lines[-1].endswith(" again")) == (True, True)


@pytest.mark.parametrize("cursor", ["", "x", "[]", "1", '{"1": 5}', '{"1": [1]}', '{"1": ["a", 1]}', '{"1": [-1, 0]}'])
def test_a_cursor_that_is_none_begins_at_the_start(cursor):
    assert joblogs.positions_of(cursor) == {}


# events, proofs, rights


def test_d22_an_event_tells_of_its_run():
    assert executor.about("workflow_run", {"workflow_run": {"id": 5}}) == "5"
    assert executor.about("workflow_job", {"workflow_job": {"id": 9, "run_id": 5}}) == "5"
    odd = (None, [], "x", {}, {"workflow_run": None}, {"workflow_run": {"id": "5"}}, {"workflow_run": {"id": True}})
    assert {executor.about("workflow_run", one) for one in odd} == {""}
    assert executor.about("push", {"workflow_run": {"id": 5}}) == ""


SEEN = Run("5", detail={"repository": "acme/web", "repository_id": "101"})
UNSEEN = Run("5", detail={"repository": "acme/web"})


@pytest.mark.parametrize(
    ("run", "claims", "proved"),
    [
        (SEEN, {"run_id": "5", "repository_id": "101", "repository": "acme/web"}, True),
        (SEEN, {"run_id": "5", "repository_id": "101", "repository": "acme/renamed"}, True),
        (SEEN, {"run_id": "5", "repository_id": "102", "repository": "acme/web"}, False),
        (SEEN, {"run_id": "5", "repository": "acme/web"}, False),
        (SEEN, {"run_id": "6", "repository_id": "101"}, False),
        (SEEN, {"run_id": 5, "repository_id": "101"}, False),
        (SEEN, {"repository_id": "101"}, False),
        (UNSEEN, {"run_id": "5", "repository": "Acme/Web", "repository_id": "101"}, True),
        (UNSEEN, {"run_id": "5", "repository": "acme/other"}, False),
        (UNSEEN, {"run_id": "5"}, False),
        (Run("5"), {"run_id": "5", "repository": "", "repository_id": ""}, False),
        (Run(""), {"run_id": "", "repository": ""}, False),
        (SEEN, {}, False),
    ],
)
def test_a_token_proves_a_job_of_its_own_run_and_repository(run, claims, proved):
    assert executor.proves(claims, run) is proved


async def test_a_job_token_of_the_run_is_a_proof_and_that_of_another_is_not(api, hands):
    what, run = await started(api, hands)
    _, other = await started(api, hands, correlation="rcl-" + "3" * 28)
    issued = hands.github.admin.do("job_token", repo="acme/web", run_id=int(run.external_id))["claims"]
    assert issued["iss"] == executor.issuer(api)
    seen = (await executor.poll(api, what, run)).run
    assert [executor.proves(issued, one) for one in (run, seen, other)] == [True, True, False]


@pytest.mark.parametrize(
    ("api_url", "issuer"),
    [
        ("https://api.github.com", "https://token.actions.githubusercontent.com"),
        ("https://git.example.org/api/v3", "https://git.example.org/_services/token"),
        ("https://api.acme.ghe.com", "https://token.actions.acme.ghe.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/_services/token"),
        ("https://api.github.com.example.org", "https://api.github.com.example.org/_services/token"),
    ],
)
def test_the_issuer_of_job_tokens_depends_on_where_github_is(api_url, issuer):
    class Bound:
        connection = None

    from tests.github.conftest import INTEGRATION, REF

    Bound.connection = connected(driver, INTEGRATION, api_url, {"/token": REF})
    assert executor.issuer(Bound) == issuer


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        ({"executor": {"type": "github", "spec": {"workflow": "x", "ref": "main"}}}, {"actions": "write"}),
        ({"executor": {"type": "github", "spec": {"eventType": "x"}}}, {"actions": "write", "contents": "write"}),
        ({"executor": {"type": "noop"}, "report": {"deploymentStatus": True}}, {"deployments": "write"}),
        ({"executor": {"type": "noop"}, "report": {"deployment": {"create": True}}}, {"deployments": "write"}),
        ({"executor": {"type": "noop"}, "report": {"deployment": {"environment": "x"}}}, {}),
        (
            {"executor": {"type": "github"}, "report": {"commitStatus": {"context": "x"}, "deploymentStatus": True}},
            {"actions": "write", "deployments": "write", "statuses": "write"},
        ),
    ],
)
def test_a_stage_needs_what_it_runs_and_reports(spec, needs):
    stage = Resource(ResourceId(Kind.STAGE.value, "default", "deploy"), spec, Location("s.yaml", 1))
    assert driver.needs(stage) == needs


async def test_nothing_of_the_spec_shows_in_a_run_or_an_error(api, hands):
    run = await executor.start(api, intent(workflow="deploy.yml", ref="main", inputs={"version": "canary-value"}))
    assert "canary-value" not in repr(run)
    for fault in ({"status": 500}, {"status": 422, "body": {"message": "no"}}):
        hands.github.admin.fault(method="POST", path="/dispatches$", **fault)
        with pytest.raises(ReconcilerError) as caught:
            await executor.start(api, intent(workflow="deploy.yml", ref="main", inputs={"version": "canary-value"}))
        assert "canary-value" not in caught.value.message
