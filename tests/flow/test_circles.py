"""What a stage does outside comes back as an event: it never starts that stage again."""

import time
from typing import Any

import pytest

from reconciler.events.routing import wire
from reconciler.model.resources import ResourceId
from tests.flow.stage_world import StageWorld
from tests.flow.test_pure import MANUAL, loaded, routed

OURS = {"ref": "main", "deployment": {"id": 7, "sha": "d", "payload": {"stages": ["Stage/default/s"]}}}
STATUS = {"sha": "a", "context": "ci", "state": "success"}


def stages(report: str = "{}") -> Any:
    return wire(
        "r1",
        loaded(
            MANUAL + "kind: Stage\nmetadata: {name: s}\nspec:\n  connections: [{type: event-source, name: hand}]\n"
            f"  executor: {{type: noop}}\n  report: {report}\n---\n"
            "kind: Stage\nmetadata: {name: other}\nspec:\n  connections: [{type: event-source, name: hand}]\n  executor: {type: noop}"
        ),
    )


@pytest.mark.parametrize(
    ("kind", "payload", "report", "started"),
    [
        ("deployment", OURS, "{}", ["other"]),
        ("deployment_status", OURS, "{}", ["other"]),
        ("deployment", {"deployment": {"id": 7, "payload": "{}"}}, "{}", ["other", "s"]),
        (
            "status",
            {**STATUS, "description": "s: success (itm-0123456789abcdef01234567)"},
            "{commitStatus: {context: ci}}",
            ["other"],
        ),
        ("status", {**STATUS, "description": "s: success (itm-0123456789abcdef01234567)"}, "{}", ["other", "s"]),
        ("status", {**STATUS, "description": "green"}, "{commitStatus: {context: ci}}", ["other", "s"]),
        ("status", {**STATUS, "description": None}, "{commitStatus: {context: ci}}", ["other", "s"]),
    ],
)
def test_what_a_stage_reported_does_not_start_it(kind: str, payload: Any, report: str, started: list[str]) -> None:
    found = routed(stages(report), payload, kind=kind)
    assert sorted(one.stage.name for one in found.items) == started
    assert {one.reason for one in found.rejections} <= {"circle"}
    assert len(found.rejections) + len(found.items) == 2


def test_stages_that_led_to_a_run_are_handed_on_and_not_started_by_it() -> None:
    wiring = stages()
    found = routed(wiring, {"workflow_run": {"id": 1}}, kind="workflow_run", through=("Stage/default/x", "Stage/default/s"))
    assert [(one.stage.name, one.origin["through"]) for one in found.items] == [("other", ["Stage/default/x", "Stage/default/s"])]
    after = wire(
        "r1",
        loaded(
            MANUAL
            + "kind: Stage\nmetadata: {name: s}\nspec: {connections: [{type: event-source, name: hand}], executor: {type: noop}}\n"
            "---\nkind: Stage\nmetadata: {name: next}\nspec: {connections: [{type: stage, name: s}], executor: {type: noop}}"
        ),
    )
    done = routed(after, {"origin": {"sha": "e"}}, kind="execution_finished", source=ResourceId("Stage", "default", "s"))
    assert [one.origin for one in done.items] == [{"sha": "e", "through": ["Stage/default/s"]}]


def test_a_workflow_and_a_deployment_of_a_stage_do_not_start_it_again(world: StageWorld) -> None:
    world.source("web", events="[{type: workflow_run}, {type: deployment}, {type: deployment_status}, {type: status}]")
    world.manual()
    github = "type: github, integration: {name: github}, resource: {type: repository, name: web}"
    report = "report: {commitStatus: {context: ours}, deployment: {create: true, environment: live, ref: main}}"
    after = "{type: event-source, name: web}, {type: event-source, name: hand}"
    world.stage("around", f"executor: {{{github}, spec: {{workflow: ci.yml, ref: main}}}}", report, after=after)
    world.ready()
    world.github.do(
        "emit",
        repository="acme/web",
        event="status",
        payload={"sha": world.push()["sha"], "context": "theirs", "state": "success", "description": "by hand"},
    )
    world.finished("around")
    world.wait(lambda: [s["state"] for one in world.deployments() for s in one["statuses"]][-1:] == ["success"], "its statuses")
    quiet = time.monotonic() + 5
    while time.monotonic() < quiet:  # it would go round in less than one second
        assert len(world.executions("around")) == 1
        time.sleep(0.2)
    assert len(world.runs()) == 1
    assert len(world.deployments()) == 1
    reasons = [
        (one["type"], rejected["reason"])
        for one in world.ask("events", limit=100)["events"]
        for rejected in one.get("rejectedBy", ())
    ]
    assert {kind for kind, reason in reasons if reason == "circle"} >= {
        "workflow_run",
        "deployment",
        "deployment_status",
        "status",
    }
