"""kill -9 between an event and its results: whatever was accepted has its effect once, outside too."""

import datetime as dt
import http.client
import time

import pytest

from tests.flow.stage_world import WORKFLOW, StageWorld

pytestmark = pytest.mark.fault

CI = (
    "executor: {type: github, integration: {name: github}, resource: {type: repository, name: web}, "
    "spec: {workflow: ci.yml, ref: main}}"
)
REPORTS = "report: {commitStatus: {context: ci}, deployment: {create: true, environment: staging}}"


def declared(world: StageWorld, *parts: str) -> None:
    """A push runs a workflow and is told of it twice; afterwards everything is as declared, and no daemon runs."""
    world.source("web")
    world.stage("build", *(parts or (CI, REPORTS)), after="{type: event-source, name: web}")
    assert world.cli("apply", "--yes").returncode == 0


def crashed(world: StageWorld, *points: str) -> None:
    """Push to a daemon that dies at the first of ``points``; the next one dies at the next, and the one after the last lives."""
    process = world.doomed(points[0])
    world.wait(world.listens, "the receiver listens")
    world.push()
    world.died(process, points[0])
    for point in points[1:]:
        world.died(world.doomed(point), point)
    world.daemon()


def exactly_once(world: StageWorld, runs: int = 1) -> None:
    done = world.finished("build")
    assert [(one["result"], one["reason"]) for one in done] == [("passed", "ok")]
    assert len(world.runs()) == runs
    world.wait(lambda: [one["state"] for one in world.commit_statuses()][-1:] == ["success"], "the last status of the commit")
    world.wait(lambda: [one[-1:] for one in world.states()] == [["success"]], "the last status of the Deployment")
    time.sleep(0.5)
    assert [one["state"] for one in world.commit_statuses()] == ["pending", "success"]
    assert world.states() == [["queued", "in_progress", "success"]]
    assert len(world.executions()) == 1
    ended = [one for one in world.events(source="Stage/build") if one["type"] == "execution_finished"]
    assert [one["state"] for one in ended] == ["processed"]


def test_a5_kills_all_the_way_from_event_to_end_leave_exactly_one_run(world: StageWorld) -> None:
    declared(world)
    crashed(
        world,
        "events-before-settle",
        "events-after-settle",
        "execution-after-intent",
        "execution-after-start",
        "execution-after-record",
        "execution-before-finish",
        "execution-after-finish",
    )
    exactly_once(world)


def test_a5_also_where_no_answer_names_the_run_and_lists_show_it_late(world: StageWorld) -> None:
    world.github.settings(return_run_details=False, run_list_lag_s=2.5)
    declared(world)
    crashed(world, "execution-after-intent", "execution-after-start")
    exactly_once(world)


def test_a5_d12_an_answer_that_is_lost_starts_nothing_twice(world: StageWorld) -> None:
    declared(world)
    world.github.settings(run_list_lag_s=2.5)
    world.github.fault(method="POST", path="/dispatches$", effect="reset", commit=True, times=1)
    world.daemon()
    world.wait(world.listens, "the receiver listens")
    world.push()
    exactly_once(world)


def test_a7_kills_around_statuses_write_each_exactly_once(world: StageWorld) -> None:
    """Each process writes one status more than the one before it, which did not note its last one any more."""
    declared(world)
    crashed(world, "report-before-send:1", "report-after-send:1", "report-after-send:2", "report-after-send:2")
    exactly_once(world)


def test_e3_e8_kills_around_the_commit_of_a_delivery_that_is_sent_again_have_one_effect(world: StageWorld) -> None:
    world.webhook()
    world.stage("noop", after="{type: event-source, name: own}")
    assert world.cli("apply", "--yes").returncode == 0

    def send() -> int:
        """As a sender does: again, until it is answered."""
        try:
            return world.send("own", {"n": 1}, delivery="one")
        except (OSError, http.client.HTTPException):
            return 0

    answers = set()
    for point in ("inbox-before-commit", "inbox-after-commit"):
        process = world.doomed(point)
        while process.poll() is None:
            answers.add(send())
            time.sleep(0.05)
        world.died(process, point)
    assert answers <= {0, 503}  # until its source is known; then never answered
    world.daemon()
    world.wait(lambda: send() == 202, "the delivery is accepted")
    world.finished("noop")
    assert send() == 202
    time.sleep(0.5)
    assert len(world.executions("noop")) == 1
    assert len(world.events(source="EventSource/own")) == 1


def test_a5_every_kind_of_executor_finds_its_run_again(wide: StageWorld) -> None:
    wide.manual()
    wide.stage(
        "sem",
        "executor: {type: semaphore, integration: {name: semaphore}, resource: {type: project, name: web}, spec: {ref: refs/heads/main}}",
    )
    wide.stage(
        "bud",
        "executor: {type: buddy, integration: {name: buddy}, resource: {type: pipeline, name: deploy}, spec: {workspace: acme, project: web}}",
    )
    wide.stage("git", CI)
    assert wide.cli("apply", "--yes").returncode == 0
    process = wide.doomed("execution-after-start")
    wide.wait(lambda: process.poll() is not None or _triggered(wide), "the trigger is taken")
    wide.died(process, "execution-after-start")
    wide.died(wide.doomed("execution-after-intent"), "execution-after-intent")
    wide.daemon()
    for stage in ("sem", "bud", "git"):
        assert [(one["result"], one["reason"]) for one in wide.finished(stage)] == [("passed", "ok")]
    assert len(wide.semaphore.state()["workflows"]) == 1
    assert len(wide.buddy.state()["workspaces"]["acme"]["executions"]) == 1
    assert len(wide.runs()) == 1


def _triggered(world: StageWorld) -> bool:
    from reconciler.model.errors import ReconcilerError

    try:
        world.trigger()
    except ReconcilerError:
        return False
    return True


def test_a6_following_goes_on_after_a_kill_and_the_timeout_counts_from_the_start(world: StageWorld) -> None:
    slow = {**WORKFLOW, "id": 21, "name": "slow", "path": ".github/workflows/slow.yml", "duration_s": None}
    world.workflows("web", WORKFLOW, slow)
    world.manual()
    long = CI.replace("ci.yml", "slow.yml")
    world.stage("late", "timeout: 8s", long)
    world.stage("ends", "timeout: 10m", long)
    world.ready()
    world.trigger()
    late, ends = world.running("late"), world.running("ends")
    world.kill()
    world.github.do("finish_run", repo="acme/web", run_id=int(ends["externalId"]), conclusion="failure")
    world.daemon()
    done = world.finished("ends")[0]
    assert (done["id"], done["result"], done["reason"]) == (ends["id"], "failed", "failed")
    over = world.finished("late")[0]
    assert (over["id"], over["reason"]) == (late["id"], "timed-out")
    began, ended = (dt.datetime.fromisoformat(over[key]) for key in ("startedAt", "finishedAt"))
    # Both are whole seconds, and the timeout counts from the intent, which is before the start that is shown.
    assert 8 - 1 <= (ended - began).total_seconds() <= 8 + 6
    assert {one["attempts"][-1]["conclusion"] for one in world.runs()} == {"failure", "cancelled"}
    assert len(world.runs()) == 2
