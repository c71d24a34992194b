"""Lists that have no end: what one list may hold is bounded over all of its pages, and the bound is named."""

import json

import pytest

from tests.engine.world import World

pytestmark = pytest.mark.fault


def test_n35_many_huge_pages_of_hooks_are_refused_with_the_bound_and_others_go_on(world: World) -> None:
    world.source("one")
    hooks = [
        {
            "id": 900 + number,
            "name": "web",
            "active": True,
            "events": [f"e{number}"],
            "config": {"url": f"https://other.example/{number}", "content_type": "json", "insecure_ssl": "0"},
        }
        for number in range(50)
    ]
    world.set_hooks("one", hooks)
    world.servers["github"].admin.settings(page_size=1, pad_bytes=15 << 20)
    done = world.cli("run", "--once", timeout=180)
    assert done.returncode == 6
    said = json.dumps(world.resource("EventSource", "one")["conditions"])
    assert "RC5051" in said
    assert "32 MiB" in said
    assert len(world.servers["github"].admin.requests(path="/hooks$", method="GET")) <= 3
    assert world.writes() == []


@pytest.mark.parametrize(
    ("provider", "manifest"),
    [
        ("semaphore", "{integration: {name: semaphore}, resource: {type: project, match: 'p*'}}"),
        ("buddy", "{integration: {name: buddy}, resource: {type: project, match: '*'}, events: [{type: PUSH}]}"),
    ],
)
def test_n35_huge_pages_of_projects_are_refused_too(wide: World, provider: str, manifest: str) -> None:
    wide.write("it.yaml", f"kind: EventSource\nmetadata: {{name: it}}\nspec: {manifest}")
    if provider == "semaphore":
        wide.servers[provider].admin.put_state({"projects": [{"name": f"p{number}"} for number in range(9)]})
    wide.servers[provider].admin.settings(page_size=1, pad_bytes=15 << 20)
    done = wide.cli("run", "--once", timeout=180)
    assert done.returncode == 6, done.stdout + done.stderr
    assert "RC5051" in json.dumps(wide.status())
    assert wide.writes(provider) == []
