"""The page of the sandbox against the simulators: it names what can be set and done, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.app import Simulator
from reconciler.sandbox.buddy.app import Buddy
from reconciler.sandbox.semaphore.app import Semaphore

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
PROVIDERS = [("Semaphore", Semaphore), ("Buddy", Buddy)]


def section(provider: str) -> str:
    return PAGE.partition(f"\n## {provider}: ")[2].partition("\n## ")[0]


def table(text: str, head: str) -> set[str]:
    rows = text.partition(f"\n| {head} |")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE))


@pytest.mark.parametrize(("provider", "simulator"), PROVIDERS)
def test_the_page_names_every_action_and_every_setting_of_its_own(provider: str, simulator: type[Simulator]) -> None:
    text = section(provider)
    assert table(text, "action") == set(simulator().actions())
    named = set(re.findall(r"`(\w+)`", text))
    assert table(text, "setting") <= set(simulator.defaults) <= named


@pytest.mark.parametrize(("provider", "simulator"), PROVIDERS)
def test_the_state_that_the_page_shows_is_taken(provider: str, simulator: type[Simulator]) -> None:
    shown: Any = json.loads(section(provider).partition("```json\n")[2].partition("```")[0])
    app = simulator()
    if provider == "Semaphore":
        app.put_state(shown)
        assert app.actions()["run_pipeline"]({"project": "web"})["pipeline_id"]
    else:
        app.state["workspaces"]["acme"]["projects"][1]["pipelines"] = [shown]
        app.restored()
        assert app.actions()["run_pipeline"]({"project": "web", "pipeline": "deploy"})["execution_id"]
