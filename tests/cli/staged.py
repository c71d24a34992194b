"""A world with stages that need no provider: a source by hand, and stages that run nothing, wait for a person, or a workflow."""

from __future__ import annotations

import json
from typing import Any

from tests.engine.world import World

WORKFLOW = {
    "id": 7,
    "name": "Deploy",
    "path": ".github/workflows/deploy.yml",
    "on": {"workflow_dispatch": {"inputs": {"version": {}, "reconciler_execution_id": {}}}},
    "run_name": "Deploy ${{ inputs.reconciler_execution_id }}",
    "duration_s": 0.5,
    "logs": ["building ${{ inputs.version }}", "done"],
}


def declare(world: World, *, workflow: bool = False) -> None:
    """Declare ``hand`` (manual), ``quick`` (noop) and ``asked`` (noop, one approval); with ``workflow`` also ``deploy`` (GitHub)."""
    world.write("hand.yaml", "kind: EventSource\nmetadata: {name: hand}\nspec: {type: manual}")
    world.write("quick.yaml", stage("quick"))
    world.write(
        "asked.yaml",
        stage("asked", filters="asked", more="  conditions: [{type: approval, approval: {count: 1}}]\n"),
    )
    if workflow:
        world.servers["github"].admin.put_state({"workflows": {"acme/one": [WORKFLOW]}})
        run = (
            "type: github, integration: {name: github}, resource: {type: repository, name: one}, "
            'spec: {workflow: deploy.yml, ref: main, inputs: {version: "${{ inputs.version }}"}}'
        )
        world.write("deploy.yaml", stage("deploy", filters="deploy", executor=run))


def stage(name: str, *, filters: str = "quick", executor: str = "type: noop", more: str = "") -> str:
    """Return a Stage that takes the events of ``hand`` whose ``for`` is ``filters``."""
    return (
        f"kind: Stage\nmetadata: {{name: {name}}}\nspec:\n"
        f"  connections: [{{type: event-source, name: hand, filters: [{{type: data, data: {{expression: '$.for == \"{filters}\"'}}}}]}}]\n"
        "  inputs: [{name: version}]\n"
        "  inputMappings: [{values: [{name: version, valueFrom: {eventData: {connection: hand, expression: $.version}}}]}]\n"
        f"  executor: {{{executor}}}\n{more}"
    )


def payload(target: str, version: str = "1.2.3") -> str:
    return json.dumps({"for": target, "version": version})


def started(world: World) -> Any:
    """Start the daemon and wait until its first pass is done."""
    process = world.daemon()
    world.wait(world.all_ready, "the first pass", 90)
    return process


def waiting(world: World, name: str = "asked") -> dict[str, Any]:
    """Trigger ``name`` and return its item, once it waits for its approval."""
    done = world.cli("trigger", "hand", "--payload", payload(name), "-o", "json")
    assert done.returncode == 0, done.stderr
    event = json.loads(done.stdout)["event"]

    def item() -> dict[str, Any] | None:
        items = json.loads(world.cli("events", event, "-o", "json").stdout)["items"]
        return next((row for row in items if row["reason"] == "approval"), None)

    return world.wait(item, "the item waits for its approval")
