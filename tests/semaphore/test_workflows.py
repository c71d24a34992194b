"""The executor of Semaphore: started once, found again, followed to its end, driven over HTTP."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.drivers.semaphore.driver import driver
from reconciler.drivers.semaphore.executor import PARAMETER, event_of, lines_of
from reconciler.model.errors import (
    Ambiguous,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    ScopeGone,
    ValidationFailed,
)
from reconciler.model.events import PastDelivery
from reconciler.model.executions import Result, Run, RunIntent, RunStatus
from reconciler.sandbox.app import Reply
from reconciler.sandbox.server import SandboxServer
from tests.semaphore.runs import Runs, uid
from tests.support.driving import Canned, World, damaged

executor = driver.executors["semaphore"]
CORRELATION = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Runs()) as running:
        yield running


@pytest.fixture
def app(server: SandboxServer) -> Runs:
    return server.app


def intent(*, resource: str = "payments", at: float | None = None, **spec: Any) -> RunIntent:
    spec = {"ref": "refs/heads/main", **spec}
    spec = {key: value for key, value in spec.items() if value is not None}
    return RunIntent("e-1", CORRELATION, "semaphore", resource, spec, time.time() if at is None else at)


def task(app: Runs, name: str = "deploy", *parameters: str, project: str = "payments") -> str:
    app.tasks.append(
        {"id": uid(), "name": name, "project_id": app.project(project), "parameters": [{"name": p} for p in parameters]}
    )
    return str(app.tasks[-1]["id"])


def posts(server: SandboxServer) -> list[dict[str, Any]]:
    return [row for row in server.admin.requests() if row["method"] == "POST"]


async def started(world: World, **spec: Any) -> tuple[RunIntent, Run]:
    what = intent(**spec)
    run = await executor.start(world.api, what)
    assert run is not None
    return what, run


# ---- start


async def test_a_workflow_is_started_once_with_its_parameters_and_our_own(world: World, server: SandboxServer, app: Runs) -> None:
    parameters = {"ENV": "prod", "COUNT": 3, "DRY": False, "NONE": None, "MAP": {"a": [1]}, PARAMETER: "forged"}
    _, run = await started(world, pipelineFile=".semaphore/deploy.yml", parameters=parameters)
    (sent,) = posts(server)
    assert sent["body"] == {
        "project_id": app.project(),
        "reference": "refs/heads/main",
        "pipeline_file": ".semaphore/deploy.yml",
        "parameters": {"ENV": "prod", "COUNT": "3", "DRY": "false", "NONE": "", "MAP": '{"a":[1]}', PARAMETER: CORRELATION},
    }
    (workflow,) = app.workflows
    assert run.external_id == workflow["wf_id"]
    assert run.detail == {"project": app.project(), "workflow": workflow["wf_id"], "pipeline": workflow["initial_ppl_id"]}
    assert run.url == f"https://acme.semaphoreci.com/workflows/{workflow['wf_id']}?pipeline_id={workflow['initial_ppl_id']}"


async def test_without_a_file_the_default_one_is_run(world: World, server: SandboxServer) -> None:
    await started(world)
    assert posts(server)[0]["body"]["pipeline_file"] == ".semaphore/semaphore.yml"


async def test_a_start_that_cannot_be_is_refused_before_anything_runs(world: World, server: SandboxServer, app: Runs) -> None:
    with pytest.raises(ValidationFailed, match="`ref` is not set"):
        await executor.start(world.api, intent(ref=None))
    with pytest.raises(ValidationFailed, match="is no commit"):  # N26
        await executor.start(world.api, intent(ref="0" * 40))
    with pytest.raises(NotFound):
        await executor.start(world.api, intent(resource="nowhere"))
    server.admin.fault(method="POST", path="plumber-workflows", status=400, body="Invalid reference")
    with pytest.raises(ValidationFailed, match="Invalid reference"):
        await executor.start(world.api, intent())
    assert app.workflows == []


@pytest.mark.parametrize("body", [{}, [], "text", {"workflow_id": 7}, {"workflow_id": ""}])
async def test_D15_an_answer_that_names_no_workflow_leaves_the_outcome_open(
    world: World, server: SandboxServer, body: Any
) -> None:
    server.admin.fault(method="POST", path="plumber-workflows", status=200, body=body)
    with pytest.raises(OutcomeUnknown):
        await executor.start(world.api, intent())


# ---- tasks


@pytest.mark.parametrize("by", ["id", "name"])
async def test_a_task_is_run_once_and_no_workflow_beside_it(world: World, server: SandboxServer, app: Runs, by: str) -> None:
    for n in range(5):
        task(app, f"other-{n}")
    number = task(app, "deploy", "ENV", PARAMETER)
    what, run = await started(world, task=number if by == "id" else "deploy", parameters={"ENV": "prod"})
    (sent,) = posts(server)
    assert sent["path"] == f"/api/v1alpha/tasks/{number}/run_now"
    assert sent["body"] == {
        "reference": {"type": "BRANCH", "name": "main"},
        "parameters": {"ENV": "prod", PARAMETER: CORRELATION},
    }
    (workflow,) = app.workflows
    assert run.external_id == workflow["wf_id"]
    report = await executor.poll(world.api, what, run)
    assert report.run.detail["pipeline"] == workflow["initial_ppl_id"]
    assert report.run.url.endswith(f"?pipeline_id={workflow['initial_ppl_id']}")


@pytest.mark.parametrize(
    ("ref", "reference"),
    [
        ("refs/heads/feature/x", {"type": "BRANCH", "name": "feature/x"}),
        ("refs/tags/v1", {"type": "TAG", "name": "v1"}),
        ("main", {"type": "BRANCH", "name": "main"}),
        (None, None),
    ],
)
async def test_a_task_takes_its_reference_as_an_object(
    world: World, server: SandboxServer, app: Runs, ref: str | None, reference: dict[str, str] | None
) -> None:
    task(app)
    await started(world, task="deploy", ref=ref, pipelineFile="x.yml")
    assert posts(server)[0]["body"].get("reference") == reference
    assert posts(server)[0]["body"]["pipeline_file"] == "x.yml"


async def test_a_task_that_is_not_there_or_there_twice_is_refused_with_candidates(
    world: World, server: SandboxServer, app: Runs
) -> None:
    twice = sorted(task(app, "deploy") for _ in range(2))
    foreign = task(app, "nightly", project="web")
    with pytest.raises(ValidationFailed, match=", ".join(twice)):
        await executor.start(world.api, intent(task="deploy"))
    for name in ("release", foreign, "nightly"):
        with pytest.raises(ValidationFailed, match="has no task") as caught:
            await executor.start(world.api, intent(task=name))
        assert "deploy" in caught.value.hint
    with pytest.raises(ValidationFailed, match="branch or a tag"):
        await executor.start(world.api, intent(task=twice[0], ref="refs/pull/7"))
    assert posts(server) == []


async def test_n23_of_equal_names_the_task_that_is_neither_paused_nor_suspended_is_run(
    world: World, server: SandboxServer, app: Runs
) -> None:
    numbers = [task(app, "deploy", PARAMETER) for _ in range(3)]
    app.tasks[0]["paused"] = app.tasks[2]["suspended"] = True
    await started(world, task="deploy")
    assert posts(server)[-1]["path"] == f"/api/v1alpha/tasks/{numbers[1]}/run_now"


async def test_n54_a_task_named_like_the_id_of_another_is_distinguished_from_it(
    world: World, server: SandboxServer, app: Runs
) -> None:
    number = task(app, "deploy", PARAMETER)
    trap = task(app, number, PARAMETER)
    with pytest.raises(ValidationFailed, match="2 tasks"):
        await executor.start(world.api, intent(task=number))
    await started(world, task={"id": number})
    await started(world, task={"name": number})
    assert [row["path"].split("/")[4] for row in posts(server)] == [number, trap]


async def test_a_parameter_of_ours_that_a_task_refuses_is_left_out_once(world: World, server: SandboxServer, app: Runs) -> None:
    app.strict_parameters = True
    task(app, "deploy", "ENV")
    await started(world, task="deploy", parameters={"ENV": "prod"})
    assert [sorted(row["body"]["parameters"]) for row in posts(server)] == [["ENV", PARAMETER], ["ENV"]]
    assert len(app.workflows) == 1
    with pytest.raises(ValidationFailed, match="OTHER"):
        await executor.start(world.api, intent(task="deploy", parameters={"OTHER": "x"}))
    assert len(app.workflows) == 1


# ---- find


async def test_A5_a_complete_look_that_shows_no_run_says_so(world: World, app: Runs) -> None:
    app.start("payments", "api", env={PARAMETER: "other"})
    app.start("web", "api", env={PARAMETER: CORRELATION})
    app.start("payments", "api", env={PARAMETER: CORRELATION}, at=time.time() - 300)  # long before the intent
    assert await executor.find(world.api, intent()) is None


async def test_A5_clocks_may_differ_by_two_minutes(world: World, app: Runs) -> None:
    early = app.start("payments", "api", env={PARAMETER: CORRELATION}, at=time.time() - 100)
    result = await executor.find(world.api, intent())
    assert result is not None
    assert result.external_id == early["wf_id"]


async def test_A5_a_rerun_takes_the_parameter_along_and_the_first_run_is_the_one(world: World, app: Runs) -> None:
    first = app.start("payments", "api", env={PARAMETER: CORRELATION}, at=time.time() + 5)
    app.start("payments", "api", env={PARAMETER: CORRELATION}, rerun_of=first["wf_id"])
    result = await executor.find(world.api, intent())
    assert result is not None
    assert result.external_id == first["wf_id"]


async def test_A5_a_workflow_without_a_pipeline_yet_might_be_ours(world: World, app: Runs) -> None:
    app.start("payments", "api")["initial_ppl_id"] = ""
    with pytest.raises(ProviderUnavailable):
        await executor.find(world.api, intent())
    app.workflows[0]["initial_ppl_id"] = uid()
    with pytest.raises(ProviderUnavailable):
        await executor.find(world.api, intent())


async def test_A5_a_task_that_carries_our_parameter_is_found_and_its_absence_is_proved(world: World, app: Runs) -> None:
    task(app, "deploy", PARAMETER)
    app.start("payments", "manual_run")  # somebody else's
    assert await executor.find(world.api, intent(task="deploy")) is None
    await started(world, task="deploy")
    result = await executor.find(world.api, intent(task="deploy"))
    assert result is not None
    assert result.external_id == app.workflows[-1]["wf_id"]


async def test_A5_a_task_that_drops_our_parameter_is_never_guessed_at(world: World, app: Runs) -> None:
    task(app, "deploy")
    app.start("payments", "api")
    app.start("payments", "manual_run", env={PARAMETER: "another-execution"})
    assert await executor.find(world.api, intent(task="deploy")) is None
    _, run = await started(world, task="deploy")
    with pytest.raises(Ambiguous, match=run.external_id) as caught:
        await executor.find(world.api, intent(task="deploy"))
    assert PARAMETER in caught.value.hint


# ---- poll


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("initializing", RunStatus.QUEUED),
        ("pending", RunStatus.QUEUED),
        ("queuing", RunStatus.QUEUED),
        ("running", RunStatus.RUNNING),
        ("stopping", RunStatus.RUNNING),
        ("dreaming", RunStatus.RUNNING),
    ],
)
async def test_D21_a_run_that_goes_on_has_no_result(world: World, app: Runs, state: str, status: RunStatus) -> None:
    what, run = await started(world)
    app.pipelines[0].update(state=state, result="passed")
    report = await executor.poll(world.api, what, run)
    assert (report.status, report.result, report.conclusion) == (status, None, state)


@pytest.mark.parametrize(
    ("result", "reason", "expected"),
    [
        ("passed", "test", Result.PASSED),
        ("failed", "test", Result.FAILED),
        ("failed", "malformed", Result.FAILED),
        ("stopped", "user", Result.CANCELLED),
        ("canceled", "strategy", Result.CANCELLED),
        ("exploded", "", Result.FAILED),
    ],
)
async def test_D21_the_end_is_the_initial_pipelines_with_the_providers_word(
    world: World, app: Runs, result: str, reason: str, expected: Result
) -> None:
    what, run = await started(world)
    app.finish(app.pipelines[0]["ppl_id"], result, result_reason=reason, error_description="line 1\nline 2")
    report = await executor.poll(world.api, what, run)
    assert (report.status, report.result, report.conclusion) == (RunStatus.FINISHED, expected, result)
    assert report.message == ("" if expected is Result.PASSED else ": ".join(filter(None, [reason, "line 1 line 2"])))
    assert (report.run, report.outputs) == (run, {})


async def test_a_promotion_never_flips_the_result(world: World, app: Runs) -> None:
    what, run = await started(world)
    first = app.pipelines[0]["ppl_id"]
    app.finish(first)
    promotion = app.pipeline(app.workflows[0], promotion_of=first)
    app.finish(promotion["ppl_id"], "failed")
    assert (await executor.poll(world.api, what, run)).result is Result.PASSED
    app.pipelines[0].update(result="failed")
    promotion.update(result="passed")
    assert (await executor.poll(world.api, what, run)).result is Result.FAILED


async def test_D21_a_partial_rebuild_is_followed_as_another_attempt(world: World, app: Runs) -> None:
    what, run = await started(world)
    before = app.pipelines[0]["ppl_id"]
    for n in range(3):
        app.finish(before, "failed")
        app.pipeline(app.workflows[0], promotion_of=before)
        rebuilt = app.pipeline(app.workflows[0], partial_rerun_of=before, at=time.time() + n)
        report = await executor.poll(world.api, what, run)
        assert (report.status, report.run.attempt) == (RunStatus.RUNNING, n + 2)
        assert (report.run.external_id, report.run.detail["pipeline"]) == (run.external_id, rebuilt["ppl_id"])
        run, before = report.run, rebuilt["ppl_id"]
    app.finish(before)
    report = await executor.poll(world.api, what, run)
    assert (report.result, report.run.attempt) == (Result.PASSED, 4)


async def test_D21_a_rerun_is_another_workflow_and_another_attempt_of_the_same_run(world: World, app: Runs) -> None:
    what, run = await started(world)
    app.finish(app.pipelines[0]["ppl_id"], "failed")
    again = app.start("payments", "api", rerun_of=run.external_id)
    app.start("payments", "api", rerun_of=uid())
    report = await executor.poll(world.api, what, run)
    assert (report.status, report.run.attempt, report.run.external_id) == (RunStatus.RUNNING, 2, run.external_id)
    assert report.run.detail["workflow"] == again["wf_id"]
    assert again["wf_id"] in report.run.url
    await executor.cancel(world.api, what, report.run)
    assert (await executor.poll(world.api, what, report.run)).result is Result.CANCELLED
    assert executor.matches_job_token({"wf_id": again["wf_id"], "prj_id": app.project()}, report.run)


async def test_D8_a_lost_organization_or_right_is_no_lost_run(world: World, server: SandboxServer, app: Runs) -> None:
    what, run = await started(world)
    server.admin.settings(organization_found=False)
    with pytest.raises(ScopeGone):
        await executor.poll(world.api, what, run)
    server.admin.settings(organization_found=True)
    app.pipelines.clear()
    app.state["projects"][0]["hidden"] = True
    with pytest.raises(PermissionDenied):
        await executor.poll(world.api, what, run)


async def test_a_task_whose_workflow_has_no_pipeline_yet_is_queued(world: World, app: Runs) -> None:
    task(app)
    what, run = await started(world, task="deploy")
    app.workflows[0]["initial_ppl_id"] = ""
    assert (await executor.poll(world.api, what, run)).status is RunStatus.QUEUED
    assert not (await executor.logs(world.api, what, run, "")).complete


@pytest.mark.parametrize("body", [{}, [], {"pipeline": []}, {"pipeline": {"ppl_id": "another"}}])
async def test_D15_a_pipeline_of_another_shape_is_an_error_and_no_end(world: World, server: SandboxServer, body: Any) -> None:
    what, run = await started(world)
    server.admin.fault(path="pipelines/", status=200, body=body)
    with pytest.raises(ProviderProtocolError):
        await executor.poll(world.api, what, run)


async def test_D15_an_end_without_a_result_is_an_error(world: World, app: Runs) -> None:
    what, run = await started(world)
    app.pipelines[0].update(state="done", result="")
    with pytest.raises(ProviderProtocolError, match="without a result"):
        await executor.poll(world.api, what, run)


# ---- cancel


async def test_a_refused_cancellation_of_an_active_run_is_an_error(world: World, server: SandboxServer) -> None:
    what, run = await started(world)
    server.admin.fault(method="POST", path="terminate", status=400, body="no")
    with pytest.raises(ValidationFailed):
        await executor.cancel(world.api, what, run)


# ---- logs


def said(*lines: str, command: str = "make", ended: bool = True) -> list[dict[str, Any]]:
    events = [{"event": "job_started"}, {"event": "cmd_started", "directive": command}]
    events += [{"event": "cmd_output", "output": line} for line in lines]
    return events + ([{"event": "cmd_finished", "exit_code": 0}, {"event": "job_finished", "result": "passed"}] if ended else [])


def jobs(app: Runs, *names: str) -> None:
    app.pipelines[0]["blocks"] = [{"name": "Test", "jobs": [{"job_id": f"j-{name}", "name": name} for name in names]}]


async def test_a_log_is_read_piece_by_piece_and_each_line_once(world: World, app: Runs) -> None:
    what, run = await started(world)
    jobs(app, "unit")
    first = await executor.logs(world.api, what, run, "")
    assert (first.lines, first.complete) == ((), False)  # never started: 404
    app.job_logs["j-unit"] = said("one\ntw", ended=False)
    second = await executor.logs(world.api, what, run, first.cursor)
    assert (second.lines, second.complete) == (("$ make", "one"), False)
    app.job_logs["j-unit"] = said("one\ntw", "o\r\n", "three")
    third = await executor.logs(world.api, what, run, second.cursor)
    assert (third.lines, third.complete) == (("two", "three"), False)
    app.finish(app.pipelines[0]["ppl_id"])
    last = await executor.logs(world.api, what, run, third.cursor)
    assert (last.lines, last.complete) == ((), True)


async def test_log_lines_name_their_job_and_a_complete_log_is_not_requested_again(
    world: World, server: SandboxServer, app: Runs
) -> None:
    what, run = await started(world)
    jobs(app, "unit", "lint", "never")
    app.job_logs |= {"j-unit": said("ok\n"), "j-lint": said("fine\n", ended=False)}
    first = await executor.logs(world.api, what, run, "")
    assert first.lines == ("[Test/unit] $ make", "[Test/unit] ok", "[Test/lint] $ make", "[Test/lint] fine")
    server.admin.clear_requests()
    app.finish(app.pipelines[0]["ppl_id"])
    second = await executor.logs(world.api, what, run, first.cursor)
    assert (second.lines, second.complete) == ((), True)
    assert [row["path"] for row in server.admin.requests(path="logs")] == [
        "/api/v1alpha/logs/j-lint",
        "/api/v1alpha/logs/j-never",
    ]


async def test_the_log_of_an_agent_of_ones_own_is_fetched_without_our_credential(
    world: World, server: SandboxServer, app: Runs
) -> None:
    what, run = await started(world)
    jobs(app, "unit")
    app.job_logs["j-unit"] = Reply(302, None, {"location": f"{server.url}/api/v1/logs/j-unit?jwt=token"})
    events = ['{"event": "cmd_started", "directive": "make"}', "broken", {"event": "job_finished"}]
    server.admin.fault(path="/api/v1/logs/", status=200, body={"events": events})
    result = await executor.logs(world.api, what, run, "")
    assert result.lines == ("$ make",)
    (followed,) = server.admin.requests(path="/api/v1/logs/")
    assert "authorization" not in followed["headers"]


async def test_a_missing_right_to_logs_is_no_bad_token(world: World, server: SandboxServer, app: Runs) -> None:
    what, run = await started(world)
    jobs(app, "unit")
    app.job_logs["j-unit"] = Reply(401, "Permission denied")
    with pytest.raises(PermissionDenied):
        await executor.logs(world.api, what, run, "")
    app.job_logs["j-unit"] = Reply(200, {"events": {}})
    with pytest.raises(ProviderProtocolError):
        await executor.logs(world.api, what, run, "")


def test_events_become_lines() -> None:
    raw = [
        {"event": "cmd_output", "output": "no command\n\nspaced"},
        {"event": "cmd_started", "directive": "cat <<E\nx\nE"},
        {"event": "cmd_output", "output": 7},
        {"event": "cmd_output", "output": "half"},
        {"event": "odd"},
        {},
    ]
    events = [event_of(event) for event in raw]
    whole = ["no command", "", "spaced", "$ cat <<E", "x", "E"]
    assert list(lines_of(events, ended=False)) == whole
    assert list(lines_of(events, ended=True)) == [*whole, "half"]


# ---- pure parts


def test_D22_an_event_tells_of_its_workflow_whatever_pipeline_it_is_about() -> None:
    payload = {"workflow": {"id": "w-1"}, "pipeline": {"id": "promotion"}}
    assert executor.run_id_of("pipeline_done", payload) == "w-1"
    for kind, odd in [
        ("push", payload),
        *(("pipeline_done", row) for row in (None, [], {}, {"workflow": 7}, {"workflow": {"id": 7}})),
    ]:
        assert executor.run_id_of(kind, odd) == ""


@pytest.mark.parametrize(
    ("claims", "proved"),
    [
        ({"wf_id": "w-1", "prj_id": "p-1"}, True),
        ({"wf_id": "w-2", "prj_id": "p-1"}, False),
        ({"wf_id": "w-1", "prj_id": "p-2"}, False),
        ({"wf_id": "w-1"}, False),
        ({"prj_id": "p-1"}, False),
        ({"wf_id": ["w-1"], "prj_id": "p-1"}, False),
        ({"wf_id": "", "prj_id": ""}, False),
    ],
)
def test_a_token_proves_a_job_of_its_own_workflow_and_project(claims: dict[str, Any], proved: bool) -> None:
    assert executor.matches_job_token(claims, Run("w-1", detail={"project": "p-1"})) is proved
    assert not executor.matches_job_token(claims, Run("", detail={"project": ""}))


async def test_the_issuer_of_job_tokens_is_the_organization(world: World) -> None:
    assert executor.issuer(world.api) == "https://acme.semaphoreci.com"


@pytest.mark.parametrize(("spec", "start"), [({"ref": "main"}, "job.rerun"), ({"task": "nightly"}, "scheduler.run_manually")])
def test_a_task_needs_another_right_than_a_workflow(spec: dict[str, Any], start: str) -> None:
    needed = {"project.view": "read", f"project.{start}": "write", "project.job.stop": "write"}
    assert executor.permissions({"type": "semaphore", "spec": spec}) == needed


async def test_nothing_of_the_spec_shows_in_a_run(world: World) -> None:
    _, run = await started(world, parameters={"TOKEN": "canary-value"})
    assert "canary-value" not in repr(run)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PIPELINE = {
    "ppl_id": "p-1",
    "wf_id": "w-1",
    "state": "done",
    "result": "passed",
    "result_reason": "test",
    "error_description": "",
    "branch_name": "main",
    "done_at": "2026-01-02 03:04:05.678Z",
    "env_vars": [{"name": PARAMETER, "value": "x"}],
}
JOB = {"job_id": "j", "name": "unit", "index": 0, "status": "FINISHED", "result": "PASSED"}
ANSWER = {
    "pipeline": PIPELINE,
    "blocks": [{"name": "Test", "state": "done", "jobs": [JOB]}],
    "workflow": {"wf_id": "w-1", "initial_ppl_id": "p-1", "created_at": {"seconds": 1, "nanos": 0}, "organization_id": "o"},
    "events": [{"event": "cmd_started", "directive": "make"}, {"event": "cmd_output", "output": "x\n"}],
}


class Redirecting(Canned):
    """Answers downloads, too."""

    async def download(self, path: str) -> Any:
        return await self.request("GET", path)


@settings(max_examples=600, deadline=None)
@given(st.randoms(use_true_random=False), json_values)
async def test_d15_an_answer_with_any_part_damaged_is_read_or_refused_with_a_typed_error(random: Any, junk: Any) -> None:
    api = Redirecting(driver, damaged(ANSWER, random, junk))
    run = Run("w-1", detail={"project": "p", "pipeline": "p-1"})
    past = PastDelivery("pipeline:p-1", "p-1", "pipeline_done", 1.0, arrived=False, detail={})
    assert driver.receiver is not None
    for call in (
        executor.poll(api, intent(), run),
        executor.poll(api, intent(), Run("w-1", detail={"project": "p"})),
        executor.logs(api, intent(), run, ""),
        executor.find(api, intent(task="t")),
        driver.receiver.fetch(api, None, past),
    ):
        with contextlib.suppress(ProviderError):
            await call
