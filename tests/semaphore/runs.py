"""A simulated organization whose workflows, pipelines and tasks are set by the test; shapes of the provider's open server code."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

from reconciler.sandbox.app import Call, RefusedCall, Reply, Route
from reconciler.sandbox.semaphore.app import Semaphore
from reconciler.sandbox.semaphore.run_shapes import spaced, stamp
from reconciler.sandbox.semaphore.shapes import shown_project

TRIGGERS = ("hook", "schedule", "api", "manual_run")
TIMES = ("created_at", "pending_at", "queuing_at", "running_at", "stopping_at", "done_at")


def uid() -> str:
    return str(uuid.uuid4())


class Runs(Semaphore):
    """Everything that runs is in ``workflows``, ``pipelines``, ``tasks`` and ``job_logs``; ``per_page`` cuts their lists."""

    def __init__(self) -> None:
        self.workflows: list[dict[str, Any]] = []
        self.pipelines: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.job_logs: dict[str, Any] = {}
        self.per_page = 2
        self.strict_parameters = False
        super().__init__()

    def routes(self) -> Iterable[Route]:
        root = "/api/v1alpha"
        yield "GET", f"{root}/plumber-workflows", self.list_workflows
        yield "POST", f"{root}/plumber-workflows", self.run_workflow
        yield "GET", f"{root}/plumber-workflows/{{key}}", self.get_workflow
        yield "POST", f"{root}/plumber-workflows/{{key}}/terminate", self.terminate
        yield "GET", f"{root}/pipelines", self.list_pipelines
        yield "GET", f"{root}/pipelines/{{key}}", self.get_pipeline
        yield "GET", f"{root}/tasks", self.list_tasks
        yield "GET", f"{root}/tasks/{{key}}", self.get_task
        yield "POST", f"{root}/tasks/{{key}}/run_now", self.run_task
        yield "GET", f"{root}/logs/{{key}}", self.get_logs
        yield from super().routes()

    # what tests make happen

    def project(self, name: str = "payments") -> str:
        result = next(row for row in self.state["projects"] if row["name"] == name)
        return str(shown_project(result)["metadata"]["id"])

    def start(self, project: str = "payments", trigger: str = "hook", *, at: float | None = None, **more: Any) -> dict[str, Any]:
        """Add a workflow with its initial pipeline; ``env`` are the pipeline's variables."""
        now = time.time() if at is None else at
        workflow = {
            "wf_id": uid(), "project_id": self.project(project), "triggered_by": trigger, "rerun_of": more.pop("rerun_of", ""),
            "at": now, "organization_id": self.state["organization"]["id"], "commit_sha": "c0ffee",
        }  # fmt: skip
        self.workflows.append(workflow)
        workflow["initial_ppl_id"] = self.pipeline(workflow, at=now, **more)["ppl_id"]
        return workflow

    def pipeline(self, workflow: dict[str, Any], *, at: float | None = None, env: Any = (), **more: Any) -> dict[str, Any]:
        now = time.time() if at is None else at
        pipeline = {
            "ppl_id": uid(), "wf_id": workflow["wf_id"], "project_id": workflow["project_id"], "name": "Build", "state": "running",
            "branch_name": "main", "commit_sha": "c0ffee", "commit_message": "Fix", "yaml_file_name": "semaphore.yml",
            "working_directory": ".semaphore", "partial_rerun_of": "", "promotion_of": "", "error_description": "",
            "env_vars": [{"name": name, "value": value} for name, value in dict(env).items()],
            "result": "", "result_reason": "test", "blocks": [], "times": dict.fromkeys(TIMES, 0.0), **more,
        }  # fmt: skip
        pipeline["times"]["created_at"] = now
        self.pipelines.append(pipeline)
        return pipeline

    def finish(self, pipeline: str, result: str = "passed", *, at: float | None = None, **more: Any) -> None:
        match = self.find(self.pipelines, "ppl_id", pipeline)
        match.update(state="done", result=result, **more)
        match["times"]["done_at"] = time.time() if at is None else at

    # what the API answers

    def list_workflows(self, call: Call) -> Reply:
        after = float(call.query.get("created_after", 0))
        rows = [row for row in self.workflows if row["project_id"] == call.query["project_id"] and row["at"] > after]
        return self.page(call, [{**self.shown(row), "triggered_by": TRIGGERS.index(row["triggered_by"])} for row in rows])

    def run_workflow(self, call: Call) -> Reply:
        body = call.json()
        name = next((row["name"] for row in self.state["projects"] if self.project(row["name"]) == body["project_id"]), None)
        if name is None:
            return Reply(404, "Not Found")
        if not body.get("reference"):
            return Reply(400, b'"Missing required post parameter reference."')
        workflow = self.start(name, "api", env=body.get("parameters", {}))
        return Reply(200, {"workflow_id": workflow["wf_id"], "pipeline_id": workflow["initial_ppl_id"]})

    def get_workflow(self, call: Call, key: str) -> Reply:
        return Reply(200, {"workflow": self.shown(self.find(self.workflows, "wf_id", key))})

    def terminate(self, call: Call, key: str) -> Reply:
        workflow = self.find(self.workflows, "wf_id", key)
        rows = [row for row in self.pipelines if row["wf_id"] == workflow["wf_id"] and row["state"] != "done"]
        for row in rows:
            self.finish(row["ppl_id"], "stopped", result_reason="user")
        return Reply(200, f'"Termination started for {len(rows)} pipelines."'.encode())

    def list_pipelines(self, call: Call) -> Reply:
        rows = self.pipelines
        for key in ("project_id", "wf_id"):
            rows = [row for row in rows if row[key] == call.query.get(key, row[key])]
        if "done_after" in call.query:
            rows = [row for row in rows if row["times"]["done_at"] > float(call.query["done_after"])]
        return self.page(call, [self.listed(row) for row in rows])

    def get_pipeline(self, call: Call, key: str) -> Reply:
        row = self.find(self.pipelines, "ppl_id", key)
        hidden = {"blocks", "times", *(() if row["state"] == "done" else ("result", "result_reason"))}
        shown = {k: v for k, v in row.items() if k not in hidden} | {k: spaced(v) for k, v in row["times"].items()}
        return Reply(200, {"pipeline": shown, "blocks": row["blocks"] if call.query.get("detailed") == "true" else []})

    def list_tasks(self, call: Call) -> Reply:
        rows = [row for row in self.tasks if row["project_id"] == call.query["project_id"]]
        return self.page(call, [{k: v for k, v in row.items() if k != "parameters"} for row in rows])

    def get_task(self, call: Call, key: str) -> Reply:
        return Reply(200, {"schedule": self.find(self.tasks, "id", key), "triggers": []})

    def run_task(self, call: Call, key: str) -> Reply:
        body, task = call.json(), self.find(self.tasks, "id", key)
        if "reference" in body and not isinstance(body["reference"], dict):
            return Reply(400, b"\"Reference must contain 'type' and 'name' fields\"")
        declared = {row["name"] for row in task["parameters"]}
        unknown = sorted(set(body.get("parameters", {})) - declared)
        if self.strict_parameters and unknown:
            return Reply(400, f"\"Parameter '{unknown[0]}' is not known.\"".encode())
        name = next(row["name"] for row in self.state["projects"] if self.project(row["name"]) == task["project_id"])
        env = {k: v for k, v in body.get("parameters", {}).items() if k in declared}
        return Reply(200, {"workflow_id": self.start(name, "manual_run", env=env)["wf_id"]})

    def get_logs(self, call: Call, key: str) -> Reply:
        result = self.job_logs.get(key)
        if result is None:
            return Reply(404, b'"The job has not started"')
        return result if isinstance(result, Reply) else Reply(200, {"events": result})

    def find(self, rows: list[dict[str, Any]], key: str, value: str) -> dict[str, Any]:
        result = next((row for row in rows if row[key] == value), None)
        if result is None:
            raise RefusedCall(Reply(404, "Not Found"))
        return result

    def shown(self, workflow: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in workflow.items() if k != "at"} | {"created_at": stamp(workflow["at"])}

    def listed(self, pipeline: dict[str, Any]) -> dict[str, Any]:
        kept = ("ppl_id", "wf_id", "project_id", "name", "partial_rerun_of", "promotion_of")
        times = {k: stamp(v) for k, v in pipeline["times"].items()}
        return {k: pipeline[k] for k in kept} | times | {"state": pipeline["state"].upper(), "result": pipeline["result"].upper()}

    def page(self, call: Call, rows: list[Any]) -> Reply:
        """Newest first, as a bare list; the Link header has an inner address."""
        rows = sorted(rows, key=lambda row: -row.get("created_at", {}).get("seconds", 0))
        number = int(call.query.get("page", 1))
        first = (number - 1) * self.per_page
        query = "&".join(f"{k}={v}" for k, v in {**call.query, "page": number + 1}.items())
        link = {"link": f'<http://inner.test{call.path}?{query}>; rel="next"'} if len(rows) > first + self.per_page else {}
        return Reply(200, rows[first : first + self.per_page], link)
