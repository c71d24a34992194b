"""What this version has no driver for: that is said at once, and not tried again and again."""

from tests.flow.stage_world import NOOP, StageWorld


def test_n6_a_report_to_a_provider_that_takes_none_is_said_once_and_not_tried(tmp_path) -> None:
    world = StageWorld(tmp_path, ("semaphore",))
    try:
        place = {"url": "git@github.com:acme/web.git", "owner": "acme", "name": "web"}
        world.semaphore.put_state({"projects": [{"name": "web", "repository": place}]})
        world.write(
            "source-runs.yaml",
            "kind: EventSource\nmetadata: {name: runs}\n"
            "spec: {integration: {name: semaphore}, resource: {type: project, name: web}}",
        )
        world.stage("after", NOOP, "report: {commitStatus: {context: ci}}", after="{type: event-source, name: runs}")
        world.ready()
        world.semaphore.do("run_pipeline", project="web", branch="main", duration_s=0.1)
        ended = world.finished("after")[0]

        [report] = world.ask("execution", id=ended["id"])["reports"]
        assert report["state"] == "none"
        assert "semaphore, which takes no statuses" in report["error"]
        assert world.log().count("report_without_target") == 1
        assert "status_retry_scheduled" not in world.log()
        assert "status_abandoned" not in world.log()
    finally:
        world.close()


def test_a_stage_whose_executor_is_not_part_of_this_version_fails_at_once_and_says_why(world: StageWorld) -> None:
    token = "{use: token, token: {valueFrom: {secret: {name: github, key: token}}}}"
    world.write(
        "gitlab.yaml",
        f"kind: Integration\nmetadata: {{name: gitlab}}\nspec: {{type: gitlab, url: 'https://gitlab.com/acme', auth: {token}}}",
    )
    world.manual()
    world.stage(
        "roll",
        "executor: {type: gitlab, integration: {name: gitlab}, resource: {type: project, name: web}, spec: {ref: main}}",
    )
    world.daemon()
    world.wait(lambda: (world.condition("Stage", "roll") or {}).get("reason") == "NotImplemented", "the stage is stalled")
    world.trigger()
    ended = world.finished("roll")[0]
    assert (ended["result"], ended["reason"]) == ("failed", "error")
    assert "not part of this version" in ended["message"]
    assert "step_failed" not in world.log()
