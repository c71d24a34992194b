"""Runs of GitHub on their way: states and ends, attempts, cancelling, and whose job a token is of."""

import contextlib
import dataclasses
import json
import random

import pytest

from reconciler.drivers.github import executor as workflows
from reconciler.drivers.github.driver import driver
from reconciler.drivers.github.runs import WorkflowRun, report_of
from reconciler.drivers.wire import decode
from reconciler.model.errors import PermissionDenied, ProviderProtocolError, ReconcilerError
from reconciler.model.executions import Result, Run, RunStatus
from reconciler.model.resources import Kind, Location, Resource, ResourceId
from tests.github.conftest import TOKEN
from tests.github.running import DEPLOY, PLAIN, SILENT, WEB, check_requests, event, executor, finish, intent, posts, started
from tests.github.simulator import Hands, put_workflows
from tests.support.driving import damaged
from tests.support.sandbox import connected


@pytest.fixture
def hands(github):
    put_workflows(github, DEPLOY, SILENT, PLAIN)
    with Hands(github) as opened:
        yield opened
    check_requests(github)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(workflows, "PAUSES_S", (0.0, 0.0))


# followed


def shown(row):
    return report_of(decode(row, WorkflowRun, "a run"), "acme/web")


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
        shown(row)


def test_what_nobody_knows_yet_is_work_that_goes_on_or_a_failure():
    assert shown({"id": 1, "status": "polishing", "conclusion": None}).status is RunStatus.RUNNING
    assert shown({"id": 1, "status": "completed", "conclusion": "meh"}).result is Result.FAILED


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


# answers of another shape


class Damaging:
    """An API whose answers are those of another, with one part of one of them replaced."""

    def __init__(self, api, junk, chance):
        self.connection, self._api, self._junk, self._chance = api.connection, api, junk, chance

    async def request(self, method, path, **options):
        answer = await self._api.request(method, path, **options)
        if not answer.content or self._chance.random() < 0.3:
            return answer
        return dataclasses.replace(answer, content=json.dumps(damaged(answer.json(), self._chance, self._junk)).encode())

    async def download(self, path):
        return await self._api.download(path)


@pytest.mark.parametrize("junk", [None, "", "x", -1, True, [], {}, [[]], {"id": 1}])
async def test_d15_no_part_of_an_answer_is_trusted(api, hands, junk):
    what, run = await started(api, hands, {"outputs": {"a": 1}, "logs": ["x"], "jobs": [{"name": "a", "steps": ["x"]}]})
    finish(hands, run)
    broken = Damaging(api, junk, random.Random(repr(junk)))
    work = (
        lambda: executor.poll(broken, what, run),
        lambda: executor.find(broken, what),
        lambda: executor.find(broken, event()),
        lambda: executor.logs(broken, what, run, ""),
        lambda: executor.start(broken, intent(workflow="Deploy", ref="main")),
    )
    for _ in range(12):
        for entry in work:
            with contextlib.suppress(ReconcilerError):
                await entry()


# events, proofs, rights


def test_d22_an_event_tells_of_its_run():
    assert executor.run_id_of("workflow_run", {"workflow_run": {"id": 5}}) == "5"
    assert executor.run_id_of("workflow_job", {"workflow_job": {"id": 9, "run_id": 5}}) == "5"
    odd = (None, [], "x", {}, {"workflow_run": None}, {"workflow_run": {"id": "5"}}, {"workflow_run": {"id": True}})
    assert {executor.run_id_of("workflow_run", entry) for entry in odd} == {""}
    assert executor.run_id_of("push", {"workflow_run": {"id": 5}}) == ""


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
    assert executor.matches_job_token(claims, run) is proved


async def test_a_job_token_of_the_run_is_a_proof_and_that_of_another_is_not(api, hands):
    what, run = await started(api, hands)
    _, other = await started(api, hands, correlation="rcl-" + "3" * 28)
    issued = hands.github.admin.do("job_token", repo="acme/web", run_id=int(run.external_id))["claims"]
    assert issued["iss"] == executor.issuer(api)
    seen = (await executor.poll(api, what, run)).run
    assert [executor.matches_job_token(issued, entry) for entry in (run, seen, other)] == [True, True, False]


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
