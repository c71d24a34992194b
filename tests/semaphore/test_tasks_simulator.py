"""Tasks of the simulated Semaphore over real HTTP, every answer held against the documented shapes."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from reconciler.sandbox.server import SandboxServer
from tests.semaphore.simulator import WEB, Hands, behave


@pytest.fixture
def hands(hands: Hands, server: SandboxServer) -> Hands:
    behave(server, duration_s=0)
    return hands


def declare(hands: Hands, *parameters: dict[str, Any], **more: Any) -> str:
    hands.admin.put_state({"tasks": {"web": [{"name": "nightly", "parameters": list(parameters), **more}]}})
    return str(hands.admin.state()["tasks"]["web"][0]["id"])


def variables(hands: Hands, workflow: str) -> dict[str, str]:
    first = hands("GET", f"/plumber-workflows/{workflow}")["workflow"]["initial_ppl_id"]
    return {row["name"]: row["value"] for row in hands.pipeline(first)["env_vars"]}


def test_a_task_is_listed_described_and_run(hands: Hands) -> None:
    task = declare(hands, {"name": "ENV", "default_value": "dev"}, pipeline_file=".semaphore/nightly.yml", at="0 0 * * *")
    (listed,) = hands("GET", f"/tasks?project_id={WEB}")
    assert (listed["id"], listed["name"], listed["reference"], listed["branch"]) == (task, "nightly", "refs/heads/main", "main")
    assert "parameters" not in listed
    workflow = hands("POST", f"/tasks/{task}/run_now")["workflow_id"]
    shown = hands("GET", f"/plumber-workflows/{workflow}")["workflow"]
    assert (shown["triggered_by"], shown["branch_name"]) == ("MANUAL_RUN", "main")
    assert hands.pipeline(shown["initial_ppl_id"])["yaml_file_name"] == "nightly.yml"
    described = hands("GET", f"/tasks/{task}")
    assert described["schedule"]["parameters"][0]["default_value"] == "dev"
    assert [row["scheduled_workflow_id"] for row in described["triggers"]] == [workflow]
    assert variables(hands, workflow) == {"ENV": "dev"}


def test_older_clients_call_tasks_schedules(hands: Hands) -> None:
    task = declare(hands)
    assert hands("GET", f"/schedules?project_id={WEB}")[0]["id"] == task
    assert hands("GET", f"/schedules/{task}")["schedule"]["name"] == "nightly"
    assert hands("POST", f"/schedules/{task}/run_now", {"branch": "old"})["workflow_id"]


def test_running_a_task_twice_runs_it_twice(hands: Hands) -> None:
    task = declare(hands)
    assert hands("POST", f"/tasks/{task}/run_now") != hands("POST", f"/tasks/{task}/run_now")


def test_only_declared_parameters_reach_the_run(hands: Hands) -> None:
    task = declare(hands, {"name": "ENV", "required": True}, {"name": "NOTE"})
    run = f"/tasks/{task}/run_now"
    assert hands("POST", run, {"parameters": {"OTHER": "x"}}, status=400) == "Parameter 'ENV' is required."
    assert hands("POST", run, {"parameters": {"ENV": "  "}}, status=400) == "Parameter 'ENV' is required."
    workflow = hands("POST", run, {"parameters": {"ENV": " prod ", "OTHER": "x"}})["workflow_id"]
    assert variables(hands, workflow) == {"ENV": "prod"}
    assert len(hands("GET", f"/plumber-workflows?project_id={WEB}")) == 1


def test_a_value_has_to_be_in_the_declared_format(hands: Hands) -> None:
    task = declare(hands, {"name": "V", "regex_pattern": "^[0-9]+$", "validate_input_format": True})
    answer = hands("POST", f"/tasks/{task}/run_now", {"parameters": {"V": "x"}}, status=400)
    assert answer == "Parameter 'V' value does not match required format."
    hands("POST", f"/tasks/{task}/run_now", {"parameters": {"V": "7"}})


def test_a_reference_is_an_object_whatever_the_documentation_says(hands: Hands) -> None:
    run = f"/tasks/{declare(hands)}/run_now"
    workflow = hands("POST", run, {"reference": {"type": "TAG", "name": "v1"}, "pipeline_file": "x.yml"})["workflow_id"]
    shown = hands("GET", f"/plumber-workflows/{workflow}")["workflow"]
    assert shown["branch_name"] == "refs/tags/v1"
    assert hands.pipeline(shown["initial_ppl_id"])["yaml_file_name"] == "x.yml"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("main", "Reference must contain 'type' and 'name' fields"),
        ({"name": "main"}, "Reference must contain 'type' and 'name' fields"),
        ({"type": "BRANCH"}, "Reference must contain 'type' and 'name' fields"),
        ({"type": "branch", "name": "main"}, "Reference type must be 'BRANCH' or 'TAG'"),
        ({"type": "BRANCH", "name": " "}, "Reference name cannot be empty"),
    ],
)
def test_other_references_are_refused_and_nothing_runs(hands: Hands, reference: Any, words: str) -> None:
    assert hands("POST", f"/tasks/{declare(hands)}/run_now", {"reference": reference}, status=400) == words
    assert hands("GET", f"/plumber-workflows?project_id={WEB}") == []


def test_a_reference_that_is_not_in_the_repository_is_refused(hands: Hands) -> None:
    behave(hands.server, references=["refs/heads/main"])
    run = f"/tasks/{declare(hands)}/run_now"
    hands("POST", run)
    branch, tag = ({"reference": {"type": kind, "name": "a/b"}} for kind in ("BRANCH", "TAG"))
    assert hands("POST", run, branch, status=400) == "Branch 'a/b' does not exist in the repository"
    assert hands("POST", run, tag, status=400) == "Tag 'a/b' does not exist in the repository"


def test_a_task_without_reference_file_or_organization_does_not_run(hands: Hands) -> None:
    task = declare(hands, reference="")
    assert hands("POST", f"/tasks/{task}/run_now", status=400) == "You have to provide reference for this task"
    task = declare(hands, pipeline_file="")
    assert hands("POST", f"/tasks/{task}/run_now", status=400) == "You have to provide pipeline file for this task"
    assert "supended" in hands("POST", f"/tasks/{declare(hands, suspended=True)}/run_now", status=400)


def test_tasks_are_found_by_uuid_only_and_by_those_who_may(hands: Hands) -> None:
    task = declare(hands)
    for method, path in (("GET", "/tasks/nightly"), ("POST", "/tasks/nightly/run_now")):
        assert hands(method, path, status=400) == "schedule identifier should be a UUID"
    assert hands("GET", f"/tasks/{uuid.uuid4()}", status=404) == "Not Found"
    assert hands("GET", "/tasks", status=404) == "Not Found"
    hands.admin.put_state({"tokens": {"viewer": {"user": "u", "permissions": ["project.scheduler.view"]}}})
    viewer = {"authorization": "Token viewer"}
    assert hands("GET", f"/tasks/{task}", headers=viewer)["schedule"]["id"] == task
    assert hands("POST", f"/tasks/{task}/run_now", status=404, headers=viewer) == "Not Found"
