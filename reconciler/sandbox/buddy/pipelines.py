"""Pipelines of the simulated Buddy: names, triggers, and how their executions end.

State, in a project's ``pipelines``: ``{"id": 21, "identifier": "deploy", "name": "deploy", "refs": ["refs/heads/main"], "events":
[{"type": "PUSH", "refs": ["refs/heads/main"]}], "behaviour": {"duration_s": 0.5, "queued_s": 0, "result": "SUCCESSFUL", "logs":
["line", …], "outputs": {"VERSION": "1", "KEY": {"value": "x", "encrypted": true}}, "error": "", "waits_for": "APPLY",
"terminating_s": 0}, "actions": [{"name": "build", "logs", "outputs", "result", "error"}]}``; all but ``id`` and ``name`` may be
left out. The logs apply to every action without its own, the outputs to the last action. A negative duration lasts until an action finishes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.buddy.answers import find, paged, refuse
from reconciler.sandbox.buddy.execution_shapes import ENDED, WAITS, life_of
from reconciler.sandbox.buddy.records import (
    ActionPlan,
    BuddyBehaviour,
    OutputVariable,
    PipelineAction,
    StoredBuddyPipeline,
    StoredBuddyWorkspace,
)
from reconciler.sandbox.buddy.state import BuddyState
from reconciler.sandbox.shapes import fill, is_object, json_object, json_objects, number, texts

_DEFAULTS: Mapping[str, object] = {
    "duration_s": 0.5,
    "queued_s": 0.0,
    "result": "SUCCESSFUL",
    "logs": ["working", "done"],
    "outputs": {},
    "error": "",
    "waits_for": "",
    "terminating_s": 0.0,
}


class BuddyPipelines:
    """Handles lists and descriptions of pipelines."""

    def __init__(self, app: BuddyState) -> None:
        self.app = app

    def routes(self, root: str) -> Iterable[Route]:
        """Return the paths below a workspace."""
        yield "GET", f"{root}/projects/{{project}}/pipelines", self._list
        yield "GET", f"{root}/projects/{{project}}/pipelines/{{pipeline}}", self._get

    def restored(self) -> None:
        """Fill what a state from outside leaves out."""
        for workspace in self.app.records["workspaces"].values():
            for project in workspace["projects"]:
                fill(project, {"pipelines": []})

    def seen(self, call: Call, where: Mapping[str, str], scope: str) -> tuple[StoredBuddyWorkspace, StoredBuddyPipeline]:
        """Return workspace and pipeline that a path names by number; else refuse."""
        workspace = self.app.workspace(call, where["workspace"], scope)
        return workspace, find(self._of_project(workspace, where["project"]), "id", where["pipeline"])

    def named(self, options: Mapping[str, object]) -> tuple[str, StoredBuddyPipeline]:
        """Return the project and the pipeline of an action: {workspace, project, pipeline}; raises `LookupError`.

        The workspace may be left out if there is one only; a pipeline is given by number, identifier or name.
        """
        workspace = self.domain(options)
        project = next(
            (row for row in self.app.records["workspaces"][workspace]["projects"] if row["name"] == options["project"]), None
        )
        if project is None:
            raise LookupError(f"unknown project {options['project']}")
        key = options["pipeline"]
        pipeline = next((row for row in project["pipelines"] if key in (row["id"], identifier_of(row), row["name"])), None)
        if pipeline is None:
            raise LookupError(f"unknown pipeline {key}")
        return workspace, pipeline

    def domain(self, options: Mapping[str, object]) -> str:
        """Return the workspace of an action."""
        known = list(self.app.records["workspaces"])
        domain = str(options.get("workspace") or (known[0] if len(known) == 1 else ""))
        if domain not in known:
            raise LookupError(f"unknown workspace '{domain}'")
        return domain

    def behave(self, options: Mapping[str, object]) -> dict[str, object]:
        """Change how executions end (action ``set_behaviour``): what `named` takes, ``actions``, and keys of a behaviour."""
        _, pipeline = self.named(options)
        changes = {key: value for key, value in options.items() if key in _DEFAULTS}
        behaviour_of({**pipeline, "behaviour": changes}, {}, {})
        pipeline["behaviour"] = {**pipeline.get("behaviour", {}), **changes}
        if "actions" in options:
            pipeline["actions"] = cast("list[PipelineAction]", json_objects(options["actions"]))
        return {"behaviour": pipeline["behaviour"]}

    def _of_project(self, workspace: StoredBuddyWorkspace, name: str) -> list[StoredBuddyPipeline]:
        project = next((row for row in workspace["projects"] if row["name"] == name), None)
        if project is None:
            refuse(404, "Project not found")
        return project["pipelines"]

    def _list(self, call: Call, workspace: str, project: str) -> Reply:
        """The pipelines of one project, 20 a page by default."""
        place = self.app.workspace(call, workspace, "EXECUTION_INFO")
        rows = paged(call, self.app.settings, self._of_project(place, project))
        shown = [self._shown(call, place, project, pipeline) for pipeline in rows]
        return Reply(200, {"url": call.base_url + call.path, "pipelines": shown})

    def _get(self, call: Call, **where: str) -> Reply:
        """One, with its actions."""
        workspace, pipeline = self.seen(call, where, "EXECUTION_INFO")
        actions = [{"id": row["id"], "name": row["name"], "type": row["type"]} for row in actions_of(pipeline)]
        return Reply(200, {**self._shown(call, workspace, where["project"], pipeline), "actions": actions})

    def _shown(
        self, call: Call, workspace: StoredBuddyWorkspace, project: str, pipeline: StoredBuddyPipeline
    ) -> dict[str, object]:
        runs = [row for row in workspace["executions"] if row["pipeline"]["id"] == pipeline["id"]]
        domain = next(name for name, row in self.app.records["workspaces"].items() if row is workspace)
        return {
            "url": f"{call.base_url}/workspaces/{domain}/projects/{project}/pipelines/{pipeline['id']}",
            "html_url": f"https://app.buddy.works/{domain}/{project}/pipelines/pipeline/{pipeline['id']}",
            "id": pipeline["id"],
            "identifier": identifier_of(pipeline),
            "name": pipeline["name"],
            "refs": pipeline.get("refs", []),
            "events": pipeline.get("events", []),
            "definition_source": "LOCAL",
            "git_config_ref": "NONE",
            "disabled": bool(pipeline.get("disabled", False)),
            "paused": False,
            "last_execution_status": life_of(runs[-1], self.app.clock()).status if runs else "INITIAL",
        }


def identifier_of(pipeline: StoredBuddyPipeline) -> str:
    """Return the handle of a pipeline; its name unless it has one."""
    return str(pipeline.get("identifier") or pipeline["name"])


def behaviour_of(
    pipeline: StoredBuddyPipeline, overrides: Mapping[str, object], settings: Mapping[str, object]
) -> BuddyBehaviour:
    """Return how an execution ends: the pipeline's behaviour, then the settings, then ``overrides``. Raises `ValueError`."""
    behaviour = {**_DEFAULTS, **pipeline.get("behaviour", {})}
    for key, setting in (("duration_s", "run_duration_s"), ("result", "run_result")):
        if settings.get(setting) is not None:
            behaviour[key] = settings[setting]
    behaviour |= {key: value for key, value in overrides.items() if key in _DEFAULTS and value is not None}
    if behaviour["result"] not in ENDED:
        raise ValueError(f"an execution's result is one of {', '.join(sorted(ENDED))}")
    if behaviour["waits_for"] and behaviour["waits_for"] not in WAITS:
        raise ValueError(f"an execution waits for one of {', '.join(WAITS)}")
    return {
        "duration_s": number(behaviour["duration_s"]),
        "queued_s": number(behaviour["queued_s"]),
        "result": str(behaviour["result"]),
        "logs": texts(behaviour["logs"]),
        "outputs": json_object(behaviour["outputs"]),
        "error": str(behaviour["error"]),
        "waits_for": str(behaviour["waits_for"]),
        "terminating_s": number(behaviour["terminating_s"]),
    }


def actions_of(pipeline: StoredBuddyPipeline) -> list[PipelineAction]:
    """Return the actions of a pipeline; by default one with the pipeline's name."""
    given: list[PipelineAction] = pipeline.get("actions") or [{"name": pipeline["name"]}]
    return [
        {**row, "type": row.get("type", "BUILD"), "id": row.get("id") or pipeline["id"] * 100 + n}
        for n, row in enumerate(given, 1)
    ]


def planned(pipeline: StoredBuddyPipeline, behaviour: BuddyBehaviour, prefix: str) -> list[ActionPlan]:
    """Return what the actions of one execution will do; their ids begin with ``prefix``."""
    actions = actions_of(pipeline)
    return [
        {
            "id": row["id"],
            "execution_id": f"{prefix}{number:02d}",
            "name": row["name"],
            "type": row["type"],
            "result": row.get("result", "SUCCESSFUL"),
            "error": row.get("error", behaviour["error"]),
            "logs": texts(row.get("logs", behaviour["logs"])),
            "outputs": _variables(row.get("outputs") or (behaviour["outputs"] if number == len(actions) else {})),
        }
        for number, row in enumerate(actions, 1)
    ]


def _variables(outputs: Mapping[str, object]) -> list[OutputVariable]:
    rows = [(key, value if is_object(value) else {"value": value}) for key, value in outputs.items()]
    return [{"key": key, "value": str(row["value"]), "type": "VAR", "encrypted": bool(row.get("encrypted"))} for key, row in rows]
