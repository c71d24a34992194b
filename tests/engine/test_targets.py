"""Ready means that events can arrive: a declared target that is not there stalls its source and no other."""

from __future__ import annotations

import pytest

from tests.engine.world import World

TARGETS = {
    "github": ("{type: repository, name: gone}", "{type: repository, name: one}"),
    "semaphore": ("{type: project, name: gone}", "{type: project, name: web}"),
    "buddy": ("{type: project, name: gone}", "{type: project, name: web}"),
}


def source(name: str, provider: str, target: str) -> str:
    return f"kind: EventSource\nmetadata: {{name: {name}}}\nspec:\n  integration: {{name: {provider}}}\n  resource: {target}\n"


@pytest.mark.parametrize("provider", list(TARGETS))
def test_n56_a_target_that_is_not_there_is_not_ready_until_it_is(wide: World, provider: str) -> None:
    gone, there = TARGETS[provider]
    wide.write("gone.yaml", source("gone", provider, gone))
    wide.write("there.yaml", source("there", provider, there))
    wide.cli("run", "--once")
    condition, stalled = wide.condition("EventSource", "gone"), wide.condition("EventSource", "gone", "Stalled")
    assert condition is not None
    assert stalled is not None
    assert (condition["status"], stalled["status"], stalled["reason"]) == ("False", "True", "ScopeGone")
    assert "gone" in stalled["message"]
    assert (wide.condition("EventSource", "there") or {})["status"] == "True"
    assert not [row for row in wide.requests(provider, "POST") if "gone" in str(row["body"])]

    admin = wide.servers[provider].admin
    if provider == "github":
        wide.repos("gone")
    elif provider == "semaphore":
        admin.put_state({"projects": [{"name": "gone"}, {"name": "web"}]})
    else:
        projects = admin.state()["workspaces"]["acme"]["projects"]
        admin.put_state({"workspaces": {"acme": {"projects": [*projects, {"name": "gone", "pipelines": []}]}}})
    assert wide.cli("apply", "--yes").returncode == 0
    wide.cli("run", "--once")
    assert (wide.condition("EventSource", "gone") or {})["status"] == "True"
