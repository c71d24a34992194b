"""Workflows of the simulated Semaphore: started by hand, by a push or by a task, run again, stopped, and lost.

State: ``workflows``, oldest first, and ``heads``: ``{"web": {"refs/heads/main": "<sha>"}}``. Starting one is not idempotent;
running one again is, for each request token. What a workflow was started with only its pipelines show, as ``env_vars``.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.runs import KEPT
from reconciler.sandbox.semaphore import run_shapes as shapes
from reconciler.sandbox.semaphore.pipelines import BEHAVIOUR, SemaphorePipelines, Start, within
from reconciler.sandbox.semaphore.records import StoredSemaphorePipeline, StoredSemaphoreWorkflow
from reconciler.sandbox.semaphore.run_shapes import refuse_unseen
from reconciler.sandbox.semaphore.shapes import project_id
from reconciler.sandbox.semaphore.state import SemaphoreState
from reconciler.sandbox.shapes import fill, json_object

ROOT = "/api/v1alpha/plumber-workflows"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a workflow starts, and on what."""

    project: str
    reference: str
    triggered_by: str
    requester: str = ""
    commit_sha: str = ""
    commit_message: str = ""
    rerun_of: str = ""
    request_token: str = ""
    start: Start = field(default_factory=Start)


class Workflows:
    """Handles everything below ``/plumber-workflows``."""

    def __init__(self, app: SemaphoreState, pipelines: SemaphorePipelines) -> None:
        self.app, self._pipelines = app, pipelines

    def routes(self) -> Iterable[Route]:
        """Return the paths."""
        yield "POST", ROOT, self._run
        yield "GET", ROOT, self._list
        yield "GET", f"{ROOT}/{{key}}", self._get
        yield "POST", f"{ROOT}/{{key}}/terminate", self._terminate
        yield "POST", f"{ROOT}/{{key}}/reschedule", self._reschedule

    def restored(self) -> None:
        """Fill what a state from outside leaves out."""
        fill(self.app.state, {"workflows": [], "heads": {}})

    def start(self, cause: Cause) -> tuple[StoredSemaphoreWorkflow, StoredSemaphorePipeline]:
        """Start a workflow; returns it and its initial pipeline."""
        heads = self.app.records["heads"].setdefault(cause.project, {})
        tip = heads.setdefault(cause.reference, hashlib.sha1(cause.reference.encode(), usedforsecurity=False).hexdigest())
        workflow: StoredSemaphoreWorkflow = {
            "wf_id": str(uuid.uuid4()),
            "project": cause.project,
            "project_id": project_id(cause.project),
            "repository_id": _named("repository", cause.project),
            "branch_id": _named("branch", f"{cause.project}/{cause.reference}"),
            "hook_id": str(uuid.uuid4()),
            "triggered_by": cause.triggered_by,
            "requester_id": cause.requester,
            "rerun_of": cause.rerun_of,
            "request_token": cause.request_token,
            "reference": cause.reference,
            "commit_sha": cause.commit_sha or tip,
            "commit_message": cause.commit_message or "A change",
            "created_at": self.app.clock(),
            "initial_ppl_id": "",
        }
        rows = self.app.records["workflows"]
        rows.append(workflow)
        for old in rows[:-KEPT]:
            self._remove(old)
        return workflow, self._pipelines.start(workflow, cause.start)

    def _remove(self, workflow: StoredSemaphoreWorkflow) -> None:
        state = self.app.records
        state["workflows"].remove(workflow)
        state["pipelines"] = [row for row in state["pipelines"] if row["wf_id"] != workflow["wf_id"]]

    # by hand

    def push(self, options: Mapping[str, object]) -> dict[str, object]:
        """Run a workflow as a push does (action ``run_pipeline``).

        {project, branch | tag | pull_request, commit_sha, commit_message, pipeline_file, parameters, and any key of a behaviour}.
        """
        project = str(options["project"])
        if project not in (row["name"] for row in self.app.records["projects"]):
            raise LookupError(f"unknown project {project}")
        reference = _pushed(options)
        sha = str(options.get("commit_sha") or uuid.uuid4().hex + uuid.uuid4().hex[:8])
        self.app.records["heads"].setdefault(project, {})[reference] = sha
        start = Start(
            str(options.get("pipeline_file") or shapes.DEFAULT_FILE),
            {str(name): str(value) for name, value in json_object(options.get("parameters")).items()},
            {key: options[key] for key in BEHAVIOUR if options.get(key) is not None},
        )
        message = str(options.get("commit_message") or "")
        workflow, pipeline = self.start(Cause(project, reference, "HOOK", commit_sha=sha, commit_message=message, start=start))
        return {"workflow_id": workflow["wf_id"], "pipeline_id": pipeline["ppl_id"], "commit_sha": sha}

    def lose(self, options: Mapping[str, object]) -> dict[str, object]:
        """Forget a workflow and its pipelines (action ``lose_workflow``): {workflow_id}; no event is sent, and it answers 404."""
        workflow = self.app.workflows_by_id()[str(options["workflow_id"])]
        self._remove(workflow)
        return {"workflow_id": workflow["wf_id"]}

    # looking up

    def _seen(self, call: Call, key: str, permission: str) -> StoredSemaphoreWorkflow:
        workflow = self.app.workflows_by_id().get(key)
        if workflow is None or not self.app.may(call, permission):
            refuse_unseen()
        return workflow

    # answers

    def _run(self, call: Call) -> Reply:
        given = shapes.parameters_of(call)
        project = self.app.project_named(str(given.get("project_id") or ""))
        if not project or not self.app.may(call, "project.job.rerun"):
            refuse_unseen()
        reference = shapes.full_reference(shapes.required(given, "reference"))
        start = Start(str(given.get("pipeline_file") or shapes.DEFAULT_FILE), shapes.texts_of(given.get("parameters") or {}))
        sha = str(given.get("commit_sha") or "")
        cause = Cause(project, reference, "API", self.app.user(call), sha, start=start)
        workflow, pipeline = self.start(cause)
        return shapes.answered(200, {"workflow_id": workflow["wf_id"], "pipeline_id": pipeline["ppl_id"]})

    def _list(self, call: Call) -> Reply:
        """Newest first; of one project."""
        project = call.query.get("project_id", "")
        if not self.app.project_named(project) or not self.app.may(call, "project.view"):
            refuse_unseen()
        rows = [row for row in reversed(self.app.records["workflows"]) if self.app.listed_at(row["created_at"])]
        branch = call.query.get("branch_name", "")
        fitting = [
            row
            for row in rows
            if row["project_id"] == project
            and branch in ("", shapes.branch_name(row["reference"]))
            and within(call, "created", row["created_at"])
        ]
        shown = [shapes.shown_workflow(row, self.app.records["organization"]["id"], listed=True) for row in fitting]
        return shapes.paged(call, shown, most=int(self.app.number("page_size")))

    def _get(self, call: Call, key: str) -> Reply:
        workflow = self._seen(call, key, "project.view")
        return shapes.answered(
            200, {"workflow": shapes.shown_workflow(workflow, self.app.records["organization"]["id"], listed=False)}
        )

    def _terminate(self, call: Call, key: str) -> Reply:
        """Stop the pipelines that are not done, and answer how many; no pipeline is no error (plumber, workflow service)."""
        workflow, now = self._seen(call, key, "project.job.stop"), self.app.clock()
        running = [row for row in self._pipelines.of(workflow["wf_id"]) if not shapes.life_of(row, now).done]
        for pipeline in running:
            self._pipelines.stop(pipeline, self.app.user(call))
        return shapes.answered(200, f"Termination started for {len(running)} pipelines.")

    def _reschedule(self, call: Call, key: str) -> Reply:
        """Start the same workflow again; once for each token."""
        workflow = self._seen(call, key, "project.job.rerun")
        token = shapes.required(shapes.parameters_of(call), "request_token")
        created = next(
            (row for row in self.app.records["workflows"] if row["rerun_of"] == key and row["request_token"] == token), None
        )
        if created is None:
            first = self._pipelines.find(workflow["initial_ppl_id"])
            again = Start(first["file"], first["env_vars"]) if first is not None else Start()
            cause = Cause(
                workflow["project"],
                workflow["reference"],
                workflow["triggered_by"],
                self.app.user(call),
                workflow["commit_sha"],
                commit_message=workflow["commit_message"],
                rerun_of=key,
                request_token=token,
                start=again,
            )
            created, _ = self.start(cause)
        return shapes.answered(200, {"wf_id": created["wf_id"], "ppl_id": created["initial_ppl_id"]})


def _pushed(options: Mapping[str, object]) -> str:
    if options.get("tag"):
        return f"refs/tags/{options['tag']}"
    if options.get("pull_request"):
        return f"refs/pull/{options['pull_request']}"
    return shapes.full_reference(str(options.get("branch") or "main"))


def _named(kind: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind}-{name}"))
