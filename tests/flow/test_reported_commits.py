"""N6, N22, N26, N44 and N21 with the real daemon: what GitHub gets for tags, deleted branches and texts of strangers."""

from typing import Any

from tests.flow.stage_world import WORKFLOW, StageWorld

REPORT = "report: {commitStatus: {context: ci}, deployment: {create: true, environment: '${{ event.repository.name }} 🚀'}}"
RUN = """
executor:
  type: github
  name: "🚀 ${{ event.head_commit.message }}"
  integration: {name: github}
  resource: {type: repository, name: "${{ event.repository.name }}"}
  allow: [web, 'svc-*']
  spec: {workflow: ci.yml, ref: main, inputs: {sha: "${{ event.head_commit.id }}"}}
"""
OF_WEB = "{type: event-source, name: web}"


def test_n6_n22_n44_a_tag_reports_to_its_commit_and_a_deleted_branch_starts_nothing(world: StageWorld) -> None:
    world.source("web", events="[{type: push}, {type: delete}]")
    world.stage("ci", RUN, REPORT, after=OF_WEB)
    world.ready()
    tag = world.push(ref="refs/tags/v1", annotated=True, commits=[{"message": "Release\nwith notes", "author": "ada"}])
    assert tag["after"] != tag["sha"]
    [done] = world.finished("ci")
    assert done["result"] == "passed"

    def states() -> list[str]:
        return [one["state"] for one in world.commit_statuses()]

    world.wait(lambda: states() == ["pending", "success"], "both statuses are on the commit")
    assert {one["sha"] for one in world.commit_statuses()} == {tag["sha"]}
    world.wait(lambda: world.states() == [["queued", "in_progress", "success"]], "the Deployment has its statuses")
    [made] = world.deployments()
    assert made["sha"] == tag["sha"]
    assert made["environment"].startswith("web ?-")

    branch = world.push(ref="refs/heads/feature")
    world.finished("ci", 2)
    world.push(ref="refs/heads/feature", delete=True)
    gone: Any = world.wait(lambda: [one for one in world.events() if one["rejectedBy"]], "the deletions were looked at")
    assert all(one["rejectedBy"][0]["reason"] == "error" for one in gone)
    world.wait(world.quiet, "all is done")
    assert len(world.executions("ci")) == 2
    assert {one["sha"] for one in world.deployments()} == {tag["sha"], branch["sha"]}

    shown = world.ask("execution", id=done["id"])
    assert shown["item"]["origin"]["commitUrl"].endswith(f"/acme/web/commit/{tag['sha']}")
    assert (shown["item"]["origin"]["author"], shown["item"]["origin"]["message"]) == ("ada", "Release")
    assert (shown["runs"]["resource"], shown["runs"]["spec"]["inputs"]) == ("acme/web", {"sha": tag["sha"]})
    text = world.cli("executions", done["id"]).stdout
    for words in (
        f"commit      {tag['sha'][:8]} http",
        "author      ada",
        "message     Release",
        "repository  acme/web",
        "ran before  nothing",
    ):
        assert words in text, text
    second = world.ask("execution", id=world.executions("ci")[1]["id"])
    assert second["previous"]["origin"]["commit"] == tag["sha"]


def test_n6_a_report_that_has_nothing_to_report_to_is_said_once(world: StageWorld) -> None:
    world.manual()
    world.stage("ci", "executor: {type: noop}", "report: {commitStatus: {context: ci}}")
    world.ready()
    event = world.trigger()
    [done] = world.finished("ci")
    assert world.log().count("report_without_target") == 1
    assert "status_abandoned" not in world.log()
    assert (
        "report commit: nothing to write to: the event came through no Integration" in world.cli("executions", done["id"]).stdout
    )
    assert "Did you mean" not in world.cli("approve", "itm-nope").stderr
    assert "there is no item or execution 'itm-nope'" in world.cli("approve", "itm-nope").stderr
    again = [world.cli("rerun", done["id"], "--key", "k", "-o", "json").stdout for _ in range(2)]
    assert [one.count('"new":true') + one.count('"new": true') for one in again] == [1, 0]
    made = [world.cli("trigger", "hand", "--key", "k", "-o", "json").stdout for _ in range(2)]
    assert made[0].replace("true", "false") == made[1]
    [report] = world.ask("execution", id=done["id"])["reports"]
    assert (report["kind"], report["state"]) == ("commit", "none")
    assert "no Integration" in report["error"]
    assert {one["kind"] for one in world.ask("event", id=event)["unreported"]} == {"commit"}


def test_n44_of_many_repositories_each_runs_its_own_workflow_and_no_other(world: StageWorld) -> None:
    world.repos("web", "shop", "svc-a", "svc-b")
    for repo in ("web", "svc-a", "svc-b"):
        world.workflows(repo, WORKFLOW)
    state = world.github.state()["workflows"]
    world.github.put_state({"workflows": {**state, **{f"acme/{one}": [dict(WORKFLOW)] for one in ("web", "svc-a", "svc-b")}}})
    world.write(
        "many.yaml",
        "kind: EventSource\nmetadata: {name: web}\nspec:\n  integration: {name: github}\n"
        "  resource: {type: repository, names: [web, shop, svc-a, svc-b]}\n  events: [{type: push}]\n",
    )
    world.stage("ci", RUN, after=OF_WEB)
    world.ready()
    for repo in ("svc-a", "svc-b", "shop"):
        world.push(repo)
    done = world.finished("ci", 2)
    assert {one["result"] for one in done} == {"passed"}
    assert [len(world.runs(repo)) for repo in ("svc-a", "svc-b", "shop", "web")] == [1, 1, 0, 0]
    refused: Any = world.wait(lambda: [one for one in world.events() if one["rejectedBy"]], "shop is not allowed")
    assert "'acme/shop' is not among what this stage may run" in refused[0]["rejectedBy"][0]["message"]
