"""Runs whose start, or end, a provider refuses for a moment: they are started once, and ended as asked."""

from __future__ import annotations

import pytest

from tests.flow.stage_world import NOOP, WORKFLOW, StageWorld

pytestmark = pytest.mark.fault

CI = "executor: {type: github, integration: {name: github}, resource: {type: repository, name: web}, spec: {workflow: ci.yml, ref: main}}"
PAGE = "<html><body>Request blocked</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "commit"),
    [
        (402, {"message": "payment needed"}, False),
        (403, {"message": "Resource not accessible by integration"}, False),
        (403, PAGE, False),
        (403, PAGE, True),
        (404, {"message": "Not Found"}, False),
        (408, {"message": "timeout"}, False),
        (408, {"message": "timeout"}, True),
        (422, {"message": "You have reached the limit of queued runs"}, False),
        (423, {"message": "locked"}, False),
        (429, {"message": "slow down"}, False),
    ],
)
def test_n2_a_start_that_is_refused_for_a_moment_makes_exactly_one_run(
    world: StageWorld, status: int, body: object, commit: bool
) -> None:
    world.manual()
    world.stage("git", CI)
    headers = {"retry-after": "1"} if status == 429 else {}
    world.github.fault(method="POST", path="/dispatches$", status=status, body=body, commit=commit, headers=headers)
    world.ready()
    world.trigger()
    assert [(one["result"], one["reason"]) for one in world.finished("git")] == [("passed", "ok")]
    assert len(world.runs()) == 1


def test_n2_values_of_a_run_that_are_refused_end_it_at_once(world: StageWorld) -> None:
    world.manual()
    world.stage("git", CI)
    body = {"message": "No ref found for: main"}
    world.github.fault(method="POST", path="/dispatches$", status=422, body=body, times=9)
    world.ready()
    world.trigger()
    done = world.finished("git")[0]
    assert (done["result"], done["reason"]) == ("failed", "refused")
    assert "No ref found" in done["message"]


def test_n48_a_cancel_that_is_refused_since_the_run_is_not_queued_yet_is_asked_again(world: StageWorld) -> None:
    world.workflows("web", {**WORKFLOW, "duration_s": None})
    world.manual()
    world.stage("git", CI)
    body = {"message": "Cannot cancel a workflow run that is not queued yet"}
    world.github.fault(method="POST", path="/cancel$", status=409, body=body)
    world.ready()
    world.trigger()
    world.ask("cancel", id=world.running("git")["id"])
    assert [(one["result"], one["reason"]) for one in world.finished("git")] == [("cancelled", "user")]
    asked = world.github.requests(path="cancel$", method="POST")
    assert [(row["path"].rpartition("/")[2], row["status"]) for row in asked] == [("cancel", 409), ("cancel", 202)]


def test_n2_why_a_status_is_put_off_is_shown_until_it_is_written(world: StageWorld) -> None:
    world.source("web")
    world.stage("ci", NOOP, "report: {commitStatus: {context: ci}}", after="{type: event-source, name: web}")
    words = "This SHA and context has reached the maximum number of statuses."
    world.github.fault(method="POST", path="/statuses/", status=422, body={"message": words}, times=0)
    world.ready()
    world.push("web")
    [done] = world.finished("ci")

    def errors() -> list[str]:
        return [one["error"] for one in world.ask("execution", id=done["id"])["reports"]]

    world.wait(lambda: any(words in one for one in errors()), "the provider's words")
    assert "not written yet: " in (shown := world.cli("executions", done["id"]).stdout), shown
    assert words in shown
    world.github.clear_faults()
    world.wait(lambda: [one["state"] for one in world.commit_statuses()] == ["pending", "success"], "both statuses")
    world.wait(lambda: set(errors()) == {""}, "no error any more")
