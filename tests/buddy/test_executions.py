"""The executor of Buddy: started once, found again by its comment, followed to its end, driven over HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.drivers.buddy.driver import driver
from reconciler.drivers.buddy.errors import required_scope
from reconciler.drivers.buddy.executor import VARIABLE
from reconciler.model.errors import (
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    ProviderProtocolError,
    ScopeGone,
    ValidationFailed,
)
from reconciler.model.events import PastDelivery
from reconciler.model.executions import Result, Run, RunIntent, RunStatus
from reconciler.sandbox.buddy.app import TOKEN
from reconciler.sandbox.server import SandboxServer
from tests.buddy.runs import Runs, action
from tests.support.driving import Canned, World, damaged, resource

executor = driver.executors["buddy"]
CORRELATION = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Runs()) as running:
        yield running


@pytest.fixture
def app(server: SandboxServer) -> Runs:
    return server.app


def intent(pipeline: str = "deploy", *, at: float | None = None, **spec: Any) -> RunIntent:
    spec = {"workspace": "acme", "project": "web", **spec}
    spec = {key: value for key, value in spec.items() if value is not None}
    return RunIntent("e-1", CORRELATION, "buddy", pipeline, spec, time.time() if at is None else at)


async def started(world: World, pipeline: str = "deploy", **spec: Any) -> tuple[RunIntent, Run]:
    what = intent(pipeline, **spec)
    run = await executor.start(world.api, what)
    assert run is not None
    return what, run


def posts(server: SandboxServer) -> list[dict[str, Any]]:
    return [row for row in server.admin.requests() if row["method"] == "POST"]


# ---- start


async def test_a_pipeline_is_run_once_and_carries_our_id_in_a_variable_and_the_comment(
    world: World, server: SandboxServer, app: Runs
) -> None:
    variables = {"ENV": "prod", "COUNT": 3, "DRY": True, "NONE": None, VARIABLE: "forged"}
    _, run = await started(world, revision="c0ffee", branch="main", variables=variables)
    (sent,) = posts(server)
    assert sent["path"] == "/workspaces/acme/projects/web/pipelines/21/executions"
    assert sent["body"] == {
        "to_revision": {"revision": "c0ffee"},
        "branch": {"name": "main"},
        "comment": f"reconciler {CORRELATION}",
        "variables": [
            {"key": "ENV", "value": "prod"},
            {"key": "COUNT", "value": "3"},
            {"key": "DRY", "value": "true"},
            {"key": "NONE", "value": ""},
            {"key": VARIABLE, "value": CORRELATION},
        ],
    }
    (execution,) = app.executions["web", 21]
    assert run.external_id == str(execution["id"])
    assert run.detail == {"workspace": "acme", "project": "web", "pipeline": 21}
    assert run.url == f"https://app.buddy.works/acme/runs/{execution['id']}"


async def test_the_newest_commit_is_run_unless_another_is_named(world: World, server: SandboxServer) -> None:
    await started(world)
    await started(world, tag="v1")
    assert [row["body"]["to_revision"] for row in posts(server)] == [{"revision": "HEAD"}] * 2
    assert [(row["body"].get("branch"), row["body"].get("tag")) for row in posts(server)] == [
        (None, None),
        (None, {"name": "v1"}),
    ]


async def test_a_pipeline_is_given_by_number_name_or_identifier(world: World, app: Runs) -> None:
    app.state["workspaces"]["acme"]["projects"][1]["pipelines"].append({"id": 23, "name": "Ship it", "identifier": "ship"})
    for named in ("Ship it", "ship"):
        _, run = await started(world, named)
        assert run.detail["pipeline"] == 23
    run = await executor.start(world.api, dataclasses.replace(intent(""), resource_id=23))
    assert run is not None
    assert run.detail["pipeline"] == 23


async def test_a_start_that_cannot_be_is_refused_before_anything_runs(world: World, server: SandboxServer, app: Runs) -> None:
    for what, words in [
        (intent("nothing"), "no pipeline 'nothing'"),
        (intent(project=None), "`project`"),
        (intent(revision="0" * 40), "is no commit"),  # N26
    ]:
        with pytest.raises(ValidationFailed, match=words):
            await executor.start(world.api, what)
    for what in (dataclasses.replace(intent(""), resource_id=99), intent(project="nowhere")):
        with pytest.raises(NotFound):
            await executor.start(world.api, what)
    app.state["workspaces"]["acme"]["projects"][1]["pipelines"].append({"id": 23, "name": "deploy", "identifier": "x"})
    with pytest.raises(ValidationFailed, match="2 pipelines"):
        await executor.start(world.api, intent())
    app.state["tokens"][TOKEN]["scopes"].remove("EXECUTION_RUN")
    with pytest.raises(PermissionDenied) as caught:
        await executor.start(world.api, dataclasses.replace(intent(""), resource_id=21))
    assert "EXECUTION_RUN" in caught.value.hint
    assert app.executions.get(("web", 21), []) == []


@pytest.mark.parametrize("body", [{}, [], "text", {"id": True}, {"id": None}, {"id": ""}, {"id": "x"}])
async def test_D15_an_answer_that_names_no_execution_leaves_the_outcome_open(
    world: World, server: SandboxServer, body: Any
) -> None:
    server.admin.fault(method="POST", path="executions", status=201, body=body)
    with pytest.raises(OutcomeUnknown):
        await executor.start(world.api, intent())


# ---- find


async def test_A5_a_complete_look_that_shows_no_run_says_so(world: World, server: SandboxServer, app: Runs) -> None:
    app.start(comment=None)
    app.start("payments", 11, comment=CORRELATION)
    assert await executor.find(world.api, intent()) is None
    for n in range(30):
        app.start(at=time.time() - 9_000 + n)
    server.admin.clear_requests()
    app.executions["web", 21].sort(key=lambda item: item["start"])
    for number, row in enumerate(app.executions["web", 21]):
        row["id"] = number + 1
    assert await executor.find(world.api, intent()) is None
    assert 1 <= len(server.admin.requests(path="executions")) <= 3


async def test_A5_of_two_that_carry_our_id_the_first_is_taken(world: World, app: Runs) -> None:
    rows = [app.start(comment=f"x {CORRELATION} y", at=time.time() - 100) for _ in range(2)]
    result = await executor.find(world.api, intent())
    assert result is not None
    assert result.external_id == str(rows[0]["id"])


async def test_A5_an_execution_that_has_not_begun_has_no_time_and_is_found_all_the_same(world: World, app: Runs) -> None:
    for _ in range(5):
        app.start(at=time.time() - 9_000)
    ours = app.start(comment=CORRELATION, status="ENQUEUED")
    for execution in (ours, *(app.start(status="ENQUEUED") for _ in range(4))):
        execution["start"] = None
    result = await executor.find(world.api, intent())
    assert result is not None
    assert result.external_id == str(ours["id"])


# ---- poll


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("ENQUEUED", RunStatus.QUEUED),
        ("INITIAL", RunStatus.QUEUED),
        ("INPROGRESS", RunStatus.RUNNING),
        ("TERMINATING", RunStatus.RUNNING),
        ("DREAMING", RunStatus.RUNNING),
        ("WAITING_FOR_APPLY", RunStatus.WAITING),
        ("WAITING_FOR_VARIABLES", RunStatus.WAITING),
        ("WAITING_FOR_SETTABLE_VARIABLES", RunStatus.WAITING),
        ("WAITING_FOR_VT_SESSION", RunStatus.WAITING),
        ("WAITING_FOR_SOMETHING_NEW", RunStatus.WAITING),
    ],
)
async def test_D21_a_run_that_goes_on_has_no_result(world: World, app: Runs, status: str, expected: RunStatus) -> None:
    what, run = await started(world)
    app.executions["web", 21][0].update(status=status)
    report = await executor.poll(world.api, what, run)
    assert (report.status, report.result, report.conclusion, report.run) == (expected, None, status, run)
    assert bool(report.message) is (expected is RunStatus.WAITING)


@pytest.mark.parametrize("status", ["", None, 7, "  "])
async def test_n48_a_run_without_a_status_goes_on_and_is_no_failed_look(
    world: World, server: SandboxServer, app: Runs, status: object
) -> None:
    what, run = await started(world)
    execution = dict((await world.api.request("GET", _path_of(run))).json(), status=status)
    server.admin.fault(method="GET", path="executions/", status=200, body=execution)
    report = await executor.poll(world.api, what, run)
    assert (report.status, report.result, report.run) == (RunStatus.RUNNING, None, run)


def _path_of(run: Run) -> str:
    place = run.detail
    return (
        f"/workspaces/{place['workspace']}/projects/{place['project']}/pipelines/{place['pipeline']}/executions/{run.external_id}"
    )


async def test_a_wait_for_a_person_says_what_for_and_where(world: World, app: Runs) -> None:
    what, run = await started(world)
    app.executions["web", 21][0].update(
        status="WAITING_FOR_APPLY", actions=[action("Build"), action("Approve", "WAITING_FOR_APPLY")]
    )
    assert (await executor.poll(world.api, what, run)).message == "waits at Buddy for an approval: Approve"


@pytest.mark.parametrize(
    ("status", "expected", "message"),
    [
        ("SUCCESSFUL", Result.PASSED, ""),
        ("SKIPPED", Result.PASSED, ""),
        ("FAILED", Result.FAILED, "an action failed"),
        ("NOT_EXECUTED", Result.FAILED, "nothing was run"),
        ("TERMINATED", Result.CANCELLED, ""),
    ],
)
async def test_D21_the_end_has_the_providers_word(world: World, app: Runs, status: str, expected: Result, message: str) -> None:
    what, run = await started(world)
    app.finish(app.executions["web", 21][0], status)
    report = await executor.poll(world.api, what, run)
    assert (report.status, report.result, report.conclusion) == (RunStatus.FINISHED, expected, status)
    assert (report.message, report.outputs) == (message, {})


async def test_a_failure_quotes_the_error_of_the_action(world: World, app: Runs) -> None:
    what, run = await started(world)
    execution = app.executions["web", 21][0]
    execution["actions"] = [
        action("Build"),
        action("Deploy", "FAILED", error_message="no\n route"),
        action("Later", "NOT_EXECUTED"),
    ]
    app.finish(execution, "FAILED")
    assert (await executor.poll(world.api, what, run)).message == "Deploy: no route"


async def test_D21_a_retry_at_the_provider_is_the_same_execution_and_is_followed(world: World, app: Runs) -> None:
    what, run = await started(world)
    app.finish(app.executions["web", 21][0], "FAILED")
    assert (await executor.poll(world.api, what, run)).result is Result.FAILED
    place = f"/workspaces/acme/projects/web/pipelines/21/executions/{run.external_id}"
    await world.api.request("PATCH", place, json={"operation": "RETRY"})
    assert (await executor.poll(world.api, what, run)).status is RunStatus.RUNNING
    app.finish(app.executions["web", 21][0])
    assert (await executor.poll(world.api, what, run)).result is Result.PASSED


async def test_what_the_actions_put_out_is_handed_on_without_what_is_encrypted(world: World, app: Runs) -> None:
    what, run = await started(world)
    execution = app.executions["web", 21][0]
    execution["actions"] = [
        action(
            "Build",
            outputted_variables=[{"key": "VERSION", "value": "1"}, {"key": "TOKEN", "value": "canary", "encrypted": True}],
        ),
        action("Tag", outputted_variables=[{"key": "VERSION", "value": "2"}, {"key": "N", "value": None}, {"value": "x"}, 7]),
        action("Odd", outputted_variables={"key": "NO"}),
        action("Skipped", "SKIPPED", outputted_variables=[{"key": "SKIPPED", "value": "x"}]),
        {"action": {"name": "planned"}, "status": "INITIAL"},
    ]
    assert (await executor.poll(world.api, what, run)).outputs == {}
    app.finish(execution)
    report = await executor.poll(world.api, what, run)
    assert report.outputs == {"VERSION": "2", "N": None}
    assert "canary" not in repr(report)


async def test_D21_a_run_that_is_gone_is_not_found_and_a_lost_workspace_is_another_matter(world: World, app: Runs) -> None:
    what, run = await started(world)
    app.executions.clear()
    with pytest.raises(NotFound) as caught:
        await executor.poll(world.api, what, run)
    assert not isinstance(caught.value, ScopeGone)
    app.state["workspaces"].clear()
    with pytest.raises(ScopeGone):
        await executor.poll(world.api, what, run)


@pytest.mark.parametrize("body", [{}, [], {"id": 1, "status": "FAILED"}, {"id": None}, {"status": "SUCCESSFUL"}])
async def test_D15_an_execution_of_another_shape_is_an_error_and_no_end(world: World, server: SandboxServer, body: Any) -> None:
    what, run = await started(world)
    server.admin.fault(method="GET", path="executions/", status=200, body=body)
    with pytest.raises(ProviderProtocolError):
        await executor.poll(world.api, what, run)


async def test_a_run_is_followed_by_what_its_start_noted_though_its_pipeline_was_renamed(world: World, app: Runs) -> None:
    what, run = await started(world)
    app.state["workspaces"]["acme"]["projects"][1]["pipelines"][0].update(name="ship", identifier="ship")
    assert (await executor.poll(world.api, what, run)).status is RunStatus.QUEUED
    with pytest.raises(ValidationFailed):
        await executor.poll(world.api, what, Run(run.external_id))


# ---- cancel


async def test_a_refused_cancellation_of_an_active_run_is_an_error(world: World, server: SandboxServer) -> None:
    what, run = await started(world)
    server.admin.fault(method="PATCH", path="executions", status=400, body={"errors": [{"message": "no"}]})
    with pytest.raises(ValidationFailed):
        await executor.cancel(world.api, what, run)


# ---- logs


async def test_a_log_is_read_action_by_action_and_each_line_once(world: World, server: SandboxServer, app: Runs) -> None:
    what, run = await started(world)
    execution = app.executions["web", 21][0]
    build, deploy = action("Build", "INPROGRESS", log=["one\n", "two\nthree"]), action("Deploy", "INITIAL")
    execution.update(status="INPROGRESS", actions=[build, deploy])
    first = await executor.logs(world.api, what, run, "")
    assert (first.lines, first.complete) == (("[Build] one", "[Build] two", "[Build] three"), False)
    build.update(status="SUCCESSFUL", log=[*build["log"], "four"])
    deploy.update(status="INPROGRESS", log=["go"])
    second = await executor.logs(world.api, what, run, first.cursor)
    assert (second.lines, second.complete) == (("[Build] four", "[Deploy] go"), False)
    server.admin.clear_requests()
    deploy.update(status="FAILED", log=["go", "", 7, "gone"])
    app.finish(execution, "FAILED")
    third = await executor.logs(world.api, what, run, second.cursor)
    assert (third.lines, third.complete) == (("[Deploy] ", "[Deploy] gone"), True)
    assert [row["path"].rpartition("/")[2] for row in server.admin.requests(path="action_executions")] == ["a-Deploy"]
    assert (await executor.logs(world.api, what, run, third.cursor)).lines == ()


async def test_an_action_whose_log_is_gone_has_none(world: World, server: SandboxServer, app: Runs) -> None:
    what, run = await started(world)
    app.executions["web", 21][0].update(actions=[action("Build", log=["one"])])
    server.admin.fault(path="action_executions", status=404, body={"errors": [{"message": "gone"}]})
    assert (await executor.logs(world.api, what, run, "")).lines == ()
    server.admin.fault(path="action_executions", status=200, body=[])
    with pytest.raises(ProviderProtocolError):
        await executor.logs(world.api, what, run, "")


# ---- pure parts


def test_D22_an_event_tells_of_its_execution() -> None:
    for number in (7, "7"):
        assert executor.run_id_of("EXECUTION_FINISHED", {"execution": {"id": number}}) == "7"
    for kind, odd in [
        ("PUSH", {"execution": {"id": 7}}),
        *(("EXECUTION_FAILED", row) for row in (None, [], {}, {"execution": 7})),
    ]:
        assert executor.run_id_of(kind, odd) == ""


async def test_no_token_of_a_job_proves_a_run(world: World) -> None:
    assert not executor.matches_job_token({"sub": "acme/web"}, Run("7"))
    assert executor.issuer(world.api) == ""


async def test_a_stage_asks_for_the_scopes_that_its_runs_need(world: World, app: Runs) -> None:
    executing = {
        "type": "buddy",
        "resource": {"type": "pipeline", "name": "deploy"},
        "spec": {"workspace": "acme", "project": "web"},
    }
    stage = resource("Stage", "prod", {"executor": executing})
    assert driver.needs(stage) == executor.permissions(executing)
    assert (await driver.check(world.api, driver.needs(stage))).missing == ()
    app.state["tokens"][TOKEN]["scopes"] = ["TOKEN_INFO"]
    missing = (await driver.check(world.api, driver.needs(stage))).missing
    assert missing == ("EXECUTION_INFO", "EXECUTION_MANAGE", "EXECUTION_RUN", "WORKSPACE")
    app.state["tokens"][TOKEN]["scopes"] = ["TOKEN_INFO", "WORKSPACE", "EXECUTION_MANAGE"]
    assert (await driver.check(world.api, driver.needs(stage))).missing == ()
    assert driver.needs(resource("Stage", "other", {"executor": {"type": "http"}})) == {}


@pytest.mark.parametrize(
    ("request_", "scope"),
    [
        ("GET /workspaces/a/projects/p/pipelines/1/executions/2", "EXECUTION_INFO"),
        ("GET /workspaces/a/projects/p/pipelines", "EXECUTION_INFO"),
        ("POST /workspaces/a/projects/p/pipelines/1/executions", "EXECUTION_RUN"),
        ("PATCH /workspaces/a/projects/p/pipelines/1/executions/2", "EXECUTION_MANAGE"),
        ("GET /workspaces/a/webhooks", "WEBHOOK_INFO"),
    ],
)
def test_a_refusal_names_the_scope_that_is_missing(request_: str, scope: str) -> None:
    assert required_scope(request_) == scope


async def test_nothing_of_the_spec_shows_in_a_run(world: World) -> None:
    _, run = await started(world, variables={"TOKEN": "canary-value"})
    assert "canary-value" not in repr(run)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
EXECUTION = {
    "id": 7,
    "status": "FAILED",
    "start_date": "2026-01-02T03:00:00Z",
    "finish_date": "2026-01-02T03:04:05.678Z",
    "comment": CORRELATION,
    "html_url": "https://app.buddy.works/x",
    "creator": {"name": "Ada"},
    "pipeline": {"id": 21},
}
ANSWER = {
    **EXECUTION,
    "action_executions": [action("Build", "FAILED"), action("Wait", "WAITING_FOR_APPLY")],
    "error_message": "no",
    "outputted_variables": [{"key": "A", "value": "1"}],
    "log": ["one"],
    "executions": [EXECUTION],
    "total_page_count": 1,
}


@settings(max_examples=600, deadline=None)
@given(st.randoms(use_true_random=False), json_values)
async def test_d15_an_answer_with_any_part_damaged_is_read_or_refused_with_a_typed_error(random: Any, junk: Any) -> None:
    api = Canned(driver, damaged(ANSWER, random, junk))
    detail = {"workspace": "acme", "project": "web", "pipeline": 21}
    run = Run("7", detail=detail)
    past = PastDelivery("execution:7:finished", "/executions/7", "EXECUTION_FINISHED", 1.0, arrived=False, detail=detail)
    assert driver.receiver is not None
    for call in (
        executor.start(api, intent("21")),
        executor.poll(api, intent(), run),
        executor.logs(api, intent(), run, ""),
        executor.find(api, intent("21", at=0.0)),
        driver.receiver.fetch(api, None, past),
    ):
        with contextlib.suppress(ProviderError):
            await call
