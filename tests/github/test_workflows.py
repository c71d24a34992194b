"""What the executor starts at GitHub: one dispatch, and its run found again whatever happened to the answer."""

import asyncio
import time

import pytest

from reconciler.drivers.github import executor as workflows
from reconciler.drivers.github.driver import driver
from reconciler.model.errors import (
    Ambiguous,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderProtocolError,
    ProviderUnavailable,
    ValidationFailed,
)
from reconciler.model.executions import Run
from tests.github.running import (
    CORRELATION,
    DEPLOY,
    KEY,
    PLAIN,
    SILENT,
    WEB,
    check_requests,
    event,
    executor,
    intent,
    posts,
    runs,
)
from tests.github.simulator import Hands, put_workflows
from tests.support.sandbox import client


@pytest.fixture
def hands(github):
    put_workflows(github, DEPLOY, SILENT, PLAIN)
    with Hands(github) as opened:
        yield opened
    check_requests(github)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(workflows, "PAUSES_S", (0.0, 0.0))


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
        ({"id": 7}, "7"),
        ({"name": "Deploy"}, "7"),
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
        (intent(resource="a/b/c", workflow="deploy.yml", ref="main"), ValidationFailed, "not a repository name"),
        (intent(resource="nowhere", workflow="deploy.yml", ref="main"), NotFound, "no workflow"),
        (event(**{str(n): n for n in range(10)}), ValidationFailed, "has 10 keys; GitHub takes 10"),
        (intent(eventType="x" * 101), ValidationFailed, "100 characters"),
        (event(big="x" * 70_000), ValidationFailed, "takes less than 65536"),
        (intent(workflow="deploy.yml", ref="main", inputs={"x": "y" * 70_000}), ValidationFailed, "takes 65535"),
        (intent(workflow="deploy.yml", ref="0" * 40), ValidationFailed, "is no commit: the branch or tag was deleted"),
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
    assert [str(entry["id"]) for entry in runs(hands)] == [run.external_id]


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
    assert [str(entry["id"]) for entry in runs(hands)] == [run.external_id]
    nine = {str(n): n for n in range(8)}
    assert await executor.start(api, event(**nine, **{KEY: "mine"})) is not None
    assert posts(hands)[-1][1]["client_payload"] == {**nine, KEY: CORRELATION}


async def test_an_event_that_nobody_hears_is_taken_and_no_run_is_found(api, hands):
    what = intent(eventType="other")
    assert await executor.start(api, what) is None
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
    monkeypatch.setattr("reconciler.sandbox.github.runs.FILTERED_MOST", 4)
    what = intent()
    await executor.start(api, what)
    for n in range(9):
        await executor.start(api, intent(correlation=f"rcl-{n:028}"))
    state = hands.github.admin.state()["runs"]
    for rows in state.values():
        for number, row in enumerate(rows):
            row["created_at"] = what.intended_at + 3 * number
    hands.github.admin.put_state({"runs": state})
    assert (await executor.find(api, what)).url.endswith(str(min(entry["id"] for entry in runs(hands))))
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
    with pytest.raises(ProviderUnavailable, match="may still appear"):
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
    assert len(hands.github.admin.requests(path="dispatches$")) == 1  # the look for the workflow was redirected
