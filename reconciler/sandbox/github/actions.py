"""Workflows of the GitHub simulator and their triggers: a dispatch, an event of the repository, a push.

State: ``{"workflows": {"acme/web": [{"id", "name", "path", "state", "on": {"workflow_dispatch": {"inputs": {NAME: {"required",
"default", "type", "options"}}}, "repository_dispatch": {"types": []}, "push": {"branches": [], "tags": []}}, "run_name":
"Deploy ${{ inputs.version }}", "queued_s": 0, "duration_s": 0.5 | null, "result": "success", "logs": [line] | {JOB: [line]},
"jobs": [{"name", "result", "steps", "labels", "logs"}], "outputs": {NAME: VALUE}, "artifacts": {NAME: {FILE: TEXT}}}]}}``.
Run name, log lines and outputs may hold ``${{ inputs.X }}``, ``${{ github.event.client_payload.X }}``, ``${{ github.sha }}``.

Facts: GitHub's OpenAPI description; its changelogs of 2026-02-19 (``return_run_details``) and of API version 2026-03-10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal

import orjson

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.github import run_shapes as shapes
from reconciler.sandbox.github.commits import Commits, Ref, whole_ref
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.records import GitHubWorkflow, WorkflowTrigger
from reconciler.sandbox.github.request import body_of, flag_of, object_of, refuse, text_of
from reconciler.sandbox.github.runs import Runs, RunTrigger
from reconciler.sandbox.github.shapes import Push, push, stamp
from reconciler.sandbox.github.state import GitHubState
from reconciler.sandbox.shapes import fill, json_objects

DEFAULTS: Mapping[str, object] = {"return_run_details": True}  # False: an Enterprise server that does not know the field
MAX_INPUTS = 25
MAX_PAYLOAD_FIELDS = 10
MAX_PAYLOAD_BYTES = 64 << 10
MAX_EVENT_TYPE = 100
_FILL: Mapping[str, object] = {
    "on": {"workflow_dispatch": {}},
    "state": "active",
    "run_name": "",
    "queued_s": 0.0,
    "duration_s": 0.5,
    "result": "success",
    "logs": [],
    "outputs": {},
    "artifacts": {},
}


class Actions:
    """Handles ``…/actions/workflows`` and ``…/dispatches``."""

    def __init__(self, app: GitHubState, commits: Commits, deliveries: HookDeliveries, runs: Runs) -> None:
        self.app = app
        self._commits, self._deliveries, self._runs = commits, deliveries, runs

    def restored(self) -> None:
        """Fill what workflows leave out."""
        now = stamp(self.app.clock())
        for rows in self.app.records["workflows"].values():
            for workflow in rows:
                workflow["id"] = workflow.get("id") or self.app.next_id()
                name = workflow.setdefault("name", workflow.get("path", "").rpartition("/")[2].partition(".")[0] or "CI")
                path = f".github/workflows/{name.lower().replace(' ', '-')}.yml"
                fill(workflow, {**_FILL, "path": path, "created_at": now})
                workflow["jobs"] = workflow.get("jobs") or [{"name": "run"}]

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below a repository."""
        workflows = f"{prefix}/actions/workflows"
        yield from (
            ("GET", workflows, self._list),
            ("GET", f"{workflows}/{{workflow}}", self._get),
            ("POST", f"{workflows}/{{workflow}}/dispatches", self._dispatch),
            ("POST", f"{prefix}/dispatches", self._repository_dispatch),
        )

    def _list(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="actions")
        rows = self.app.workflows_of(target.name)
        page, headers = self.app.page(call, rows)
        repo = self.app.shown(call.base_url, target.name)
        return Reply(200, {"total_count": len(rows), "workflows": [shapes.workflow(row, repo) for row in page]}, headers)

    def _get(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="actions")
        workflow = self.app.workflow_named(target.name, where["workflow"])
        return Reply(200, shapes.workflow(workflow, self.app.shown(call.base_url, target.name)))

    # a dispatch

    def _dispatch(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=True, permission="actions")
        workflow = self.app.workflow_named(target.name, where["workflow"])
        body = body_of(call)
        details = self._with_details(call, body)
        given = text_of(body, "ref")
        inputs = object_of(body, "inputs", MAX_INPUTS)
        ref = self._commits.find(target.name, given)
        if ref is None:
            raise refuse(422, f"No ref found for: {given}")
        if workflow["state"] != "active":
            raise refuse(422, "Cannot trigger a 'workflow_dispatch' on a disabled workflow")
        if "workflow_dispatch" not in workflow["on"]:
            raise refuse(422, "Workflow does not have 'workflow_dispatch' trigger")
        trigger = RunTrigger("workflow_dispatch", ref, self.app.login, workflow["name"], _inputs(workflow, inputs))
        payload = {"inputs": dict(trigger.inputs) or None, "ref": ref.full, "workflow": workflow["path"]}
        self._deliveries.publish(target.name, "workflow_dispatch", payload, sender=trigger.actor)
        run = self._runs.now(self._runs.start(target.name, workflow, trigger))
        if not details:
            return Reply(204)
        return Reply(200, {"workflow_run_id": run["id"], "run_url": run["url"], "html_url": run["html_url"]})

    def _with_details(self, call: Call, body: Mapping[str, object]) -> bool:
        """Whether to answer with the run: optional in the first API version, always in the next."""
        if not self.app.settings["return_run_details"]:
            if "return_run_details" in body:
                raise refuse(422, 'Invalid request.\n\n"return_run_details" is not a permitted key.')
            return False
        return call.headers.get("x-github-api-version", "") == "2026-03-10" or flag_of(body, "return_run_details", default=False)

    # an event of the repository

    def _repository_dispatch(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=True, permission="contents")
        body = body_of(call)
        kind = text_of(body, "event_type")
        if not 1 <= len(kind) <= MAX_EVENT_TYPE:
            raise refuse(422, f"Invalid request.\n\nevent_type must have 1 to {MAX_EVENT_TYPE} characters.")
        payload = object_of(body, "client_payload", MAX_PAYLOAD_FIELDS)
        if len(orjson.dumps(payload)) >= MAX_PAYLOAD_BYTES:
            raise refuse(422, "client_payload is too large.")
        ref = self._commits.default(target.name)
        event = {"action": kind, "branch": ref.name, "client_payload": payload}
        self._deliveries.publish(target.name, "repository_dispatch", event, sender=self.app.login)
        trigger = RunTrigger("repository_dispatch", ref, self.app.login, kind, client_payload=payload)
        self._start_all(target.name, trigger, lambda on: not on.get("types") or kind in on["types"])
        return Reply(204)

    # a push

    def push(self, options: Mapping[str, object]) -> dict[str, object]:
        """Push by hand: moves the ref, sends the event, starts runs.

        {repo, ref, commits?: [{id?, message?, author?}], sender?, annotated?: true for a tag with an object of its own,
        delete?: true to delete the ref}
        """
        name, full_ref = str(options["repo"]), whole_ref(str(options.get("ref", "")) or self._default_ref(options))
        sender = str(options.get("sender", "sandbox-bot"))
        if options.get("delete"):
            return self._push_deletion(name, full_ref, sender)
        pushed = self._commits.move(name, full_ref, json_objects(options.get("commits")), sender)
        shown = self._commits.tag(name, pushed) if options.get("annotated") else pushed
        sent = self._publish_push(name, shown, sender)
        kind: Literal["branches", "tags"] = "branches" if full_ref.startswith("refs/heads/") else "tags"
        ref = Ref(full_ref.removeprefix("refs/heads/").removeprefix("refs/tags/"), full_ref, pushed.sha)
        trigger = RunTrigger("push", ref, sender, pushed.commits[-1][1].partition("\n")[0])
        runs = self._start_all(name, trigger, lambda on: _listens(on, kind, ref.name))
        return {**sent, "sha": pushed.sha, "before": pushed.before, "runs": runs, "after": shown.sha}

    def _publish_push(self, name: str, pushed: Push, sender: str) -> dict[str, object]:
        repo = self.app.shown(self.app.base_url, name)
        return self._deliveries.publish(name, "push", push(repo, self.app.user(sender), pushed), sender=sender)

    def _push_deletion(self, name: str, full_ref: str, sender: str) -> dict[str, object]:
        """Delete a ref: a push of zeros, and the event ``delete``; no workflow of it runs."""
        pushed = self._commits.delete(name, full_ref)
        sent = self._publish_push(name, pushed, sender)
        kind = "branch" if full_ref.startswith("refs/heads/") else "tag"
        bare = full_ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
        self._deliveries.publish(name, "delete", {"ref": bare, "ref_type": kind, "pusher_type": "user"}, sender=sender)
        return {**sent, "sha": pushed.sha, "before": pushed.before, "runs": [], "after": pushed.sha}

    def _default_ref(self, options: Mapping[str, object]) -> str:
        return self._commits.default(str(options["repo"])).full

    def _start_all(self, name: str, trigger: RunTrigger, accepts: Callable[[WorkflowTrigger], bool]) -> list[int]:
        """Start every workflow that listens to the event and whose filter ``accepts`` it; return the runs' ids."""
        return [
            self._runs.start(name, workflow, trigger)["id"]
            for workflow in self.app.workflows_of(name)
            if workflow["state"] == "active" and trigger.event in workflow["on"] and accepts(workflow["on"][trigger.event] or {})
        ]


def _listens(on: WorkflowTrigger, kind: Literal["branches", "tags"], name: str) -> bool:
    """Whether a push filter lets a branch or a tag pass: a filter for one kind only excludes the other kind."""
    if not {"branches", "tags"} & set(on):
        return True
    return any(fnmatchcase(name, pattern) for pattern in on.get(kind, []))


def _inputs(workflow: GitHubWorkflow, given: Mapping[str, object]) -> dict[str, object]:
    """Return the inputs with their defaults; raises GitHub's 422 for those that the workflow does not take."""
    trigger = workflow["on"]["workflow_dispatch"]
    declared = (trigger.get("inputs") if trigger else None) or {}
    unexpected = [name for name in given if name not in declared]
    if unexpected:
        raise refuse(422, f"Unexpected inputs provided: {orjson.dumps(unexpected).decode()}")
    filled: dict[str, object] = {}
    for name, declaration in declared.items():
        about = declaration or {}
        value = given.get(name, about.get("default"))
        if value is None or value == "":
            if about.get("required"):
                raise refuse(422, f"Required input '{name}' not provided")
            value = ""
        if value and about.get("options") and value not in about["options"]:
            raise refuse(422, f"Provided value '{value}' for input '{name}' not in the list of allowed values")
        filled[name] = value if isinstance(value, bool | int | float) else str(value)
    return filled
