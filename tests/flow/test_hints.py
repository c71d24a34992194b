"""An event that says something of a run makes the daemon look at that run now, not at its next turn."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.stage_world import WORKFLOW, StageWorld

AN_HOUR_S = 3600.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[StageWorld]:
    made = StageWorld(tmp_path)
    yield made
    made.close()


def put_off(world: StageWorld) -> None:
    """Move the next poll of everything that runs an hour ahead, as if the provider had asked for it."""
    with contextlib.closing(sqlite3.connect(world.folder / "state" / "state.db", timeout=30)) as state, state:
        state.execute("UPDATE execution SET next_at = ?", (time.time() + AN_HOUR_S,))


def test_d22_an_event_of_a_run_ends_its_execution_although_its_next_poll_is_an_hour_away(world: StageWorld) -> None:
    world.workflows("web", {**WORKFLOW, "duration_s": 2})
    world.source("web", events="[{type: workflow_run}]")
    world.manual()
    github = "type: github, integration: {name: github}, resource: {type: repository, name: web}"
    world.stage("build", f"executor: {{{github}, spec: {{workflow: ci.yml, ref: main}}}}")
    world.github.settings(deliver=False)  # the provider's own events would come at a time of their own
    world.ready()
    world.trigger()
    world.wait(lambda: world.runs() and world.running("build")["externalId"], "the run is known")
    put_off(world)
    time.sleep(2.5)  # the run is over now, and the daemon has no reason to look
    assert world.running("build")
    run = world.runs()[0]
    payload = {"action": "completed", "workflow_run": {"id": run["id"], "run_attempt": 1, "head_sha": "a" * 40}}
    world.github.settings(deliver=True)
    world.github.do("emit", repository="acme/web", event="workflow_run", payload=payload)
    assert world.finished("build")[0]["result"] == "passed"
