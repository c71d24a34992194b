"""Pipelines of the simulated Semaphore: the clock queues, runs and ends them; they can be stopped, finished and rebuilt.

State: ``pipelines``, oldest first, and ``behaviour``, by project: ``{"web": {"duration_s": 0.5, "queued_s": 0, "result": "passed",
"reason": "test", "error": "", "logs": ["$ make", "line", …], "jobs": [{"name", "logs"}], "promotions": [{"name", "pipeline_file",
"auto", and a behaviour of its own}], "files": {"deploy.yml": {a behaviour of its own}}, "references": ["refs/heads/main"]}}``; all
may be left out. A negative duration lasts until an action finishes the pipeline.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.runs import KEPT, Timers
from reconciler.sandbox.semaphore import run_shapes as shapes
from reconciler.sandbox.semaphore.records import StoredSemaphorePipeline, StoredSemaphoreWorkflow
from reconciler.sandbox.semaphore.run_shapes import life_of, refuse_unseen, refuse_user
from reconciler.sandbox.semaphore.state import SemaphoreState
from reconciler.sandbox.shapes import fill, json_object, json_objects, number, texts

ROOT = "/api/v1alpha/pipelines"
BEHAVIOUR = ("duration_s", "queued_s", "stopping_s", "result", "reason", "error", "logs", "jobs", "promotions", "name", "block")
"""Keys of a behaviour that one run may have of its own."""
RESULTS = ("passed", "failed", "stopped", "canceled")
_DEFAULTS: Mapping[str, object] = {
    "duration_s": 0.5,
    "queued_s": 0.0,
    "result": "passed",
    "reason": "test",
    "error": "",
    "logs": ["$ make", "done"],
}


@dataclass(frozen=True, slots=True)
class Start:
    """How a pipeline starts, and why."""

    file: str = shapes.DEFAULT_FILE
    env_vars: Mapping[str, str] = field(default_factory=dict)
    behaviour: Mapping[str, object] = field(default_factory=dict)
    """What differs from the project's behaviour."""
    promotion_of: str = ""
    partial_rerun_of: str = ""
    request_token: str = ""


class SemaphorePipelines:
    """Handles everything below ``/pipelines``, and runs pipelines by the clock."""

    def __init__(self, app: SemaphoreState, on_done: Callable[[StoredSemaphorePipeline], None]) -> None:
        self.app = app
        self._on_done = on_done
        self._timers = Timers(lambda: app.clock())

    def routes(self) -> Iterable[Route]:
        """Return the paths."""
        yield "GET", ROOT, self._list
        yield "GET", f"{ROOT}/{{key}}", self._get
        yield "PATCH", f"{ROOT}/{{key}}", self._patch
        yield "POST", f"{ROOT}/{{key}}/partial_rebuild", self._rebuild

    def restored(self) -> None:
        """Resume the pipelines of a state that was put from outside."""
        fill(self.app.state, {"behaviour": {}, "pipelines": []})
        self._timers.clear()
        for pipeline in self.app.records["pipelines"]:
            self.settle(pipeline)

    # the life of a pipeline

    def start(self, workflow: StoredSemaphoreWorkflow, start: Start) -> StoredSemaphorePipeline:
        """Start a pipeline of ``workflow``, the initial one of a new workflow, and return it."""
        behaviour = self._behaviour(workflow["project"], start)
        lines = texts(behaviour["logs"])
        jobs = json_objects(behaviour.get("jobs") or [{"name": "Job #1"}])
        promotions = json_objects(behaviour.get("promotions"))
        pipeline: StoredSemaphorePipeline = {
            "ppl_id": str(uuid.uuid4()),
            "wf_id": workflow["wf_id"],
            "project": workflow["project"],
            "name": str(behaviour.get("name") or "Pipeline"),
            "file": start.file,
            "created_at": self.app.clock(),
            "queued_s": number(behaviour["queued_s"]),
            "duration_s": number(behaviour["duration_s"]),
            "result": str(behaviour["result"]),
            "reason": str(behaviour["reason"]),
            "error": str(behaviour["error"]),
            "stopping_s": number(behaviour.get("stopping_s", 0.0)),
            "stopped_at": None,
            "finished_at": None,
            "terminated_by": "",
            "promotion_of": start.promotion_of,
            "partial_rerun_of": start.partial_rerun_of,
            "partially_rerun_by": "",
            "request_token": start.request_token,
            "env_vars": dict(start.env_vars),
            "behaviour": dict(start.behaviour),
            "promotions": promotions,
            "promoted": [],
            "switch_id": str(uuid.uuid4()) if promotions else "",
            "block_id": str(uuid.uuid4()),
            "block": str(behaviour.get("block") or "Block #1"),
            "jobs": [{"id": str(uuid.uuid4()), "name": str(job["name"]), "logs": texts(job.get("logs", lines))} for job in jobs],
            "settled": False,
        }
        rows = self.app.records["pipelines"]
        rows.append(pipeline)
        del rows[:-KEPT]
        workflow["initial_ppl_id"] = workflow["initial_ppl_id"] or pipeline["ppl_id"]
        self.settle(pipeline)
        return pipeline

    def _behaviour(self, project: str, start: Start) -> dict[str, object]:
        """Return the effective behaviour: project, file, caller, then settings. A promotion has only the promotions of its own file."""
        whole = self.app.records["behaviour"].get(project, {})
        files = json_object(whole.get("files"))
        own = json_object(files.get(start.file) or files.get(start.file.rpartition("/")[2]))
        shared = {key: value for key, value in whole.items() if key != "promotions" or not start.promotion_of}
        merged: dict[str, object] = {**_DEFAULTS, **shared, **own, **start.behaviour}
        for key, setting in (("duration_s", "run_duration_s"), ("result", "run_result")):
            if self.app.settings[setting] is not None and key not in start.behaviour:
                merged[key] = self.app.settings[setting]
        if merged["result"] not in RESULTS:
            raise ValueError(f"a pipeline's result is one of {', '.join(RESULTS)}")
        return merged

    def settle(self, pipeline: StoredSemaphorePipeline) -> None:
        """Handle the end of a pipeline, once; until then, set a timer for it."""
        if pipeline["settled"]:
            return
        key, end = pipeline["ppl_id"], shapes.ends_at(pipeline)
        if end is None:
            self._timers.drop(key)
        elif end > self.app.clock():
            self._timers.at(key, end, lambda: self._wake(key))
        else:
            self._timers.drop(key)
            pipeline["settled"] = True
            self._on_done(pipeline)

    def _wake(self, key: str) -> None:
        pipeline = self.find(key)
        if pipeline is not None:
            self.settle(pipeline)

    def stop(self, pipeline: StoredSemaphorePipeline, user: str) -> None:
        """Stop a pipeline, unless it is done or stopping already."""
        if pipeline["stopped_at"] is None and not life_of(pipeline, self.app.clock()).done:
            pipeline.update({"stopped_at": self.app.clock(), "terminated_by": user})
            self.settle(pipeline)

    def finish(self, options: Mapping[str, object]) -> dict[str, object]:
        """End a pipeline now (action ``finish_pipeline``): {pipeline_id, result, reason, error}; `LookupError` for an unknown or ended one."""
        pipeline = self.find(str(options["pipeline_id"]))
        if pipeline is None or life_of(pipeline, self.app.clock()).done:
            raise LookupError("no running pipeline has this id")
        result = str(options.get("result", pipeline["result"]))
        if result not in RESULTS:
            raise ValueError(f"a pipeline's result is one of {', '.join(RESULTS)}")
        pipeline["finished_at"], pipeline["result"] = self.app.clock(), result
        pipeline["reason"] = str(options.get("reason", pipeline["reason"]))
        pipeline["error"] = str(options.get("error", pipeline["error"]))
        self.settle(pipeline)
        return {"pipeline_id": pipeline["ppl_id"], "result": result}

    # looking up

    def find(self, key: str) -> StoredSemaphorePipeline | None:
        """Return the pipeline with that id, brought up to now."""
        pipeline = next((row for row in reversed(self.app.records["pipelines"]) if row["ppl_id"] == key), None)
        if pipeline is not None:
            self.settle(pipeline)
        return pipeline

    def of(self, wf_id: str) -> list[StoredSemaphorePipeline]:
        """Return the pipelines of a workflow, oldest first."""
        return [row for row in self.app.records["pipelines"] if row["wf_id"] == wf_id]

    def seen(self, call: Call, key: str, permission: str = "project.view") -> StoredSemaphorePipeline:
        """Return the pipeline for a caller who may see it; else refuse."""
        pipeline = self.find(key)
        if pipeline is None or not self.app.may(call, permission):
            refuse_unseen()
        return pipeline

    # answers

    def _list(self, call: Call) -> Reply:
        """Newest first; states and results in capitals."""
        project, wf_id = call.query.get("project_id", ""), call.query.get("wf_id", "")
        if not (project or wf_id) or not self.app.may(call, "project.view"):
            refuse_unseen()
        if project and not self.app.project_named(project):
            refuse_unseen()
        now, workflows = self.app.clock(), self.app.workflows_by_id()
        rows = [row for row in reversed(self.app.records["pipelines"]) if self.app.listed_at(row["created_at"])]
        fitting = [row for row in rows if _fits(call, row, workflows[row["wf_id"]], now)]
        shown = [shapes.shown_pipeline(row, workflows[row["wf_id"]], now, listed=True) for row in fitting]
        return shapes.paged(call, shown, most=int(self.app.number("page_size")))

    def _get(self, call: Call, key: str) -> Reply:
        pipeline, now = self.seen(call, key), self.app.clock()
        shown = shapes.shown_pipeline(pipeline, self.app.workflows_by_id()[pipeline["wf_id"]], now, listed=False)
        detailed = call.query.get("detailed") == "true"
        return shapes.answered(200, {"pipeline": shown, "blocks": shapes.shown_blocks(pipeline, now) if detailed else []})

    def _patch(self, call: Call, key: str) -> Reply:
        """Stop a pipeline, the only change there is; idempotent."""
        pipeline = self.seen(call, key, "project.job.stop")
        if shapes.parameters_of(call).get("terminate_request") is not True:
            refuse_user("Value of 'terminate_request' field must be boolean value 'true'.")
        self.stop(pipeline, self.app.user(call))
        return shapes.answered(200, "Pipeline termination started.")

    def _rebuild(self, call: Call, key: str) -> Reply:
        """A new pipeline of the same workflow, once for each token."""
        pipeline = self.seen(call, key, "project.job.rerun")
        token = shapes.required(shapes.parameters_of(call), "request_token")
        created = next((row for row in self.of(pipeline["wf_id"]) if row["request_token"] == token), None)
        if created is None:
            life = life_of(pipeline, self.app.clock())
            if not life.done:
                refuse_user("Only pipelines which are in done state can be partial rebuilded.")
            if life.result == "passed":
                refuse_user("Pipelines which passed can not be partial rebuilded.")
            start = Start(
                pipeline["file"],
                pipeline["env_vars"],
                pipeline["behaviour"] if pipeline["promotion_of"] else {},
                promotion_of=pipeline["promotion_of"],
                partial_rerun_of=key,
                request_token=token,
            )
            created = self.start(self.app.workflows_by_id()[pipeline["wf_id"]], start)
            pipeline["partially_rerun_by"] = created["ppl_id"]
        return shapes.answered(200, {"message": "", "pipeline_id": created["ppl_id"]})


def _fits(call: Call, pipeline: StoredSemaphorePipeline, workflow: StoredSemaphoreWorkflow, now: float) -> bool:
    query = call.query
    texts = (
        ("project_id", workflow["project_id"]),
        ("wf_id", pipeline["wf_id"]),
        ("branch_name", shapes.branch_name(workflow["reference"])),
        ("yml_file_path", pipeline["file"]),
    )
    if any(query.get(key) not in (None, "", value) for key, value in texts):
        return False
    done_at = life_of(pipeline, now).done_at
    return within(call, "created", pipeline["created_at"]) and within(call, "done", done_at)


def within(call: Call, what: str, at: float) -> bool:
    """Whether ``at`` is between ``<what>_after`` and ``<what>_before``; what has not happened is not."""
    after, before = shapes.moment(call, f"{what}_after"), shapes.moment(call, f"{what}_before")
    if after is None and before is None:
        return True
    return at > 0 and (after is None or at > after) and (before is None or at < before)
