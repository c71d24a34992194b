"""Tasks of the simulated Semaphore, which older clients call schedules: lists, descriptions, and manual runs. The simulator runs no schedule.

Facts: the scheduler of the provider's open server code. State: ``tasks``, by project: ``{"web": [{"id", "name", "reference",
"pipeline_file", "at", "recurring", "paused", "suspended", "parameters": [{"name", "required", "default_value", "options",
"regex_pattern", "validate_input_format"}]}]}``; all but ``name`` may be left out. Where a project's behaviour has ``references``,
there are no others.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.semaphore import run_shapes as shapes
from reconciler.sandbox.semaphore.pipelines import Start
from reconciler.sandbox.semaphore.records import StoredSemaphoreTask, TaskParameter
from reconciler.sandbox.semaphore.run_shapes import refuse_unseen, refuse_user
from reconciler.sandbox.semaphore.shapes import is_uuid, project_id
from reconciler.sandbox.semaphore.state import SemaphoreState
from reconciler.sandbox.semaphore.workflows import Cause, Workflows
from reconciler.sandbox.shapes import fill, is_object, picked, texts

KEPT_TRIGGERS = 100
_DEFAULTS: Mapping[str, object] = {
    "reference": "refs/heads/main",
    "pipeline_file": shapes.DEFAULT_FILE,
    "at": "",
    "recurring": False,
    "paused": False,
    "suspended": False,
    "description": "",
}
_PARAMETER: Mapping[str, object] = {
    "required": False,
    "description": "",
    "default_value": "",
    "regex_pattern": "",
    "validate_input_format": False,
    "options": [],
}


class Tasks:
    """Handles everything below ``/tasks`` and ``/schedules``."""

    def __init__(self, app: SemaphoreState, workflows: Workflows) -> None:
        self.app, self._workflows = app, workflows

    def routes(self) -> Iterable[Route]:
        """Return the paths; both names mean the same."""
        for root in ("/api/v1alpha/tasks", "/api/v1alpha/schedules"):
            yield "GET", root, self._list
            yield "GET", f"{root}/{{key}}", self._get
            yield "POST", f"{root}/{{key}}/run_now", self._run

    def restored(self) -> None:
        """Fill what a state from outside leaves out."""
        fill(self.app.state, {"tasks": {}})
        for project, tasks in self.app.records["tasks"].items():
            for task in tasks:
                identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"task-{project}/{task['name']}"))
                fill(task, {**_DEFAULTS, "id": identity, "triggers": [], "parameters": []})
                for parameter in task["parameters"]:
                    fill(parameter, _PARAMETER)

    def _list(self, call: Call) -> Reply:
        project = self.app.project_named(call.query.get("project_id", ""))
        if not project or not self.app.may(call, "project.scheduler.view"):
            refuse_unseen()
        return shapes.paged(call, [_shown(project, task) for task in self.app.records["tasks"].get(project, ())])

    def _get(self, call: Call, key: str) -> Reply:
        """The task with its parameters, and its triggered runs, newest first."""
        project, task = self._seen(call, key, "project.scheduler.view")
        shown = {**_shown(project, task), "parameters": task["parameters"]}
        return shapes.answered(200, {"schedule": shown, "triggers": list(reversed(task["triggers"]))})

    def _seen(self, call: Call, key: str, permission: str) -> tuple[str, StoredSemaphoreTask]:
        if not is_uuid(key):
            refuse_user("schedule identifier should be a UUID")
        for project, tasks in self.app.records["tasks"].items():
            for task in tasks:
                if task["id"] == key and self.app.may(call, permission):
                    return project, task
        refuse_unseen()

    def _run(self, call: Call, key: str) -> Reply:
        """Not idempotent. Drops parameters that the task does not declare."""
        project, task = self._seen(call, key, "project.scheduler.run_manually")
        given = shapes.parameters_of(call)
        reference = _reference(given) or task["reference"]
        file = str(given.get("pipeline_file") or task["pipeline_file"] or "")
        if not reference:
            refuse_user("You have to provide reference for this task")
        if not file:
            refuse_user("You have to provide pipeline file for this task")
        values = _merged(task["parameters"], shapes.texts_of(given.get("parameters") or {}))
        if task["suspended"]:
            refuse_user("The organization is supended.")  # sic
        self._check_exists(project, reference)
        cause = Cause(project, reference, "MANUAL_RUN", self.app.user(call), start=Start(file, values))
        workflow, _ = self._workflows.start(cause)
        trigger: dict[str, object] = {
            "triggered_at": shapes.spaced(self.app.clock()),
            "project_id": project_id(project),
            "scheduling_status": "passed",
            "scheduled_workflow_id": workflow["wf_id"],
            **_branch(reference),
            "pipeline_file": file,
            "parameter_values": [{"name": name, "value": value} for name, value in values.items()],
            "error_description": "",
        }
        task["triggers"] = [*task["triggers"], trigger][-KEPT_TRIGGERS:]
        return shapes.answered(200, {"workflow_id": workflow["wf_id"]})

    def _check_exists(self, project: str, reference: str) -> None:
        known = self.app.records["behaviour"].get(project, {}).get("references")
        if known is not None and reference not in texts(known):
            kind = "Tag" if reference.startswith("refs/tags/") else "Branch"
            refuse_user(f"{kind} '{reference.split('/', 2)[2]}' does not exist in the repository")


def _shown(project: str, task: StoredSemaphoreTask) -> dict[str, object]:
    kept = picked(task, (key for key in ("id", "name", *_DEFAULTS) if key != "reference"))
    return {**kept, "project_id": project_id(project), **_branch(task["reference"])}


def _branch(reference: str) -> dict[str, str]:
    """A branch is shown a second time, as older clients know it."""
    branch = {"branch": reference.removeprefix("refs/heads/")} if reference.startswith("refs/heads/") else {}
    return {"reference": reference, **branch}


def _reference(given: Mapping[str, object]) -> str:
    """Return the requested reference: an object, or a branch in the old form. Refuses a text, although the docs allow it."""
    reference = given.get("reference") or ({"type": "BRANCH", "name": given["branch"]} if given.get("branch") else None)
    if reference is None:
        return ""
    if not is_object(reference) or "type" not in reference:
        refuse_user("Reference must contain 'type' and 'name' fields")
    if reference["type"] not in ("BRANCH", "TAG"):
        refuse_user("Reference type must be 'BRANCH' or 'TAG'")
    name = reference.get("name")
    if not isinstance(name, str):
        refuse_user("Reference must contain 'type' and 'name' fields")
    if not name.strip():
        refuse_user("Reference name cannot be empty")
    return f"refs/{'heads' if reference['type'] == 'BRANCH' else 'tags'}/{name}"


def _merged(declared: Sequence[TaskParameter], given: Mapping[str, str]) -> dict[str, str]:
    """Return the values of declared parameters; a default replaces a blank one."""
    values: dict[str, str] = {}
    for parameter in declared:
        name = parameter["name"]
        value = given.get(name, "").strip() or str(parameter["default_value"] or "")
        if not value and parameter["required"]:
            refuse_user(f"Parameter '{name}' is required.")
        pattern = str(parameter["regex_pattern"] or "")
        if value and parameter["validate_input_format"] and pattern and not re.search(pattern, value):
            refuse_user(f"Parameter '{name}' value does not match required format.")
        if value:
            values[name] = value
    return values
